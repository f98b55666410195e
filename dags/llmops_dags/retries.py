"""When a failed task runs again."""

from __future__ import annotations

from typing import Any

from airflow.sdk import ExceptionRetryPolicy, RetryAction, RetryRule
from airflow.sdk.definitions.retry_policy import RetryDecision

from llmops_tasks import errors

# A retry does not fix these; storage errors and lost processes are retried.
FINAL = (
    errors.ConfigError, errors.InputError, errors.SourceError, errors.DataError, errors.IntegrityError,
    errors.ConflictError, errors.ModelError, errors.TrainingError, errors.EvidenceError, errors.ReleaseError,
)  # fmt: skip
OWN = 2  # times that a task may fail by itself and is tried again
LOST = 30  # retries in all: restarts of scheduler and workers, of which a long training may see many, take from these
_FAILED = "failed by itself"  # in Airflow's store of the task's state


class OwnFailures(ExceptionRetryPolicy):
    """Counts how often a task failed by itself.

    Airflow has one count for all retries, and a lost heartbeat takes from it as an error does: three restarts of the
    scheduler would end a training that makes no mistake.
    """

    def evaluate(self, exception: BaseException, try_number: int, max_tries: int, context: Any = None) -> RetryDecision:
        """Asked by the task's own process, so never when that was lost."""
        decision = super().evaluate(exception, try_number, max_tries, context)
        if decision.action is not RetryAction.DEFAULT or context is None:
            return decision
        state = context["task_state_store"]
        failed = int(state.get(_FAILED, 0)) + 1
        state.set(_FAILED, failed)
        return RetryDecision.fail(f"failed by itself {failed} times") if failed > OWN else decision


POLICY = OwnFailures(
    rules=[RetryRule(exception=kind, action=RetryAction.FAIL, reason="trying again would not help") for kind in FINAL]
)
