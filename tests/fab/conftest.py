"""One Airflow with FAB for all tests of roles: two use cases, and two candidates of one that passed the gate."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support import releases, tiny
from tests.support.fab import Fab

KINDS = ("viewers", "operators", "approvers", "stewards")
PEOPLE = {
    "viewer": ["triage_viewers"],
    "operator": ["triage_operators"],
    "approver": ["triage_approvers"],
    "steward": ["triage_stewards"],
    "other": ["reviews_stewards"],  # may do everything with the other use case
    "guest": [],
    "colleague": ["triage_approvers"],  # whom the use case does not assign
    "admin": ["Admin"],
    "op": ["Op"],  # Airflow's own role, that may edit everything
}


def _use_cases(folder: Path) -> None:
    folder.mkdir(parents=True)
    rules = {"assigned": ["approver"], "newer_candidate": "keeps_open"}
    for name, more in {"triage": {"approval": rules}, "reviews": {}}.items():
        raw = yaml.safe_load((tiny.ROOT / "include" / "usecases" / f"{name}.yaml").read_text(encoding="utf-8"))
        access = {kind: [f"{name}_{kind}"] for kind in KINDS}
        (folder / f"{name}.yaml").write_text(yaml.safe_dump({**raw, "access": access, **more}), encoding="utf-8")


@pytest.fixture(scope="session")
def fab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fab]:
    home = tmp_path_factory.mktemp("fab")
    _use_cases(home / "usecases")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LLMOPS_HOME", str(home))
        patch.setenv("LLMOPS_USECASES", str(home / "usecases"))
        for name in ("LLMOPS_STORE", "MLFLOW_TRACKING_URI", "LLMOPS_PSEUDONYM_KEY"):
            patch.delenv(name, raising=False)
        airflow = Fab(home, PEOPLE)
        try:
            airflow.start()
            for number in (1, 2):
                releases.judged(releases.registered(number), reasons=[])
            airflow.wait(airflow.up, 120, "the api-server")
            yield airflow
        finally:
            airflow.stop()


@pytest.fixture(autouse=True)
def _home_of_fab(home: Path, fab: Fab, monkeypatch: pytest.MonkeyPatch) -> None:
    """These tests look at that Airflow's home, not at a private one."""
    monkeypatch.setenv("LLMOPS_HOME", str(fab.home))
    monkeypatch.setenv("LLMOPS_USECASES", str(fab.home / "usecases"))


@pytest.fixture(scope="session")
def runs(fab: Fab) -> dict[str, str]:
    """A question about each candidate, and a run of each use case that waits; by version or DAG."""
    steward, other = fab.people["steward"], fab.people["other"]
    made = {version: steward.trigger("triage.promote", {"version": version}) for version in ("1", "2")}
    made |= {"triage.train": steward.trigger("triage.train"), "reviews.train": other.trigger("reviews.train")}
    for version in ("1", "2"):
        fab.asked("triage.promote", made[version])
    return made


@pytest.fixture(scope="session")
def page(fab: Fab) -> Any:
    """The address of a release's card."""
    key = next((fab.home / "store" / "triage" / "release").iterdir()).name
    return f"{fab.base}/llmops/triage/release/{key}/README.md"
