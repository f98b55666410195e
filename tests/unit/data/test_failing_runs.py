"""A run that fails tells nobody's secrets: not in its error, not in the log, not in what it leaves behind (T30, T12)."""

from __future__ import annotations

import json
import logging
import resource
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from llmops_tasks import config
from llmops_tasks.contracts import ArtifactRef
from llmops_tasks.data import formats
from llmops_tasks.data.anonymization import anonymize
from llmops_tasks.data.dataset import build_dataset, render_day
from llmops_tasks.data.ingestion import ingest
from llmops_tasks.data.validation import validate
from llmops_tasks.errors import LLMOpsError, StorageError
from llmops_tasks.prompts import interface
from llmops_tasks.store import artifacts
from tests.support import small

# Of every column a token that stands nowhere else.
TOKENS = {
    "visit": "Vquux",
    "patient": "Pblorb",
    "age": "4711.",
    "note": "zebrafishitis",
    "phone": "0209794",
    "nurse": "Nvroom",
}


def _row(number: int, **values: str) -> str:
    planted = {name: f"{token}{number}" for name, token in TOKENS.items()} | {"age": str(40 + number % 9)}
    return small.row(number, **{**planted, "seen": f"2026-01-{1 + number % 28:02d}", **values})


class Case:
    """A use case of sixty rows, and each verb on what the verbs before it made."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder, self.patch = folder, monkeypatch
        self.rows = [_row(n) for n in range(60)]
        self.source: dict[str, Any] = {}
        self.data: dict[str, Any] = {}
        self.header = small.HEADER

    def usecase(self) -> str:
        uri = small.csv(self.folder, self.rows, header=self.header)
        return small.usecase(self.folder, {"uri": uri, **self.source}, **self.data)

    def prepared(self, verb: str) -> Callable[[], ArtifactRef]:
        """The verb, on what the verbs before it have made."""
        usecase = self.usecase()
        self.patch.setattr(interface, "of_release", lambda release: interface.of_usecase(config.load(usecase)))
        given: dict[str, Any] = {"usecase": usecase}
        verbs: dict[str, Callable[..., ArtifactRef]] = {"ingest": ingest, "validate": validate, "anonymize": anonymize}
        for name, call in verbs.items():
            #: ingest, "validate": validate, "anonymize": anonymize}.items():
            if name == verb:
                return partial(call, **given)
            given = {"usecase": usecase, "records": call(**given)}
        if verb == "build_dataset":
            return partial(build_dataset, **given)
        return partial(render_day, **given, date="2026-01-01", champion={"version": "1", "release": {}})


def _without_header(case: Case) -> None:
    case.header = _row(99)


def _open_header(case: Case) -> None:
    case.header = small.HEADER.replace("note", '"note')


def _other_encoding(case: Case) -> None:
    case.rows = [_row(1, note="zebrafishitis \ud7ff")]
    case.source = {"encoding": "utf-16"}


def _broken_json(case: Case) -> None:
    case.header, case.rows, case.source = "[{" + json.dumps(TOKENS)[1:], ['{"note": "zebrafishitis'], {"format": "json"}


def _no_good_line(case: Case) -> None:
    case.rows, case.source = ['{"note": "zebrafishitis'], {"format": "jsonl"}
    case.header = "Pblorb"


def _no_parquet(case: Case) -> None:
    case.source = {"format": "parquet"}


def _changing(case: Case) -> None:
    rows = formats.rows

    def growing(source: Any, uri: str) -> Iterator[Any]:
        yield from rows(source, uri)
        small.csv(case.folder, [*case.rows, _row(99)])

    case.patch.setattr(formats, "rows", growing)


def _bad_rows(case: Case) -> None:
    case.rows = [_row(n, age="4711.x", level="zebrafishitis", seen="Pblorb") for n in range(60)]


def _expectation(case: Case) -> None:
    case.data = {"expectations": [{"type": "expect_column_values_to_be_in_set", "column": "note", "value_set": ["x"]},
                                  {"type": "expect_column_max_to_be_between", "column": "patient", "max_value": "A"}]}  # fmt: skip


def _expectation_on_words(case: Case) -> None:
    case.data = {"expectations": [{"type": "expect_column_mean_to_be_between", "column": "note", "min_value": 1}]}


def _template(case: Case) -> None:
    case.data = {"text": "{{ {1: 2}.pop(note) }}"}


def _template_of_numbers(case: Case) -> None:
    case.data = {"text": "{{ note | int(default=note.x) }}"}


def _empty_split(case: Case) -> None:
    case.rows = [_row(n, patient="Pblorb") for n in range(60)]


FAILURES: list[tuple[str, Callable[[Case], None]]] = [
    *(("ingest", how) for how in (_without_header, _open_header, _other_encoding, _broken_json, _no_good_line)),
    *(("ingest", how) for how in (_no_parquet, _changing)),
    *(("validate", how) for how in (_bad_rows, _expectation, _expectation_on_words)),
    *(("build_dataset", how) for how in (_template, _template_of_numbers, _empty_split)),
    *(("render_day", how) for how in (_template, _template_of_numbers)),
]


@pytest.mark.parametrize(("verb", "how"), FAILURES, ids=lambda part: getattr(part, "__name__", part))
def test_what_fails_tells_no_cell(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, verb: str, how: Any
) -> None:
    case = Case(tmp_path, monkeypatch)
    how(case)
    with caplog.at_level(logging.DEBUG), pytest.raises(LLMOpsError) as caught:
        case.prepared(verb)()
    _check_silent(caught.value, caplog.text, home)


def _check_silent(error: BaseException, log: str, home: Path) -> None:
    told = "".join(traceback.format_exception(error)) + log
    left = [path for path in (home / "tmp").rglob("*") if path.is_file()]
    assert not [token for token in TOKENS.values() if token in told]
    assert left == []


@contextmanager
def _no_file_larger_than(limit: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("limit", [0, 100, 1000])
@pytest.mark.parametrize("verb", ["ingest", "validate", "anonymize", "build_dataset", "render_day"])
def test_a_full_disk_is_reported_as_one_by_every_verb_and_nothing_is_left(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, verb: str, limit: int
) -> None:
    last = Case(tmp_path, monkeypatch).prepared(verb)
    with (
        caplog.at_level(logging.DEBUG),
        pytest.raises(StorageError, match="Free space") as caught,
        _no_file_larger_than(limit),
    ):
        last()
    _check_silent(caught.value, caplog.text, home)
    assert last()["rows"] > 0


@pytest.mark.parametrize("verb", ["validate", "anonymize", "build_dataset"])
def test_damaged_records_are_reported_without_their_words(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, verb: str
) -> None:
    case = Case(tmp_path, monkeypatch)
    ref = case.prepared({"validate": "ingest", "anonymize": "validate", "build_dataset": "anonymize"}[verb])()
    path = artifacts.fetch(ref) / "records.parquet"
    path.chmod(0o600)
    path.write_bytes(path.read_bytes()[:-100])
    with caplog.at_level(logging.DEBUG), pytest.raises(LLMOpsError) as caught:
        case.prepared(verb)()
    _check_silent(caught.value, caplog.text, home)
