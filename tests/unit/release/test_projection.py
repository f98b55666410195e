"""MLflow shows what the ledger says, whatever happened to it meanwhile, and is never needed."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from llmops_tasks import tracking
from llmops_tasks.errors import IntegrityError, StorageError
from llmops_tasks.release import ledger, logged_model, projection, rebuild, registry
from tests.support.releases import changes, dataset, promoted, registered, released, rolled_back, verdict_on

pytestmark = pytest.mark.usefixtures("mlflow")


class _Killed(BaseException):
    """Whatever dies here runs no more of its own code."""


def _aliases() -> dict[str, str]:
    (model,) = tracking.client().search_registered_models("name = 'triage'")
    return {name: str(version) for name, version in model.aliases.items()}


WRITES = (
    "create_registered_model", "create_run", "log_text", "log_inputs", "create_logged_model", "log_model_artifacts",
    "link_prompt_version_to_model", "link_prompt_version_to_run", "log_outputs", "finalize_logged_model",
    "set_logged_model_tags", "create_model_version", "set_registered_model_alias", "set_prompt_alias", "log_batch",
)  # fmt: skip


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("write", WRITES)
def test_a_registration_that_was_killed_is_finished_by_its_retry(
    write: str, when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import mlflow

    if write != "create_registered_model":
        registered(1)
    real = getattr(mlflow.MlflowClient, write)

    def dying(self: Any, *args: Any, **more: Any) -> None:
        if when == "after":
            real(self, *args, **more)
        raise _Killed

    with monkeypatch.context() as patch:
        patch.setattr(mlflow.MlflowClient, write, dying)
        with pytest.raises(_Killed):
            registered(2)
    again = registered(2)
    assert _aliases() == {"challenger": again["version"]}
    found = tracking.client().get_model_version_by_alias("triage", "challenger")
    assert (found.tags["release_sha256"], found.run_id) == (released(2)["sha256"], again["run_id"])
    assert {i.path.split("/")[-1] for i in tracking.client().list_artifacts(found.run_id, "release")} >= {"README.md"}
    versions = tracking.client().search_model_versions("name = 'triage'")
    assert len(versions) == int(again["version"]) == len(ledger.read_ledger(usecase="triage", kind="registration"))
    assert {model.status for model in _models()} == {"READY"} and len(_models()) == len(versions)
    assert [output.model_id for output in tracking.client().get_run(found.run_id).outputs.model_outputs] == [
        _model(found)
    ]
    assert len(tracking.client().search_prompt_versions("triage-prompt")) == 1
    assert "MLmodel" in {item.path for item in tracking.client().list_logged_model_artifacts(_model(found))}


def _models() -> list[Any]:
    api = tracking.client()
    return list(api.search_logged_models([api.get_experiment_by_name("triage").experiment_id]))


def _model(version: Any) -> str:
    return str(version.source.removeprefix("models:/"))


def test_projecting_twice_changes_nothing() -> None:
    promoted(registered(1))
    before = (
        [model.to_dictionary() for model in _models()],
        tracking.client().get_run(registered(1)["run_id"]).to_dictionary(),
    )
    projection.project("triage")
    run = tracking.client().get_run(registered(1)["run_id"]).to_dictionary()
    assert ([model.to_dictionary() for model in _models()], run) == before


def test_a_version_of_an_earlier_layout_stays_as_it_is_until_the_model_is_made_anew() -> None:
    """Manifest and card alone: MLflow would not give its number again."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(logged_model, "ensure", _without_a_model)
        promoted(registered(1))
    api = tracking.client()
    assert api.get_model_version("triage", "1").source.endswith("/release")
    promoted(registered(2))
    assert rolled_back()["version"] == "1" and _aliases() == {"challenger": "2", "champion": "1"}
    assert projection.project("triage") is not None  # nothing is pending
    assert api.get_model_version("triage", "1").source.endswith("/release")
    assert len(_models()) == 1
    api.delete_registered_model("triage")
    rebuild.rebuild_registry(usecase="triage")
    sources = {_model(version) for version in api.search_model_versions("name = 'triage'")}
    assert sources == {model.model_id for model in _models()} and len(sources) == 2
    assert _aliases() == {"challenger": "2", "champion": "1"}


def test_an_unreachable_store_makes_no_version_without_its_model(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The number would be taken for good."""

    def lost(*_: Any) -> Any:
        raise StorageError("the store is unreachable")

    with monkeypatch.context() as patch:
        patch.setattr(projection.artifacts, "read", lost)
        assert registered(1)["run_id"] is None
    assert "MLflow's view of 'triage' is out of date" in caplog.text
    assert tracking.client().search_model_versions("name = 'triage'") == []
    assert registered(1)["run_id"] and [model.status for model in _models()] == ["READY"]


def _without_a_model(*_: Any) -> Any:
    raise IntegrityError("no model")


def test_two_machines_that_made_a_model_each_show_one_of_them() -> None:
    """The first; the other one is led to by nothing."""
    first = registered(1)
    api, twin = tracking.client(), _models()[0]
    api.create_logged_model(
        twin.experiment_id, name=twin.name, tags={projection.RELEASE: twin.tags[projection.RELEASE]}
    )
    api.delete_registered_model("triage")
    projection.project("triage")
    assert _model(api.get_model_version("triage", first["version"])) == twin.model_id


# ---------------------------------------------------------------- unreachable (T9)


@pytest.fixture(params=["refuses", "hangs", "garbage"])
def down(request: pytest.FixtureRequest, home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Two champions, and then MLflow is gone in one of three ways."""
    promoted(registered(1))
    promoted(registered(2))
    registered(3)
    with socket.socket() as server, monkeypatch.context() as patch:
        server.bind(("127.0.0.1", 0))
        if request.param == "hangs":
            server.listen()
        uri = f"http://127.0.0.1:{server.getsockname()[1]}"
        if request.param == "garbage":
            (home / "broken.db").write_bytes(b"no database" * 1000)
            uri = f"sqlite:///{home}/broken.db"
        patch.setenv("MLFLOW_TRACKING_URI", uri)
        yield
    tracking._resting.clear()


def test_rolling_back_needs_no_mlflow_and_two_seconds(down: None, caplog: pytest.LogCaptureFixture) -> None:
    """T9."""
    started = time.monotonic()
    with caplog.at_level("WARNING"):
        assert rolled_back()["version"] == "1"
    assert time.monotonic() - started <= 2.0
    assert changes()[-1] == ("rollback", "1")
    assert "MLflow's view of 'triage' is out of date" in caplog.text
    assert registry.find_champion(usecase="triage")["release"] == released(1)


def test_registering_and_promoting_need_no_mlflow_and_the_next_change_synchronises_it(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    promoted(registered(1))
    with socket.socket() as server, monkeypatch.context() as patch:
        server.bind(("127.0.0.1", 0))
        patch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{server.getsockname()[1]}")
        candidate = registered(2)
        assert (candidate["version"], candidate["run_id"]) == ("2", None)
        registry.annotate_version(usecase="triage", candidate=candidate, verdict=verdict_on(candidate))
        assert promoted(candidate)["version"] == "2"
    assert _aliases() == {"challenger": "1", "champion": "1"}
    registered(3)
    assert _aliases() == {"challenger": "3", "champion": "2"}
    assert tracking.client().get_model_version("triage", "2").tags["release_sha256"] == released(2)["sha256"]
    found = tracking.find_run(tracking.client(), "triage", released(2)["key"])
    assert found.data.metrics["candidate.accuracy"] == 0.5  # the figures waited, and were written
    (model,) = [model for model in _models() if model.source_run_id == found.info.run_id]
    assert {metric.key for metric in model.metrics} == {
        "candidate.accuracy",
        "candidate.accuracy.low",
        "candidate.accuracy.high",
    }


def test_the_witness_in_mlflow_is_where_the_ledger_ended() -> None:
    promoted(registered(1))
    (model,) = tracking.client().search_registered_models("name = 'triage'")
    head = ledger.head(usecase="triage")
    assert (model.tags["ledger_seq"], model.tags["ledger_sha256"]) == (str(head["seq"]), head["sha256"])


def test_an_mlflow_of_another_ledger_is_refused_loudly_and_costs_no_registration(
    caplog: pytest.LogCaptureFixture,
) -> None:
    tracking.client().create_registered_model("triage")
    tracking.client().create_model_version("triage", source="file:///x", tags={projection.RELEASE: "f" * 64})
    assert registered(1)["version"] == "1"
    assert "MLflow's version 1 of 'triage' is release ffffffffffff" in caplog.text


def test_a_version_says_which_bytes_it_is_and_where_they_are() -> None:
    release = registered(1, control="shuffled_labels", smoke=True)["release"]
    assert tracking.client().get_model_version("triage", "1").tags == {
        "release_sha256": release["sha256"], "release_uri": release["uri"], "dataset_sha256": dataset()["sha256"],
        "control": "shuffled_labels", "smoke": "True", "prompt": "triage-prompt/1",
    }  # fmt: skip


def test_an_empty_ledger_shows_nothing_and_makes_no_model() -> None:
    assert projection.project("triage") == {"versions": [], "run_ids": {}}
    assert tracking.client().search_registered_models() == []


def test_a_version_that_mlflow_has_without_its_release_is_given_it() -> None:
    """Killed between the two, by an older program; beside the model of another use case."""
    for name in ("another", "triage"):
        tracking.client().create_registered_model(name)
    tracking.client().create_model_version("triage", source="file:///x")
    candidate = registered(1)
    assert tracking.client().get_model_version("triage", "1").tags["release_sha256"] == candidate["release"]["sha256"]
    assert _aliases() == {"challenger": "1"}


def test_another_use_case_s_model_is_not_taken_for_its_own() -> None:
    tracking.client().create_registered_model("another")
    assert registered(1)["run_id"]
    assert _aliases() == {"challenger": "1"}


def test_a_version_that_mlflow_numbers_otherwise_is_nobody_s(caplog: pytest.LogCaptureFixture) -> None:
    """Its highest number is kept by a version that is not the ledger's first."""
    api = tracking.client()
    api.create_registered_model("triage")
    for number in ("1", "2"):
        api.create_model_version("triage", source="file:///x")
        if number == "1":
            api.delete_model_version("triage", number)
    assert registered(1)["run_id"] is None
    assert "MLflow numbered a version of 'triage' 3, the ledger 1" in caplog.text
    assert api.get_model_version("triage", "3").tags["release_sha256"] == ""
