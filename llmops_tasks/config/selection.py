"""Which base models there are to choose from, and the rules of the choice."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from llmops_tasks.config.data import Section
from llmops_tasks.errors import did_you_mean

CURRENT = "current"  # the use case's own base model, as one of the candidates
MIN_SAMPLE = 20  # records; fewer say nothing
Measure = Literal["few_shot", "zero_shot", "bits_per_character"]


class BaseModelChoice(Section):
    """The model that training starts from."""

    uri: str = Field(
        description="package://<package>/<file>.gguf, file://<folder>, s3://<folder> or hf://org/name@revision"
    )
    sha256: str | None = Field(
        default=None, pattern="^[0-9a-f]{64}$", description="Of the GGUF file; checked before use."
    )
    licence: str = Field(description="As an SPDX identifier, or the name the policy knows it by.")
    languages: list[str] = Field(default=[], description="ISO 639, `mul` for many; where its files do not say.")
    context_length: int | None = Field(default=None, gt=0, description="Tokens; where its config.json does not say.")


class Candidate(BaseModelChoice):
    """A model that might take the place of the base model."""

    name: str = Field(pattern="^[a-z0-9][a-z0-9._-]{1,40}$", description="What reports call it.")


class Selection(Section):
    """What `select_base_model` measures; the use case's own base model always takes part, as `current`."""

    candidates: list[Candidate] = Field(default=[], description="Measured beside the use case's own base model.")
    sample: int = Field(
        default=120,
        ge=MIN_SAMPLE,
        description="Records. Those of the validation split first, then of train; never of test.",
    )
    shots: int = Field(default=5, gt=0, description="Examples in the few-shot prompt, of all labels in turn.")
    seed: int = Field(default=7, description="Which records and examples are taken.")
    policy: str | None = Field(
        default=None, description="The policy's file, seen from this one. None: include/policies/base_models.yaml."
    )

    @model_validator(mode="after")
    def _names_differ(self) -> Selection:
        names = [CURRENT, *(candidate.name for candidate in self.candidates)]
        if len(set(names)) < len(names):
            raise ValueError(f"candidates need names that differ, and '{CURRENT}' is taken; given: {names[1:]}")
        return self


class Licences(Section):
    """Under which licences a base model may be measured and used. What is named nowhere is refused."""

    allowed: list[str] = Field(min_length=1)
    refused: dict[str, str] = Field(default={}, description="Licence: why not.")
    accepted: dict[str, str] = Field(
        default={},
        description="Refused ones that somebody read and accepted all the same. Licence: who, when, for what.",
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
    """What a base model must be, and which of those that are is the best. None: no limit."""

    version: Literal[1]
    licences: Licences
    max_disk_mib: float | None = Field(default=None, gt=0, description="As kept: safetensors in fp32.")
    max_memory_mib: float | None = Field(default=None, gt=0, description="Peak of the process that answers prompts.")
    min_tokens_per_second: float | None = Field(default=None, gt=0, description="Of prompts read.")
    rank: Measure = Field(
        default="few_shot",
        description="The shots are in the gate's metric. Generated text has no scores: bits per character counts there.",
    )
