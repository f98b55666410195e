"""Checks every use case, so that Airflow's web UI shows all mistakes of a broken one as this file's import error.

Holds no DAG of its own. Valid forms are kept on the way: where a file is broken later, its DAGs go on with the last of them."""

from __future__ import annotations

from airflow.sdk import get_parsing_context

from llmops_tasks import config
from llmops_tasks.errors import ConfigError, LLMOpsError

_problems = config.misnamed()
for _name in config.usecase_names() if get_parsing_context().dag_id is None else []:
    try:
        config.keep(_name)
    except LLMOpsError as exc:
        _problems.append(str(exc))
if _problems:
    raise ConfigError(
        "The DAGs of these use cases are made from their last valid form, if they ever had one.", _problems
    )
