"""Airflow's `TriggerDagRunOperator` as far as it is used here, without its imports.

The original imports Airflow's database models, a quarter of a second at every parse and in every task of a DAG that has one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from airflow.sdk import BaseOperator, BaseOperatorLink
from airflow.sdk.exceptions import DagRunTriggerException


class TriggeredRun(BaseOperatorLink):
    """From the task to the run that it started."""

    name = "Triggered DAG"

    def get_link(self, operator: BaseOperator, *, ti_key: Any) -> str:
        """The address of the run's page."""
        from airflow.utils.helpers import build_airflow_dagrun_url

        return build_airflow_dagrun_url(dag_id=operator.trigger_dag_id, run_id=operator.trigger_run_id)


class TriggerRun(BaseOperator):
    """Starts a run without a logical date; is skipped if there is a run of that name already.

    Args:
        trigger_dag_id: of the DAG to start.
        trigger_run_id: of its new run.
        conf: what its form would give.
    """

    template_fields: Sequence[str] = ("trigger_dag_id", "trigger_run_id", "conf")
    template_fields_renderers: ClassVar = {"conf": "py"}
    operator_extra_links = (TriggeredRun(),)

    def __init__(self, *, trigger_dag_id: str, trigger_run_id: str, conf: dict[str, Any], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.trigger_dag_id, self.trigger_run_id, self.conf = trigger_dag_id, trigger_run_id, conf

    def execute(self, context: Any) -> None:
        """Ask the task's supervisor to start it."""
        raise DagRunTriggerException(
            trigger_dag_id=self.trigger_dag_id,
            dag_run_id=self.trigger_run_id,
            conf=self.conf,
            reset_dag_run=False,
            skip_when_already_exists=True,
            wait_for_completion=False,
            allowed_states=[],
            failed_states=[],
            poke_interval=60,
            deferrable=False,
        )
