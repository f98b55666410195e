"""How a model is asked travels with it: written once, read back the same, and refused where it is damaged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from llmops_tasks import config
from llmops_tasks.contracts import ABSTAINED, ArtifactRef
from llmops_tasks.errors import DataError, IntegrityError
from llmops_tasks.models.label_tree import Scoring
from llmops_tasks.prompts import interface
from llmops_tasks.store import artifacts

CASE = config.load("triage")
ASKED = interface.of_usecase(CASE)


def _release(content: str | None, kind: str = "release") -> ArtifactRef:
    def build(out: Path) -> dict[str, Any]:
        (out / "weights").write_text("x")
        if content is not None:
            (out / interface.FILE).write_text(content, encoding="utf-8")
        return {}

    return artifacts.publish(usecase="triage", kind=kind, inputs={"content": content}, build=build)


def _changed(**values: Any) -> interface.Interface:
    return ASKED.model_copy(update=values)


def test_a_release_is_asked_as_it_was_when_it_was_made(tmp_path: Path) -> None:
    older = _changed(text="{{ note }}", max_length=99)
    older.write(tmp_path)
    release = _release((tmp_path / interface.FILE).read_text(encoding="utf-8"))
    assert interface.of_release(release) == older != ASKED
    assert interface.of_start(CASE, release) == older


@pytest.mark.parametrize(("asked", "released", "base"), [("int8", "bf16", "fp32"), ("bf16", "int8", "bf16")])
def test_a_release_computes_in_its_own_number_format_and_a_base_model_never_in_int8(
    asked: str, released: str, base: str
) -> None:
    release = _release(json.dumps({**ASKED.model_dump(mode="json"), "number_format": released}))
    models = {released: release, base: _release(None, kind="base")}
    assert [
        interface.with_format_of(_changed(number_format=asked), model).number_format for model in models.values()
    ] == list(models)


def test_a_base_model_is_asked_as_the_use_case_says_today() -> None:
    assert interface.of_start(CASE, _release(None, kind="base")) == ASKED


@pytest.mark.parametrize(
    "content",
    [None, "", "{", "[]", "{}", json.dumps({**ASKED.model_dump(mode="json"), "version": 2}),
     json.dumps({**ASKED.model_dump(mode="json"), "more": 1})],
    ids=["none", "empty", "half", "a list", "nothing in it", "another version", "more than is known"],
)  # fmt: skip
def test_what_is_damaged_or_of_another_version_is_refused(content: str | None) -> None:
    with pytest.raises(IntegrityError):
        interface.of_release(_release(content))


def test_a_release_from_before_these_settings_means_what_it_meant() -> None:
    """First tokens that differ, no temperature, never an abstention."""
    old = ASKED.model_dump(mode="json")
    del old["temperature"]
    for name in ("scoring", "length_normalised", "calibrate", "abstain_below"):
        del old["task"][name]
    found = interface.of_release(_release(json.dumps(old)))
    assert (found.rule, found.temperature, found.task.abstain_below) == (Scoring(), 1.0, None)
    assert found.outcomes == found.labels == ASKED.labels


def test_another_model_that_is_asked_alike_has_no_part_in_the_releases_decisions() -> None:
    task = ASKED.task.model_copy(update={"abstain_below": 0.6, "scoring": "whole_text"})
    careful = _changed(task=task, temperature=2.0)
    assert careful.outcomes == [*ASKED.labels, ABSTAINED]
    other = careful.without_decisions()
    assert (other.outcomes, other.temperature, other.rule) == (ASKED.labels, 1.0, careful.rule)


def test_the_digest_of_the_text_follows_what_makes_the_text_and_nothing_else() -> None:
    assert _changed(text="{{ note }}").text_digest() != ASKED.text_digest()
    assert _changed(normalise="NFKC").text_digest() != ASKED.text_digest()
    assert _changed(max_length=99).text_digest() == ASKED.text_digest()
    assert _changed(max_length=99).digest() != ASKED.digest()


def test_labels_answers_and_columns_are_those_of_task_and_template() -> None:
    assert ASKED.labels == [label.name for label in CASE.task.labels]
    assert ASKED.answers == [label.text for label in CASE.task.labels]
    assert _changed(text="{{ b }} {% if a %}x{% endif %}").columns == ["a", "b"]


def test_records_that_lack_what_the_template_reads_are_refused_by_column() -> None:
    asked = _changed(text="{{ note }} {{ age }}")
    asked.check_columns(["age", "note", "more"])
    with pytest.raises(DataError, match=r"reads \['age'\], which the records do not have"):
        asked.check_columns(["note"])
