"""What MLflow shows of a version's model: where it comes from, how it is asked, on what it was measured, and how well."""

from __future__ import annotations

import json
from importlib.metadata import PackageNotFoundError
from typing import Any

import pytest

from llmops_tasks import config, tracking
from llmops_tasks.prompts import interface, register_prompt
from llmops_tasks.prompts.interface import Interface
from llmops_tasks.release import logged_model, registry
from llmops_tasks.store import artifacts
from tests.support.releases import dataset, promoted, promoted_as_it_is, registered, released, verdict_on

pytestmark = pytest.mark.usefixtures("mlflow")


def _model(version: str = "1") -> Any:
    api = tracking.client()
    return api.get_logged_model(api.get_model_version("triage", version).source.removeprefix("models:/"))


def _annotated(candidate: dict[str, Any]) -> None:
    registry.annotate_version(usecase="triage", candidate=candidate, verdict=verdict_on(candidate))


def test_it_says_what_it_is_and_which_run_and_version_it_belongs_to() -> None:
    candidate = registered(1)
    model, release = _model(), released(1)
    assert (model.name, model.status, model.model_type) == (
        f"triage-{release['sha256'][:8]}",
        "READY",
        "classification",
    )
    assert model.source_run_id == candidate["run_id"]
    assert (model.tags["release_sha256"], model.tags["release_uri"]) == (release["sha256"], release["uri"])
    assert json.loads(model.tags["mlflow.modelVersions"]) == [{"name": "triage", "version": 1}]
    asked = interface.of_release(release)
    assert model.params == {
        "prompt": "triage-prompt/1", "members": "1", "max_length": str(asked.max_length), "text_sha256": asked.text_digest(), "dataset_sha256": dataset()["sha256"]
    }  # fmt: skip
    assert (
        tracking.client().get_model_version("triage", "1").description == "README.md 1" == model.tags[logged_model.NOTE]
    )


def test_its_dataset_is_an_input_of_its_run_by_name_digest_and_address() -> None:
    (given,) = tracking.client().get_run(registered(1)["run_id"]).inputs.dataset_inputs
    assert (given.dataset.name, given.dataset.digest, given.dataset.source) == (
        "triage",
        dataset()["sha256"][:36],
        dataset()["uri"],
    )
    assert given.dataset.schema is None and given.dataset.profile is None


def test_its_figures_have_intervals_and_the_dataset_and_are_there_once() -> None:
    candidate = registered(1)
    _annotated(candidate)
    found = {metric.key: metric for metric in _model().metrics}
    assert {name: metric.value for name, metric in found.items()} == {
        "candidate.accuracy": 0.5, "candidate.accuracy.low": 0.4, "candidate.accuracy.high": 0.6
    }  # fmt: skip
    assert {(metric.dataset_name, metric.dataset_digest) for metric in found.values()} == {
        ("triage", dataset()["sha256"][:36])
    }
    promoted(candidate)
    promoted_as_it_is(candidate)
    api = tracking.client()
    assert len(_model().metrics) == 3 and len(api.get_metric_history(candidate["run_id"], "candidate.accuracy")) == 1
    (best,) = api.search_logged_models([_model().experiment_id], "metrics.`candidate.accuracy` > 0.45")
    assert best.model_id == _model().model_id


def _linked(tags: dict[str, str]) -> list[dict[str, str]]:
    found: list[dict[str, str]] = json.loads(tags["mlflow.linkedPrompts"])
    return found


def test_its_prompt_is_linked_by_version_and_found_by_alias() -> None:
    asked = register_prompt(usecase="triage")
    candidate = registered(1)
    linked = [{"name": "triage-prompt", "version": asked["version"]}]
    assert _linked(_model().tags) == _linked(tracking.client().get_run(candidate["run_id"]).data.tags) == linked
    promoted(candidate)
    from mlflow import genai

    for alias in ("challenger", "champion"):
        assert str(genai.load_prompt(f"prompts:/triage-prompt@{alias}").version) == asked["version"] == "1"


def test_an_alias_leads_to_the_prompt_of_the_release_that_serves_not_to_the_newest() -> None:
    """The use case's prompt was edited since, and its own release is a candidate still."""
    promoted(registered(1))
    asked = interface.of_release(released(1))
    prompt = asked.prompt.model_copy(update={"template": "Another. {{ text }}\n"})
    api, release = tracking.client(), _released(asked.model_copy(update={"prompt": prompt}))
    registry.register_release(usecase="triage", release=release)
    found = [api.load_prompt(f"prompts:/triage-prompt@{alias}") for alias in ("champion", "challenger")]
    assert [one.version for one in found] == [1, 2]
    assert found[1].template == prompt.template
    promoted(registered(3))  # the first prompt again: it keeps its number
    assert len(api.search_prompt_versions("triage-prompt")) == 2
    assert api.get_model_version("triage", "3").tags["prompt"] == "triage-prompt/1"


def _released(asked: Interface) -> Any:
    def build(out: Any) -> dict[str, Any]:
        (out / "README.md").write_text("card")
        asked.write(out)
        return {"dataset_sha256": dataset()["sha256"], "smoke": False, "control": "none"}

    return artifacts.publish(usecase="triage", kind="release", inputs={"asked": asked.digest()}, build=build)


def test_the_signature_names_the_text_and_every_answer() -> None:
    names = [label.name for label in config.load("triage").task.labels]
    found = logged_model.signature(interface.of_usecase(config.load("triage")))
    assert found.inputs.input_names() == ["text"] and found.inputs.required_input_names() == ["text"]
    assert found.outputs.input_names() == ["label", "score", *(f"p_{name}" for name in names)]
    written = logged_model.signature(interface.of_usecase(config.load("faq"))).outputs.to_dict()
    assert [(column["name"], column["type"], column["required"]) for column in written] == [
        ("answer", "string", True), ("tokens", "long", True), ("finish_reason", "string", True), ("error", "string", False),
        ("bits", "double", True),
    ]  # fmt: skip


def test_the_example_is_of_no_record() -> None:
    registered(1)
    from mlflow import artifacts as stored
    from mlflow.models import Model

    folder = stored.download_artifacts("models:/triage/1")
    assert Model.load(folder).load_input_example(folder)["text"].tolist() == [logged_model.EXAMPLE]


def test_requirements_are_pinned_to_what_is_there_without_a_builds_mark(monkeypatch: pytest.MonkeyPatch) -> None:
    there = {"torch": "2.13.0+cpu", "mlflow": "3.17.2", "openvino": "2026.4.1"}

    def version(name: str) -> str:
        if name not in there:
            raise PackageNotFoundError(name)
        return there[name]

    monkeypatch.setattr(logged_model.metadata, "version", version)
    assert logged_model._requirements("fp32") == ["mlflow==3.17.2", "torch==2.13.0"]
    assert logged_model._requirements("int8") == ["mlflow==3.17.2", "torch==2.13.0", "openvino==2026.4.1"]


def test_nothing_of_a_model_is_loaded_to_write_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from llmops_tasks.prompts import answering

    monkeypatch.setattr(answering, "open_release", lambda *_: pytest.fail("the weights were opened"))
    assert registered(1)["run_id"]
