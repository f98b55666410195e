"""A use case is one YAML file; this is its shape.

The file's name is the use case's name. Every mistake is reported at once, with its path in the file.
`${LLMOPS_HOME}` and `${LLMOPS_STORE}` may stand in addresses; no other variable is read.
Precedence: the YAML, else the default written here. There is no third place.
"""

from __future__ import annotations

import datetime
import os
import re
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml
from pydantic import Field, ValidationError, model_validator

from llmops_tasks.config_data import Column, Data, Landing, Section, Source, Split, expand
from llmops_tasks.config_selection import CURRENT, BaseModelChoice, Policy, Selection
from llmops_tasks.config_training import Finetune, Search
from llmops_tasks.errors import ConfigError, InputError, did_you_mean
from llmops_tasks.storage import digest

__all__ = [
    "Column",
    "Data",
    "Finetune",
    "Landing",
    "Search",
    "Section",
    "Source",
    "Split",
    "UseCase",
    "expand",
    "json_schema",
    "load",
]
_NAME = re.compile(r"[a-z][a-z0-9_]{1,40}")
_Shape = TypeVar("_Shape", bound=Section)
_INCLUDE = Path(__file__).parent.parent / "include"
POLICY = _INCLUDE / "policies" / "base_models.yaml"


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

    metric: str
    at_least: float | None = None
    at_most: float | None = None

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
    min_n: int = Field(default=200, gt=0, description="Fewer records are no evidence.")


class Approval(Section):
    """The human in the loop."""

    timeout_hours: float = Field(default=72, gt=0, description="No answer in time means reject.")


class Batch(Section):
    """New records, day by day."""

    source: Source
    schedule: str | None = Field(default=None, description="Cron; the logical date names the day.")
    batch_size: int = Field(default=16, gt=0)


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

    @model_validator(mode="after")
    def _columns_fit(self) -> UseCase:
        from llmops_tasks.config_checks import column_problems

        if problems := column_problems(self):
            raise ValueError("\n".join(problems))
        return self

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


# ---------------------------------------------------------------- loading


def checked_date(date: str) -> str:
    """A day as YYYY-MM-DD; anything else is refused before it gets near an address."""
    try:
        if re.fullmatch(r"\d{4}-\d{2}-\d{2}", date) and datetime.date.fromisoformat(date):
            return date
    except ValueError:
        pass
    raise InputError(f"'{date:.40}' is no date. Allowed: YYYY-MM-DD, for example 2026-03-30.")


def usecase_folder() -> Path:
    """Where use cases are looked for (`LLMOPS_USECASES`, default `include/usecases` of this project)."""
    return Path(os.environ.get("LLMOPS_USECASES", _INCLUDE / "usecases"))


def usecase_names() -> list[str]:
    """All use cases of the folder."""
    return sorted(path.stem for path in usecase_folder().glob("*.yaml"))


def usecase_path(usecase: str) -> Path:
    """The file of a use case, given by name or as a path to its YAML."""
    if usecase.endswith(".yaml"):
        path = Path(usecase)
        usecase = path.stem
    else:
        path = usecase_folder() / f"{usecase}.yaml"
    if not _NAME.fullmatch(usecase):
        raise InputError(f"'{usecase}' is no use-case name. Allowed: a-z, 0-9 and _, beginning with a letter.")
    if not path.is_file():
        known = usecase_names()
        raise InputError(f"No use case '{usecase}' at '{path}'. Known: {known}.{did_you_mean(usecase, known)}")
    return path


def usecase_name(usecase: str) -> str:
    """The use case's name: its file's stem."""
    return usecase_path(usecase).stem


def load(usecase: str) -> UseCase:
    """Read and check a use case.

    Raises:
        ConfigError: with all mistakes, each with its path in the file.
        InputError: if there is no such file.
    """
    path = usecase_path(usecase)
    return _load(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=64)
def _load(path: Path, _modified: int) -> UseCase:
    return _parsed(path, UseCase)


def policy(usecase: str) -> Policy:
    """The rules by which the use case's base model is chosen: the file at `selection.policy`, else the shipped one.

    Raises:
        ConfigError: with all mistakes of the policy, or if there is no such file.
    """
    named = load(usecase).selection.policy
    path = usecase_path(usecase).parent / named if named else POLICY
    if not path.is_file():
        raise ConfigError(f"selection.policy: no file at '{path}'. Paths count from the use case's own folder.")
    return _parsed(path, Policy)


def _parsed(path: Path, shape: type[_Shape]) -> _Shape:
    """A YAML file as what it must be."""
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as exc:
        where = getattr(exc, "problem_mark", None)
        raise ConfigError(f"{path.name} is not valid YAML{f', line {where.line + 1}' if where else ''}.") from exc
    if not isinstance(raw, dict):
        raise ConfigError(f"{path.name} must hold a mapping with the keys {sorted(shape.model_fields)}.")
    try:
        return shape.model_validate(raw)
    except ValidationError as exc:
        from llmops_tasks.config_checks import explain

        problems = explain(exc, shape)
        raise ConfigError(f"{path.name} has {len(problems)} mistake(s):", problems) from None


def json_schema() -> dict[str, Any]:
    """The JSON Schema that editors complete and check use cases with."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **UseCase.model_json_schema()}
