"""A run that fails tells nobody's secrets, in the rooms beyond the data: not in its error, its log, or what it leaves (T30).

`tests/unit/data/test_failing_runs.py` is the same for the data room.
"""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from llmops_tasks import tracking
from llmops_tasks.contracts import ArtifactRef
from llmops_tasks.errors import LLMOpsError
from llmops_tasks.evaluation import evaluate
from llmops_tasks.monitoring import measure_drift
from llmops_tasks.release import package_release, promote, record_approval, register_release
from llmops_tasks.serving import predict_batch
from llmops_tasks.training import collect_corrections, finetune
from tests.support import planted, tiny

Run = Callable[[], Any]
Check = Callable[[Run], BaseException]


@pytest.fixture
def silent(
    home: Path,
    mlflow: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> Check:
    """Run something that fails, with secrets around, and look everywhere."""
    for name, secret in planted.SECRETS.items():
        monkeypatch.setenv(name, secret)

    def check(run: Run) -> BaseException:
        error, leaks = planted.failed(run, home, caplog, capfd)
        assert leaks == {}
        return error

    return check


class Given:
    """Verbs with their arguments, over records with planted words, ready to be called."""

    def __init__(self, world: Any, trained: ArtifactRef, released: ArtifactRef, folder: Path) -> None:
        self.world, self.trained, self.released, self.folder = world, trained, released, folder
        self.about = {"usecase": world.usecase}

    def finetune(self, dataset: ArtifactRef, **settings: Any) -> Run:
        model = Path(self.world.base["uri"].removeprefix("file://"))
        path = tiny.usecase(self.folder, model, "file:///none/*.csv", finetune=settings)
        return partial(finetune, usecase=str(path), dataset=dataset, start=self.world.base)

    def collect(self, dataset: ArtifactRef) -> Run:
        return partial(collect_corrections, **self.about, dataset=dataset, start=self.world.base)

    def evaluate(self, dataset: ArtifactRef, subject: str = "candidate", model: ArtifactRef | None = None) -> Run:
        chosen = (model or self.released) if subject == "candidate" else None
        return partial(evaluate, **self.about, dataset=dataset, subject=subject, model=chosen, asked_as=self.released)

    def answer(self, day: ArtifactRef, **champion: Any) -> Run:
        serving = {"version": "1", "release": self.released, "seq": 1, **champion}
        return partial(predict_batch, **self.about, day=day, champion=serving)

    def drift(self, day: ArtifactRef, answers: ArtifactRef | None = None) -> Run:
        answers = answers or planted.predictions(200)
        reference = {"predictions": planted.predictions(200), "n": 200}
        champion = {"release": self.released, "dataset": planted.dataset(200, **_vitals()), "report": reference}
        given = {"predictions": {"sha256": answers["sha256"], "parts": [answers]}, "champion": champion}
        return partial(measure_drift, **self.about, day=day, **given)

    def package(self, **changed: ArtifactRef) -> Run:
        given = {"trained": self.trained, "base": self.world.base, "dataset": planted.dataset(), **changed}
        return partial(package_release, **self.about, **given)

    def promote(self) -> Run:
        return partial(promote, **self.about, version="9")

    def approve(self) -> Run:
        response = {
            "chosen_options": ["Approve"],
            "responded_by_user": {"name": planted.PATIENT},
            "params_input": planted.NOTE,
        }
        return partial(record_approval, **self.about, version="9", verdict_sha256=planted.NOTE, response=response)


@pytest.fixture
def given(world: Any, trained: ArtifactRef, released: ArtifactRef, tmp_path: Path) -> Given:
    return Given(world, trained, released, tmp_path / "usecases")


def _vitals(**columns: Callable[[int], Any]) -> dict[str, Callable[[int], Any]]:
    """The watched columns."""
    names = tiny.yaml.safe_load(tiny.TRIAGE.read_text(encoding="utf-8"))["monitoring"]["columns"]
    plain: dict[str, Callable[[int], Any]] = {name: lambda n: float(n % 50) for name in names}
    return {**plain, **columns}


def _words(number: int) -> str:
    return f"{planted.NOTE} {number}"


def _nothing(number: int) -> None:
    return None


def _listed(number: int) -> list[str]:
    return [_words(number)]


make, torn = planted, planted.torn
Failing = dict[str, Callable[[Given], Run]]
TRAINING: Failing = {
    "an answer without tokens": lambda given: given.finetune(make.dataset(completion=lambda n: "")),
    "an answer that is none": lambda given: given.finetune(make.dataset(completion=_nothing)),
    "no record to train on": lambda given: given.finetune(make.dataset(split=lambda n: "test")),
    "a text of another template": lambda given: given.finetune(make.dataset(like="reviews")),
    "a run over its budget": lambda given: given.finetune(make.dataset(), budget={"memory_gib": 0.1}),
    "a torn dataset": lambda given: given.finetune(torn(make.dataset(), "data.parquet")),
    "corrections of a torn dataset": lambda given: given.collect(torn(make.dataset(), "data.parquet")),
}
EVALUATION: Failing = {
    "an empty split": lambda given: given.evaluate(make.dataset(split=lambda n: "train")),
    "labels of another scale": lambda given: given.evaluate(make.dataset(label=lambda n: f"level {n}")),
    "a torn dataset": lambda given: given.evaluate(torn(make.dataset(), "data.parquet")),
    "torn weights": lambda given: given.evaluate(make.dataset(), model=torn(given.released, "model.safetensors")),
    "a note that is a list": lambda given: given.evaluate(make.dataset(text=_listed), "tfidf"),
    "one label only": lambda given: given.evaluate(make.dataset(label=lambda n: "urgent"), "tfidf"),
}
SERVING: Failing = {
    "a torn day": lambda given: given.answer(torn(make.day(), "data.parquet")),
    "torn weights": lambda given: given.answer(make.day(), release=torn(given.released, "model.safetensors")),
    "nobody promoted": lambda given: given.answer(make.day(), version=None),
}
MONITORING: Failing = {
    "a torn day": lambda given: given.drift(torn(make.day(200, **_vitals()), "data.parquet")),
    "words where numbers were": lambda given: given.drift(make.day(200, **_vitals(age=_words))),
    "a column that is gone": lambda given: given.drift(make.day(200)),
    "notes that are lists": lambda given: given.drift(make.day(200, **_vitals(text=_listed))),
    "a record answered twice": lambda given: given.drift(
        make.day(200, **_vitals()), make.predictions(200, record_id=lambda n: f"{planted.RECORD}{n // 2}")
    ),
    "torn answers": lambda given: given.drift(
        make.day(200, **_vitals()), torn(make.predictions(200), "predictions.parquet")
    ),
}
RELEASE: Failing = {
    "a torn adapter": lambda given: given.package(trained=torn(given.trained, "adapter_model.safetensors")),
    "a torn base model": lambda given: given.package(base=torn(given.world.base, "model.safetensors")),
    "a promotion without evidence": Given.promote,
    "an approval of what was not judged": Given.approve,
}
ROOMS = {
    "training": TRAINING,
    "evaluation": EVALUATION,
    "serving": SERVING,
    "monitoring": MONITORING,
    "release": RELEASE,
}
FAILURES = [pytest.param(ready, id=f"{room}: {how}") for room, found in ROOMS.items() for how, ready in found.items()]


@pytest.mark.parametrize("ready", FAILURES)
def test_a_run_that_fails_tells_no_secret_no_identifier_and_no_note(
    silent: Check, given: Given, ready: Callable[[Given], Run]
) -> None:
    silent(ready(given))


@pytest.mark.parametrize("place", ["error", "log", "output", "file"])
def test_the_search_finds_what_is_planted(silent: Check, home: Path, place: str) -> None:
    def tell() -> None:
        if place == "log":
            logging.getLogger("llmops_tasks").debug("%s", planted.NOTE)
        elif place == "output":
            sys.stderr.write(planted.PATIENT)
        elif place == "file":
            (home / "tmp").mkdir(exist_ok=True)
            (home / "tmp" / "left").write_text(planted.SECRETS["AWS_SECRET_ACCESS_KEY"])
        raise LLMOpsError(planted.RECORD if place == "error" else "no words")

    with pytest.raises(AssertionError, match=r"assert \{"):
        silent(tell)


def test_mlflow_unreachable_is_reported_and_kept_without_its_password(
    silent: Check, home: Path, given: Given, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A training, and then a registration, with an address that holds credentials; what waits for MLflow holds none."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", planted.ADDRESS)
    monkeypatch.setattr(tracking, "PAUSE", 0)
    silent(given.finetune(planted.dataset(completion=lambda n: "")))
    assert register_release(usecase=given.world.usecase, release=given.released)["version"] == "1"
    kept = b"".join(planted.files(home / "tracking_pending").values())
    assert b"llmops" in kept and planted.found(kept) == []


def test_a_store_that_refuses_is_reported_without_its_keys(
    silent: Check, given: Given, closed_endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, secret in planted.SECRETS.items():
        monkeypatch.setenv(name, secret)  # the fixture put in others
    day = planted.day()
    runs = (given.finetune(planted.dataset()), given.evaluate(planted.dataset()), given.answer(day), given.package())
    monkeypatch.setenv("LLMOPS_STORE", "s3://bucket/store")
    for run in runs:
        assert closed_endpoint in str(silent(run))


@pytest.mark.parametrize(
    ("verb", "ready"),
    [
        ("training.finetune", TRAINING["an answer without tokens"]),
        ("evaluation.evaluate", EVALUATION["a note that is a list"]),
        ("serving.predict_batch", SERVING["torn weights"]),
        ("monitoring.measure_drift", MONITORING["words where numbers were"]),
        ("release.package_release", RELEASE["a torn adapter"]),
    ],
)
def test_a_verb_in_a_process_of_its_own_tells_none_of_it_either(
    silent: Check, given: Given, verb: str, ready: Callable[[Given], Any]
) -> None:
    """Also where it ends with a traceback of somebody else's error."""
    arguments = json.dumps(ready(given).keywords)

    def run() -> None:
        command = [sys.executable, "-m", "llmops_tasks", verb, "--json", "-"]
        done = subprocess.run(command, input=arguments, cwd=tiny.ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 1
        raise LLMOpsError(done.stdout + done.stderr)

    silent(run)
