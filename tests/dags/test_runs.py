"""A run by hand gets what its form asks for; any other one does what is due, or nothing."""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk.api.datamodels._generated import DagRunType

from tests.support import tiny

pytestmark = pytest.mark.airflow
OTHERS = ("asset_triggered", "scheduled", "operator_triggered")


class _Release:
    """What waits, as ledger and store would say."""

    def __init__(self) -> None:
        self.dataset: dict[str, str] | None = {"sha256": "new"}
        self.candidates: list[str] = ["4", "3"]
        self.questions: list[str] = ["3", "10"]
        self.passed = True

    def find_due_dataset(self, *, usecase: str) -> Any:
        return self.dataset

    def find_dataset(self, *, usecase: str, sha256: str | None) -> Any:
        return {"sha256": sha256 or "newest"}

    def find_due_candidates(self, *, usecase: str) -> list[str]:
        return self.candidates

    def find_candidate(self, *, usecase: str, version: str) -> Any:
        return {"version": version}

    def find_due_questions(self, *, usecase: str) -> Any:
        return [{"version": version} for version in self.questions]

    def find_question(self, *, usecase: str, version: str) -> Any:
        return {"version": version, "passed": self.passed}


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch) -> Any:
    sys.path[:0] = [str(tiny.ROOT / "dags"), str(tiny.ROOT / "plugins")]
    from airflow.sdk.exceptions import AirflowSkipException
    from llmops_dags import runs

    waiting = _Release()
    monkeypatch.setattr(runs, "release", waiting)

    def run(what: str, kind: str, **form: Any) -> Any:
        context = {"dag_run": SimpleNamespace(run_type=DagRunType(kind), triggering_user_name="ann"), "params": form}
        monkeypatch.setattr(runs, "get_current_context", lambda: context)
        try:
            return getattr(runs, what).function("triage@0")
        except AirflowSkipException:
            return "skipped"

    return SimpleNamespace(run=run, waiting=waiting)


@pytest.mark.parametrize("kind", OTHERS)
def test_by_itself_a_training_takes_the_newest_dataset_once(scene: Any, kind: str) -> None:
    assert scene.run("dataset", kind) == {"sha256": "new"} == scene.run("dataset", kind, dataset="new")
    assert scene.run("dataset", kind, dataset="older") == "skipped"  # another run was quicker, and more has come since
    scene.waiting.dataset = None
    assert scene.run("dataset", kind) == "skipped" == scene.run("dataset", kind, dataset="new")


def test_by_hand_a_training_takes_any_dataset_as_often_as_somebody_wants(scene: Any) -> None:
    scene.waiting.dataset = None
    assert scene.run("dataset", "manual") == {"sha256": "newest"}
    assert scene.run("dataset", "manual", dataset="abc") == {"sha256": "abc"}


@pytest.mark.parametrize("kind", OTHERS)
def test_by_itself_an_evaluation_judges_what_has_no_verdict(scene: Any, kind: str) -> None:
    assert scene.run("candidate", kind) == {"version": "4"}
    assert scene.run("candidate", kind, version="3") == {"version": "3"}
    assert scene.run("candidate", kind, version="1") == "skipped"
    scene.waiting.candidates = []
    assert scene.run("candidate", kind) == "skipped"


def test_by_hand_an_evaluation_judges_any_version_again(scene: Any) -> None:
    assert scene.run("candidate", "manual", version="1") == {"version": "1"}
    scene.waiting.candidates = []
    assert scene.run("candidate", "manual") == "skipped"


@pytest.mark.parametrize("kind", OTHERS)
def test_by_itself_a_question_is_put_while_an_answer_can_still_count(scene: Any, kind: str) -> None:
    assert scene.run("question", kind, version="3")["version"] == "3"
    assert scene.run("question", kind)["version"] == "10"  # the newest, by number
    assert scene.run("question", kind, version="2") == "skipped"


def test_by_hand_a_question_is_put_about_any_version_that_passed(scene: Any) -> None:
    found = scene.run("question", "manual", version="2", ask_again=True)
    assert (found["version"], found["again"]) == ("2", True)
    scene.waiting.passed = False
    assert scene.run("question", "manual", version="2") == "skipped"


def test_who_started_a_run_is_known(scene: Any) -> None:
    from llmops_dags import runs

    scene.run("candidate", "manual")
    assert runs.started_by() == "ann"
