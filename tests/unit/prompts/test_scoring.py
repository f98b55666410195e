"""Scores are kept shard by shard: what was scored is not scored again, and a kill costs one shard."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from llmops_tasks import config
from llmops_tasks.config.server import Server
from llmops_tasks.contracts import ArtifactRef
from llmops_tasks.models.generator import Stub
from llmops_tasks.prompts import interface, scoring, shards
from tests.support import tiny
from tests.support.counting import Counting, some_model

ASKED = interface.of_usecase(config.load("triage"))
PROMPTS: list[Any] = [f"Note: {number}" for number in range(9)]


@pytest.fixture
def model() -> ArtifactRef:
    return some_model()


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "SIZE", 4)


def _kept(model: ArtifactRef, generator: Stub, asked: Any = ASKED, server: Server | None = None) -> Any:
    return scoring.kept_scores("desk", model, lambda: generator, asked, PROMPTS, 2, server)


def test_scores_are_those_of_the_model_in_order(model: ArtifactRef, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    found, cut = _kept(model, Counting())
    assert found == [pytest.approx(row) for row in Stub(tiny.ROOT).scores(PROMPTS, ASKED.answers, 2)] and cut == 3
    assert "9 of 9 records" in caplog.text and "0 s left" in caplog.text and "Note:" not in caplog.text


def test_a_kill_costs_one_shard_and_what_was_scored_is_not_scored_again(model: ArtifactRef) -> None:
    killed = Counting("Note: 5")
    with pytest.raises(KeyboardInterrupt):
        _kept(model, killed)
    assert killed.asked == PROMPTS[:4]
    again = Counting()
    assert len(_kept(model, again)[0]) == 9 and again.asked == PROMPTS[4:]
    assert _kept(model, Counting("Note"))[1] == 3  # nothing is asked


@pytest.mark.parametrize("change", [{"max_length": 7}, {"number_format": "bf16"}])
def test_another_format_or_length_is_scored_anew(model: ArtifactRef, change: dict[str, Any]) -> None:
    _kept(model, Counting())
    again = Counting()
    _kept(model, again, ASKED.model_copy(update=change))
    assert again.asked == PROMPTS


def test_a_servers_scores_are_its_own(model: ArtifactRef) -> None:
    _kept(model, Counting())
    again = Counting()
    _kept(model, again, server=Server(url="http://127.0.0.1:9/v1"))
    assert again.asked == PROMPTS
