"""The chain without Airflow: the steps in order, up to the one asked for."""

from __future__ import annotations

import pytest

from llmops_tasks import chain
from llmops_tasks.errors import InputError


def test_it_stops_after_the_step_asked_for(tiny_usecase: str) -> None:
    done = chain.chain(usecase=tiny_usecase, until="version")
    assert list(done) == ["control", "data", "version"]
    assert done["version"]["kind"] == "dataset"
    assert chain.chain(usecase=tiny_usecase, until="version") == done


def test_an_unknown_step_is_refused_with_the_nearest(tiny_usecase: str) -> None:
    with pytest.raises(InputError, match=r"No step 'gates'. Did you mean 'gate'\? Steps: \['data'"):
        chain.chain(usecase=tiny_usecase, until="gates")


@pytest.mark.usefixtures("mlflow")
def test_the_whole_chain_on_shuffled_labels_ends_at_a_refusal_in_the_ledger(tiny_usecase: str) -> None:
    from llmops_tasks.release import ledger

    done = chain.chain(usecase=tiny_usecase, control="shuffled_labels")
    assert list(done)[-1] == "gate"
    assert done["gate"]["verdict"] != "pass"  # random weights and shuffled labels
    entries = ledger.entries(usecase=tiny_usecase)
    assert [entry["kind"] for entry in entries] == ["gate"]
    assert entries[0]["body"]["verdict"] == done["gate"]
    again = chain.chain(usecase=tiny_usecase, control="shuffled_labels")
    assert again["gate"] == done["gate"]
    assert ledger.entries(usecase=tiny_usecase) == entries
