"""How a model is to be asked: text template, prompt, labels and limit of length, closed into the release.

Written when a model is trained, carried by its release as `release.json`, and read from there by whatever runs the
release (batch, evaluation, drift). The use case's YAML of today has no say in it: a changed prompt is a new release,
which goes through the gate.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from jinja2 import meta
from jinja2.sandbox import SandboxedEnvironment
from pydantic import ValidationError

from llmops_tasks.config import Section, UseCase
from llmops_tasks.config.usecase import Prompt, Task
from llmops_tasks.contracts import ABSTAINED, ArtifactRef
from llmops_tasks.errors import DataError, IntegrityError
from llmops_tasks.models.chat import Prompt as Prompted
from llmops_tasks.models.label_tree import Scoring
from llmops_tasks.prompts import conversations, templates
from llmops_tasks.store import artifacts, digests

FILE = "release.json"


class Interface(Section):
    """What a release must be asked, and what it may answer."""

    version: Literal[1] = 1
    task: Task
    prompt: Prompt
    text: str  # template: from a row's inputs to the text
    normalise: Literal["NFC", "NFKC", "none"]  # Unicode form of the text
    max_length: int  # tokens; longer prompts lose their beginning
    number_format: Literal["fp32", "bf16", "fp16", "int8"] = "fp32"  # that the model computes in
    temperature: float = 1.0  # that probabilities are calibrated by; 1 changes none

    @property
    def labels(self) -> list[str]:
        """Names of the answers, most urgent first."""
        return [label.name for label in self.task.labels]

    @property
    def answers(self) -> list[str]:
        """What the model writes for each."""
        return [label.text for label in self.task.labels]

    @property
    def outcomes(self) -> list[str]:
        """What a record may be answered with: the labels, and that it is not where the release may abstain."""
        return [*self.labels, *[ABSTAINED] * (self.task.abstain_below is not None)]

    def without_decisions(self) -> Interface:
        """As another model is asked, which has a temperature of its own, and never abstains."""
        task = self.task.model_copy(update={"abstain_below": None})
        return self.model_copy(update={"task": task, "temperature": 1.0})

    @property
    def rule(self) -> Scoring:
        """What their probabilities are made of."""
        return Scoring(self.task.scoring == "whole_text", self.task.length_normalised)

    @property
    def columns(self) -> list[str]:
        """The columns that the text template reads."""
        return sorted(meta.find_undeclared_variables(SandboxedEnvironment().parse(self.text)))

    def digest(self) -> str:
        """SHA-256 of all of it."""
        return digests.digest(self.model_dump(mode="json"))

    def text_digest(self) -> str:
        """SHA-256 of what makes the text of a row; datasets and days carry that of their text."""
        return digests.digest([self.text, self.normalise])

    def render_text(self, row: dict[str, Any]) -> str:
        """What the model reads of a row."""
        return templates.render_text(self.text, row, self.normalise)

    def render_texts(self, rows: list[dict[str, Any]]) -> tuple[list[str | None], list[str | None]]:
        """The same of many rows, None where the template fails; and there the class of the error."""
        return templates.render_texts(self.text, rows, self.normalise)

    def render_prompt(self, text: str) -> Prompted:
        """The whole prompt around a text: a text or, where the model's chat template renders it, a chat."""
        return templates.render_prompt(self.prompt, self.task, text)

    def render_answer(self, text: str) -> str:
        """An answer as the use case wants it: of a chat without thinking, unless it is kept."""
        strip = self.prompt.format != "plain" and self.prompt.thinking == "strip"
        return conversations.without_thinking(text) if strip else text

    def check_columns(self, there: list[str]) -> None:
        """Refuse records that lack what the template reads.

        Raises:
            DataError: naming the columns.
        """
        if missing := [name for name in self.columns if name not in there]:
            raise DataError(
                f"The release's text template reads {missing}, which the records do not have (any more): {there}. "
                "Bring the columns back in data.columns, or train and promote a release without them."
            )

    def write(self, folder: Path) -> None:
        """Keep it with a model."""
        (folder / FILE).write_bytes(digests.canonical(self.model_dump(mode="json")))


def of_usecase(case: UseCase) -> Interface:
    """As the use case says it today: what a model that is trained now will be asked."""
    return Interface(
        task=case.task,
        prompt=case.prompt,
        text=case.data.text,
        normalise=case.data.curate.normalise,
        max_length=case.finetune.max_length,
    )


def of_start(case: UseCase, start: ArtifactRef) -> Interface:
    """As the release that training goes on from carries it; a base model has none of its own."""
    return of_release(start) if start["kind"] == "release" else of_usecase(case)


def of_release(release: ArtifactRef) -> Interface:
    """As a release or a trained adapter carries it.

    Raises:
        IntegrityError: if it carries none, or one that is damaged or of another version.
    """
    try:
        return Interface.model_validate(json.loads(artifacts.read(release, FILE)))
    except (ValidationError, ValueError) as exc:
        raise IntegrityError(
            f"'{release['uri']}' has no valid {FILE}: it was made by another version. Package the release again."
        ) from exc


def with_format_of(asked: Interface, model: ArtifactRef) -> Interface:
    """The same, in the number format that a model computes in: a release in its own, a base model, which has no int8 files,
    in fp32 instead."""
    other = (
        of_release(model).number_format if model["kind"] == "release" else asked.number_format.replace("int8", "fp32")
    )
    return asked.model_copy(update={"number_format": other})
