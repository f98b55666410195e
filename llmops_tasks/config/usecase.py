"""The shape of a use case: what stands in its YAML file, section by section.

Precedence: the YAML, else the default written here. There is no third place. What a single field cannot know is
told by `checks`; files are read by `loading`.
"""

from __future__ import annotations

import datetime
from typing import Literal

from pydantic import Field, model_validator

from llmops_tasks.config.airflow import Access, Airflow, Notify
from llmops_tasks.config.data import Data, Section, Source
from llmops_tasks.config.selection import CURRENT, BaseModelChoice, Selection
from llmops_tasks.config.training import Finetune, Search
from llmops_tasks.errors import InputError, did_you_mean
from llmops_tasks.store.digests import digest


class Label(Section):
    """One answer the model may give. Their order in the file is the order of the scale, most urgent first."""

    name: str = Field(min_length=1, description="The field's word for it; stands in reports and predictions.")
    values: list[str] = Field(min_length=1, description="How the label column spells it.")
    text: str = Field(min_length=1, description="What the model writes. The first tokens of all labels must differ.")


class Task(Section):
    """What the model does."""

    type: Literal["classification", "generation"]
    labels: list[Label] = Field(default=[], description="Classification only: the closed set of answers.")
    severe: list[str] = Field(default=[], description="Labels whose under-estimation is reported apart.")

    @model_validator(mode="after")
    def _consistent(self) -> Task:
        names = [label.name for label in self.labels]
        if self.type == "classification" and len(names) < 2:
            raise ValueError("a classification needs at least two labels")
        if self.type == "generation" and names:
            raise ValueError("a generation task has no labels")
        if len(set(names)) < len(names):
            raise ValueError("label names must differ")
        values = [value for label in self.labels for value in label.values]
        if len(set(values)) < len(values):
            raise ValueError("the same value stands for two labels")
        if unknown := [name for name in self.severe if name not in names]:
            raise ValueError(f"severe names unknown labels {unknown}; known: {names}")
        return self


class Prompt(Section):
    """What stands around the text."""

    template: str = Field(description="Jinja template with {{ text }}; {{ labels }} are the words to choose from.")
    examples: list[dict[str, str]] = Field(default=[], description="Few-shot pairs {text, answer}, put in front.")


class Evaluation(Section):
    """How it is measured."""

    baselines: list[Literal["base", "tfidf"]] = Field(
        default=["base", "tfidf"], description="Measured beside the candidate."
    )
    bootstrap: int = Field(default=1000, ge=100, description="Resamples.")
    confidence: float = Field(default=0.95, gt=0.5, lt=1)
    batch_size: int = Field(default=16, gt=0)


class Limit(Section):
    """A floor or a ceiling for one metric. The interval's cautious end is held against it."""

    metric: str = Field(description="One of the task's figures, or under_triage_rate.<severe label>.")
    at_least: float | None = None
    at_most: float | None = None
    min_n: int | None = Field(
        default=None, gt=0, description="Records in the metric's own denominator; None: the gate's min_n."
    )

    @model_validator(mode="after")
    def _one_of_two(self) -> Limit:
        if (self.at_least is None) == (self.at_most is None):
            raise ValueError("give either at_least or at_most")
        return self


class Gate(Section):
    """What a candidate must show."""

    metric: str = Field(default="quadratic_kappa", description="What comparisons are made on.")
    limits: list[Limit] = Field(min_length=1)
    beats: list[Literal["base", "tfidf"]] = Field(default=[], description="The paired interval must lie above 0.")
    champion_margin: float = Field(
        default=0.0, ge=0, description="Worse than the champion by at most this, with certainty."
    )
    max_forgetting: float | None = Field(
        default=None, ge=0, description="Worse than the champion by at most this on the records of the champion's exam."
    )
    min_n: int = Field(default=200, gt=0, description="Fewer records in a figure's denominator are no evidence.")


class Approval(Section):
    """The human in the loop."""

    timeout_hours: float = Field(default=72, gt=0, description="No answer in time is recorded as such: not promoted.")
    newer_candidate: Literal["supersedes", "keeps_open"] = Field(
        default="supersedes",
        description="What an approval means once a newer candidate has passed the gate: nothing, or as before.",
    )
    people: int = Field(default=1, ge=1, le=2, description="So many different people must approve.")
    assigned: list[str] = Field(
        default=[], description="User names that may answer; empty: whoever may edit the DAG `promote`."
    )
    four_eyes: bool = Field(default=False, description="Whoever started the training may not approve it.")


class Batch(Section):
    """New records, day by day."""

    source: Source
    schedule: str | None = Field(default=None, description="Cron; a run scores the day that ended before it.")
    timezone: str = Field(default="UTC", description="Of the schedule and of the days, e.g. Europe/Zurich.")
    catchup: bool = Field(default=False, description="Also run ticks that were missed, since start_date.")
    start_date: datetime.date | None = Field(default=None, description="Of the schedule; catchup needs it.")
    batch_size: int = Field(default=16, gt=0)

    @model_validator(mode="after")
    def _consistent(self) -> Batch:
        if self.catchup and self.start_date is None:
            raise ValueError("catchup needs start_date: the first day that is made up for")
        return self


class Monitoring(Section):
    """When the world moves."""

    columns: list[str] = Field(default=[], description="Number columns that are watched.")
    psi: float = Field(default=0.2, gt=0, description="Population stability index that counts as drift.")
    text_js: float = Field(default=0.15, gt=0, description="Jensen-Shannon divergence of words (bits) that counts.")
    min_rows: int = Field(default=50, gt=0)
    min_signals: int = Field(default=1, gt=0, description="So many drifting features raise the alarm.")
    cooldown_days: int = Field(default=7, ge=0, description="No second retraining within.")


class UseCase(Section):
    """The whole file."""

    version: Literal[1]
    description: str
    owner: str
    schedule: str | None = Field(default=None, description="Cron of prepare_data.")
    task: Task
    data: Data
    prompt: Prompt
    base_model: BaseModelChoice
    selection: Selection = Selection()
    finetune: Finetune = Finetune()
    search: Search | None = None
    evaluation: Evaluation = Evaluation()
    gate: Gate
    approval: Approval = Approval()
    batch: Batch | None = None
    monitoring: Monitoring = Monitoring()
    airflow: Airflow = Airflow()
    notify: Notify = Notify()
    access: Access = Access()

    def base_models(self) -> dict[str, BaseModelChoice]:
        """Its own base model, as `current`, and the candidates for its place."""
        return {CURRENT: self.base_model, **{candidate.name: candidate for candidate in self.selection.candidates}}

    def candidate(self, name: str) -> BaseModelChoice:
        """The base model or candidate of this name."""
        if name not in (known := self.base_models()):
            raise InputError(f"No candidate '{name:.60}'.{did_you_mean(name, known)} Known: {list(known)}.")
        return known[name]

    def digest(self, *sections: str) -> str:
        """SHA-256 of these sections: what a result that used only them follows from."""
        return digest({name: self.model_dump(mode="json")[name] for name in sections})
