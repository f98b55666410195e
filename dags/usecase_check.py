"""Validates every use case, so that Airflow's web UI shows all mistakes in a file as this file's import error.

Defines no DAG. Valid configurations are stored: while a file is invalid, its DAGs continue with the last one."""

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
for _name in config.removed() if get_parsing_context().dag_id is None else []:
    try:
        config.current(_name)
    except LLMOpsError as exc:
        _problems.append(f"{_name}, whose file is gone: {exc}")
if _problems:
    raise ConfigError(
        "Some use cases are invalid. Their DAGs use the last valid configuration, if there is one:", _problems
    )
