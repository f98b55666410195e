"""Digests are addresses and evidence: of the same value they must be the same for ever, and in any other program."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from llmops_tasks.store import digests


def test_a_value_has_one_form_whatever_the_order_of_its_keys() -> None:
    form = '{"a":[1,true,null,0.5],"b":"ärztlich","c":{"x":"\\n","y":{}}}'.encode()
    assert digests.canonical({"c": {"y": {}, "x": "\n"}, "b": "ärztlich", "a": [1, True, None, 0.5]}) == form
    assert digests.digest({"b": "ärztlich", "a": [1, True, None, 0.5], "c": {"x": "\n", "y": {}}}) == (
        hashlib.sha256(form).hexdigest()
    )


def test_other_values_have_other_digests() -> None:
    values = [{"a": 1}, {"a": 2}, {"a": "1"}, {"A": 1}, ["a", 1], [1, "a"], None, "", b""]
    assert len({digests.digest(value) for value in values}) == len(values)


def test_bytes_are_taken_as_they_are() -> None:
    assert digests.digest(b"rows") == hashlib.sha256(b"rows").hexdigest() != digests.digest("rows")


def test_a_file_has_the_digest_of_its_bytes(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(bytes(range(256)) * 5000)
    assert digests.file_digest(tmp_path / "x") == digests.digest(bytes(range(256)) * 5000)


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_what_is_no_number_has_no_form(number: float) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        digests.canonical({"loss": number})
