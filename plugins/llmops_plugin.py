"""Shows Data Docs, drift reports and the cards of datasets and models in Airflow's web UI, to signed-in users only.

It never serves records, predictions or weights: only the pages named in PAGES leave the store.
"""

from __future__ import annotations

import mimetypes
import re

from airflow.api_fastapi.core_api.security import GetUserDep, requires_access_dag
from airflow.plugins_manager import AirflowPlugin
from fastapi import Depends, FastAPI, HTTPException, Request, Response
from llmops_links import PREFIX, DataDocs, MLflowRun, Report
from llmops_pools import PoolListener
from llmops_roles import RoleListener

from llmops_tasks.errors import StorageError
from llmops_tasks.store import artifacts, objects

PAGES = {
    "validated": re.compile(r"data_docs/index\.html"),
    "dataset": re.compile(r"README\.md"),
    "drift": re.compile(r"report\.html"),
    "release": re.compile(r"README\.md"),
    "base_model_selection": re.compile(r"README\.md"),
}
STAGES = {  # whose DAG one must be allowed to read
    "validated": "prepare_data",
    "dataset": "prepare_data",
    "drift": "monitor",
    "release": "train",
    "base_model_selection": "select_base_model",
}
_NAME = re.compile(r"[a-z][a-z0-9_]{1,40}")
_KEY = re.compile(r"[0-9a-f]{32}")


def may_read(request: Request, usecase: str, kind: str, user: GetUserDep) -> None:
    """A page may be read by users who may read the DAG that made it. (Airflow's permission on plugins is for operators.)

    Raises:
        HTTPException: 401 if not signed in, 403 without permission.
    """
    stage = STAGES.get(kind, "prepare_data")
    requires_access_dag("GET", param_dag_id=f"{usecase}.{stage}")(request, user)


app = FastAPI(title="LLMOps pages", dependencies=[Depends(may_read)], docs_url=None, openapi_url=None)


@app.get("/{usecase}/{kind}/{key}/{name:path}")
def page(usecase: str, kind: str, key: str, name: str) -> Response:
    """One page of one artifact. Any other path is not found."""
    allowed = kind in PAGES and PAGES[kind].fullmatch(name) and _NAME.fullmatch(usecase) and _KEY.fullmatch(key)
    if not allowed or ".." in name.split("/"):
        raise HTTPException(404, "There is no such page.")
    try:
        content = artifacts.read(f"{objects.store_uri()}/{usecase}/{kind}/{key}", name)
    except StorageError as exc:
        raise HTTPException(404, "There is no such page.") from exc
    kind_of_text = "text/plain" if name.endswith(".md") else mimetypes.guess_type(name)[0] or "application/octet-stream"
    # The pages are generated here, but must not act in the user's name on Airflow's pages.
    policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; form-action 'none'"
    return Response(
        content,
        media_type=kind_of_text,
        headers={"Content-Security-Policy": policy, "X-Content-Type-Options": "nosniff"},
    )


class LLMOpsPlugin(AirflowPlugin):
    """Links from a task instance to its MLflow run, Data Docs and report."""

    name = "llmops"
    fastapi_apps = [{"app": app, "url_prefix": PREFIX, "name": "LLMOps pages"}]  # noqa: RUF012  (Airflow's interface)
    operator_extra_links = [MLflowRun(), DataDocs(), Report()]  # noqa: RUF012
    listeners = [PoolListener(), RoleListener()]  # noqa: RUF012
