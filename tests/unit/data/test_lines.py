"""Lines in any encoding; one without end is never held whole."""

from __future__ import annotations

import io

import pytest

from llmops_tasks.config import Source
from llmops_tasks.data import lines


def _lines(content: bytes, newline: str = "\n", **source: str) -> list[str]:
    return list(lines.decoded(Source(uri="file:///x", **source), io.BytesIO(content), newline))


@pytest.mark.parametrize("encoding", ["utf-8", "UTF8", "utf_8_sig", "utf-16", "cp1252"])
def test_a_byte_order_mark_is_no_part_of_the_first_line(encoding: str) -> None:
    written = {"UTF8": "utf-8-sig", "utf-8": "utf-8-sig"}.get(encoding, encoding)
    assert _lines("caf\u00e9\nb".encode(written), encoding=encoding) == ["caf\u00e9\n", "b"]


def test_bytes_that_are_none_of_the_encoding_stay_apart_in_their_line() -> None:
    assert _lines(b"a\xe9\nb\n") == ["a\udce9\n", "b\n"]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_line_without_end_gives_its_head_and_the_next_one_is_whole(monkeypatch: pytest.MonkeyPatch, end: str) -> None:
    monkeypatch.setattr(lines, "MAX_LINE", 10)
    content = f"{'x' * 95}{end}second{end}{'y' * 10}".encode()
    assert [lines.bare(line) for line in _lines(content, newline="")] == ["x" * 11, "second", "y" * 10]


@pytest.mark.parametrize(
    ("line", "bare"), [("a\n", "a"), ("a\r\n", "a"), ("a\r", "a"), ("a", "a"), ("\n", ""), ("a\x85\n", "a\x85")]
)
def test_a_line_is_bare_without_its_end(line: str, bare: str) -> None:
    assert lines.bare(line) == bare
