"""Airflow's approval, with an answer that can be read afterwards whatever it was."""

from __future__ import annotations

from typing import Any

from airflow.providers.standard.operators.hitl import ApprovalOperator


class Approval(ApprovalOperator):
    """Airflow's own operator returns nothing when the answer is no, as it skips what is behind it by raising.

    A rejection must stand in the ledger too, with who gave it, so the answer is kept before that.
    """

    def execute_complete(self, context: Any, event: dict[str, Any]) -> Any:
        """Keep the answer under the key `answer`, then go on as Airflow does."""
        if "error" not in event:
            answer = {name: event[name] for name in ("chosen_options", "responded_by_user")}
            context["ti"].xcom_push(key="answer", value={**answer, "responded_at": event["responded_at"].isoformat()})
        return super().execute_complete(context, event)
