"""From a row to what the model reads: text template, slots, few-shot examples. Versioned in MLflow.

Templates run in Jinja's sandbox with strict variables: a missing one is an error, never an empty string.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from functools import lru_cache, partial
from typing import Any

from jinja2 import StrictUndefined, Template
from jinja2.exceptions import TemplateError
from jinja2.sandbox import SandboxedEnvironment

from llmops_tasks import config, tracking
from llmops_tasks.config.usecase import Prompt, Task
from llmops_tasks.errors import ConfigError, InputError
from llmops_tasks.models.chat import Chat, Message
from llmops_tasks.prompts import conversations
from llmops_tasks.store import digests

_SPACES = re.compile(r"\s+")
# Zero-width and direction marks: they change no word, and two texts that differ only in them are the same text.
_INVISIBLE = re.compile("[\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufeff]")


@lru_cache(maxsize=64)
def _compiled(source: str) -> Template:
    return SandboxedEnvironment(undefined=StrictUndefined, autoescape=False).from_string(source)


def _rendered(where: str, source: str, values: dict[str, Any]) -> str:
    text, failed = _tried(source, values)
    if failed:
        raise ConfigError(f"{where} cannot be rendered: {failed}. Check its variables.")
    return text


def _tried(source: str, values: dict[str, Any]) -> tuple[str, str]:
    """The text and nothing, or nothing and the class of the error: what an error says may quote a value."""
    try:
        return _compiled(source).render(values), ""
    except (TemplateError, TypeError, ValueError, ArithmeticError, LookupError, AttributeError, RuntimeError) as exc:
        return "", type(exc).__name__  # a filter may refuse a missing value


def normalised(text: str, form: str) -> str:
    """The text in a Unicode form, without invisible marks; `none` leaves it as it is."""
    return text if form == "none" else _INVISIBLE.sub("", unicodedata.normalize(form, text))  # type: ignore[arg-type]


def render_text(template: str, row: dict[str, Any], form: str = "none") -> str:
    """What the model reads of one row, with runs of white space folded. Missing values are None.

    Raises:
        ConfigError: if the template fails on it; the message names the error's class only.
    """
    return _folded(_rendered("data.text", template, row), form)


def render_texts(
    template: str, rows: list[dict[str, Any]], form: str = "none"
) -> tuple[list[str | None], list[str | None]]:
    """What the model reads of rows, where the template can be rendered; and where not, the class of the error."""
    found = [_tried(template, row) for row in rows]
    return [None if failed else _folded(text, form) for text, failed in found], [failed or None for _, failed in found]


def _folded(text: str, form: str) -> str:
    folded = _SPACES.sub(" ", text).strip()
    if form == "NFKC" and conversations.is_conversation(folded):  # wide quotes become those of JSON
        return conversations.changed(folded, partial(normalised, form=form))
    return normalised(folded, form)


def render_prompt(prompt: Prompt, task: Task, text: str) -> str | Chat:
    """The whole prompt: few-shot examples, then the template; the model's answer follows it directly.

    Raises:
        InputError: if the text is to be a conversation and is none.
    """
    labels = ", ".join(label.text.strip() for label in task.labels)

    def asked(text: str) -> str:
        return _rendered("prompt.template", prompt.template, {"text": text, "labels": labels})

    if prompt.format == "plain":
        return "\n\n".join([*(asked(shot["text"]) + shot["answer"] for shot in prompt.examples), asked(text)])
    turns = _opening(prompt, labels)
    if prompt.format == "conversation":
        said = _said(text)
        turns = [*turns, *said] if said[0]["role"] != "system" else said
        turns = [_turn(one, asked, prompt.thinking) for one in turns]
        text = said[-1]["content"]
    else:
        for shot in prompt.examples:
            turns += [{"role": "user", "content": asked(shot["text"])}, _answered(shot["answer"])]
        turns.append({"role": "user", "content": asked(text)})
    content = turns[-1]["content"]
    start = content.rfind(text)
    span = (0, len(content)) if start < 0 else (start, start + len(text))  # a filter has changed the text
    return Chat(turns, span, prompt.thinking == "keep")


def _opening(prompt: Prompt, labels: str) -> list[Message]:
    system = [] if prompt.system is None else [("system", "prompt.system", prompt.system)]
    more = [(turn.role, "prompt.messages", turn.content) for turn in prompt.messages]
    return [
        {"role": role, "content": _rendered(where, content, {"labels": labels})}
        for role, where, content in [*system, *more]
    ]


def _said(text: str) -> list[Message]:
    if conversations.is_conversation(text):
        return conversations.parsed(text)
    raise InputError(
        "A text is not a conversation. Allowed: JSON of turns {role, content}, the user's first and last, the "
        "assistant's between, at most one system turn before them."
    )


def _answered(text: str) -> Message:
    return {"role": "assistant", "content": text.strip()}  # the template puts its own white space around it


def _turn(one: Message, asked: Callable[[str], str], thinking: str) -> Message:
    """A turn of a conversation, as the model reads it."""
    if one["role"] == "user":
        return {**one, "content": asked(one["content"])}
    if one["role"] == "assistant" and thinking == "strip":
        return {**one, "content": conversations.without_thinking(one["content"])}
    return one


def register_prompt(*, usecase: str) -> dict[str, Any]:
    """Register the prompt in MLflow's prompt registry; the same prompt only once.

    Returns:
        {name, version, sha256}.

    Example:
        >>> register_prompt(usecase="triage")
    """
    case, name = config.load(usecase), config.usecase_name(usecase)
    sha256 = prompt_digest(case.data.text, case.prompt)
    return tracking.register_prompt(name=registered_name(name), template=case.prompt.template, sha256=sha256)


def registered_name(usecase: str) -> str:
    """What a use case's prompt is called in MLflow; it may not have a registered model's name, hence the suffix."""
    return f"{usecase}-prompt"


def prompt_digest(text: str, prompt: Prompt) -> str:
    """SHA-256 of what a version of the prompt consists of: text template, prompt and examples."""
    return digests.digest({"text": text, "examples": [], **prompt.model_dump(mode="json", exclude_defaults=True)})
