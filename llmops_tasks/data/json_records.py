"""Records of JSON: one a line, or those of a document that never stands in memory whole.

Three faults reject a record: a repeated key, excessive nesting, and a chat of another schema.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterable, Iterator
from typing import Any

from llmops_tasks.config import Source
from llmops_tasks.data.lines import MAX_LINE, TOO_LONG, decoded, is_utf8
from llmops_tasks.errors import SourceError
from llmops_tasks.models.chat import Message
from llmops_tasks.prompts import conversations

MAX_RECORD = 1 << 28  # bytes of a document from one record to the next
MAX_DEPTH = 100  # levels of lists and objects
MAX_NESTING = 5_000  # of a document, from its root
_NO_SIGNS = bytes(set(range(256)) - set(b'"[]{}'))
TOO_DEEP = f"nested more than {MAX_DEPTH} levels deep"
# Number from 1, values by name, the reason if there are none, and the original.
Row = tuple[int, dict[str, Any] | None, str, Any]


def by_line(source: Source, uri: str, stream: Any) -> Iterator[Row]:
    """One object a line; a line that is none costs itself."""
    for number, line in enumerate(decoded(source, stream, newline="\n"), start=1):
        if not line.strip():
            continue
        if len(line) > MAX_LINE:
            yield number, None, TOO_LONG, line
            continue
        try:
            values = json.loads(line, object_pairs_hook=_Object)
        except (ValueError, RecursionError):
            yield number, None, _broken(line), line
        else:
            yield number, *_object(values), line


class _Object(dict[str, Any]):
    """A JSON object that remembers whether a key stood twice."""

    twice = False

    def __init__(self, pairs: Iterable[tuple[str, Any]] = ()) -> None:
        pairs = list(pairs)
        super().__init__(pairs)
        self.twice = len(self) < len(pairs)

    def __setitem__(self, key: str, value: Any) -> None:
        self.twice = self.twice or key in self
        super().__setitem__(key, value)


def _broken(line: str) -> str:
    bad = not line.isascii() and any("\udc80" <= char <= "\udcff" for char in line)
    return "bytes that are not valid in the encoding" if bad else "not valid JSON"


def _object(values: Any) -> tuple[dict[str, Any] | None, str]:
    """A JSON object's values, or what is wrong with it; a chat gets `prompt` and `completion`, and as turns `conversation`
    and `answer`."""
    if not isinstance(values, dict):
        return None, "not a JSON object"
    if fault := _fault(values):
        return None, fault
    if "messages" not in values:
        turns = conversations.messages(values["conversations"]) if "conversations" in values else None
        return {**_turns(turns or []), **values}, ""
    pair = _chat(values["messages"])
    return (
        (None, "messages that are not a list of {role, content}")
        if pair is None
        else (
            {**pair, **_turns(conversations.messages(values["messages"]) or []), **values},
            "",
        )
    )


def _turns(said: list[Message]) -> dict[str, Any]:
    """A conversation up to where the assistant answers, and its answer; one that ends with the user has none yet."""
    if not said:
        return {}
    if said[-1]["role"] != "assistant":
        return {"conversation": said}
    return {"conversation": said[:-1], "answer": said[-1]["content"]}


def _fault(values: dict[str, Any]) -> str:
    """What makes an object unfit, however deep in it; not by recursion, as it may be made to exhaust that."""
    waiting: list[tuple[int, Any]] = [(1, values)]
    while waiting:
        depth, value = waiting.pop()
        if depth > MAX_DEPTH:
            return TOO_DEEP
        if getattr(value, "twice", False):
            return "a repeated key"
        inner = value.values() if isinstance(value, dict) else value
        waiting += [(depth + 1, part) for part in inner if isinstance(part, dict | list)]
    return ""


def _chat(messages: Any) -> dict[str, Any] | None:
    """What stands before the assistant's last message, and that message; a chat without one has no completion."""
    try:
        said = [(message["role"], message["content"]) for message in messages]
    except (TypeError, KeyError):
        return None
    if not all(isinstance(part, str) for pair in said for part in pair):
        return None
    last = max((place for place, (role, _) in enumerate(said) if role == "assistant"), default=len(said))
    prompt = "\n".join(f"{role}: {content}" for role, content in said[:last])
    return {"prompt": prompt} | ({"completion": said[last][1]} if last < len(said) else {})


def by_document(source: Source, uri: str, stream: Any) -> Iterator[Row]:
    """The objects that stand where `data.source.records` says.

    Raises:
        SourceError: if the document breaks off, or holds no record within MAX_RECORD bytes.
    """
    import ijson

    document = _Recoded(source, uri, stream)
    try:
        for number, (key, values) in enumerate(_records(source, document), start=1):
            document.since = 0
            record, reason = _object(values)
            yield number, record if key is None or record is None else {**record, "_key": key}, reason, values
    except (ijson.JSONError, UnicodeError):  # the parser's own words quote the document
        raise SourceError(
            f"Cannot read '{uri}': it is empty, breaks off, or is not valid JSON in {source.encoding}. "
            "Deliver it again, or set the format to jsonl for one object per line."
        ) from None


class _Recoded:
    """A stream in another encoding, read as UTF-8 without byte-order mark, which is what the parser knows."""

    def __init__(self, source: Source, uri: str, stream: Any) -> None:
        encoding = "utf-8-sig" if is_utf8(source) else source.encoding
        self._text, self._uri = io.TextIOWrapper(stream, encoding=encoding, newline=""), uri
        self.since = 0  # bytes since the last record
        self._nesting = _Nesting()

    def read(self, size: int) -> bytes:
        data = self._text.read(size).encode()
        if self._nesting.deepest(data) > MAX_NESTING:
            raise SourceError(f"'{self._uri}' is nested more than {MAX_NESTING} levels deep. Check the file.")
        self.since += len(data)
        if self.since > MAX_RECORD:  # the parser would hold all of it
            raise SourceError(
                f"'{self._uri}' has no record within {MAX_RECORD} bytes. Check data.source.records, or split the file."
            )
        return data


class _Nesting:
    """How deep a document is, read along: the parser itself falls over some ten thousands of levels, and all with it."""

    def __init__(self) -> None:
        self._depth, self._within, self._held = 0, False, b""

    def deepest(self, data: bytes) -> int:
        """An upper bound of the depth in the next bytes."""
        data = self._held + data
        escapes = len(data) - len(data.rstrip(b"\\"))
        self._held, data = (b"\\", data[:-1]) if escapes % 2 else (b"", data)  # what it escapes is still to come
        signs = data.replace(b"\\\\", b"").replace(b'\\"', b"").translate(None, delete=_NO_SIGNS)
        parts = signs.split(b'"')
        outside = b"".join(parts[self._within :: 2])
        self._within ^= len(parts) % 2 == 0
        return self._follow(outside)

    def _follow(self, signs: bytes) -> int:
        opened = signs.count(b"[") + signs.count(b"{")
        if (most := self._depth + opened) <= MAX_NESTING:
            self._depth = most - (len(signs) - opened)
            return most
        most = self._depth
        for sign in signs:
            self._depth += 1 if sign in b"[{" else -1
            most = max(most, self._depth)
        return most


def _records(source: Source, stream: Any) -> Iterator[tuple[str | None, Any]]:
    import ijson

    if "*" not in source.records.split("."):
        return ((None, record) for record in ijson.items(stream, source.records, map_type=_Object))
    return _starred(stream, source.records.split("."))


def _starred(stream: Any, steps: list[str]) -> Iterator[tuple[str | None, Any]]:
    """Records on paths with a `*`, each with the (last) key that matched one."""
    import ijson

    path: list[str] = []  # from the document's root to here; a list's elements are `item`
    star = max(place for place, step in enumerate(steps) if step == "*")
    events = iter(ijson.basic_parse(stream))
    for event, value in events:
        if event == "map_key":
            path[-1] = value
        elif event in ("end_map", "end_array"):
            path.pop()
        elif len(path) == len(steps) and all(step in ("*", name) for step, name in zip(steps, path, strict=True)):
            yield path[star], _value(event, value, events)
        elif event in ("start_map", "start_array"):
            path.append("item")


def _value(event: str, value: Any, events: Iterator[tuple[str, Any]]) -> Any:
    """The value that begins with this event."""
    from ijson.common import ObjectBuilder

    builder, depth = ObjectBuilder(map_type=_Object), 0
    while True:
        builder.event(event, value)
        depth += event.startswith("start") - event.startswith("end")
        if depth == 0:
            return builder.value
        event, value = next(events)


def cut(value: Any, depth: int = MAX_DEPTH) -> Any:
    """A value without what is nested deeper."""
    if not isinstance(value, dict | list):
        return value
    if depth == 0:
        return None
    if isinstance(value, list):
        return [cut(part, depth - 1) for part in value]
    return {key: cut(part, depth - 1) for key, part in value.items()}
