"""Stand-ins for the programs that documentation calls and that need a server: each checks what it is given.

    python shims.py curl|docker|make ARGUMENT...

`curl` holds a request against Airflow's OpenAPI documents and the DAGs' forms, `docker` against the compose file, `make` against the
Makefile. Whatever does not fit ends with a message and exit code 1.
"""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import yaml

ROOT = Path(__file__).parents[2]
OPENAPI = ("core_api/openapi/v2-rest-api-generated.yaml", "auth/managers/simple/openapi/v2-simple-auth-manager-generated.yaml")  # fmt: skip
ANSWERS = {"/auth/token": {"access_token": "token"}}
COMPOSE = ("up", "down", "ps", "logs", "exec", "run", "build", "config", "pull", "stop", "start", "restart", "cp")
NAMES_A_SERVICE = ("exec", "run", "logs", "restart", "stop", "start", "up", "build", "pull")


def documents() -> list[dict[str, Any]]:
    """Airflow's OpenAPI documents, as it ships them; Airflow itself is not imported."""
    spec = find_spec("airflow")
    assert spec is not None and spec.submodule_search_locations
    folder = Path(next(iter(spec.submodule_search_locations))) / "api_fastapi"
    return [yaml.load((folder / name).read_text(encoding="utf-8"), Loader=yaml.CSafeLoader) for name in OPENAPI]


def operation(method: str, path: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The operation that a request calls, and the document it is in."""
    for document in documents():
        for template, operations in document["paths"].items():
            pattern = "/".join("[^/]+" if part.startswith("{") else re.escape(part) for part in template.split("/"))
            if re.fullmatch(pattern, path) and method.lower() in operations:
                return operations[method.lower()], document
    raise AssertionError(f"Airflow has no {method} {path}")


def curl(*arguments: str) -> str:
    """Check one request; returns a plausible answer."""
    given = _options(list(arguments))
    url = urlsplit(given["url"])
    method = given.get("-X") or ("POST" if "-d" in given else "GET")
    found, document = operation(method, url.path)
    known = {parameter["name"] for parameter in found.get("parameters", [])}
    assert {name for name, _ in parse_qsl(url.query)} <= known, f"{url.query}: known are {sorted(known)}"
    signed = "Authorization: Bearer token" in given["headers"]
    assert signed or url.path == "/auth/token", "the request carries no token"
    body = json.loads(given["-d"]) if "-d" in given else None
    _fits(body, found, document)
    _fits_the_form(url.path, body)
    return json.dumps(ANSWERS.get(url.path, {"hitl_details": []}))


def _options(words: list[str]) -> dict[str, Any]:
    given: dict[str, Any] = {"headers": []}
    while words:
        word = words.pop(0)
        if word == "-H":
            given["headers"].append(words.pop(0))
        elif word in ("-X", "-d"):
            value = words.pop(0)
            given[word] = sys.stdin.read() if value == "@-" else value
        elif not word.startswith("-"):
            given["url"] = word
        else:
            assert word in ("-s", "-f"), f"curl {word} is not known here"
    return given


def _fits(body: Any, found: dict[str, Any], document: dict[str, Any]) -> None:
    import jsonschema

    wanted = found.get("requestBody")
    assert (body is None) == (wanted is None), f"body: {body}"
    if wanted:
        schema = {**wanted["content"]["application/json"]["schema"], "components": document["components"]}
        jsonschema.Draft202012Validator(schema).validate(body)


def _fits_the_form(path: str, body: Any) -> None:
    """Is the DAG one of ours, and what it is given a field of its form?"""
    match = re.match(r"/api/v2/dags/([a-z0-9_]+)\.([a-z_]+)(/dagRuns)?(/|$)", path)
    stage = match[2] if match else (body or {}).get("dag_id", ".").partition(".")[2]
    if not stage:
        return
    file = ROOT / "dags" / f"{stage}.py"
    assert file.is_file(), f"there is no DAG '{stage}'"
    if task := re.search(r"/taskInstances/(\w+)", path):
        assert f'"{task[1]}"' in file.read_text(encoding="utf-8"), f"'{stage}' has no task '{task[1]}'"
    unknown = set((body or {}).get("conf") or {}) - _form(file)
    assert not unknown, f"the form of '{stage}' has no field {sorted(unknown)}"


def _form(file: Path) -> set[str]:
    for node in ast.parse(file.read_text(encoding="utf-8")).body:
        if (
            isinstance(node, ast.Assign)
            and ast.unparse(node.targets[0]) == "PARAMS"
            and isinstance(node.value, ast.Dict)
        ):
            return {key.value for key in node.value.keys if isinstance(key, ast.Constant)}  # type: ignore[misc]
    return set()


def docker(*arguments: str) -> str:
    """Check a command of Compose."""
    assert arguments[0] == "compose" and arguments[1] in COMPOSE, f"docker {' '.join(arguments)}"
    services = yaml.safe_load((ROOT / "docker-compose.yaml").read_text(encoding="utf-8"))["services"]
    words = [word for word in arguments[2:] if not word.startswith("-")]
    if arguments[1] in NAMES_A_SERVICE and words:
        assert words[0] in services, f"no service '{words[0]}'; there are {sorted(services)}"
    return ""


def make(*arguments: str) -> str:
    """Does make know what to do? It is asked, and does nothing."""
    asked = subprocess.run(["make", "-n", "-C", str(ROOT), *arguments], capture_output=True, text=True, env=_outside())
    assert asked.returncode == 0, asked.stderr
    return "token" if "token" in arguments else ""


def _outside() -> dict[str, str]:
    """The search path without the stand-ins."""
    here = os.environ.get("SHIMS", "")
    paths = [path for path in os.environ["PATH"].split(os.pathsep) if path != here]
    return os.environ | {"PATH": os.pathsep.join(paths)}


def install(folder: Path, python: str) -> Path:
    """Write the stand-ins, `llmops` and `python` into a folder for the search path."""
    folder.mkdir()
    commands = {name: f"{sys.executable} {__file__} {name}" for name in CHECKED}
    commands |= {"llmops": f"{python} -m llmops_tasks", "python": python}
    for name, command in commands.items():
        (folder / name).write_text(f'#!/bin/sh\nexec {command} "$@"\n', encoding="utf-8")
        (folder / name).chmod(0o755)
    return folder


CHECKED = {"curl": curl, "docker": docker, "make": make}

if __name__ == "__main__":
    try:
        sys.stdout.write(CHECKED[sys.argv[1]](*sys.argv[2:]) + "\n")
    except AssertionError as exc:
        sys.exit(f"{' '.join(sys.argv[1:])}: {exc}")
