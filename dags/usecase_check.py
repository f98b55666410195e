"""Checks every use case, so that Airflow's web UI shows all mistakes of a broken one as this file's import error.

Holds no DAG of its own."""

from __future__ import annotations

from llmops_tasks import config
from llmops_tasks.errors import ConfigError, LLMOpsError

_problems = []
for _name in config.usecase_names():
    try:
        config.policy(_name)  # reads the use case first
    except LLMOpsError as exc:
        _problems.append(str(exc))
if _problems:
    raise ConfigError("These use cases have no DAGs until they are mended.", _problems)
