"""Every kind of error ends with a code of its own, and every code is explained."""

from __future__ import annotations

import inspect

import pytest

from llmops_tasks import errors
from llmops_tasks.cli import exit_codes

KINDS = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, errors.LLMOpsError)]


def test_the_table_is_of_all_exceptions_and_no_others() -> None:
    assert set(exit_codes.OF_ERRORS) == {kind.__name__ for kind in KINDS}


@pytest.mark.parametrize("kind", KINDS)
def test_an_exception_has_the_code_of_what_it_is_a_kind_of(kind: type[errors.LLMOpsError]) -> None:
    code, (parent, *_) = exit_codes.of(kind("x")), kind.__bases__
    assert exit_codes.of(kind.__name__) == code
    if parent not in (errors.LLMOpsError, Exception):
        assert code == exit_codes.of(parent.__name__)
    elif parent is errors.LLMOpsError:
        assert code not in (0, 1, exit_codes.USAGE)


def test_every_code_is_explained() -> None:
    assert set(exit_codes.MEANINGS) == {0, exit_codes.USAGE, exit_codes.INTERRUPTED, *exit_codes.OF_ERRORS.values()}


def test_what_is_none_of_ours_is_another_error() -> None:
    assert exit_codes.of("ValueError") == 1
