"""Records of JSON, one a line or somewhere in a document; a bad one costs itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from llmops_tasks.contracts import ArtifactRef
from llmops_tasks.data import tables
from llmops_tasks.data.ingestion import MAX_CELL, ingest
from llmops_tasks.errors import SourceError
from llmops_tasks.store import artifacts
from tests.support import small

NAMES = small.HEADER.split(",")


def _ingest(
    tmp_path: Path, content: bytes, format: str, given: dict[str, Any] | None = None, **source: Any
) -> ArtifactRef:
    file = tmp_path / f"rows.{format}"
    file.write_bytes(content)
    return ingest(usecase=small.usecase(tmp_path, {"uri": f"file://{file}", "format": format, **source}, given))


def _good(ref: ArtifactRef) -> list[dict[str, Any]]:
    return list(tables.rows(artifacts.fetch(ref) / "records.parquet"))


def _bad(ref: ArtifactRef) -> list[tuple[int, str]]:
    return [(row["row"], row["reason"]) for row in tables.rows(artifacts.fetch(ref) / "rejected.parquet")]


def _record(number: int, **values: Any) -> dict[str, Any]:
    return dict(zip(NAMES, small.row(number).split(","), strict=True)) | values


# ---------------------------------------------------------------- json lines


def test_flat_prompts_and_completions_are_plain_columns(tmp_path: Path) -> None:
    given = {"note": {"source": "prompt"}, "level": {"source": "completion"}}
    ref = _ingest(tmp_path, json.dumps(_record(1, prompt="Why?", completion="So.")).encode(), "jsonl", given)
    assert (_good(ref)[0]["note"], _good(ref)[0]["level"]) == ("Why?", "So.")


def _chat(*said: tuple[str, Any]) -> dict[str, Any]:
    return _record(1, messages=[{"role": role, "content": content} for role, content in said])


def test_a_chat_has_what_was_said_before_and_the_last_answer(tmp_path: Path) -> None:
    given = {"note": {"source": "prompt"}, "level": {"source": "completion"}}
    said = [("system", "Be kind."), ("user", "Hi"), ("assistant", "Hello"), ("user", "Ache"), ("assistant", "Rest")]
    lines = [_chat(*said), _chat(*said, ("user", "Thanks"))]
    ref = _ingest(tmp_path, "\n".join(map(json.dumps, lines)).encode(), "jsonl", given)
    wanted = ("system: Be kind.\nuser: Hi\nassistant: Hello\nuser: Ache", "Rest")
    assert [(row["note"], row["level"]) for row in _good(ref)] == [wanted, wanted]


def test_turns_in_both_forms_are_a_conversation_and_its_answer(tmp_path: Path) -> None:
    given = {"note": {"source": "conversation"}, "level": {"source": "answer"}}
    said = [("user", "Hi"), ("assistant", "Hello"), ("user", "Ache"), ("assistant", "Rest")]
    names = {"user": "human", "assistant": "gpt"}
    shared = [{"from": names[role], "value": content} for role, content in said]
    lines = [_chat(*said), _record(2, conversations=shared), _chat(*said[:3]), _record(4, conversations=["a"])]
    ref = _ingest(tmp_path, "\n".join(map(json.dumps, lines)).encode(), "jsonl", given)
    turns = [{"role": role, "content": content} for role, content in said[:3]]
    found = [(row["note"] and json.loads(row["note"]), row["level"]) for row in _good(ref)]
    assert found == [(turns, "Rest"), (turns, "Rest"), (turns, None), (None, None)]


@pytest.mark.parametrize("messages", ["text", [1], [{"role": "user"}], [{"role": "user", "content": ["a"]}], None])
def test_messages_of_another_shape_cost_their_row_only(tmp_path: Path, messages: Any) -> None:
    given = {"note": {"source": "prompt"}}
    lines = [json.dumps(_record(1, messages=messages)), json.dumps(_chat(("user", "Hi")))]
    ref = _ingest(tmp_path, "\n".join(lines).encode(), "jsonl", given)
    assert _bad(ref) == [(1, "messages that are not a list of {role, content}")]
    assert _good(ref)[0]["note"] == "user: Hi"


def test_json_lines_may_begin_with_a_byte_order_mark_and_hold_other_line_ends(tmp_path: Path) -> None:
    line = json.dumps(_record(1, note="a\x85b\u2028c"), ensure_ascii=False)
    ref = _ingest(tmp_path, b"\xef\xbb\xbf" + line.encode() + b"\r\n", "jsonl")
    assert _good(ref)[0]["note"] == "a\x85b\u2028c"


def test_a_huge_json_cell_costs_its_row_only(tmp_path: Path) -> None:
    lines = [json.dumps(_record(1, note="x" * (MAX_CELL + 1))), json.dumps(_record(2))]
    ref = _ingest(tmp_path, "\n".join(lines).encode(), "jsonl")
    assert _bad(ref) == [(1, f"a cell of more than {MAX_CELL} characters")]


def test_a_key_that_the_first_row_lacks_is_looked_for_in_the_next_ones(tmp_path: Path) -> None:
    first = {name: value for name, value in _record(1).items() if name != "phone"}
    ref = _ingest(tmp_path, "\n".join(map(json.dumps, [first, _record(2, phone="1")])).encode(), "jsonl")
    assert [row["phone"] for row in _good(ref)] == [None, "1"]
    with pytest.raises(SourceError, match=r"lacks the columns \['phone'\]"):
        _ingest(tmp_path, json.dumps(first).encode(), "jsonl")


# ---------------------------------------------------------------- json


@pytest.mark.parametrize(
    ("records", "document"),
    [
        ("item", lambda rows: rows),
        ("data.item", lambda rows: {"meta": {"n": [1, {"item": 2}]}, "data": rows, "after": {"data": [0]}}),
        ("*.item", lambda rows: {"first": rows[:1], "second": rows[1:]}),
        ("*.cases.item", lambda rows: {"a.b": {"cases": rows, "other": [1]}}),
        ("*", lambda rows: {str(n): row for n, row in enumerate(rows)}),
    ],
)
def test_records_are_found_where_the_pattern_says(tmp_path: Path, records: str, document: Any) -> None:
    rows = [_record(1, age=37.50, nurse=None), _record(2, note='quote " and } brace')]
    ref = _ingest(tmp_path, json.dumps(document(rows)).encode(), "json", records=records)
    assert [(row["visit"], row["age"], row["nurse"]) for row in _good(ref)] == [("V1", "37.5", None), ("V2", "40", "2")]
    assert _good(ref)[1]["note"] == 'quote " and } brace'


def test_the_key_that_a_star_matched_is_kept(tmp_path: Path) -> None:
    document = {"urgent": [_record(1), _record(2)], "calm": [_record(3)], "none": []}
    given = {"level": {"source": "_key"}}
    ref = _ingest(tmp_path, json.dumps(document).encode(), "json", given, records="*.item")
    wanted = [("V1", "urgent"), ("V2", "urgent"), ("V3", "calm")]
    assert [(row["visit"], row["level"]) for row in _good(ref)] == wanted
    ref = _ingest(tmp_path, json.dumps({"data": document}).encode(), "json", given, records="data.*.item")
    assert [(row["visit"], row["level"]) for row in _good(ref)] == wanted


def test_numbers_keep_the_digits_they_were_written_with(tmp_path: Path) -> None:
    text = json.dumps([_record(1)]).replace('"40"', "37.50").replace('"P1"', "12345678901234567890123")
    row = _good(_ingest(tmp_path, text.encode(), "json"))[0]
    assert (row["age"], row["patient"]) == ("37.50", "12345678901234567890123")


@pytest.mark.parametrize("cut", [0, 1, 40, -40, -1])
@pytest.mark.parametrize("records", ["item", "*.item"])
def test_a_document_that_breaks_off_is_an_error_without_its_text(tmp_path: Path, cut: int, records: str) -> None:
    rows = [_record(n, note="zebrafish") for n in (1, 2, 3)]
    content = json.dumps(rows if records == "item" else {"a": rows}).encode()[:cut]
    with pytest.raises(SourceError, match="it is empty, breaks off, or is not valid JSON") as caught:
        _ingest(tmp_path, content, "json", records=records)
    assert "zebrafish" not in repr(caught.value) and caught.value.__cause__ is None


def test_a_pattern_that_finds_nothing_says_what_to_check(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"no row that can be read \(0 could not\). Check the file, and records"):
        _ingest(tmp_path, json.dumps([_record(1)]).encode(), "json", records="data.item")


def test_what_is_no_object_is_set_aside(tmp_path: Path) -> None:
    ref = _ingest(tmp_path, json.dumps(["text", 7, None, [1], _record(1)]).encode(), "json")
    assert _bad(ref) == [(number, "not a JSON object") for number in (1, 2, 3, 4)]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "latin-1"])
def test_json_in_other_encodings(tmp_path: Path, encoding: str) -> None:
    content = json.dumps([_record(1, note="caf\u00e9")], ensure_ascii=False).encode(encoding)
    assert _good(_ingest(tmp_path, content, "json", encoding=encoding))[0]["note"] == "caf\u00e9"


def test_json_that_is_not_in_its_encoding_is_an_error(tmp_path: Path) -> None:
    content = json.dumps([_record(1, note="caf\u00e9")], ensure_ascii=False).encode("latin-1")
    with pytest.raises(SourceError, match="not valid JSON in utf-8"):
        _ingest(tmp_path, content, "json")
