"""The schema of a use case's `data` section: from a source to a dataset."""

from __future__ import annotations

from typing import Any, Literal
from urllib.parse import unquote

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from llmops_tasks.errors import InputError
from llmops_tasks.store.files import home
from llmops_tasks.store.objects import is_s3, store_uri


class Section(BaseModel):
    """A frozen section of the file; unknown keys are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def expand(uri: str) -> str:
    """Expand `${LLMOPS_HOME}` and `${LLMOPS_STORE}` in an address."""
    return uri.replace("file://${LLMOPS_HOME}", f"file://{home()}").replace("${LLMOPS_STORE}", store_uri())


class Source(Section):
    """Where rows come from, and their format."""

    uri: str = Field(description="file:// or s3:// address; `*` and `?` match many objects; `{date}` in batch sources.")
    format: Literal["csv", "jsonl", "json", "parquet", "text"] = Field(
        default="csv", description="csv: any delimiter. text: one record per line, in the column `text`."
    )
    delimiter: str = Field(default=",", min_length=1, max_length=1)
    quoting: Literal["minimal", "none"] = Field(
        default="minimal", description="csv: none reads quotes as ordinary characters."
    )
    header: list[str] | None = Field(default=None, description="csv: column names for files without a header.")
    records: str = Field(
        default="item",
        description="json: path of the records. `item` is an element of a list, `*` any key (kept as `_key`): "
        "`item`, `data.item`, `*.item`.",
    )
    encoding: str = "utf-8"
    decimal: Literal[".", ","] = "."
    null_values: list[str] = [""]
    max_future_hours: float | None = Field(
        default=24,
        ge=0,
        description="Rows whose time is further in the future are rejected as typing errors. null: no limit.",
    )

    @field_validator("header")
    @classmethod
    def _each_name_once(cls, header: list[str] | None) -> list[str] | None:
        if twice := sorted({name for name in header or [] if (header or []).count(name) > 1}):
            raise ValueError(f"{twice} are given more than once; names must be unique")
        return header

    @field_validator("uri")
    @classmethod
    def _known_scheme(cls, uri: str) -> str:
        try:
            is_s3(expand(uri))
        except InputError as exc:
            raise ValueError(str(exc)) from exc
        if ".." in unquote(uri).split("/"):
            raise ValueError(f"'{uri}' contains '..'; give the full address")
        return uri


class Landing(Source):
    """A source that grows. (A batch source does not: each day is read completely.)"""

    incremental: Literal["none", "objects", "watermark"] = Field(
        default="none",
        description="objects: a file is read once. watermark: of a file that has grown, only the new rows are read. "
        "Rows read earlier stay in the dataset.",
    )
    allowed_lateness_hours: float = Field(
        default=24,
        ge=0,
        description="watermark: how much earlier than the latest row read of the same file a new row may be; "
        "earlier rows are rejected as late.",
    )
    watch_seconds: int | None = Field(
        default=None, ge=5, description="How often to look for new files, which start prepare_data."
    )


Kind = Literal["name", "phone", "email", "record_number", "address", "date", "url"]
Role = Literal["id", "group", "time", "label", "input", "identifier", "leakage", "ignore"]


class Column(Section):
    """One column: its role and its constraints."""

    role: Role = Field(
        description="leakage: known only after the outcome, not allowed as input. identifier: masked and dropped."
    )
    source: str | list[str] | None = Field(
        default=None,
        description="The column's name in the source, if different; of several, the first that exists. `a.b` reads "
        "nested records. `_id` (file and row), `_row`, `_file` and `_key` are generated.",
    )
    words: dict[str, str] = Field(default={}, description="Meaning of the source's codes: {'1': female}.")
    type: Literal["string", "number", "timestamp", "conversation"] = Field(
        default="string",
        description="conversation: turns of user and assistant, as OpenAI's messages or ShareGPT's conversations; its source "
        "is `conversation`, and `answer` that of the assistant's last turn.",
    )
    required: bool = False
    min: float | None = None
    max: float | None = None
    values: list[str] | None = Field(default=None, description="The closed set of allowed values.")
    max_length: int | None = Field(default=None, gt=0, description="In characters.")
    quasi_identifier: bool = Field(default=False, description="Identifying only in combination with others.")
    kind: Kind | None = Field(default=None, description="Identifiers: the kind that replaces them in free text.")
    cap: float | None = Field(
        default=None, description="Quasi-identifiers: larger numbers are capped at this (age 90)."
    )

    @property
    def needed(self) -> bool:
        """Is a row without it of no use? Without id, group or label it never is."""
        return self.required or self.role in ("id", "group", "label")


class Split(Section):
    """A group stays in one split. A changed rule assigns all groups again: releases trained under the old rule may then
    overlap with the test set, and the gate refuses them."""

    train: float = Field(default=0.6, gt=0, lt=1)
    validation: float = Field(default=0.1, gt=0, lt=1)
    test: float = Field(default=0.3, gt=0, lt=1)
    by: Literal["group", "record"] = Field(
        default="group", description="record: every record is its own group. Only if no group has several records."
    )
    order: Literal["time", "digest"] = Field(
        default="time", description="digest: for data without times. The group's SHA-256 decides; no cohorts."
    )
    cohort: int = Field(default=50, ge=3, description="Groups per cohort; groups are ordered by their first time.")

    @model_validator(mode="after")
    def _sums_to_one(self) -> Split:
        if abs(self.train + self.validation + self.test - 1) > 1e-6:
            raise ValueError("train + validation + test must be 1")
        return self


class Curate(Section):
    """Text curation before a dataset is published."""

    normalise: Literal["NFC", "NFKC", "none"] = Field(
        default="NFC", description="Unicode form of the text that the model reads; the records keep the original."
    )
    near_duplicates: float | None = Field(
        default=None,
        gt=0.5,
        lt=1,
        description="Jaccard similarity of word triples from which two texts are near duplicates. The later one is "
        "dropped if the earlier one is in another split.",
    )
    min_length: int = Field(default=1, ge=1, description="In characters; shorter texts are dropped.")
    languages: list[str] = Field(default=[], description="ISO 639-1; texts in other languages are counted in the card.")


class Augment(Section):
    """Synthetic variants of training records, each marked; never of validation or test records."""

    noise: float = Field(
        default=0, ge=0, le=2, description="Copies per record with typos, lost characters and missing values."
    )
    paraphrase: dict[str, list[str]] = Field(default={}, description="Synonyms: {pain: [ache, sore]}.")
    minority: float | None = Field(
        default=None,
        gt=0,
        le=1,
        description="Rare labels are filled up to this share of the most frequent label's rows.",
    )
    seed: int = 7

    @property
    def active(self) -> bool:
        """Is any augmentation configured?"""
        return bool(self.noise or self.paraphrase or self.minority)


class Data(Section):
    """From a source to a dataset."""

    source: Landing
    columns: dict[str, Column] = Field(min_length=2)
    text: str = Field(
        description="Jinja template of the text that the model reads. Only columns with the role input are allowed."
    )
    completion: str | None = Field(default=None, description="Generation only: the column with the answer.")
    min_rows: int = Field(default=100, gt=0, description="Fewer valid rows stop the run.")
    max_quarantined: float = Field(
        default=0.2, ge=0, le=1, description="A larger share of rejected rows stops the run."
    )
    mask: list[Kind] = Field(default=[], description="Kinds of identifiers masked by patterns in free text.")
    expectations: list[dict[str, Any]] = Field(
        default=[],
        description="Further Great Expectations: {type: expect_..., column: ..., ...}; a failure stops the run.",
    )
    curate: Curate = Curate()
    augment: Augment = Augment()
    split: Split = Split()

    def named(self, role: Role) -> list[str]:
        """The columns with this role."""
        return [name for name, column in self.columns.items() if column.role == role]

    def free_text(self) -> list[str]:
        """The columns that people write freely: masked, and kept to the last space. Any other cell is trimmed."""
        columns = {name: self.columns[name] for name in self.named("input")}
        free = [
            name for name, column in columns.items() if column.type in ("string", "conversation") and not column.values
        ]
        return [*free, *([self.completion] if self.completion and self.completion not in free else [])]

    def one(self, role: Role) -> str:
        """The only column with this role; the group of records that stand alone is their id."""
        return self.named("id" if role == "group" and self.split.by == "record" else role)[0]
