"""What crosses XCom: small JSON dicts. Big things travel by reference, record text never travels."""

from __future__ import annotations

from typing import Any, NotRequired, TypedDict

SCHEMA_VERSION = 1
TRAINING_GROUPS = "training_groups.parquet"  # of a release: digests of the patients it has learnt from
TRAINING_RECORDS = "training_records.parquet"  # likewise of the records
CONTROLS = ("none", "shuffled_labels")  # training runs that show whether the gate notices
# Figures of a classification, and which way is better. Those of single labels: under_triage_rate.<label>.
METRICS = {
    "accuracy": "higher",
    "macro_f1": "higher",
    "quadratic_kappa": "higher",
    "under_triage_rate": "lower",
    "over_triage_rate": "lower",
    "severe_under_triage_rate": "lower",
}
EARLIER = "champion, on its own exam"  # the reference of a comparison on the records that the champion was tested on


class ArtifactRef(TypedDict):
    """One immutable artifact of the store."""

    uri: str  # file:// or s3:// folder; its _manifest.json was written last
    sha256: str  # over the names and digests of its files: the content's identity
    kind: str  # records, dataset, adapter, release, report, ...
    key: str  # over everything it was made from: the address
    rows: int
    schema_version: int
    meta: dict[str, Any]  # a few figures; never record text


class Partition(TypedDict):
    """What was answered of one day, by whom: parts that together are one table."""

    date: str
    sha256: str  # over its parts' digests
    rows: int
    added: int  # by this run
    changed: int  # answered before, and given again with another text: the answer to the first one is kept
    release_version: str  # that wrote the last part
    parts: list[ArtifactRef]


class Interval(TypedDict):
    """A figure with its two-sided interval."""

    value: float
    low: float
    high: float
    n: int  # records in its denominator
    groups: int  # patients they are of


class Report(TypedDict):
    """How one subject (a model or a baseline) did on one split."""

    subject: str  # "candidate", "champion", "base", "tfidf", ...
    subject_sha256: str
    dataset_sha256: str
    split: str
    n: int
    metrics: dict[str, Interval]  # what could not be measured is not there
    overlap: int | None  # groups measured on that it has learnt from; None: nobody can tell
    predictions: ArtifactRef  # record_id, group, truth, label, score: what paired comparisons need


class Comparison(TypedDict):
    """Candidate minus reference on the same records, paired."""

    reference: str
    metric: str
    n: int
    difference: Interval | None  # None: it could not be measured


class Evidence(TypedDict):
    """All that a gate judges on."""

    reports: list[Report]  # the candidate's first
    comparisons: list[Comparison]


class Check(TypedDict):
    """One line of a gate's table."""

    name: str
    observed: float | None
    limit: float
    rule: str  # "at least" | "at most"
    n: int
    verdict: str  # pass | fail | insufficient
    reason: str


class Verdict(TypedDict):
    """What the gate decided, and on what evidence."""

    verdict: str  # pass | fail | insufficient
    reasons: list[str]
    checks: list[Check]
    candidate_version: NotRequired[str]
    champion_version: NotRequired[str | None]  # beside whom it was judged; None: nobody served
    candidate_sha256: str
    dataset_sha256: str
    policy_sha256: str
    evidence_sha256: str  # over all the reports and comparisons that were judged


class ModelFigures(TypedDict):
    """What a candidate for the base model is worth, and what it takes."""

    zero_shot: Interval | None  # in the gate's metric; None for generated text, or if there are problems
    few_shot: Interval | None
    bits_per_character: Interval  # of the records' text
    parameters: int
    disk_mib: float  # as kept: safetensors in fp32
    memory_mib: float  # peak of the whole process that answered the prompts
    tokens_per_second: float  # of prompts read
    context_length: int | None  # tokens
    problems: list[str]  # why it cannot answer this use case's prompts
    obstacles: list[str]  # why it cannot be fine-tuned


class Measurement(TypedDict):
    """One candidate for the base model on the use case's sample."""

    candidate: str
    model_sha256: str
    sample_sha256: str
    n: int
    licence_in_files: str | None
    languages: list[str]
    figures: ModelFigures
    evidence: dict[str, str]  # the artifact with record_id, truth, answers, bits, characters


class Ranked(TypedDict):
    """One line of the table of candidates."""

    candidate: str
    model: str  # the last part of its address
    licence: str
    languages: list[str]
    verdict: str  # chosen | fits | unfit | refused
    reasons: list[str]
    figures: ModelFigures | None  # None where nothing was measured


class Selected(TypedDict):
    """Which base model was chosen, and on what evidence."""

    chosen: str | None
    reasons: list[str]
    ranking: list[Ranked]  # the best first
    measure: str
    metric: str
    n: int
    write: str  # YAML for the use case; empty where nothing changes
    accepted: dict[str, str]  # refused licences that somebody accepted: who, when, for what
    sample_sha256: str
    policy_sha256: str
    evidence_sha256: str


class LedgerLink(TypedDict):
    """One entry, named by its number and pinned by its digest."""

    seq: int
    sha256: str


class LedgerEntry(TypedDict):
    """One link of the hash chain."""

    seq: int
    previous_sha256: str
    last: dict[str, LedgerLink]  # the newest entry of each thread before this one: a question needs no search
    kind: str  # registration | gate | approval | promotion | rollback | retrain | base_model_selection
    time: str  # ISO 8601, UTC; for people, order is the sequence
    body: dict[str, Any]
    sha256: str
