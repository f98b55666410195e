"""The schema of a use case's YAML file, section by section.

Precedence: the YAML, else the default written here. Checks across fields are in `checks`; files are read by
`loading`.
"""

from __future__ import annotations

import datetime
from typing import Literal

from pydantic import Field, model_validator

from llmops_tasks.config.airflow import YEAR, Access, Airflow, Notify
from llmops_tasks.config.data import Data, Section, Source
from llmops_tasks.config.decoding import Decoding
from llmops_tasks.config.selection import CURRENT, BaseModelChoice, Selection
from llmops_tasks.config.server import Server
from llmops_tasks.config.training import Finetune, Search
from llmops_tasks.contracts import ABSTAINED, BASELINES
from llmops_tasks.errors import InputError, did_you_mean
from llmops_tasks.store.digests import digest


class Label(Section):
    """One label. The order in the file is the order of the scale, most urgent first."""

    name: str = Field(min_length=1, description="Name in reports and predictions.")
    values: list[str] = Field(min_length=1, description="Its spellings in the label column.")
    text: str = Field(min_length=1, description="The model's completion, in words that differ from all other labels'.")


class Task(Section):
    """What the model does."""

    type: Literal["classification", "generation"]
    labels: list[Label] = Field(default=[], description="Classification only: the closed set of labels.")
    severe: list[str] = Field(default=[], description="Labels whose underestimation is reported separately.")
    decoding: Decoding = Field(default=Decoding(), description="Generation only: how answers are written.")
    scoring: Literal["branching", "whole_text"] = Field(
        default="branching",
        description="What a label's probability is made of: of its text the tokens where labels part, each among those "
        "that labels go on with (branching); or all tokens, among the whole vocabulary (whole_text; slower).",
    )
    length_normalised: bool = Field(
        default=False,
        description="Only with scoring whole_text: the mean log-probability per token in place of the sum, so that long "
        "texts are no less likely for being long.",
    )
    calibrate: bool = Field(
        default=True,
        description="Calibrate probabilities by a temperature, fitted on the validation split when a release is packaged. "
        "It changes no label.",
    )
    abstain_below: float | None = Field(
        default=None,
        gt=0,
        lt=1,
        description="A record whose most likely label has a (calibrated) probability below this is answered 'abstained'; "
        "needs a limit on coverage in the gate. Null: every record is answered with a label.",
    )

    @model_validator(mode="after")
    def _consistent(self) -> Task:
        names = [label.name for label in self.labels]
        if self.type == "classification" and len(names) < 2:
            raise ValueError("a classification needs at least two labels")
        if self.type == "generation" and names:
            raise ValueError("a generation task has no labels")
        if self.type == "classification" and self.decoding != Decoding():
            raise ValueError("decoding is for generation; a classification chooses among its labels")
        if len(set(names)) < len(names):
            raise ValueError("label names must differ")
        values = [value for label in self.labels for value in label.values]
        if len(set(values)) < len(values):
            raise ValueError("the same value stands for two labels")
        if unknown := [name for name in self.severe if name not in names]:
            raise ValueError(f"severe names unknown labels {unknown}; known: {names}")
        self._check_scoring(names)
        return self

    def _check_scoring(self, names: list[str]) -> None:
        if self.length_normalised and self.scoring != "whole_text":
            raise ValueError("length_normalised is for whole texts: set scoring to whole_text, or remove it")
        if self.abstain_below is not None and self.type == "generation":
            raise ValueError("abstain_below is for labels; a generation task has none")
        if self.abstain_below is not None and ABSTAINED in names:
            raise ValueError(f"'{ABSTAINED}' is the answer below abstain_below: give the label another name")


class Turn(Section):
    """One turn of a chat."""

    role: Literal["system", "user", "assistant"]
    content: str = Field(min_length=1, description="Jinja template; {{ labels }} lists the labels' texts.")


class Prompt(Section):
    """The prompt around the text."""

    template: str = Field(
        description="Jinja template with {{ text }}; {{ labels }} lists the labels' texts. Of a chat: the user's turn."
    )
    examples: list[dict[str, str]] = Field(
        default=[], description="Few-shot pairs {text, answer}, placed before the record; of a chat a turn each."
    )
    format: Literal["plain", "chat", "conversation"] = Field(
        default="plain",
        description="chat: turns, rendered by the model's own chat template. conversation: likewise, where the text is a "
        "whole conversation (a column of the type conversation).",
    )
    system: str | None = Field(
        default=None,
        min_length=1,
        description="Chats: the system turn, a template; a conversation that has its own keeps it.",
    )
    messages: list[Turn] = Field(default=[], description="Chats: further turns, before the examples and the record's.")
    thinking: Literal["strip", "keep"] = Field(
        default="strip",
        description="Chats: <think> parts of answers, in training and in what is written; strip also turns thinking off in "
        "templates that know enable_thinking.",
    )

    @model_validator(mode="after")
    def _consistent(self) -> Prompt:
        if self.format == "plain" and (self.system or self.messages or self.thinking == "keep"):
            raise ValueError("system, messages and thinking are for chats: set format to chat, or remove them")
        if self.format == "conversation" and (self.messages or self.examples):
            raise ValueError("a conversation has its own turns: remove messages and examples")
        if any(turn.role == "system" for turn in self.messages[1 if self.system is None else 0 :]):
            raise ValueError("a system turn comes first and once: give it as system")
        return self


class Inference(Section):
    """How a release computes its answers. It is decided when the release is packaged, and holds wherever it runs."""

    precision: Literal["auto", "fp32", "bf16", "fp16", "int8"] = Field(
        default="auto",
        description="auto: on a GPU bf16, or fp16 where it has no bf16; fp32 on a CPU. int8: on a CPU, by OpenVINO "
        "(requirements-int8.txt); the release is quantised when it is packaged.",
    )
    server: Server | None = Field(
        default=None, description="Evaluate and answer by a server that has loaded the release, not in this process."
    )

    @model_validator(mode="after")
    def _consistent(self) -> Inference:
        if self.precision == "int8" and self.server is not None:
            raise ValueError(
                "int8 files are run in this process, a server loads safetensors: remove precision or server"
            )
        return self


class Evaluation(Section):
    """How a candidate is evaluated."""

    baselines: list[Literal["base", "tfidf", "retrieval"]] | None = Field(
        default=None,
        description="Baselines measured beside the candidate: base, the model before training; for a classification "
        "tfidf (logistic regression), for a generation retrieval (the answer to the most similar training text). "
        "null: all of the task's.",
    )
    bootstrap: int = Field(default=1000, ge=100, description="Bootstrap resamples.")
    confidence: float = Field(default=0.95, gt=0.5, lt=1)
    batch_size: int = Field(default=16, gt=0)


class Limit(Section):
    """A lower or upper limit for one metric, compared with the unfavourable confidence bound."""

    metric: str = Field(description="One of the task's metrics, or under_triage_rate.<severe label>.")
    at_least: float | None = None
    at_most: float | None = None
    min_n: int | None = Field(
        default=None, gt=0, description="Minimum of records in the metric's own denominator; null: the gate's min_n."
    )

    @model_validator(mode="after")
    def _one_of_two(self) -> Limit:
        if (self.at_least is None) == (self.at_most is None):
            raise ValueError("give either at_least or at_most")
        return self


class Gate(Section):
    """What a candidate must show to be put up for approval."""

    metric: str = Field(default="quadratic_kappa", description="The metric of all comparisons.")
    limits: list[Limit] = Field(min_length=1)
    beats: list[Literal["base", "tfidf", "retrieval"]] = Field(
        default=[], description="Must be better than these: the paired confidence interval lies above 0."
    )
    champion_margin: float = Field(
        default=0.0,
        ge=0,
        description="Allowed loss against the champion; the lower confidence bound of the difference counts.",
    )
    max_forgetting: float | None = Field(
        default=None, ge=0, description="Allowed loss against the champion on the champion's own test set."
    )
    min_n: int = Field(default=200, gt=0, description="A metric with fewer records in its denominator is no evidence.")


class Approval(Section):
    """Human approval."""

    timeout_hours: float = Field(
        default=72, gt=0, le=YEAR, description="Time to answer. A missing answer is recorded, and nothing is promoted."
    )
    newer_candidate: Literal["supersedes", "keeps_open"] = Field(
        default="supersedes",
        description="Whether an approval still counts once a newer candidate has passed the gate: no (supersedes) or yes (keeps_open).",
    )
    people: int = Field(default=1, ge=1, le=2, description="How many different people must approve.")
    assigned: list[str] = Field(
        default=[], description="Users who may answer; empty: everyone with edit permission on the DAG `promote`."
    )
    four_eyes: bool = Field(default=False, description="The user who started the training must not approve it.")


class Batch(Section):
    """New records, scored day by day."""

    source: Source
    schedule: str | None = Field(default=None, description="Cron; a run scores the day that ended before it.")
    timezone: str = Field(default="UTC", description="Time zone of the schedule and of the days, e.g. Europe/Zurich.")
    catchup: bool = Field(default=False, description="Also run missed ticks, back to start_date.")
    start_date: datetime.date | None = Field(
        default=None, description="First day of the schedule; required by catchup."
    )
    batch_size: int = Field(default=16, gt=0)

    @model_validator(mode="after")
    def _consistent(self) -> Batch:
        if self.catchup and self.start_date is None:
            raise ValueError("catchup requires start_date, the first day to run")
        return self


# How English-language assistants begin to refuse: phrases common to lists such as that of Zou et al. 2023, "Universal and
# Transferable Adversarial Attacks on Aligned Language Models".
REFUSALS = (
    "I'm sorry", "I am sorry", "I apologize", "I cannot", "I can't", "I'm unable", "I am unable", "I'm not able",
    "I am not able", "As an AI", "As a language model",
)  # fmt: skip


class Monitoring(Section):
    """Drift detection and the decision to retrain."""

    columns: list[str] = Field(default=[], description="Numeric columns to monitor.")
    psi: float = Field(
        default=0.2, gt=0, description="Population stability index from which a column counts as drifting."
    )
    text_js: float = Field(
        default=0.15,
        gt=0,
        description="Jensen-Shannon divergence of words (bits) from which the text counts as drifting.",
    )
    refusals: list[str] = Field(
        default=list(REFUSALS),
        description="Generation: phrases by which an answer counts as a refusal. A heuristic: other words are missed.",
    )
    min_rows: int = Field(default=50, gt=0)
    min_signals: int = Field(default=1, gt=0, description="Number of drifting signals that raises the alarm.")
    cooldown_days: int = Field(default=7, ge=0, description="Minimum number of days between two retrainings.")


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
    inference: Inference = Inference()
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

    def baselines(self) -> list[str]:
        """What is measured beside a candidate."""
        given = self.evaluation.baselines
        return list(BASELINES[self.task.type] if given is None else given)

    def candidate(self, name: str) -> BaseModelChoice:
        """The base model or candidate of this name."""
        if name not in (known := self.base_models()):
            raise InputError(f"No candidate '{name:.60}'.{did_you_mean(name, known)} Known: {list(known)}.")
        return known[name]

    def digest(self, *sections: str) -> str:
        """SHA-256 of these sections: what a result that used only them follows from."""
        return digest({name: self.model_dump(mode="json")[name] for name in sections})
