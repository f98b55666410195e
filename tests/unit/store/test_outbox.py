"""What could not be told is told later: in order, once as a rule, and by one process at a time."""

from __future__ import annotations

import errno
import math
import os
from pathlib import Path
from typing import Any

import pytest

from llmops_tasks.errors import StorageError
from llmops_tasks.store import journal, outbox


def test_messages_are_delivered_in_order_and_then_gone() -> None:
    for number in range(12):
        outbox.keep("box", {"number": number})
    told: list[int] = []
    assert not outbox.is_empty("box")
    assert outbox.tell("box", lambda message: told.append(message["number"]) or True)
    assert told == list(range(12)) and outbox.is_empty("box")
    assert outbox.tell("box", lambda message: pytest.fail("there is none"))


def test_what_could_not_be_delivered_is_delivered_later() -> None:
    for number in range(3):
        outbox.keep("box", {"number": number})
    assert not outbox.tell("box", lambda message: message["number"] < 1)
    outbox.keep("box", {"number": 3})
    told: list[int] = []
    assert outbox.tell("box", lambda message: told.append(message["number"]) or True)
    assert told == [1, 2, 3]


def test_two_at_once_do_not_tell_it_twice() -> None:
    outbox.keep("box", {"number": 1})
    assert outbox.tell("box", lambda message: not outbox.tell("box", lambda inner: pytest.fail("told twice")))


def test_a_loss_that_is_no_number_is_kept(home: Path) -> None:
    outbox.keep("box", {"loss": math.nan})
    assert outbox.tell("box", lambda message: math.isnan(message["loss"]))


def test_a_full_disk_costs_the_message_and_no_run(caplog: pytest.LogCaptureFixture, monkeypatch: Any) -> None:
    def full(*_: Any) -> None:
        raise StorageError(os.strerror(errno.ENOSPC))

    monkeypatch.setattr(journal, "push", full)
    outbox.keep("box", {})
    assert "cannot store what MLflow did not receive: No space left on device" in caplog.text
