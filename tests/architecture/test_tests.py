"""Where the tests of a module are found: in a file of its name, in the package of its name."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE, TESTS = ROOT / "llmops_tasks", ROOT / "tests" / "unit"
MODULES = [path for path in sorted(PACKAGE.rglob("*.py")) if path.name != "__init__.py"]
# Tables and shapes alone, with no line that does anything.
PLAIN = {
    "contracts",
    "data/synthetic_words",
    "data/synthetic_faq_words",
    "data/synthetic_reviews_words",
}


def _name(path: Path) -> str:
    return path.relative_to(PACKAGE).with_suffix("").as_posix()


def _tests(path: Path) -> Path:
    return TESTS / path.parent.relative_to(PACKAGE) / f"test_{path.stem.strip('_')}.py"


@pytest.mark.parametrize("path", [path for path in MODULES if _name(path) not in PLAIN], ids=_name)
def test_a_module_has_a_file_of_tests_of_its_name(path: Path) -> None:
    assert _tests(path).is_file(), f"write {_tests(path).relative_to(ROOT)}"
    assert "def test_" in _tests(path).read_text(encoding="utf-8")


def test_exceptions_are_modules_that_there_are() -> None:
    assert {_name(path) for path in MODULES} >= PLAIN


@pytest.mark.parametrize("name", sorted(PLAIN))
def test_what_needs_none_does_nothing(name: str) -> None:
    text = (PACKAGE / f"{name}.py").read_text(encoding="utf-8")
    assert not [word for word in ("def ", "lambda", "for ", "if ") if f"\n{word}" in text or f"\n    {word}" in text]
