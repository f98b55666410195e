"""How Airflow runs a use case: pools, priorities, time limits, whom it tells."""

from __future__ import annotations

from typing import Any, Literal, get_args

from pydantic import Field, model_validator

from llmops_tasks.config.data import Section

# What fits one slot: days are scored before candidates are judged, judged before trained, trained before searched for.
DEFAULTS: dict[str, dict[str, Any]] = {
    "inference": {"pool": "compute", "priority": 400, "timeout_hours": 6},
    "evaluation": {"pool": "compute", "priority": 300, "timeout_hours": 12},
    "training": {"pool": "compute", "priority": 200, "timeout_hours": 96},
    "search": {"pool": "compute", "priority": 100, "timeout_hours": 48},
    "download": {"pool": "default_pool", "priority": 500, "timeout_hours": 3},
}
RESERVED = ("promote", "rollback")  # stages that change who serves
Event = Literal["failure", "approval_waiting", "approval_expiring", "candidate_refused", "drift_alarm"]


class Work(Section):
    """Where tasks of one kind wait for their turn, and how long they may run."""

    pool: str = Field(
        pattern=r"^[A-Za-z0-9_.-]{1,60}$", description="Airflow's pool; made with one slot where it is missing."
    )
    priority: int = Field(
        ge=0, le=1000, description="Higher goes first, also before other use cases' tasks in the pool."
    )
    timeout_hours: float = Field(gt=0, description="A run of the task is ended after so long; waiting does not count.")


class Airflow(Section):
    """Pools, priorities and time limits, by kind of work."""

    inference: Work = Work(**DEFAULTS["inference"])
    evaluation: Work = Work(**DEFAULTS["evaluation"])
    training: Work = Work(**DEFAULTS["training"])
    search: Work = Work(**DEFAULTS["search"])
    download: Work = Work(**DEFAULTS["download"])
    timeout_hours: float = Field(default=4, gt=0, description="Of all tasks that load no model.")
    reconcile: str | None = Field(default="17 * * * *", description="Cron: looks for work that no event started.")

    @model_validator(mode="before")
    @classmethod
    def _defaults_by_kind(cls, given: Any) -> Any:
        """What a kind's section leaves out is as it would be without the section."""
        if not isinstance(given, dict):
            return given
        return given | {
            kind: DEFAULTS[kind] | work for kind, work in given.items() if kind in DEFAULTS and isinstance(work, dict)
        }

    def pools(self) -> list[str]:
        """All pools that its tasks wait in."""
        return sorted({getattr(self, kind).pool for kind in DEFAULTS})


class Notify(Section):
    """Who is told of what. Nobody, unless an address or a webhook is given."""

    events: list[Event] = Field(default=list(get_args(Event)), description="What is told of.")
    email: list[str] = Field(default=[], description="Addresses.")
    smtp_connection: str = Field(default="smtp_default", description="Airflow's connection to the mail server.")
    webhook_connection: str | None = Field(
        default=None, description="Airflow's HTTP connection: gets one JSON object, {event, usecase, text, link}."
    )
    webhook_path: str = Field(default="", description="Behind the connection's address.")
    remind_hours: float = Field(default=12, gt=0, description="So long before an approval expires.")


class Access(Section):
    """Roles of Airflow's FAB auth manager, by what they may do with this use case. Empty: by Airflow's own roles alone."""

    viewers: list[str] = Field(default=[], description="May look at runs, logs and reports.")
    operators: list[str] = Field(default=[], description="May also start, clear and pause all stages but those below.")
    approvers: list[str] = Field(default=[], description="May look, and answer the questions of `promote`.")
    stewards: list[str] = Field(default=[], description="May do all of this, and roll back.")

    def grants(self, stage: str) -> dict[str, dict[str, set[str]]]:
        """Airflow's `access_control` for a stage's DAG."""
        read, run = {"DAGs": {"can_read"}}, {"DAGs": {"can_read", "can_edit"}, "DAG Runs": {"can_create"}}
        answer = {"DAGs": {"can_read", "can_edit"}}  # an answer edits the task that asks
        found = dict.fromkeys(self.viewers, read)
        found |= dict.fromkeys(self.operators, read if stage in RESERVED else run)
        found |= dict.fromkeys(self.approvers, answer if stage == "promote" else read)
        return found | dict.fromkeys(self.stewards, run)
