"""The chain without Airflow: the steps in order, up to the one asked for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from llmops_tasks import chain
from llmops_tasks.errors import InputError
from llmops_tasks.training import corrections, finetuning, preferences, search


def test_it_stops_after_the_step_asked_for(tiny_usecase: str) -> None:
    done = chain.chain(usecase=tiny_usecase, until="version")
    assert list(done) == ["control", "data", "version"]
    assert done["version"]["kind"] == "dataset"
    assert chain.chain(usecase=tiny_usecase, until="version") == done


def test_an_unknown_step_is_refused_with_the_nearest(tiny_usecase: str) -> None:
    with pytest.raises(InputError, match=r"No step 'gates'. Did you mean 'gate'\? Steps: \['data'"):
        chain.chain(usecase=tiny_usecase, until="gates")


def _trained_by(usecase: str, monkeypatch: pytest.MonkeyPatch, **sections: Any) -> list[str]:
    """The verbs that a use case with these settings is trained by."""
    path, called = Path(usecase), []
    raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    raw["finetune"] |= sections.pop("finetune", {})
    path.write_text(yaml.safe_dump(raw | sections), encoding="utf-8")
    for module, verb, result in (
        (corrections, "collect_corrections", "pairs"),
        (preferences, "tune_preferences", {}),
        (search, "run_trial", {"number": 0}),
        (search, "choose_trial", {"settings": {"rank": 4}}),
        (finetuning, "finetune", {}),
    ):
        monkeypatch.setattr(module, verb, lambda verb=verb, result=result, **given: called.append(f"{verb} {given.get('settings') or given.get('number', '')}".strip()) or result)  # fmt: skip
    chain._train(usecase, {"version": {}, "start": {}, "control": "none"})
    return called


def test_it_learns_from_corrections_where_the_use_case_says_so(
    tiny_usecase: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    changed = {"start": "champion", "preferences": {}}
    assert _trained_by(tiny_usecase, monkeypatch, finetune=changed) == ["collect_corrections", "tune_preferences"]


def test_it_searches_where_the_use_case_says_so(tiny_usecase: str, monkeypatch: pytest.MonkeyPatch) -> None:
    found = {"space": {"rank": {"choices": [4, 8]}}, "trials": 2}
    called = _trained_by(tiny_usecase, monkeypatch, search=found)
    assert called == ["run_trial 0", "run_trial 1", "choose_trial", "finetune {'rank': 4}"]


@pytest.mark.usefixtures("mlflow")
def test_the_whole_chain_on_shuffled_labels_ends_at_a_refusal_in_the_ledger(tiny_usecase: str) -> None:
    from llmops_tasks.release import ledger

    done = chain.chain(usecase=tiny_usecase, control="shuffled_labels")
    assert list(done)[-1] == "gate"
    assert done["gate"]["verdict"] != "pass"  # random weights and shuffled labels
    entries = ledger.read_ledger(usecase=tiny_usecase)
    assert [entry["kind"] for entry in entries] == ["registration", "gate"]
    assert entries[1]["body"]["verdict"] == done["gate"]
    again = chain.chain(usecase=tiny_usecase, control="shuffled_labels")
    assert again["gate"] == done["gate"]
    assert ledger.read_ledger(usecase=tiny_usecase) == entries
