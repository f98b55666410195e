"""CSV with quotes, read strictly: a misplaced quote costs its own line, and no other row.

A quote that is never closed would turn the records that follow into one text. So a record that
breaks the rules (a quote open at the end, letters after a closing one) gives up its first line only, and reading goes
on with the next. The same where a cell of several lines is well formed but holds what looks like other rows. Lines
that such a quote ran over count as rows only if each of their quotes is in its place.

Kept as they are: cells of several lines, doubled quotes, any kind of line end, and quotes within a cell that does not
begin with one (5" wide). What this does not do: distinguish a note that quotes a whole row of its own file from an open quote.
"""

from __future__ import annotations

import csv
import re
from collections import deque
from collections.abc import Iterator

from llmops_tasks.data.lines import MAX_LINE, TOO_LONG, bare

Record = tuple[list[str], str]  # the fields; or the line as it stood, and why it has none
OPEN = "an unclosed quote, or characters after a closing quote"
ROWS_WITHIN = "an unclosed quote: its cell would contain other rows"
STRAY = "a misplaced quote after an unclosed one"
_WORDS, _DIGITS = re.compile(r"[^\W\d_]+(?:\s+[^\W\d_]+)*"), re.compile(r"\d+")


class Records:
    """The records of lines that keep their ends; the first one is the header, unless `width` is given.

    Args:
        lines: of the file, split at each kind of line end.
        delimiter: between fields.
        width: how many fields a row has; 0 if the first record says it.
    """

    def __init__(self, lines: Iterator[str], delimiter: str, width: int = 0) -> None:
        csv.field_size_limit(2**31 - 1)  # how long a cell may be is decided later, for its row alone
        cell = rf'(?:"[^"]*(?:""[^"]*)*(?:"|\Z)|[^"{re.escape(delimiter)}]*)'
        self._in_place = re.compile(rf"{cell}(?:{re.escape(delimiter)}{cell})*")
        self._lines, self._delimiter, self._width = lines, delimiter, width
        self._again = deque[str]()  # lines that an open quote ran over

    def __iter__(self) -> Iterator[Record]:
        while True:
            doubtful = bool(self._again)
            if (line := self._next()) is None:
                return
            if len(line) > MAX_LINE:
                record: Record = ([bare(line)], TOO_LONG)
            elif '"' not in line:
                record = (text.split(self._delimiter) if (text := bare(line)) else [], "")
            elif doubtful and not self._in_place.fullmatch(bare(line)):
                record = [bare(line)], STRAY
            else:
                record = self._quoted(line)
            self._width = self._width or len(record[0])
            yield record

    def _next(self) -> str | None:
        return self._again.popleft() if self._again else next(self._lines, None)

    def _quoted(self, line: str) -> Record:
        taken = [line]
        try:
            fields = next(csv.reader(self._from(taken), delimiter=self._delimiter, strict=True))
        except csv.Error:
            reason = OPEN
        else:
            if len(taken) == 1 or not self._holds_rows(fields, taken):
                return fields, ""
            reason = ROWS_WITHIN
        self._again.extendleft(reversed(taken[1:]))
        return [bare(line)], reason

    def _from(self, taken: list[str]) -> Iterator[str]:
        """A record's first line, and as many of the next as are asked for."""
        yield taken[0]
        size = 0
        while size < MAX_LINE and (line := self._next()) is not None:
            taken.append(line)
            size += len(line)
            yield line

    # ------------------------------------------------------------ what looks like other rows

    def _holds_rows(self, fields: list[str], taken: list[str]) -> bool:
        """Do the lines of a record look like rows: as many fields as the header has, alike at the same places?"""
        lines = [bare(line).split(self._delimiter) for line in taken]
        if len(fields) != self._width:  # closed at another place: there is nothing to compare with
            return self._width > 1 and any(len(cells) >= self._width for cells in lines[1:])
        at = next(place for place, cell in enumerate(fields) if "\n" in cell or "\r" in cell)
        left, right = fields[:at], fields[at + 1 :]
        inside = ('"' not in line.replace('""', "") for line in taken)  # a whole line of one cell
        if any(within and self._alike(cells, left, right) for within, cells in zip(inside, lines, strict=True)):
            return True
        # An open quote that a later row closes: the first line ends like a row, and the last one begins like one.
        return self._alike(lines[0], [], right) and self._alike(lines[-1], left, [])

    def _alike(self, cells: list[str], left: list[str], right: list[str]) -> bool:
        """Are most of the outer cells of the same kinds (words, numbers, times, codes) as these?"""
        if len(cells) < self._width:
            return False
        pairs = [*zip(left, cells, strict=False), *zip(right[::-1], cells[::-1], strict=False)]
        known = [_kind(one) == _kind(other) for one, other in pairs if one.strip() and other.strip()]
        return not (left or right) or sum(known) >= max(1, 0.75 * len(known))


def _kind(cell: str) -> str:
    """A cell's form: words are one letter, numbers one digit; signs stay."""
    return _DIGITS.sub("9", _WORDS.sub("a", cell.strip()))
