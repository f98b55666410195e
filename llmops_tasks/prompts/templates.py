"""From a row to what the model reads: text template, slots, few-shot examples. Versioned in MLflow.

Templates run in Jinja's sandbox with strict variables: a missing one is an error, never an empty string.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

from jinja2 import StrictUndefined, Template
from jinja2.exceptions import TemplateError
from jinja2.sandbox import SandboxedEnvironment

from llmops_tasks import config, tracking
from llmops_tasks.config import UseCase
from llmops_tasks.errors import ConfigError
from llmops_tasks.store import digests

_SPACES = re.compile(r"\s+")


@lru_cache(maxsize=64)
def _compiled(source: str) -> Template:
    return SandboxedEnvironment(undefined=StrictUndefined, autoescape=False).from_string(source)


def _rendered(where: str, source: str, values: dict[str, Any]) -> str:
    try:
        return _compiled(source).render(values)
    except (TemplateError, TypeError, ValueError, ArithmeticError) as exc:  # a filter may refuse a missing value
        raise ConfigError(f"{where} cannot be rendered: {type(exc).__name__}. Check its variables.") from None


def render_text(usecase: UseCase, row: dict[str, Any]) -> str:
    """What the model reads of one row, with runs of white space folded. Missing values are None."""
    return _SPACES.sub(" ", _rendered("data.text", usecase.data.text, row)).strip()


def render_prompt(usecase: UseCase, text: str) -> str:
    """The whole prompt: few-shot examples, then the template; the model's answer follows it directly."""
    labels = ", ".join(label.text.strip() for label in usecase.task.labels)
    shots = [
        _rendered("prompt.template", usecase.prompt.template, {"text": shot["text"], "labels": labels}) + shot["answer"]
        for shot in usecase.prompt.examples
    ]
    prompt = _rendered("prompt.template", usecase.prompt.template, {"text": text, "labels": labels})
    return "\n\n".join([*shots, prompt])


def register_prompt(*, usecase: str) -> dict[str, Any]:
    """Put the prompt into MLflow's prompt registry; the same prompt is registered once.

    Returns:
        {name, version, sha256}.
    """
    case, name = config.load(usecase), config.usecase_name(usecase)
    content = {"text": case.data.text, **case.prompt.model_dump(mode="json")}
    # A prompt may not have a registered model's name, hence the suffix.
    return tracking.register_prompt(
        name=f"{name}-prompt", template=case.prompt.template, sha256=digests.digest(content)
    )
