"""The exception tree, and its hints."""

from __future__ import annotations

import inspect
import re

import pytest

from llmops_tasks import errors

ALL = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, Exception)]


def test_every_error_has_one_common_base() -> None:
    assert all(issubclass(kind, errors.LLMOpsError) for kind in ALL)


def test_the_tree_drawn_in_the_docstring_is_the_tree_of_the_classes() -> None:
    drawn = set(re.findall(r"\b([A-Z]\w+Error)\b", (errors.__doc__ or "").partition("A message says")[0]))
    assert drawn == {kind.__name__ for kind in ALL}
    nested = set(re.findall(r"│\s+[├└]── (\w+)", errors.__doc__ or ""))
    assert nested == {kind.__name__ for kind in ALL if kind.__base__ is not errors.LLMOpsError} - {"LLMOpsError"}


def test_a_config_error_lists_every_problem() -> None:
    error = errors.ConfigError("a.yaml has 2 mistake(s):", ["data.text: x", "gate: y"])
    assert error.problems == ["data.text: x", "gate: y"]
    assert str(error).splitlines() == ["a.yaml has 2 mistake(s):", "  - data.text: x", "  - gate: y"]


@pytest.mark.parametrize(
    ("given", "hint"), [("lable", " Did you mean 'label'?"), ("zzz", ""), ("label", " Did you mean 'label'?")]
)
def test_did_you_mean_names_the_nearest_word_or_nothing(given: str, hint: str) -> None:
    assert errors.did_you_mean(given, ["label", "text"]) == hint
