"""The release at work. The room's verbs, each by its module; all else is private to the room."""

from llmops_tasks import lazily

VERBS = {
    "predict_batch": "batch",  # one day's records through the champion
    "answered": "batch",  # what was answered of a day, part by part
}
__getattr__ = lazily(__name__, VERBS)
