"""Data preparation: from source rows to dataset versions. Public verbs by module; everything else is private to the package."""

from llmops_tasks import lazily

VERBS = {
    "ingest": "ingestion",  # a source's rows, under the use case's column names
    "find_new_files": "landed",  # has anything landed that no run has read?
    "validate": "validation",  # rows that meet every rule; the others go to quarantine, each with its reason
    "anonymize": "anonymization",  # the same rows without identifiers
    "build_dataset": "dataset",  # a dataset version: text rendered, duplicates dropped, split by group
    "render_day": "dataset",  # one day's rows, ready for inference
    "trace_dataset": "lineage",  # which files and rows made a dataset
    "find_record": "lineage",  # which datasets hold a record
    "compare_datasets": "lineage",  # what changed between two versions
    "write_triage": "synthetic",  # synthetic triage notes, for the demo and tests
    "write_reviews": "synthetic_reviews",  # synthetic reviews
    "write_faq": "synthetic_faq",  # synthetic questions and answers
}
__getattr__ = lazily(__name__, VERBS)
