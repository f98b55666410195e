"""Promotion and rollback under races and crashes: who reads sees the old champion or the new one, never anything else."""

from __future__ import annotations

import json
import multiprocessing
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from llmops_tasks import tracking
from llmops_tasks.errors import ReleaseError
from llmops_tasks.release import ledger, registry
from llmops_tasks.store import objects
from tests.support.releases import (
    approval_rules,
    approved,
    changes,
    promoted,
    promoted_as_it_is,
    registered,
    released,
    rolled_back,
)

# ---------------------------------------------------------------- T8: a crash between every two writes

SHOWN = ("set_registered_model_alias", "set_model_version_tag", "set_registered_model_tag")


class _Killed(BaseException):
    """Whatever dies here runs no more of its own code."""


class _Writes:
    """Counts writes to the store and to MLflow, and dies before or after one of them."""

    def __init__(self, at: int = 0, when: str = "never") -> None:
        self.at, self.when, self.seen = at, when, 0

    def around(self, real: Callable[..., Any]) -> Callable[..., Any]:
        def write(*args: Any, **more: Any) -> Any:
            self.seen += 1
            if self.seen == self.at and self.when == "before":
                raise _Killed
            result = real(*args, **more)
            if self.seen == self.at and self.when == "after":
                raise _Killed
            return result

        return write


@contextmanager
def _counted(writes: _Writes) -> Iterator[None]:
    import mlflow

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(objects, "create", writes.around(objects.create))
        for name in SHOWN:
            patch.setattr(mlflow.MlflowClient, name, writes.around(getattr(mlflow.MlflowClient, name)))
        yield


def _seen(numbers: dict[str, int]) -> str:
    """Who serves, as a reader sees it; a version comes with its own bytes or the test fails."""
    found = registry.find_champion(usecase="triage")
    assert found["release"] == released(numbers[found["version"]])
    return str(found["version"])


@pytest.mark.usefixtures("mlflow")
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("what", ["promote", "rollback"])
def test_a_crash_between_any_two_writes_shows_the_old_champion_or_the_new_one(what: str, when: str) -> None:
    """T8."""
    promoted(registered(1))
    numbers, number, total, died = {"1": 1}, 1, 99, 0
    while died < total:
        number, died = number + 1, died + 1
        candidate = registered(number)
        approved(candidate)
        numbers[candidate["version"]], old = number, _seen(numbers)
        if what == "rollback":
            promoted_as_it_is(candidate)
        change = (lambda c=candidate: promoted_as_it_is(c)) if what == "promote" else rolled_back
        before, after = (old, candidate["version"]) if what == "promote" else (candidate["version"], old)
        writes = _Writes(died, when)
        with _counted(writes):
            try:
                change()
                total = died  # it got through: there is no such write
            except _Killed:
                assert _seen(numbers) in (before, after)
        assert change()["version"] == after == _seen(numbers)
        alias = tracking.client().get_model_version_by_alias("triage", "champion")
        assert str(alias.version) == after
        assert len(changes()) == _expected(what, died)
    assert total >= 6  # mark, entry, and what is shown
    assert ledger.verify_ledger(usecase="triage")["entries"] > 0


def _expected(what: str, rounds: int) -> int:
    """The first promotion, and in each round one promotion, and with a rollback two changes."""
    return 1 + rounds * (1 if what == "promote" else 2)


# ---------------------------------------------------------------- T7: eight at once

WORKERS, ROUNDS = 8, 6


def _race(home: str, worker: int, gate: Any, results: Any) -> None:
    """Promote one candidate after the other, each judged beside whoever serves then; tell what came of it, and when."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LLMOPS_HOME", home)
        patch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")  # nobody listens: the ledger decides
        patch.setattr(tracking, "attempt", lambda what, do: None)
        gate.wait()
        told = []
        for number in range(ROUNDS):
            candidate = registered(worker * 100 + number)
            beside = approved(candidate)["champion_version"]
            begun = time.monotonic_ns()
            try:
                promoted_as_it_is(candidate)
                won = True
            except ReleaseError:
                won = any(version == candidate["version"] for kind, version in changes())
            told.append([candidate["version"], beside, won, begun, time.monotonic_ns()])
        results.put(json.dumps(told))


def test_eight_promoters_at_once_leave_one_history(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """T7. Linearizable: the promotions are a chain, each beside the champion before it, in an order that time allows."""
    approval_rules(tmp_path, monkeypatch, newer_candidate="keeps_open")
    fork = multiprocessing.get_context("fork")
    gate, results = fork.Barrier(WORKERS), fork.Queue()
    workers = [fork.Process(target=_race, args=(str(home), worker, gate, results)) for worker in range(WORKERS)]
    for process in workers:
        process.start()
    told = [row for _ in workers for row in json.loads(results.get(timeout=240))]
    for process in workers:
        process.join(30)
    chain = ledger.read_ledger(usecase="triage")
    promotions = [entry["body"] for entry in chain if entry["kind"] == "promotion"]
    assert ledger.verify_ledger(usecase="triage")["entries"] == len(chain)
    versions = [body["version"] for body in promotions]
    assert [body["previous"] for body in promotions] == [None, *versions[:-1]]  # one current champion at any time
    assert sorted(versions) == sorted(row[0] for row in told if row[2])  # nothing lost, nothing made up
    assert len(versions) == len(set(versions)) >= WORKERS // 2
    when = {row[0]: row[3:] for row in told}
    for place, version in enumerate(versions):
        assert all(when[earlier][0] < when[version][1] for earlier in versions[:place]), "real time is respected"
    registrations = [entry["body"]["version"] for entry in chain if entry["kind"] == "registration"]
    assert registrations == [str(number + 1) for number in range(WORKERS * ROUNDS)]
    assert len([entry for entry in chain if entry["kind"] == "approval"]) == WORKERS * ROUNDS
