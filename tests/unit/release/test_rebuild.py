"""T11: MLflow lost, and everything that it showed is there again, from ledger and store alone."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llmops_tasks import tracking
from llmops_tasks.errors import IntegrityError, ReleaseError
from llmops_tasks.release import ledger, rebuild, registry
from llmops_tasks.store import artifacts, objects
from tests.support.releases import judged, promoted, registered, released, rolled_back, verdict_on

pytestmark = pytest.mark.usefixtures("mlflow")


def _shown() -> dict[str, Any]:
    """All that MLflow shows, without times and ids of its own."""
    api = tracking.client()
    (model,) = api.search_registered_models("name = 'triage'")
    versions = {str(v.version): dict(v.tags) for v in api.search_model_versions("name = 'triage'")}
    cards = {str(v.version): sorted(i.path for i in api.list_artifacts(v.run_id, "release")) for v in api.search_model_versions("name = 'triage'")}  # fmt: skip
    aliases = {name: str(version) for name, version in model.aliases.items()}
    shown = {"aliases": aliases, "tags": dict(model.tags), "versions": versions, "cards": cards}
    prompts = [api.load_prompt(f"prompts:/triage-prompt@{alias}").version for alias in ("champion", "challenger")]
    return shown | {"models": _models(api), "prompts": prompts}


def _models(api: Any) -> list[Any]:
    """Every version's model: what it says of itself, its figures and its files."""
    found = []
    for version in sorted(api.search_model_versions("name = 'triage'"), key=lambda version: int(version.version)):
        model = api.get_logged_model(version.source.removeprefix("models:/"))
        figures = sorted((m.key, m.value, m.dataset_name, m.dataset_digest) for m in model.metrics or [])
        files = sorted(item.path for item in api.list_logged_model_artifacts(model.model_id))
        tables = api.get_run(version.run_id).data.tags.get("mlflow.loggedArtifacts")
        found.append([model.name, str(model.status), model.tags, model.params, figures, files, tables])
    return found


@pytest.fixture
def lose(home: Path, mlflow_template: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """The database and the files are gone; an empty installation takes their place."""

    def do() -> None:
        shutil.rmtree(home / "mlartifacts")
        (home / "mlflow.db").unlink()
        shutil.copyfile(mlflow_template, home / "new.db")
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{home}/new.db")

    return do


def _a_life() -> None:
    for number in (1, 2, 3):
        candidate = registered(number)
        ref = verdict_on(candidate, said="fail" if number == 3 else "pass")
        registry.annotate_version(usecase="triage", candidate=candidate, verdict=ref)
        if number < 3:
            promoted(candidate)
    judged(candidate, said="fail", policy_sha256="q" * 64)
    rolled_back()


def test_who_serves_and_why_and_every_version_come_back(lose: Callable[[], None]) -> None:
    _a_life()
    before, head = _shown(), ledger.verify_ledger(usecase="triage")
    lose()
    found = rebuild.rebuild_registry(usecase="triage")
    assert (found["champion"], found["entries"]) == ("1", head["entries"])
    first = ledger.read_ledger(usecase="triage", kind="promotion")[0]
    assert (found["why"]["approved_by"], found["why"]["promotion"]) == ("Dr. Who", first["seq"])
    assert found["why"]["rollback"] == {"reason": "worse on the ward", "by": "Dr. Who"}
    assert found["versions"] == {str(n): released(n)["sha256"] for n in (1, 2, 3)}
    before["models"][2][4] = []  # the ledger keeps the report of what was promoted, and of the others the checks
    assert len(before["models"][0][4]) == 3 and _shown() == before
    assert ledger.verify_ledger(usecase="triage") == head  # nothing was added to it
    assert registry.find_champion(usecase="triage")["version"] == "1"
    assert registered(4)["version"] == "4"
    assert rebuild.rebuild_registry(usecase="triage") == found | {
        "entries": head["entries"] + 1, "versions": found["versions"] | {"4": released(4)["sha256"]}
    }  # fmt: skip


def test_why_a_version_serves_that_was_never_rolled_back_to() -> None:
    candidate = registered(1)
    promoted(candidate)
    (gate,) = ledger.read_ledger(usecase="triage", kind="gate")
    assert rebuild.rebuild_registry(usecase="triage")["why"] == {
        "promotion": ledger.head(usecase="triage")["seq"],
        "approved_by": "Dr. Who",
        "verdict_evidence_sha256": gate["body"]["verdict"]["evidence_sha256"],
        "rollback": None,
    }


def test_a_version_whose_release_is_gone_keeps_its_number(lose: Callable[[], None]) -> None:
    _a_life()
    objects.remove_folder(released(2)["uri"])
    lose()
    assert sorted(rebuild.rebuild_registry(usecase="triage")["versions"]) == ["1", "2", "3"]
    assert tracking.client().get_model_version("triage", "3").tags["gate"] == "fail"
    assert artifacts.at(released(1)["uri"]) == released(1)


def test_a_damaged_ledger_is_not_shown(lose: Callable[[], None]) -> None:
    _a_life()
    lose()
    entry = next(objects.local_path(f"{objects.store_uri()}/triage/ledger").rglob("00000002.json"))
    entry.write_bytes(entry.read_bytes().replace(b'"pass"', b'"fail"'))
    with pytest.raises(IntegrityError, match="Ledger entry 2"):
        rebuild.rebuild_registry(usecase="triage")
    assert tracking.client().search_registered_models() == []


def test_without_mlflow_it_says_so(closed_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    _a_life()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", closed_endpoint)
    with pytest.raises(ReleaseError, match="MLflow is unreachable"):
        rebuild.rebuild_registry(usecase="triage")


def test_an_empty_ledger_has_nothing_to_show() -> None:
    found = rebuild.rebuild_registry(usecase="triage")
    assert found == {"champion": None, "why": None, "versions": {}, "entries": 0}
