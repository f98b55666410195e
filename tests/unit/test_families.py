"""docs/families.md says what is found by trying."""

from __future__ import annotations

import pytest

from tests.support import families, tiny

WRITTEN = (tiny.ROOT / "docs" / "families.md").read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize("family", families.FAMILIES)
def test_a_family_works_as_the_table_says(family: str) -> None:
    assert f"| {' | '.join(families.row(family))} |" in WRITTEN


def test_the_table_has_a_row_for_each_family_and_no_other() -> None:
    rows = [line.split("|")[1].strip() for line in WRITTEN if line.startswith("|")]
    assert rows == ["family", "---", *families.FAMILIES]
