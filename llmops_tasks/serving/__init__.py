"""The release at work. The room's verbs, each by its module; all else is private to the room."""

from llmops_tasks import lazily

VERBS = {
    "predict_batch": "batch",  # one day's records through the champion
}
__getattr__ = lazily(__name__, VERBS)
