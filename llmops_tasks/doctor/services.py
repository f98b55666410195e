"""Of the services: store, MLflow, Airflow and its pool."""

from __future__ import annotations

import json
import os
import secrets
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from http.client import HTTPException
from typing import Any

from llmops_tasks import tracking
from llmops_tasks.doctor.findings import Finding, home, ok, problem, stack, unknown, warning
from llmops_tasks.errors import ConflictError, InputError, IntegrityError, StorageError
from llmops_tasks.store import objects

ANSWER = 5.0  # seconds that a service has
PASSWORDS = "simple_auth_manager_passwords.json.generated"
_SILENT = (OSError, ValueError, HTTPException)  # no answer, or not Airflow's
_PARTS = ("metadatabase", "scheduler", "dag_processor")


def store() -> Iterator[Finding]:
    """Can the store be written and read, and does it refuse to write an address twice?"""
    try:
        uri = objects.store_uri()
        _probe(f"{uri}/doctor-{secrets.token_hex(6)}")
        yield ok("store", f"{uri}: written, read, not overwritten, removed")
    except (StorageError, InputError) as exc:
        shared = os.environ.get("LLMOPS_STORE", "").startswith("s3://")
        where = "the AWS_* variables and the bucket's policy" if shared else "LLMOPS_STORE and LLMOPS_HOME"
        yield problem("store", str(exc), f"Check {where}.")


def _probe(folder: str) -> None:
    """Exercise the operations that publishing relies on, at an unused address."""
    uri = f"{folder}/probe"
    objects.create(uri, b"first")
    try:
        if objects.read_bytes(uri) != b"first":
            raise IntegrityError(f"'{uri}' returns other bytes than were written. Do not use this store.")
        if _overwrites(uri):
            raise IntegrityError(f"'{uri}' was overwritten despite 'If-None-Match: *'. A ledger is not safe there.")
    finally:
        objects.remove_folder(folder)


def _overwrites(uri: str) -> bool:
    try:
        objects.create(uri, b"second")
    except ConflictError:
        return False
    return True


def mlflow() -> Iterator[Finding]:
    """Does MLflow answer?"""
    where = tracking.tracking_uri().rpartition("@")[2]  # without name and password
    if not tracking.exists():
        fix = "Nothing: the first run makes it. Or: llmops tracking initialize"
        yield warning("mlflow", f"{where}: no database yet", fix)
    elif tracking.attempt("doctor", lambda api: [api.search_experiments(max_results=1)]) is None:
        fix = "Start it ('make up'), or check MLFLOW_TRACKING_URI."
        yield problem("mlflow", f"{where} is unreachable, or refuses", fix)
    else:
        yield ok("mlflow", f"{where} answers")


def airflow() -> Iterator[Finding]:
    """Does Airflow answer, are its parts alive, and is the pool for models there?"""
    if not (address := _airflow()).startswith(("http://", "https://")):
        fix = "Start it ('make up'), or set AIRFLOW__API__BASE_URL to its address."
        yield unknown("airflow", "no address is known", fix)
        return
    try:
        health = _asked(f"{address}/api/v2/monitor/health")
    except _SILENT as exc:
        yield problem("airflow", f"{address} does not answer ({type(exc).__name__})", "Start it: 'make up'.")
        return
    if ill := [part for part in _PARTS if (health.get(part) or {}).get("status") != "healthy"]:
        fix = "Check their logs and restart them."
        yield problem("airflow", f"{address}: not healthy: {', '.join(ill)}", fix)
    else:
        yield ok("airflow", f"{address} is healthy")
    yield _pool(address)


def _airflow() -> str:
    """Airflow's address: as it is set, as workers know it, or where `make up` started it; without name and password."""
    workers = os.environ.get("AIRFLOW__CORE__EXECUTION_API_SERVER_URL", "").rstrip("/").removesuffix("/execution")
    address = os.environ.get("AIRFLOW__API__BASE_URL") or workers or str(stack().get("airflow", ""))
    parts = urllib.parse.urlsplit(address.rstrip("/"))
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def _pool(address: str) -> Finding:
    if not (login := _login(address)):
        fix = "Set LLMOPS_AIRFLOW_USER and LLMOPS_AIRFLOW_PASSWORD, or run 'airflow pools get compute'."
        return unknown("pool", "no credentials for Airflow's API", fix)
    try:
        token = _asked(f"{address}/auth/token", login)["access_token"]
        found = _asked(f"{address}/api/v2/pools/compute", token=token)
    except urllib.error.HTTPError as exc:
        if exc.code == 404 and "/pools/" in str(exc.url):
            fix = "Run: airflow pools set compute 1 'Tasks that load a model'"
            return problem("pool", "there is no pool 'compute'", fix)
        return unknown("pool", f"Airflow answers {exc.code}", "Check the user's name, password and role.")
    except (*_SILENT, KeyError) as exc:
        return unknown("pool", f"Airflow does not answer ({type(exc).__name__})", "Try again.")
    return ok("pool", f"'compute' has {found.get('slots')} slot(s)")


def _login(address: str) -> dict[str, str]:
    """Who asks: as the environment says; the password that `make up` wrote goes to what it started alone."""
    user, password = (os.environ.get(f"LLMOPS_AIRFLOW_{word}", "") for word in ("USER", "PASSWORD"))
    file = home() / "airflow" / PASSWORDS
    if not user and address == stack().get("airflow") and file.is_file():
        user, password = "admin", str(json.loads(file.read_text(encoding="utf-8")).get("admin", ""))
    return {"username": user, "password": password} if user and password else {}


def _asked(url: str, body: dict[str, str] | None = None, token: str = "") -> dict[str, Any]:
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
    data = json.dumps(body).encode() if body else None
    request = urllib.request.Request(url, data, headers)  # noqa: S310  (http by the check above)
    with urllib.request.urlopen(request, timeout=ANSWER) as answer:  # noqa: S310
        found = json.load(answer)
    if not isinstance(found, dict):
        raise ValueError("no JSON object")
    return found
