"""The plugin's links point where its pages are, and its pages serve nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from llmops_tasks.store import artifacts, objects

pytestmark = pytest.mark.airflow


class Instance:
    """As much of a task instance as a link reads."""

    def __init__(self, value: Any) -> None:
        self.task_id, self._value = "task", value

    def xcom_pull(self, task_ids: str, key: str) -> Any:
        assert (task_ids, key) == (self.task_id, "return_value")
        return self._value


@pytest.fixture(scope="module")
def modules() -> Any:
    import sys

    sys.path.insert(0, str(Path(__file__).parents[2] / "plugins"))
    import llmops_links
    import llmops_plugin

    return llmops_links, llmops_plugin


def publish(kind: str, name: str) -> Any:
    def build(out: Path) -> dict[str, Any]:
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_text("<p>page</p>")
        (out / "records.parquet").write_text("patients")
        return {"mlflow_run": "r1"}

    return artifacts.publish(usecase="triage", kind=kind, inputs={"kind": kind}, build=build)


@pytest.mark.parametrize(
    ("kind", "name", "link"),
    [
        ("validated", "data_docs/index.html", "DataDocs"),
        ("drift", "report.html", "Report"),
        ("release", "README.md", "Report"),
        ("base_model_selection", "README.md", "Report"),
    ],
)
def test_a_link_leads_to_a_page_that_is_served(modules: Any, kind: str, name: str, link: str) -> None:
    links, plugin = modules
    ref = publish(kind, name)
    address = getattr(links, link)().get_link(None, ti_key=Instance(ref))
    usecase, found_kind, key, *rest = address.removeprefix("/llmops/").split("/")
    assert plugin.page(usecase, found_kind, key, "/".join(rest)).body == b"<p>page</p>"


@pytest.mark.parametrize(
    ("base", "path"),
    [("http://localhost:8080", ""), ("https://host/airflow", "/airflow"), ("https://host/a/b/", "/a/b"), ("", "")],
)
def test_links_keep_to_the_path_that_airflow_has_behind_a_proxy(
    modules: Any, monkeypatch: pytest.MonkeyPatch, base: str, path: str
) -> None:
    monkeypatch.setenv("AIRFLOW__API__BASE_URL", base)
    ref = {"uri": "file:///store/triage/drift/" + "a" * 32}
    assert modules[0].page(ref, "report.html") == f"{path}/llmops/triage/drift/{'a' * 32}/report.html"


def test_a_page_is_served_from_s3_too(modules: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """There the files lie under the name of the attempt that published them."""
    import boto3
    from moto import mock_aws

    for name, value in (
        ("AWS_ACCESS_KEY_ID", "x"),
        ("AWS_SECRET_ACCESS_KEY", "x"),
        ("AWS_DEFAULT_REGION", "us-east-1"),
    ):
        monkeypatch.setenv(name, value)
    for name in ("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LLMOPS_STORE", "s3://bucket/store")
    with mock_aws():
        boto3.client("s3").create_bucket(Bucket="bucket")
        ref = publish("drift", "report.html")
        assert modules[1].page("triage", "drift", ref["uri"].rsplit("/", 1)[1], "report.html").body == b"<p>page</p>"


def test_a_task_without_a_result_has_no_link(modules: Any) -> None:
    links, _ = modules
    for link in (links.DataDocs(), links.Report(), links.MLflowRun()):
        assert link.get_link(None, ti_key=Instance(None)) == ""


def test_the_mlflow_link_names_the_run(modules: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMOPS_MLFLOW_UI", "http://127.0.0.1:5000")
    assert modules[0].MLflowRun().get_link(None, ti_key=Instance({"run_id": "r7"})).endswith("/runs/r7")


def test_the_mlflow_link_is_for_browsers_where_tasks_know_another_address(
    modules: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow:5000")
    monkeypatch.setenv("LLMOPS_MLFLOW_UI", "https://host/mlflow/")
    link = modules[0].MLflowRun().get_link(None, ti_key=Instance({"run_id": "r7"}))
    assert link.startswith("https://host/mlflow/#/")


@pytest.mark.parametrize(
    "name",
    ["records.parquet", "_manifest.json", "data_docs/../records.parquet", "data_docs/../../x/y.html", "/etc/passwd"],
)
def test_records_manifests_and_odd_paths_are_not_found(modules: Any, name: str) -> None:
    from fastapi import HTTPException

    ref = publish("validated", "data_docs/index.html")
    key = objects.local_path(ref["uri"]).name
    with pytest.raises(HTTPException) as refusal:
        modules[1].page("triage", "validated", key, name)
    assert refusal.value.status_code == 404


def test_pages_ask_for_the_right_to_read_the_dag_that_made_them(modules: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of Airflow's roles only Op and Admin may see plugins; a viewer and an approver must read reports."""
    asked: list[tuple[str, str]] = []
    plugin = modules[1]
    assert [one.dependency for one in plugin.app.router.dependencies] == [plugin.may_read]
    monkeypatch.setattr(
        plugin,
        "requires_access_dag",
        lambda method, param_dag_id: lambda request, user: asked.append((method, param_dag_id)),
    )
    for kind in plugin.PAGES:
        plugin.may_read(None, "triage", kind, None)
    assert asked == [("GET", f"triage.{plugin.STAGES[kind]}") for kind in plugin.PAGES]
