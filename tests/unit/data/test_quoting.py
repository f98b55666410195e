"""A quote that goes wrong costs its own line; nobody's text holds another's row."""

from __future__ import annotations

import csv
import io
import random
import time
from pathlib import Path
from typing import Any

import pytest

from llmops_tasks.contracts import ArtifactRef
from llmops_tasks.data import tables
from llmops_tasks.data.ingestion import MAX_CELL, ingest
from llmops_tasks.errors import SourceError
from llmops_tasks.store import artifacts, digests
from tests.support import small

OPEN = "an unclosed quote, or characters after a closing quote"
ROWS_WITHIN = "an unclosed quote: its cell would contain other rows"
STRAY = "a misplaced quote after an unclosed one"


def _ingest(tmp_path: Path, content: str, **source: Any) -> ArtifactRef:
    (tmp_path / "rows.csv").write_bytes(content.encode())
    return ingest(usecase=small.usecase(tmp_path, {"uri": f"file://{tmp_path}/rows.csv", **source}))


def _csv(*rows: str) -> str:
    return "\n".join([small.HEADER, *rows, ""])


def _good(ref: ArtifactRef) -> list[dict[str, Any]]:
    return list(tables.rows(artifacts.fetch(ref) / "records.parquet"))


def _bad(ref: ArtifactRef) -> list[tuple[int, str]]:
    return [(row["row"], row["reason"]) for row in tables.rows(artifacts.fetch(ref) / "rejected.parquet")]


def _rows(**notes: str) -> list[str]:
    """Thirty rows, some of whose notes are others."""
    return [small.row(n, note=notes.get(f"V{n}", f"sore throat {n}")) for n in range(30)]


def _check(ref: ArtifactRef, gone: dict[int, str]) -> None:
    """All rows are there but those that are named; and no text holds another's id."""
    assert _bad(ref) == [(n + 1, reason) for n, reason in gone.items()]
    rows = _good(ref)
    assert [row["visit"] for row in rows] == [f"V{n}" for n in range(30) if n not in gone]
    assert not [row for row in rows if any(f"P{n}," in row["note"] for n in range(30))]


# ---------------------------------------------------------------- a quote that is not closed


def test_an_open_quote_that_the_next_quoted_cell_would_close_costs_its_row(tmp_path: Path) -> None:
    ref = _ingest(tmp_path, _csv(*_rows(V3='"never closed', V12='"quoted, with comma"')))
    _check(ref, {3: OPEN})
    assert _good(ref)[11]["note"] == "quoted, with comma"


@pytest.mark.parametrize("closing", ['5"', 'a"', '"'])
def test_one_that_a_stray_quote_closes_well_formed_does_not_swallow_the_rows_between(
    tmp_path: Path, closing: str
) -> None:
    """Twenty-one rows of thirty used to arrive."""
    gone = {3: ROWS_WITHIN, 12: STRAY}
    if closing == '"':
        gone[12] = OPEN  # a cell that begins with a quote and has no other
    _check(_ingest(tmp_path, _csv(*_rows(V3='"never closed', V12=closing))), gone)


def test_one_that_is_closed_at_another_column_does_not_either(tmp_path: Path) -> None:
    rows = _rows(V3='"never closed')
    rows[12] = rows[12].replace("P12", 'P12"')
    _check(_ingest(tmp_path, _csv(*rows)), {3: ROWS_WITHIN, 12: STRAY})


def test_one_in_the_last_row_costs_that_row(tmp_path: Path) -> None:
    _check(_ingest(tmp_path, _csv(*_rows(V29='"never closed'))), {29: OPEN})
    _check(_ingest(tmp_path, _csv(*_rows(V29='"never closed')).rstrip("\n")), {29: OPEN})


def test_many_of_them_cost_a_row_each(tmp_path: Path) -> None:
    broken = {f"V{n}": '"never closed' for n in (3, 4, 9, 20, 29)}
    _check(_ingest(tmp_path, _csv(*_rows(**broken))), dict.fromkeys((3, 4, 9, 20, 29), OPEN))


def test_in_wholly_quoted_rows_it_costs_its_row(tmp_path: Path) -> None:
    rows = [",".join(f'"{cell}"' for cell in row.split(",")) for row in _rows()]
    rows[3] = rows[3].replace('throat 3"', "throat 3")
    _check(_ingest(tmp_path, _csv(*rows)), {3: OPEN})


def test_with_windows_line_ends_and_another_delimiter_it_costs_its_row(tmp_path: Path) -> None:
    content = _csv(*_rows(V3='"never closed', V12='5"')).replace(",", ";").replace("\n", "\r\n")
    _check(_ingest(tmp_path, content, delimiter=";"), {3: ROWS_WITHIN, 12: STRAY})


def test_letters_after_a_closing_quote_cost_their_row(tmp_path: Path) -> None:
    _check(_ingest(tmp_path, _csv(*_rows(V3='"quoted" and more'))), {3: OPEN})


def test_the_row_is_known_by_the_digest_of_its_line(tmp_path: Path) -> None:
    rows = _rows(V3='"never closed')
    rejected = tables.rows(artifacts.fetch(_ingest(tmp_path, _csv(*rows))) / "rejected.parquet")
    assert [row["sha256"] for row in rejected] == [digests.digest(rows[3].encode())]


def test_one_in_the_header_is_an_error_without_its_words(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"The header of '.*' has an unclosed quote") as caught:
        _ingest(tmp_path, _csv(*_rows()).replace("note", '"zebrafish', 1))
    assert "zebrafish" not in repr(caught.value)


def test_without_quoting_a_quote_closes_nothing(tmp_path: Path) -> None:
    ref = _ingest(tmp_path, _csv(*_rows(V3='"never closed', V12='5"')), quoting="none")
    assert (_good(ref)[3]["note"], ref["rows"], ref["meta"]["rejected"]) == ('"never closed', 30, 0)


# ---------------------------------------------------------------- what is right stays as it is

NOTES = {
    "lines": "first line\nsecond line, with comma\n\nand, a, fourth, with, many, commas, in, it, all",
    "windows": "first\r\nsecond, and\rthird",
    "doubled": 'she said "no", then\n"yes"',
    "only quotes": '""',
    "ends with a line": "a\n",
    "begins with a comma": ", and so on\n, 1, 2",
    "numbered": "1, rest\n2, ice\n3, elevate",
    "table": "Na,135,140,1,2,3,4,5\nK,4.1,5,1,2,3,4,5",
}


@pytest.mark.parametrize("note", NOTES.values(), ids=NOTES)
def test_cells_of_several_lines_arrive_as_they_were(tmp_path: Path, note: str) -> None:
    doubled = note.replace('"', '""')
    ref = _ingest(tmp_path, _csv(*_rows(V3=f'"{doubled}"', V29=f'"{doubled}"')))
    assert (ref["rows"], ref["meta"]["rejected"]) == (30, 0)
    assert [_good(ref)[at]["note"] for at in (3, 29)] == [note, note]


def test_a_quote_within_an_unquoted_cell_is_a_letter(tmp_path: Path) -> None:
    ref = _ingest(tmp_path, _csv(*_rows(V3='a 5" cut', V4='a "bad" fall')))
    assert [row["note"] for row in _good(ref)[3:5]] == ['a 5" cut', 'a "bad" fall']
    assert ref["meta"]["rejected"] == 0


@pytest.mark.parametrize("columns", [2, 3, 5, 8])
@pytest.mark.parametrize("place", ["first", "last"])
def test_prose_with_commas_in_narrow_tables_is_not_taken_for_rows(columns: int, place: str) -> None:
    from llmops_tasks.data.quoting import Records

    note = "He fell, twice.\nNo pain, no fever, no cough,\nand, then, went, home, again, by, bus, alone, happy"
    outer = ["V1", "P1", "2026-01-01", "40.5", "1", "f", "x9"][: columns - 1]
    fields = [note, *outer] if place == "first" else [*outer, note]
    text = io.StringIO(newline="")
    csv.writer(text).writerows([[f"c{n}" for n in range(columns)], fields, fields])
    found = list(Records(iter(text.getvalue().splitlines(keepends=True)), ","))
    assert [reason for _, reason in found] == ["", "", ""] and found[1][0] == fields


@pytest.mark.parametrize("seed", range(5))
def test_whatever_is_written_as_csv_is_read_as_it_was(seed: int) -> None:
    from llmops_tasks.data.quoting import Records

    rng = random.Random(seed)
    for _ in range(200):
        width = rng.randint(2, 6)
        header = [f"c{n}" for n in range(width)]
        rows = [
            [
                f"V{n}",
                *(
                    "".join(rng.choices(["pain ", "b", '"', ",", "\n", "\r\n", " 1"], k=rng.randint(0, 9)))
                    for _ in header[1:]
                ),
            ]
            for n in range(6)
        ]
        text = io.StringIO(newline="")
        csv.writer(text, quoting=rng.choice([csv.QUOTE_MINIMAL, csv.QUOTE_ALL])).writerows([header, *rows])
        lines = io.StringIO(text.getvalue(), newline="")
        assert [fields for fields, reason in Records(iter(lines.readline, ""), ",") if not reason] == [header, *rows]


@pytest.mark.parametrize("seed", range(8))
def test_wherever_a_quote_is_lost_or_added_other_rows_stay_whole_and_apart(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(25):
        notes = [rng.choice(["plain", "with, comma", 'he said "no"', "two\nlines", "a\nb, c\nd"]) for _ in range(12)]
        text = io.StringIO(newline="")
        rows = [
            [f"V{n}", f"P{n}", "2026-01-01T00:00:00Z", "1", str(20 + n), note, "", "2"] for n, note in enumerate(notes)
        ]
        csv.writer(text, lineterminator="\n").writerows([small.HEADER.split(","), *rows])
        whole = text.getvalue()
        quotes = [at for at, char in enumerate(whole) if char == '"']
        at = rng.choice(quotes) if quotes and rng.random() < 0.5 else rng.randrange(len(small.HEADER) + 1, len(whole))
        broken = whole[:at] + (whole[at + 1 :] if whole[at] == '"' else '"' + whole[at:])
        try:
            ref = _ingest(tmp_path, broken)
        except SourceError:
            continue
        found = _good(ref)
        hurt = whole[len(small.HEADER) :].count("\nV", 0, at - len(small.HEADER) + 1) - 1
        assert not [row for row in found for n in range(12) if f"P{n}," in (row["note"] or "")]
        arrived = {row["visit"]: row["note"] for row in found}
        others = {f"V{n}": note for n, note in enumerate(notes) if n != hurt}
        assert {visit: note for visit, note in arrived.items() if visit in others} == others


# ---------------------------------------------------------------- sizes


@pytest.mark.parametrize("quote", ["", '"'])
def test_a_cell_of_10_mb_costs_its_row_only(tmp_path: Path, quote: str) -> None:
    """The whole file used to be refused, for a quote that nobody had forgotten."""
    note = quote + "x" * 10_000_000 + quote
    ref = _ingest(tmp_path, _csv(small.row(1, note=note), small.row(2)))
    assert ([row["visit"] for row in _good(ref)], _bad(ref)) == (
        ["V2"],
        [(1, f"a cell of more than {MAX_CELL} characters")],
    )


def test_a_cell_of_10_mb_in_many_lines_costs_its_row_only(tmp_path: Path) -> None:
    note = '"' + "a line, of text\n" * 700_000 + '"'
    ref = _ingest(tmp_path, _csv(small.row(1, note=note), small.row(2)))
    assert ([row["visit"] for row in _good(ref)], _bad(ref)) == (
        ["V2"],
        [(1, f"a cell of more than {MAX_CELL} characters")],
    )


@pytest.mark.parametrize("format", ["csv", "jsonl", "text"])
def test_a_line_without_end_costs_its_row_and_is_never_held_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, format: str
) -> None:
    from llmops_tasks.data import formats, json_records, lines, quoting

    for module in (formats, json_records, lines, quoting):
        monkeypatch.setattr(module, "MAX_LINE", 1000)
    header = f"{small.HEADER}\n" if format == "csv" else ""
    (tmp_path / "rows").write_text(f'{header}"{"x" * 5000}\n{small.row(2)}\n', encoding="utf-8")
    columns = {name: {"source": "text"} for name in small.COLUMNS} if format == "text" else None
    given = {"uri": f"file://{tmp_path}/rows", "format": format}
    if format == "jsonl":
        with pytest.raises(SourceError, match=r"no row that can be read \(2 could not\)"):
            ingest(usecase=small.usecase(tmp_path, given))
        return
    ref = ingest(usecase=small.usecase(tmp_path, given, columns))
    assert (ref["rows"], _bad(ref)) == (1, [(1, lines.TOO_LONG)])


@pytest.mark.parametrize("line", ['"\n', 'a,"b","c\n', '","\n', '"a\n', 'a,b""\n', '"""\n', '",\n,"\n'])
def test_no_pattern_of_quotes_makes_reading_slow(line: str) -> None:
    from llmops_tasks.data.quoting import Records

    started = time.process_time()  # not the clock's: neighbours would count
    for _ in Records(iter(["a,b\n", *[line] * 20_000]), ","):
        pass
    assert time.process_time() - started < 5
