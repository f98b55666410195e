"""Prompt templates. Public verbs by module; everything else is private to the package."""

from llmops_tasks import lazily

VERBS = {
    "register_prompt": "templates",  # the use case's prompt, as a version of MLflow's prompt registry
}
__getattr__ = lazily(__name__, VERBS)
