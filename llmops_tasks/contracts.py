"""What crosses XCom: small JSON objects. Large data travels by reference, record text never does."""

from __future__ import annotations

from typing import Any, NotRequired, TypedDict

SCHEMA_VERSION = 1
TRAINING_GROUPS = "training_groups.parquet"  # of a release: digests of its training groups
TRAINING_RECORDS = "training_records.parquet"  # likewise of its training records
CONTROLS = ("none", "shuffled_labels")  # negative controls, which the gate must refuse
# Metrics of a classification, and their direction. For single labels: under_triage_rate.<label>.
METRICS = {
    "accuracy": "higher",
    "macro_f1": "higher",
    "quadratic_kappa": "higher",
    "under_triage_rate": "lower",
    "over_triage_rate": "lower",
    "severe_under_triage_rate": "lower",
}
# The same of a generation.
TEXT_METRICS = {
    "exact_match": "higher",
    "token_f1": "higher",
    "rouge_l": "higher",
    "bleu": "higher",
    "chrf": "higher",
    "bits_per_character": "lower",
}
# By type of task: what is measured beside the candidate. Only "base" comes with a model; the others learn from the train split.
BASELINES = {"classification": ("base", "tfidf"), "generation": ("base", "retrieval")}
# Likewise of one that may abstain (task.abstain_below).
SELECTIVE = {"coverage": "higher", "selective_accuracy": "higher"}
ABSTAINED = "abstained"  # the answer that is none
EARLIER = "champion, on its own test set"  # the reference of a comparison on the champion's test set


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
    """The scored records of one day: parts that together are one table."""

    date: str
    sha256: str  # over its parts' digests
    rows: int
    added: int  # by this run
    changed: int  # scored before, and arrived again with another text: the first prediction is kept
    release_version: str  # that wrote the last part
    parts: list[ArtifactRef]


class Interval(TypedDict):
    """A figure with its two-sided interval."""

    value: float
    low: float
    high: float
    n: int  # records in its denominator
    groups: int  # groups the records belong to


class Report(TypedDict):
    """The metrics of one subject (a model or a baseline) on one split."""

    subject: str  # "candidate", "champion", "base", "tfidf", "retrieval", ...
    subject_sha256: str
    dataset_sha256: str
    split: str
    n: int
    metrics: dict[str, Interval]  # without those that could not be measured
    overlap: int | None  # groups both trained and evaluated on; None: unknown
    predictions: ArtifactRef  # record_id, group, truth, label and score, or answer: what paired comparisons need


class Comparison(TypedDict):
    """Candidate minus reference on the same records, paired."""

    reference: str
    metric: str
    n: int
    difference: Interval | None  # None: it could not be measured


class Evidence(TypedDict):
    """The evidence for a verdict."""

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
    champion_version: NotRequired[str | None]  # the champion it was compared with; None: there was none
    candidate_sha256: str
    dataset_sha256: str
    policy_sha256: str
    evidence_sha256: str  # over all the reports and comparisons that were judged


class ModelFigures(TypedDict):
    """Quality and cost of a candidate base model."""

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
    accepted: dict[str, str]  # refused licences accepted as an exception: who, when, for what
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
