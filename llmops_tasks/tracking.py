"""What is written to MLflow: one run per piece of work, found again by its key, and the prompt registry.

No record text, no identifier, no secret goes there. The run of an interrupted piece of work is continued.

MLflow never decides and never stops a run. What cannot be written is retried briefly, then stored
in `<home>/tracking_pending/` and written later, in order, before anything else.
"""

from __future__ import annotations

import json
import logging
import os
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from llmops_tasks.store import files, outbox

log = logging.getLogger(__name__)
TRIES = 2
PAUSE = 0.2  # seconds between two tries
REST = 30.0  # seconds for which MLflow is left alone after it could not be reached
PROBE = 0.7  # seconds in which a server says that it is there
_OUTBOX = "tracking_pending"
_KEY = "llmops.key"  # tag of a run
_WRONG = ("INVALID_PARAMETER_VALUE", "BAD_REQUEST", "RESOURCE_DOES_NOT_EXIST", "RESOURCE_ALREADY_EXISTS")
_LATER = "pending"  # a run that MLflow has not heard of yet: "pending:<usecase>:<key>"
_Result = TypeVar("_Result")
_resting: dict[str, float] = {}  # by tracking URI, until when


def tracking_uri() -> str:
    """`MLFLOW_TRACKING_URI`, default SQLite under `LLMOPS_HOME`."""
    return os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{files.home() / 'mlflow.db'}"


def client() -> Any:
    """An MLflow client; telemetry is off."""
    for name, value in {
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1",  # its own seven, with pauses that double, take minutes
        "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    }.items():
        os.environ.setdefault(name, value)
    logging.getLogger("alembic").setLevel(logging.WARNING)
    files.home()  # its database and files are for their owner only
    import mlflow

    mlflow.set_tracking_uri(tracking_uri())  # the prompt registry reads the global one
    return mlflow.MlflowClient(tracking_uri())


def initialize() -> dict[str, str]:
    """Create or upgrade MLflow's database, before tasks use it in parallel.

    Example:
        >>> initialize()
    """
    uri = tracking_uri()
    client().search_experiments(max_results=1)
    return {"tracking_uri": uri.split("@")[-1]}  # without credentials


def exists() -> bool:
    """Whether MLflow is configured: a server, or an existing database."""
    uri = tracking_uri()
    return not uri.startswith("sqlite:///") or Path(uri.removeprefix("sqlite:///")).is_file()


# ---------------------------------------------------------------- unreachable


def attempt(what: str, do: Callable[[Any], _Result]) -> _Result | None:
    """What `do` gets from MLflow's client; None if MLflow is unreachable or refuses, which the log says."""
    try:
        return _reached(do)
    except _errors() as exc:
        log.warning("MLflow, %s: %s (%s)", what, _reason(exc), "refused" if _is_refusal(exc) else "unreachable")
        return None


def _reached(do: Callable[[Any], _Result]) -> _Result:
    """The result at one of a few attempts; who did not answer is left alone for a while."""
    uri = tracking_uri()
    if time.monotonic() < _resting.get(uri, 0.0):
        raise ConnectionError("it was unreachable a moment ago")
    for left in reversed(range(TRIES)):
        try:
            _probe(uri)
            return do(client())
        except _errors() as exc:
            if _is_refusal(exc):
                raise
            if not left:
                _resting[uri] = time.monotonic() + REST
                raise
            time.sleep(PAUSE)
    raise ConnectionError("it was not tried")


def _probe(uri: str) -> None:
    """Ask a server whether it is there: in a second, where MLflow's own client would wait for minutes."""
    if not uri.startswith("http"):
        return
    parts = urllib.parse.urlsplit(uri)
    # without name and password, which urllib would take for a part of the host and ask the network for
    address = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()
    try:
        with urllib.request.urlopen(f"{address.rstrip('/')}/health", timeout=PROBE):  # noqa: S310  (http by the check above)
            return
    except urllib.error.HTTPError as exc:
        if exc.code >= 500:
            raise


def _errors() -> tuple[type[Exception], ...]:
    """What MLflow, its HTTP client and its database raise; requests' errors are OSErrors."""
    from http.client import HTTPException

    from alembic.util.exc import CommandError
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    return MlflowException, SQLAlchemyError, CommandError, HTTPException, OSError


def _is_refusal(exc: Exception) -> bool:
    return getattr(exc, "error_code", None) in _WRONG


def _reason(exc: Exception) -> str:
    """The kind of an error; its text could hold an address with credentials."""
    return str(getattr(exc, "error_code", None) or type(exc).__name__)


# ---------------------------------------------------------------- what is written


def send(message: dict[str, Any]) -> Any:
    """Write something to MLflow now, after all that waits, or keep it for later.

    Args:
        message: `what` (one of _WRITERS), and its arguments, all of which JSON can hold.

    Returns:
        What the writer returns; None if it is kept, or was refused, which the log says.
    """
    if not outbox.is_empty(_OUTBOX) and not outbox.tell(_OUTBOX, lambda kept: _write(kept)[0]):
        outbox.keep(_OUTBOX, message)
        return None
    done, result = _write(message)
    if not done:
        outbox.keep(_OUTBOX, message)
    return result


def _write(message: dict[str, Any]) -> tuple[bool, Any]:
    """Whether nothing more is to be done about a message, and what came of it."""
    arguments = {name: value for name, value in message.items() if name != "what"}
    try:
        return True, _reached(lambda api: _WRITERS[message["what"]](api, **arguments))
    except _errors() as exc:
        if _is_refusal(exc):
            log.error("MLflow refuses %s (%s): not written", message["what"], _reason(exc))
            return True, None
        log.warning("MLflow is unreachable (%s): %s is stored for later", _reason(exc), message["what"])
        return False, None


def _experiment(api: Any, usecase: str) -> str:
    found = api.get_experiment_by_name(usecase)
    if found:
        return str(found.experiment_id)
    root = None if tracking_uri().startswith("http") else (files.home() / "mlartifacts" / usecase).as_uri()
    return str(api.create_experiment(usecase, artifact_location=root))


def find_run(api: Any, usecase: str, key: str) -> Any:
    """The run of a piece of work, or None."""
    found = api.search_runs([_experiment(api, usecase)], f"tags.`{_KEY}` = '{key}'", max_results=1)
    return found[0] if found else None


def _start(api: Any, usecase: str, key: str, name: str) -> str:
    run = find_run(api, usecase, key)
    if run is None:
        run = api.create_run(_experiment(api, usecase), run_name=name, tags={_KEY: key})
    else:
        api.update_run(run.info.run_id, status="RUNNING")
    return str(run.info.run_id)


def _id(api: Any, run: str) -> str:
    """A run's id in MLflow, also where the run was begun while MLflow was unreachable."""
    state, _, rest = run.partition(":")
    if state != _LATER:
        return run
    usecase, _, key = rest.partition(":")
    found = find_run(api, usecase, key)
    return str(found.info.run_id) if found else _start(api, usecase, key, key[:8])


def _metrics(api: Any, run: str, values: dict[str, float], step: int, time: int) -> None:
    from mlflow.entities import Metric

    api.log_batch(_id(api, run), metrics=[Metric(name, value, time, step) for name, value in values.items()])


def _params(api: Any, run: str, values: dict[str, str]) -> None:
    from mlflow.entities import Param

    known = api.get_run(run := _id(api, run)).data.params
    api.log_batch(run, params=[Param(name, value) for name, value in values.items() if name not in known])


def _tags(api: Any, run: str, values: dict[str, str]) -> None:
    run = _id(api, run)
    for name, value in values.items():
        api.set_tag(run, name, value)


def _dataset(api: Any, run: str, name: str, sha256: str, uri: str, context: str) -> None:
    from mlflow.entities import Dataset, DatasetInput, InputTag

    entry = Dataset(name=name, digest=sha256[:36], source_type="llmops", source=uri)
    api.log_inputs(_id(api, run), [DatasetInput(entry, [InputTag("mlflow.data.context", context)])])


def _texts(api: Any, run: str, texts: dict[str, str]) -> None:
    run = _id(api, run)
    for path, text in texts.items():
        api.log_text(run, text, path)


def _end(api: Any, run: str, status: str) -> None:
    api.set_terminated(_id(api, run), status=status)


def _prompt(api: Any, name: str, template: str, sha256: str) -> str:
    from mlflow import genai

    newest = genai.load_prompt(f"prompts:/{name}@latest", allow_missing=True)
    if newest is None or newest.tags.get("sha256") != sha256:
        newest = genai.register_prompt(name=name, template=template, tags={"sha256": sha256})
    return str(newest.version)


_WRITERS: dict[str, Callable[..., Any]] = {
    "start": _start,
    "metrics": _metrics,
    "params": _params,
    "tags": _tags,
    "dataset": _dataset,
    "texts": _texts,
    "end": _end,
    "prompt": _prompt,
}


# ---------------------------------------------------------------- runs


class Run:
    """An open MLflow run."""

    def __init__(self, run_id: str) -> None:
        self.id = run_id

    def metrics(self, values: dict[str, float], step: int = 0) -> None:
        """Log figures at a step."""
        figures, now = {name: float(value) for name, value in values.items()}, time.time_ns() // 1_000_000
        send({"what": "metrics", "run": self.id, "values": figures, "step": step, "time": now})

    def params(self, values: dict[str, Any]) -> None:
        """Log parameters; those of a continued run are there already."""
        send({"what": "params", "run": self.id, "values": {name: str(value) for name, value in values.items()}})

    def tags(self, values: dict[str, str]) -> None:
        """Set tags."""
        send({"what": "tags", "run": self.id, "values": values})

    def dataset(self, *, name: str, sha256: str, uri: str, context: str) -> None:
        """Name a dataset version as an input of the run; MLflow shows 36 characters of the digest."""
        send({"what": "dataset", "run": self.id, "name": name, "sha256": sha256, "uri": uri, "context": context})

    def json(self, name: str, content: Any) -> None:
        """Keep a JSON document with the run."""
        send({"what": "texts", "run": self.id, "texts": {name: json.dumps(content, indent=2, sort_keys=True)}})

    def files(self, folder: Path, to: str) -> None:
        """Keep a folder of small text files with the run."""
        paths = [path for path in sorted(folder.rglob("*")) if path.is_file()]
        texts = {f"{to}/{path.relative_to(folder)}": path.read_text(encoding="utf-8") for path in paths}
        send({"what": "texts", "run": self.id, "texts": texts})


@contextmanager
def run(*, usecase: str, name: str, key: str) -> Iterator[Run]:
    """Open the run with this key, new or continued; it ends FINISHED, or FAILED if an error passes through.

    Args:
        usecase: the experiment.
        name: of the run, for people.
        key: what identifies the work; a retry continues the same run.
    """
    begun = send({"what": "start", "usecase": usecase, "key": key, "name": name})
    opened = Run(begun or f"{_LATER}:{usecase}:{key}")
    status = "FAILED"
    try:
        yield opened
        status = "FINISHED"
    finally:
        send({"what": "end", "run": opened.id, "status": status})


def register_prompt(*, name: str, template: str, sha256: str) -> dict[str, Any]:
    """Register a prompt unless its newest version is the same; its version is None while MLflow is unreachable."""
    version = send({"what": "prompt", "name": name, "template": template, "sha256": sha256})
    return {"name": name, "version": version, "sha256": sha256}
