"""How Airflow runs a use case: pools, priorities, time limits, notifications, roles."""

from __future__ import annotations

from typing import Any, Literal, get_args

from pydantic import Field, model_validator

from llmops_tasks.config.data import Section

# Order within one slot: scoring first, then evaluation, training, search.
DEFAULTS: dict[str, dict[str, Any]] = {
    "inference": {"pool": "compute", "priority": 400, "timeout_hours": 6},
    "evaluation": {"pool": "compute", "priority": 300, "timeout_hours": 12},
    "training": {"pool": "compute", "priority": 200, "timeout_hours": 96},
    "search": {"pool": "compute", "priority": 100, "timeout_hours": 48},
    "download": {"pool": "default_pool", "priority": 500, "timeout_hours": 3},
}
YEAR = 8784  # hours; more is no limit, and more than Airflow can count
RESERVED = ("promote", "rollback")  # stages that change the champion
Event = Literal["failure", "approval_waiting", "approval_expiring", "candidate_refused", "drift_alarm"]


class Work(Section):
    """The pool, priority and time limit of one kind of task."""

    pool: str = Field(
        pattern=r"^[A-Za-z0-9_.-]{1,60}$", description="Airflow's pool; created with one slot if it is missing."
    )
    priority: int = Field(ge=0, le=1000, description="Higher runs first, across all use cases that share the pool.")
    timeout_hours: float = Field(gt=0, le=YEAR, description="Execution time limit; queueing does not count.")


class Airflow(Section):
    """Pools, priorities and time limits, by kind of work."""

    inference: Work = Work(**DEFAULTS["inference"])
    evaluation: Work = Work(**DEFAULTS["evaluation"])
    training: Work = Work(**DEFAULTS["training"])
    search: Work = Work(**DEFAULTS["search"])
    download: Work = Work(**DEFAULTS["download"])
    timeout_hours: float = Field(default=4, gt=0, le=YEAR, description="Time limit of all tasks that load no model.")
    reconcile: str | None = Field(
        default="17 * * * *",
        description="Cron of reconcile, which starts work that is due but was started by no event.",
    )

    @model_validator(mode="before")
    @classmethod
    def _defaults_by_kind(cls, given: Any) -> Any:
        """Keys missing from a kind's section keep their defaults."""
        if not isinstance(given, dict):
            return given
        return given | {
            kind: DEFAULTS[kind] | work for kind, work in given.items() if kind in DEFAULTS and isinstance(work, dict)
        }

    def pools(self) -> list[str]:
        """All pools that its tasks wait in."""
        return sorted({getattr(self, kind).pool for kind in DEFAULTS})


class Notify(Section):
    """Notifications. None are sent unless an address or a webhook is given."""

    events: list[Event] = Field(default=list(get_args(Event)), description="Events that are reported.")
    email: list[str] = Field(default=[], description="Recipients.")
    smtp_connection: str = Field(default="smtp_default", description="Airflow's connection to the mail server.")
    webhook_connection: str | None = Field(
        default=None, description="Airflow's HTTP connection: gets one JSON object, {event, usecase, text, link}."
    )
    webhook_path: str = Field(default="", description="Path appended to the connection's address.")
    remind_hours: float = Field(
        default=12, gt=0, description="How long before an approval expires the reminder is sent."
    )


class Access(Section):
    """Roles of Airflow's FAB auth manager and their permissions on this use case. Empty: Airflow's own roles apply."""

    viewers: list[str] = Field(default=[], description="May read runs, logs and reports.")
    operators: list[str] = Field(
        default=[], description="May also start, clear and pause all DAGs except promote and rollback."
    )
    approvers: list[str] = Field(default=[], description="May read, and answer the questions of `promote`.")
    stewards: list[str] = Field(default=[], description="May do all of the above, and roll back.")

    def grants(self, stage: str) -> dict[str, dict[str, set[str]]]:
        """Airflow's `access_control` for a stage's DAG."""
        read, run = {"DAGs": {"can_read"}}, {"DAGs": {"can_read", "can_edit"}, "DAG Runs": {"can_create"}}
        answer = {"DAGs": {"can_read", "can_edit"}}  # an answer edits the task that asks
        found = dict.fromkeys(self.viewers, read)
        found |= dict.fromkeys(self.operators, read if stage in RESERVED else run)
        found |= dict.fromkeys(self.approvers, answer if stage == "promote" else read)
        return found | dict.fromkeys(self.stewards, run)
