"""Runs docker-compose.yaml without Docker, in plain processes on loopback, and looks whether it is what it says.

    make compose-check                                      # wants PostgreSQL: apt-get install postgresql
    make compose-check AIRFLOW_PATH=/airflow                # the same behind a path

Each service has its own command, environment and health check; hosts, folders and ports are replaced (`composed`).
Everything is made in a temporary folder and ended by process group. What it cannot see: the image and its entrypoint,
volumes, users, limits, and containers' networks.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import init_env
from api import Api
from composed import ROOT, Machine, read
from postgres import Postgres

SERVERS = ("airflow-apiserver", "mlflow", "airflow-scheduler", "airflow-dag-processor", "airflow-triggerer")
USECASE = "triage"
PUBLISH = """
import json
from llmops_tasks.store import artifacts
def build(out):
    (out / "README.md").write_text("# A card")
    (out / "records.parquet").write_text("rows")
    return {"rows": 1}
print(json.dumps(artifacts.publish(usecase="triage", kind="dataset", inputs={"check": 1}, build=build)))
"""


class Checks:
    """What is looked at, in turn; each line says what was seen."""

    def __init__(self) -> None:
        self.failed = 0

    def see(self, what: str, seen: Any, wanted: Any) -> None:
        """One line."""
        good = seen == wanted
        self.failed += not good
        print(f"{'ok    ' if good else 'FAILED'} {what}: {seen}{'' if good else f', wanted {wanted}'}", flush=True)


def status(url: str, token: str = "", host: str = "") -> int:
    """The code that an address answers with."""
    headers = ({"Authorization": f"Bearer {token}"} if token else {}) | ({"Host": host} if host else {})
    try:
        with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=30) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as exc:
        return exc.code


def secrets(folder: Path) -> dict[str, str]:
    """A fresh .env, as `make init` writes it."""
    text, _ = init_env.with_missing_keys("")
    init_env.write_private(folder / ".env", text)
    return dict(line.split("=", 1) for line in text.splitlines())


def databases(server: Postgres, env: dict[str, str], checks: Checks) -> None:
    """Make them as PostgreSQL's image does at its first start, and see who may do what."""
    script = read(env)["configs"]["create-databases"]["content"]
    own = {name: env[name] for name in ("AIRFLOW_DB_PASSWORD", "MLFLOW_DB_PASSWORD")}
    done = server.sql(script, "postgres", env["POSTGRES_PASSWORD"], "postgres", **own)
    checks.see("databases are made", done.stderr, "")
    for role, other in (("airflow", "mlflow"), ("mlflow", "airflow")):
        password = env[f"{role.upper()}_DB_PASSWORD"]
        rights = "SELECT rolsuper, rolcreaterole, rolcreatedb FROM pg_roles WHERE rolname = current_user"
        checks.see(f"rights of {role}", server.sql(rights, role, password, role).stdout.strip(), "f|f|f")
        refused = "permission denied" in server.sql("SELECT 1", role, password, other).stderr
        checks.see(f"{role} is kept out of {other}'s database", refused, True)


def accounts(base: str, env: dict[str, str], checks: Checks) -> dict[str, Api]:
    """Sign in as everybody; see what a viewer may not and an approver may."""
    users = {name: Api(base, name, env[f"AIRFLOW_{name.upper()}_PASSWORD"]) for name in ("admin", "approver", "viewer")}
    for name, api in users.items():
        checks.see(f"{name} signs in and reads DAGs", code(lambda api=api: api.call("GET", "/dags?limit=1")), 200)
        checks.see(f"{name} sees approvals", code(lambda api=api: api.approvals()), 200)
    wrong = Api(base, "admin", "wrong")
    checks.see("a wrong password", code(lambda: wrong.call("GET", "/dags")), 401)
    checks.see("a viewer starts a run", code(lambda: users["viewer"].trigger(f"{USECASE}.reconcile")), 403)
    checks.see("a viewer reads connections", code(lambda: users["viewer"].call("GET", "/connections")), 403)
    checks.see("an approver reads connections", code(lambda: users["approver"].call("GET", "/connections")), 403)
    return users


def code(call: Callable[[], Any]) -> int:
    """200, or the code of the refusal."""
    try:
        call()
    except urllib.error.HTTPError as exc:
        return exc.code
    return 200


def parsed(api: Api, checks: Checks) -> None:
    """Wait until the DAGs are there."""
    end = time.monotonic() + 300
    while f"{USECASE}.reconcile" not in api.dags() and time.monotonic() < end:
        time.sleep(3)
    checks.see("DAG files with errors", api.import_errors(), [])


def one_run(api: Api, checks: Checks) -> None:
    """A light DAG, from the request to success."""
    dag = f"{USECASE}.reconcile"
    run, end, state = api.trigger(dag), time.monotonic() + 300, "queued"
    while state not in ("success", "failed") and time.monotonic() < end:
        time.sleep(3)
        state = next(found["state"] for found in api.runs(dag) if found["dag_run_id"] == run)
    checks.see(f"a run of {dag}", state, "success")
    pools = {pool["name"] for pool in api.call("GET", "/pools")["pools"]}
    checks.see("the pool of models is there", "compute" in pools, True)


def inside(machine: Machine, code: str) -> str:
    """What Python says with the scheduler's environment, where tasks run."""
    env = machine.environment("airflow-scheduler")
    env["PYTHONPATH"] += f":{ROOT / 'plugins'}"
    done = subprocess.run([sys.executable, "-c", code], env=env, check=True, capture_output=True, text=True)
    return done.stdout.strip().splitlines()[-1]


def pages(machine: Machine, users: dict[str, Api], checks: Checks) -> None:
    """The button's address, as a task works it out, leads to the page; for those who are signed in."""
    ref = json.loads(inside(machine, PUBLISH))
    link = inside(machine, f"import llmops_links; print(llmops_links.page({ref!r}, 'README.md'))")
    base = urllib.parse.urlsplit(users["viewer"].base)
    page = f"{base.scheme}://{base.netloc}{link}"
    print(f"       a page's address: {link.replace(ref['uri'].rsplit('/', 1)[1], '<key>')}")
    for name, api in users.items():
        checks.see(f"{name} opens the page", status(page, api._token), 200)
    checks.see("somebody opens the page", status(page) in (401, 403), True)
    checks.see(
        "its records are asked for", status(page.replace("README.md", "records.parquet"), users["admin"]._token), 404
    )


def mlflow(machine: Machine, server: Postgres, env: dict[str, str], checks: Checks) -> None:
    """It answers where tasks and browsers look for it, and keeps what it is told in its own database."""
    settings = machine.environment("airflow-scheduler")
    checks.see("MLflow opens where its button leads", status(settings["LLMOPS_MLFLOW_UI"]), 200)
    link = "import os; os.environ.pop('X', 0); from llmops_links import MLflowRun as M\n"
    link += "class T:\n task_id = 't'\n def xcom_pull(self, **_): return {'run_id': 'r1'}\nprint(M().get_link(None, ti_key=T()))"
    checks.see("the button leads there", inside(machine, link).startswith(settings["LLMOPS_MLFLOW_UI"] + "/#/"), True)
    checks.see("MLflow refuses another host name", status(settings["LLMOPS_MLFLOW_UI"], host="evil.example:5000"), 403)
    inside(machine, "import mlflow; print(mlflow.create_experiment('compose-check'))")
    count = "SELECT count(*) FROM experiments WHERE name = 'compose-check'"
    kept = server.sql(count, "mlflow", env["MLFLOW_DB_PASSWORD"], "mlflow").stdout.strip()
    checks.see("an experiment is in MLflow's own database", kept, "1")
    given = " ".join(machine.environment("mlflow").values())
    known = [name for name, value in env.items() if name not in ("AIRFLOW_UID", "COMPOSE_PROFILES") and value in given]
    checks.see("secrets that MLflow is given", known, ["MLFLOW_DB_PASSWORD"])


def check(folder: Path, path: str) -> int:
    """All of it; the number of checks that failed."""
    checks, env = Checks(), secrets(folder)
    machine = Machine(folder, {**env, "AIRFLOW_PATH": path})
    server = Postgres(folder / "postgres", int(machine.ports["5432"]), env["POSTGRES_PASSWORD"])
    try:
        databases(server, env, checks)
        machine.run("airflow-init")
        machine.run("airflow-init")  # as at every `up`
        checks.see("airflow-init ran twice", True, True)
        for name in SERVERS:
            machine.start(name)
        for name in SERVERS:
            machine.healthy(name)
            checks.see(f"{name} is healthy", True, True)
        base = machine.environment("airflow-apiserver")["AIRFLOW__API__BASE_URL"].rstrip("/")
        checks.see("Airflow's first page", status(f"{base}/"), 200)
        users = accounts(base, env, checks)
        parsed(users["admin"], checks)
        one_run(users["admin"], checks)
        pages(machine, users, checks)
        mlflow(machine, server, env, checks)
    finally:
        machine.down()
        server.stop()
    return checks.failed


def main() -> int:
    """Run the check; 1 if anything is not as it should be."""
    parser = argparse.ArgumentParser(description="Run docker-compose.yaml in plain processes and look at it.")
    parser.add_argument("--path", default="", help="AIRFLOW_PATH, for instance /airflow")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="llmops-compose-") as folder:
        Path(folder).chmod(0o711)  # PostgreSQL has a user of its own, and must get through
        failed = check(Path(folder), given.path)
    print(f"{failed or 'no'} check(s) failed")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
