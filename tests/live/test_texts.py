"""A use case whose answers are text, dropped in while Airflow runs: from questions to an approved champion and a day's answers.

Last of the live tests by its name: others count the DAGs.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from llmops_tasks.data.synthetic_faq import DAYS
from llmops_tasks.release import ledger, registry
from llmops_tasks.serving import find_predictions
from llmops_tasks.store import artifacts
from tests.live.conftest import NOTIFY, SELDOM, STAGES
from tests.support import desk
from tests.support.running import World

pytestmark = [pytest.mark.airflow, pytest.mark.live, pytest.mark.timeout(900)]


def test_questions_become_an_approved_champion_that_answers_a_day(world: World, tiny_model: Path) -> None:
    folder = desk.write(world.home / "faq")
    desk.usecase(world.home / "usecases", tiny_model, folder, gate=desk.LENIENT, airflow=SELDOM, notify=NOTIFY)
    world.parse_again()
    wanted = {f"desk.{stage}" for stage in STAGES}
    world.wait(lambda: wanted <= set(world.api.dags()), 180, "the DAGs of a use case that was dropped in")
    run = world.api.trigger("desk.prepare_data")
    assert set(world.finished("desk.prepare_data", run).values()) == {"success"}
    train = world.started_by_asset("desk.train", 0)
    assert set(world.finished("desk.train", train).values()) == {"success"}
    evaluate = world.started_by_asset("desk.evaluate", 0)
    states = world.finished("desk.evaluate", evaluate)
    assert (states["evaluate"], states["ask"]) == ("success", "success")
    promote = world.started_by_asset("desk.promote", 0)
    shown = world.answer("desk.promote", "Approve")
    assert "| token_f1 |" in shown and "in the training data of retrieval" in shown
    assert world.finished("desk.promote", promote)["promote"] == "success"
    assert registry.find_champion(usecase="desk")["version"] == "1"


def test_its_days_are_answered_and_watched(world: World) -> None:
    import pandas as pd

    for number, day in enumerate(DAYS):
        run = world.api.trigger("desk.batch_inference", {"date": day})
        assert set(world.finished("desk.batch_inference", run).values()) == {"success"}
        world.finished("desk.monitor", world.started_by_asset("desk.monitor", number))
    (part,) = find_predictions(usecase="desk", date=DAYS[0])
    frame = pd.read_parquet(artifacts.fetch(part) / "predictions.parquet")
    assert len(frame) == 50 and set(frame["finish_reason"]) <= {"stop", "length"} and (frame["tokens"] > 0).all()
    decided = {
        entry["body"]["date"]: entry["body"]["retrain"] for entry in ledger.read_ledger(usecase="desk", kind="retrain")
    }
    assert decided == dict(zip(DAYS, (False, True), strict=True))  # the second day asks for other things
