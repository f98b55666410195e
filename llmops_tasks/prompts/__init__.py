"""What stands around the text. The room's verbs, each by its module; all else is private to the room."""

from llmops_tasks import lazily

VERBS = {
    "register_prompt": "templates",  # the use case's prompt, as a version of MLflow's prompt registry
}
__getattr__ = lazily(__name__, VERBS)
