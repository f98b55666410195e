"""The shape of a use case's `data` section: from a source to a dataset."""

from __future__ import annotations

from typing import Any, Literal
from urllib.parse import unquote

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from llmops_tasks.errors import InputError
from llmops_tasks.store.files import home
from llmops_tasks.store.objects import is_s3, store_uri


class Section(BaseModel):
    """A frozen part of the file; unknown keys are mistakes."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def expand(uri: str) -> str:
    """Put `${LLMOPS_HOME}` and `${LLMOPS_STORE}` into an address."""
    return uri.replace("file://${LLMOPS_HOME}", f"file://{home()}").replace("${LLMOPS_STORE}", store_uri())


class Source(Section):
    """Where rows come from, and how they are written there."""

    uri: str = Field(description="file:// or s3:// address; `*` and `?` match many objects; `{date}` in batch sources.")
    format: Literal["csv", "jsonl", "json", "parquet", "text"] = Field(
        default="csv", description="csv: any delimiter. text: one record a line, in the column `text`."
    )
    delimiter: str = Field(default=",", min_length=1, max_length=1)
    quoting: Literal["minimal", "none"] = Field(default="minimal", description="csv: none reads quotes as letters.")
    header: list[str] | None = Field(default=None, description="csv: the columns' names where the file has no header.")
    records: str = Field(
        default="item",
        description="json: where the records are. `item` is an element of a list, `*` any key (kept as `_key`): "
        "`item`, `data.item`, `*.item`.",
    )
    encoding: str = "utf-8"
    decimal: Literal[".", ","] = "."
    null_values: list[str] = [""]
    max_future_hours: float | None = Field(
        default=24,
        ge=0,
        description="A row whose time is later than that from now is set aside: somebody mistyped it. null: no limit.",
    )

    @field_validator("header")
    @classmethod
    def _each_name_once(cls, header: list[str] | None) -> list[str] | None:
        if twice := sorted({name for name in header or [] if (header or []).count(name) > 1}):
            raise ValueError(f"{twice} stand there more than once; which column is meant?")
        return header

    @field_validator("uri")
    @classmethod
    def _known_scheme(cls, uri: str) -> str:
        try:
            is_s3(expand(uri))
        except InputError as exc:
            raise ValueError(str(exc)) from exc
        if ".." in unquote(uri).split("/"):
            raise ValueError(f"'{uri}' leads upwards by '..'; write the address that is meant")
        return uri


class Landing(Source):
    """A source that grows. A day's batch does not: it is read whole, at its schedule."""

    incremental: Literal["none", "objects", "watermark"] = Field(
        default="none",
        description="objects: a file that was read before is not read again. watermark: of a file that has grown, "
        "only the rows that were not read before are new. What was read before stays in the dataset.",
    )
    allowed_lateness_hours: float = Field(
        default=24,
        ge=0,
        description="watermark: a new row of a file that was read before may be so much earlier than the latest one "
        "read of that file; a row still earlier is set aside as late.",
    )
    watch_seconds: int | None = Field(
        default=None, ge=5, description="Look for new files this often, and start prepare_data when there are some."
    )


Kind = Literal["name", "phone", "email", "record_number", "address", "date", "url"]
Role = Literal["id", "group", "time", "label", "input", "identifier", "leakage", "ignore"]


class Column(Section):
    """One column: what it is for, and what its values must look like."""

    role: Role = Field(
        description="leakage: known only after the answer, refused as input. identifier: masked, dropped."
    )
    source: str | list[str] | None = Field(
        default=None,
        description="The column's name in the source, if another; of several the first that is there. `a.b` reads into "
        "nested records. `_id` (file and row), `_row`, `_file` and `_key` are made by the reader.",
    )
    words: dict[str, str] = Field(default={}, description="What the source's codes mean: {'1': female}.")
    type: Literal["string", "number", "timestamp"] = "string"
    required: bool = False
    min: float | None = None
    max: float | None = None
    values: list[str] | None = Field(default=None, description="The closed set of allowed words.")
    max_length: int | None = Field(default=None, gt=0, description="In characters.")
    quasi_identifier: bool = Field(default=False, description="Harmless alone, identifying in combination.")
    kind: Kind | None = Field(default=None, description="Identifiers: what they are replaced by in free text.")
    cap: float | None = Field(default=None, description="Quasi-identifiers: larger numbers become this one (age 90).")

    @property
    def needed(self) -> bool:
        """Is a row without it of no use? Without id, group or label it never is."""
        return self.required or self.role in ("id", "group", "label")


class Split(Section):
    """A group is in one split, for ever. Another rule assigns everybody anew: releases of the old rule may then have
    learnt from groups that are tested on, and the gate refuses them."""

    train: float = Field(default=0.6, gt=0, lt=1)
    validation: float = Field(default=0.1, gt=0, lt=1)
    test: float = Field(default=0.3, gt=0, lt=1)
    by: Literal["group", "record"] = Field(
        default="group", description="record: every record stands alone. Only where nobody has two of them."
    )
    order: Literal["time", "digest"] = Field(
        default="time", description="digest: for data without a time. The group's SHA-256 decides; no cohorts."
    )
    cohort: int = Field(default=50, ge=3, description="Groups a cohort; groups are ordered by their first time.")

    @model_validator(mode="after")
    def _sums_to_one(self) -> Split:
        if abs(self.train + self.validation + self.test - 1) > 1e-6:
            raise ValueError("train + validation + test must be 1")
        return self


class Curate(Section):
    """What is done about text before it becomes a dataset."""

    normalise: Literal["NFC", "NFKC", "none"] = Field(
        default="NFC", description="Unicode form of the text that the model reads; the records keep the original."
    )
    near_duplicates: float | None = Field(
        default=None,
        gt=0.5,
        lt=1,
        description="Share of common word triples (Jaccard) from which two texts count as the same one. The later is "
        "dropped where the earlier is in another split.",
    )
    min_length: int = Field(default=1, ge=1, description="Characters; shorter texts are dropped.")
    languages: list[str] = Field(default=[], description="ISO 639-1; texts in others are counted in the report.")


class Augment(Section):
    """Made-up variants of training records, each marked; never of records that are validated or tested on."""

    noise: float = Field(default=0, ge=0, le=2, description="Copies a record with typos, lost characters and values.")
    paraphrase: dict[str, list[str]] = Field(default={}, description="Other words for a word: {pain: [ache, sore]}.")
    minority: float | None = Field(
        default=None, gt=0, le=1, description="Rarer labels are filled up to this share of the commonest one's rows."
    )
    seed: int = 7

    @property
    def active(self) -> bool:
        """Is anything made up at all?"""
        return bool(self.noise or self.paraphrase or self.minority)


class Data(Section):
    """From a source to a dataset."""

    source: Landing
    columns: dict[str, Column] = Field(min_length=2)
    text: str = Field(description="Jinja template: what the model reads of a row. Only columns with the role input.")
    completion: str | None = Field(default=None, description="Generation only: the column with the answer.")
    min_rows: int = Field(default=100, gt=0, description="Fewer good rows stop the pipeline.")
    max_quarantined: float = Field(default=0.2, ge=0, le=1, description="A larger share of bad rows stops it too.")
    mask: list[Kind] = Field(default=[], description="Kinds of identifiers that patterns look for in free text.")
    expectations: list[dict[str, Any]] = Field(
        default=[],
        description="More of Great Expectations: {type: expect_..., column: ..., ...}; failing ones stop it.",
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
        free = [name for name, column in columns.items() if column.type == "string" and not column.values]
        return [*free, *([self.completion] if self.completion and self.completion not in free else [])]

    def one(self, role: Role) -> str:
        """The only column with this role; the group of records that stand alone is their id."""
        return self.named("id" if role == "group" and self.split.by == "record" else role)[0]
