"""Batch inference with a release. Public verbs by module; everything else is private to the package."""

from llmops_tasks import lazily

VERBS = {
    "predict_batch": "batch",  # one day's records through the champion
    "find_predictions": "batch",  # a scored partition, part by part
}
__getattr__ = lazily(__name__, VERBS)
