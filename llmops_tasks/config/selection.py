"""Candidate base models, and the policy by which one is chosen."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from llmops_tasks.config.data import Section
from llmops_tasks.errors import did_you_mean

CURRENT = "current"  # the use case's own base model, as one of the candidates
MIN_SAMPLE = 20  # records; fewer are no evidence
Measure = Literal["few_shot", "zero_shot", "bits_per_character"]


class BaseModelChoice(Section):
    """The model that training starts from."""

    uri: str = Field(
        description="package://<package>/<file>.gguf, file://<folder>, s3://<folder> or hf://org/name@revision"
    )
    sha256: str | None = Field(
        default=None, pattern="^[0-9a-f]{64}$", description="SHA-256 of the GGUF file; verified before use."
    )
    licence: str = Field(description="SPDX identifier, or the name used in the policy.")
    languages: list[str] = Field(default=[], description="ISO 639, `mul` for many; if its files do not say.")
    context_length: int | None = Field(default=None, gt=0, description="In tokens; if its config.json does not say.")


class Candidate(BaseModelChoice):
    """A candidate base model."""

    name: str = Field(pattern="^[a-z0-9][a-z0-9._-]{1,40}$", description="Its name in reports.")


class Selection(Section):
    """What `select_base_model` measures; the use case's own base model always takes part, as `current`."""

    candidates: list[Candidate] = Field(
        default=[], description="Candidates measured beside the use case's own base model."
    )
    sample: int = Field(
        default=120,
        ge=MIN_SAMPLE,
        description="Records to measure on: from the validation split first, then from train; never from test.",
    )
    shots: int = Field(default=5, gt=0, description="Examples in the few-shot prompt, balanced over the labels.")
    seed: int = Field(default=7, description="Seed of the sample and the examples.")
    policy: str | None = Field(
        default=None, description="The policy's file, relative to this one. null: include/policies/base_models.yaml."
    )

    @model_validator(mode="after")
    def _names_differ(self) -> Selection:
        names = [CURRENT, *(candidate.name for candidate in self.candidates)]
        if len(set(names)) < len(names):
            raise ValueError(f"candidates need unique names, and '{CURRENT}' is taken; given: {names[1:]}")
        return self


class Licences(Section):
    """Licences under which a base model may be measured and used. Licences not named are refused."""

    allowed: list[str] = Field(min_length=1)
    refused: dict[str, str] = Field(default={}, description="Licence: reason.")
    accepted: dict[str, str] = Field(
        default={},
        description="Refused licences accepted as an exception. Licence: who, when, for what.",
    )

    @model_validator(mode="after")
    def _consistent(self) -> Licences:
        if both := sorted(set(self.allowed) & set(self.refused)):
            raise ValueError(f"both allowed and refused: {both}")
        for name in self.accepted:
            if name not in self.refused:
                hint = did_you_mean(name, self.refused)
                raise ValueError(
                    f"accepted names '{name}', which is not refused.{hint} Refused: {sorted(self.refused)}"
                )
        return self


class Policy(Section):
    """Requirements for a base model, and the ranking of those that meet them. null: no limit."""

    version: Literal[1]
    licences: Licences
    max_disk_mib: float | None = Field(default=None, gt=0, description="As kept: safetensors in fp32.")
    max_memory_mib: float | None = Field(default=None, gt=0, description="Peak of the process that answers prompts.")
    min_tokens_per_second: float | None = Field(default=None, gt=0, description="Prompt tokens read per second.")
    rank: Measure = Field(
        default="few_shot",
        description="few_shot and zero_shot use the gate's metric; for generation bits_per_character is used.",
    )
