"""Help says what a docstring says, part by part."""

from __future__ import annotations

import inspect

import pytest

from llmops_tasks import verbs
from llmops_tasks.cli import docstrings


def _written(*, usecase: str, records: dict[str, str], labelled: bool = True) -> None:
    """Check records: all of them,
    one by one.

    More is said here.

    Args:
        usecase: name or YAML path.
        records: what was read; a long
            explanation, with a `code: word`.
        labelled: whether.

    Returns:
        A reference. `meta.left_out`
        counts: rows.

    Raises:
        DataError: if too many
            are bad.
        SourceError: else.

    Example:
        >>> good = written(usecase="triage", records=records, labelled=False)
    """


def test_every_section_is_read() -> None:
    said = docstrings.parsed(_written)
    assert said.summary == "Check records: all of them, one by one."
    assert said.text == "Check records: all of them,\none by one.\n\nMore is said here."
    assert said.args == {
        "usecase": "name or YAML path.",
        "records": "what was read; a long explanation, with a `code: word`.",
        "labelled": "whether.",
    }
    assert said.returns == "A reference. `meta.left_out` counts: rows."
    assert said.raises == {"DataError": "if too many are bad.", "SourceError": "else."}
    assert docstrings.command("data validate", said.example) == (
        "llmops data validate triage --records @records.json --no-labelled"
    )


def test_what_is_not_there_is_empty() -> None:
    def bare() -> None:
        """Do it."""

    said = docstrings.parsed(bare)
    assert (said.text, said.args, said.returns, said.raises, said.example) == ("Do it.", {}, "", {}, "")
    assert docstrings.parsed(lambda: None).text == ""


def test_a_single_item_of_several_lines_is_whole() -> None:
    def verb() -> None:
        """Do it.

        Raises:
            DataError: if the first reason
                or the second applies.
        """

    assert docstrings.parsed(verb).raises == {"DataError": "if the first reason or the second applies."}


@pytest.mark.parametrize(
    ("example", "typed"),
    [
        (">>> f(usecase='triage')", "llmops f triage"),
        (">>> f(out='a b', notes=3, rate=0.5, labelled=True)", "llmops f --out 'a b' --notes 3 --rate 0.5 --labelled"),
        (">>> x = f(max_steps=10, days=[day])", "llmops f --max-steps 10 --days @days.json"),
        (">>> f()", "llmops f"),
    ],
)
def test_an_example_is_shown_as_it_is_typed(example: str, typed: str) -> None:
    assert docstrings.command("f", example) == typed


@pytest.mark.parametrize("name", verbs.verbs())
def test_a_verbs_docstring_names_arguments_that_it_has(name: str) -> None:
    verb = verbs.resolve(name)
    said = docstrings.parsed(verb)
    assert set(said.args) <= set(inspect.signature(verb).parameters)
    assert said.summary and said.example.startswith(">>> ")
