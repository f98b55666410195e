"""Method, strategies, budget and search: what may be combined, and what is said of what may not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from llmops_tasks.config import Finetune, Search
from llmops_tasks.config.training import Range
from tests.support.edited import check_mistake


def test_a_mistake_is_named_with_its_place(tmp_path: Path) -> None:
    check_mistake(tmp_path, {"finetune/learning_rate": 0}, "finetune.learning_rate: input should be greater than 0")


CHAMPION = {"start": "champion"}
APART: list[tuple[str, dict[str, Any], str]] = [
    ("continual from the base", {"continual": {"replay": 0.2}}, "set start to 'champion'"),
    ("continual from another's", {"continual": {"replay": 0.2}, "start": "champion:other"}, "set start to 'champion'"),
    ("preferences of the base", {"preferences": {}}, "preferences tune a champion"),
    ("preferences for all weights", {**CHAMPION, "preferences": {}, "method": "full"}, "preferences tune a champion"),
    ("preferences of an ensemble", {**CHAMPION, "preferences": {}, "members": 2}, "preferences tune a champion"),
    ("preferences and others", {**CHAMPION, "preferences": {}, "mix": {"other": 1}}, "train on corrections only"),
    ("preferences and packing", {**CHAMPION, "preferences": {}, "packing": True}, "train on corrections only"),
    ("preferences in two processes", {**CHAMPION, "preferences": {}, "processes": 2}, "train on corrections only"),
    ("preferences with dropout", {**CHAMPION, "preferences": {}, "dropout": 0.1}, "trained without dropout"),
    ("more parts than records", {"batch_size": 4, "accumulate": 5}, "accumulate is 5, but a batch has only 4 records"),
    ("a weight of none", {"mix": {"other": 0.0}}, "the weights of mix must be above 0"),
    ("a start that is none", {"start": "champion:../x"}, "String should match pattern"),
    ("a queue that is a command", {"resources": {"queue": "gpu; ls"}}, "String should match pattern"),
    ("a free run", {"budget": {"minutes": 0}}, "greater than 0"),
    ("an unknown strategy", {"distill": True}, "Extra inputs are not permitted"),
]


@pytest.mark.parametrize(("settings", "message"), [m[1:] for m in APART], ids=[m[0] for m in APART])
def test_what_cannot_be_combined_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message.replace("(", r"\(")):
        Finetune.model_validate(settings)


@pytest.mark.parametrize(
    "settings",
    [{}, {**CHAMPION, "continual": {"replay": 0.2}, "members": 3, "packing": True},
     {"start": "champion:other", "preferences": {}}, {"batch_size": 4, "accumulate": 4},
     {"mix": {"other": 0.5}, "domain": {"usecases": ["own"]}, "method": "qlora", "processes": 2}],
    ids=["plain", "continual", "another's champion", "parts of one record", "several at once"],
)  # fmt: skip
def test_what_can_be_combined_is_kept(settings: dict[str, Any]) -> None:
    found = Finetune.model_validate(settings).model_dump(exclude_unset=True)
    assert {name: found[name] for name in settings}.keys() == settings.keys()


@pytest.mark.parametrize(
    ("given", "message"),
    [({}, "either low and high, or choices"), ({"low": 1.0}, "either low and high, or choices"),
     ({"low": 1.0, "high": 2.0, "choices": [1]}, "either low and high, or choices"),
     ({"low": 2.0, "high": 2.0}, "low must be below high")],
)  # fmt: skip
def test_a_setting_has_a_range_or_a_choice(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Range.model_validate(given)


@pytest.mark.parametrize("name", ["start", "mix", "members", "budget", "epochs", "checkpoint_every", "rnak"])
def test_only_what_changes_a_trial_is_searched(name: str) -> None:
    with pytest.raises(ValidationError, match=rf"space names \['{name}'\]; what can be searched: \["):
        Search.model_validate({"space": {name: {"choices": [1, 2]}}})


def test_a_search_of_settings_is_kept() -> None:
    found = Search.model_validate(
        {"space": {"rank": {"choices": [4, 8]}, "learning_rate": {"low": 1e-4, "high": 1e-2}}}
    )
    assert set(found.space) == {"rank", "learning_rate"} and found.trials > 0
