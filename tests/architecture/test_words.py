"""Retired words do not come back: what users and contributors read uses the terms of docs/glossary.md.

Read are README, CHANGELOG, CONTRIBUTING and docs; DAGs, plugins and use cases as they are; of the package all strings and docstrings. The log
of experiments, docs/log.md, is left as it was written.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# What is not written any more: what is written instead.
RETIRED = {
    r"rooms?": "package; data preparation, training",
    r"exams?": "test set",
    r"trunks?": "frozen layers; activation cache",
    r"made[- ]up": "synthetic",
    r"invented": "synthetic",
    r"told|tells?": "reported, logged, said",
    r"answered days?|days? (?:that )?(?:was|were|is|are) answered": "scored partition",
    r"cautious": "confidence bound",
    r"lets? (?:\w+ )?in": "allowed",
    r"mend(?:s|ed)?": "fixed",
    r"(?:beginning|start) of (?:a|the|its|the dataset's) (?:sha-?256|digest)": "SHA-256 prefix",
    r"(?<!negative )control runs?": "negative control",
    r"lessons?|taught|curriculum": "training record, training plan, trained on",
    r"learnt": "trained on",
    r"nobody|somebody|everybody|whoever|whom": "name the subject, or use the passive",
    r"out of reach": "unreachable",
    r"begins? anew": "start over",
}
WORDS = re.compile(rf"\b(?:{'|'.join(RETIRED)})\b", re.I)
# Files in which a word stands for a reason: file, words, reason.
EXCEPTIONS = [
    ("llmops_tasks/data/synthetic", r"rooms?|tells?|lets? \w+ in|nobody|somebody", "texts of synthetic records"),
    ("llmops_tasks/models/frozen_layers.py", "trunk", "a key in stored digests"),
    ("llmops_tasks/training/", "taught", "a key in stored digests and in the training's meta"),
]
FILES = [
    *ROOT.glob("*.md"),
    *(path for path in ROOT.glob("docs/**/*.md") if path.name != "log.md"),
    *(path for folder in ("dags", "plugins", "llmops_tasks") for path in (ROOT / folder).rglob("*.py")),
    *(path for pattern in ("*.yaml", "*.json") for path in (ROOT / "include").rglob(pattern)),
]


def _name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def _read(path: Path) -> Iterator[tuple[int, str]]:
    """Lines that people read: of Python code in the package the strings, of anything else all lines."""
    text = path.read_text(encoding="utf-8")
    if _name(path).startswith("llmops_tasks/") and path.suffix == ".py":
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.lineno, node.value
    else:
        yield from enumerate(text.splitlines(), start=1)


def retired(lines: Iterator[tuple[int, str]], name: str = "") -> list[str]:
    """The retired words in lines of a file, but for its exceptions."""
    allowed = [re.compile(words, re.I) for file, words, _ in EXCEPTIONS if name.startswith(file)]
    return [
        f"{name}:{number}: '{found[0]}'"
        for number, line in lines
        for found in WORDS.finditer(line)
        if not any(pattern.fullmatch(found[0]) for pattern in allowed)
    ]


@pytest.mark.parametrize("path", FILES, ids=_name)
def test_a_retired_word_is_not_written(path: Path) -> None:
    assert retired(_read(path), _name(path)) == []


@pytest.mark.parametrize(
    "text",
    [
        "in the data room", "its own exam", "the trunk's output", "a made-up record", "all mistakes are told at once",
        "an answered day", "the interval's cautious end", "whose licence is let in", "lets nobody in", "Mend the file",
        "the beginning of the SHA-256", "a control run", "what it was taught", "whoever approves",
    ],
)  # fmt: skip
def test_the_rule_above_notices(text: str) -> None:
    assert retired(iter([(1, text)]))


@pytest.mark.parametrize("text", ["a negative control run", "mushroom", "stellar", "amended", "letting in"])
def test_and_lets_pass_what_only_looks_alike(text: str) -> None:
    assert not retired(iter([(1, text)]))


def test_every_exception_is_needed() -> None:
    """An exception whose word is gone is gone, too."""
    for file, words, reason in EXCEPTIONS:
        texts = [line for path in FILES if _name(path).startswith(file) for _, line in _read(path)]
        assert any(re.search(rf"\b(?:{words})\b", text, re.I) for text in texts), reason
