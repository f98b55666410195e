"""The lines of a text file, whatever its encoding, its line ends and the length of its longest line."""

from __future__ import annotations

import io
from collections.abc import Iterator
from typing import Any

from llmops_tasks.config import Source

MAX_LINE = 1 << 25  # characters; a longer line, or a record of several that are longer together, is not taken apart
TOO_LONG = f"a line of more than {MAX_LINE} characters"


def decoded(source: Source, stream: Any, newline: str) -> Iterator[str]:
    """Lines without byte-order mark; undecodable bytes become lone surrogates, so that they cost one row only."""
    encoding = "utf-8-sig" if is_utf8(source) else source.encoding
    return lines(io.TextIOWrapper(stream, encoding=encoding, errors="surrogateescape", newline=newline))


def is_utf8(source: Source) -> bool:
    """Does its text come as UTF-8?"""
    return source.encoding.lower().replace("-", "").replace("_", "") in ("utf8", "utf8sig")


def lines(text: io.TextIOBase) -> Iterator[str]:
    """Lines with their ends; of one that is too long its head, of MAX_LINE + 1 characters: it is never held whole."""
    while line := text.readline(MAX_LINE + 1):
        yield line
        while len(line) > MAX_LINE and not line.endswith(("\n", "\r")):
            line = text.readline(MAX_LINE + 1)


def bare(line: str) -> str:
    """The line without its end."""
    return line.removesuffix("\n").removesuffix("\r")
