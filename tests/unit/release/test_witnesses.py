"""Who is asked whether the ledger's end is missing, and who of them is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from llmops_tasks.errors import IntegrityError
from llmops_tasks.release import ledger, witnesses
from llmops_tasks.release.witnesses import Witness
from llmops_tasks.store import artifacts, objects


def _chain(count: int) -> list[Any]:
    for number in range(count):
        ledger.record_entry(usecase="triage", kind="gate", body={}, once=str(number))
    return ledger.read_ledger(usecase="triage")


def _answered(day: str, head: Any) -> str:
    """The address of a day that was answered while the ledger ended like this."""
    at = f"{objects.store_uri()}/triage/predictions/date={day}"
    artifacts.publish(
        usecase="triage", kind="predictions", inputs={"day": day}, at=at, build=lambda out: {"ledger_head": head}
    )
    return at


def test_of_several_who_saw_more_than_is_there_the_one_who_saw_furthest_is_named() -> None:
    chain = _chain(3)
    seen = [Witness("Ann", 4, "a" * 64), Witness("Zoe", 6, "f" * 64), Witness("Bob", 5, "b" * 64)]
    with pytest.raises(IntegrityError, match="ends at entry 3, but Zoe saw entry 6"):
        witnesses.check(chain, seen)


@pytest.mark.parametrize("at", [1, 2, 3])
def test_whoever_saw_another_entry_at_its_place_is_named(at: int) -> None:
    chain = _chain(3)
    sound = [Witness("Ann", n, chain[n - 1]["sha256"]) for n in (1, 2, 3)]
    witnesses.check(chain, sound)
    with pytest.raises(IntegrityError, match=f"Ledger entry {at} is .*, but Zoe saw ffff"):
        witnesses.check(chain, [*sound, Witness("Zoe", at, "f" * 64)])


def test_who_looked_before_the_first_entry_saw_nothing() -> None:
    witnesses.check([], [Witness("Ann", 0, ledger.GENESIS)])
    witnesses.check(_chain(2), [Witness("Ann", 0, ledger.GENESIS)])


def test_a_damaged_day_is_no_witness_and_silences_no_other(caplog: pytest.LogCaptureFixture) -> None:
    chain = _chain(2)
    damaged, silent = (_answered(day, head) for day, head in (("2026-03-01", {"seq": 1}), ("2026-03-02", None)))
    _answered("2026-03-03", ledger.head(usecase="triage"))
    (objects.local_path(damaged) / artifacts.MANIFEST).write_bytes(b"{torn")
    assert witnesses.heard("triage") == [Witness("the predictions of date=2026-03-03", 2, chain[1]["sha256"])]
    assert "is not valid JSON" in caplog.text and silent not in caplog.text


def test_without_an_mlflow_nobody_makes_one_to_ask_it(home: Path) -> None:
    _chain(1)
    assert witnesses.heard("triage") == []
    assert not (home / "mlflow.db").exists()
