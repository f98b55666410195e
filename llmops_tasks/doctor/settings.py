"""Keys and use cases. No key is shown."""

from __future__ import annotations

import base64
import os
from collections.abc import Iterator

from llmops_tasks import config
from llmops_tasks.doctor.findings import Finding, home, ok, problem, version, warning
from llmops_tasks.errors import ConfigError

SECRETS = ("AIRFLOW__CORE__FERNET_KEY", "AIRFLOW__API_AUTH__JWT_SECRET", "AIRFLOW__API__SECRET_KEY")


def pseudonym_key() -> Iterator[Finding]:
    """Is there one key for pseudonyms, for its owner only, and the same for all who share the store?"""
    file = home() / "keys" / "pseudonym.key"
    shared = os.environ.get("LLMOPS_STORE", "").startswith("s3://")
    if os.environ.get("LLMOPS_PSEUDONYM_KEY"):
        yield ok("pseudonym key", "LLMOPS_PSEUDONYM_KEY is set")
    elif shared and not file.is_file():
        fix = "Set LLMOPS_PSEUDONYM_KEY to the same value on every machine; 'make init' makes one for compose."
        yield problem("pseudonym key", "the store is shared and no key is given: prepare_data refuses to run", fix)
    elif file.is_file() and file.stat().st_mode & 0o077:
        yield problem("pseudonym key", f"other users can read {file}", f"Run: chmod 600 {file}")
    elif shared:
        fix = "Unless it is the same file on every machine, set LLMOPS_PSEUDONYM_KEY on all of them to its content."
        yield warning("pseudonym key", f"the store is shared, but the key is local to this machine: {file}", fix)
    else:
        yield ok("pseudonym key", str(file) if file.is_file() else "none yet: generated when first needed")


def airflow_keys() -> Iterator[Finding]:
    """Do Airflow's parts share their secrets, where they are more than one machine's?"""
    database = os.environ.get("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", "sqlite:")
    missing = [name for name in SECRETS if not any(os.environ.get(name + end) for end in ("", "_CMD", "_SECRET"))]
    if database.startswith("sqlite:"):
        yield ok("airflow keys", "SQLite: Airflow on one machine generates its own")
    elif missing:
        fix = "Run 'make init', and give all parts of Airflow the same .env."
        yield problem("airflow keys", f"not set: {', '.join(missing)}", fix)
    elif not _is_fernet(os.environ.get(SECRETS[0])):
        yield problem(
            "airflow keys", f"{SECRETS[0]} is not a Fernet key", "Use 32 bytes in URL-safe base64: run 'make init'."
        )
    else:
        yield ok("airflow keys", "all are set")


def _is_fernet(keys: str | None) -> bool:
    """Whether every key has its 32 bytes; one that a command or a backend gives cannot be seen from here."""
    try:
        return keys is None or all(len(base64.urlsafe_b64decode(key)) == 32 for key in keys.split(","))
    except ValueError:
        return False


def usecases(usecase: str | None) -> Iterator[Finding]:
    """Is each use case's file, and its policy, without mistakes?"""
    names = [usecase] if usecase else config.usecase_names()
    if not names:
        yield problem("use cases", f"none in {config.usecase_folder()}", "Set LLMOPS_USECASES to their folder.")
    for name in names:
        yield _usecase(name, f"use case {name if usecase is None else config.usecase_name(name)}")


def _usecase(name: str, check: str) -> Finding:
    try:
        case = config.load(name)
        config.policy(name)
    except ConfigError as exc:
        return problem(check, str(exc), "Fix the file; include/usecases/schema.json explains every key.")
    if case.inference.precision == "int8" and not version("openvino"):
        fix = "Run 'pip install -r requirements-int8.txt -c constraints.txt' wherever its tasks run."
        return problem(check, "inference.precision: int8 needs OpenVINO, which is not installed here", fix)
    return ok(check, str(config.usecase_path(name)))
