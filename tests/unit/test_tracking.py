"""MLflow: one run per piece of work, whatever happened on the way."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from llmops_tasks import tracking

pytestmark = pytest.mark.usefixtures("mlflow")


def test_a_run_keeps_what_it_is_given(tmp_path: Path) -> None:
    (tmp_path / "files").mkdir()
    (tmp_path / "files" / "card.md").write_text("card")
    with tracking.run(usecase="demo", name="work", key="k1") as run:
        run.params({"a": 1})
        run.metrics({"loss": 0.5}, step=3)
        run.tags({"b": "c"})
        run.json("report.json", {"n": 1})
        run.files(tmp_path / "files", "release")
    found = tracking.client().get_run(run.id)
    assert found.info.status == "FINISHED"
    assert (found.data.params["a"], found.data.metrics["loss"], found.data.tags["b"]) == ("1", 0.5, "c")
    assert {item.path for item in tracking.client().list_artifacts(run.id)} == {"report.json", "release"}


def test_the_same_key_continues_the_same_run_and_keeps_its_parameters() -> None:
    with tracking.run(usecase="demo", name="work", key="k1") as first:
        first.params({"a": 1})
    with tracking.run(usecase="demo", name="work", key="k1") as again:
        again.params({"a": 2, "b": 3})  # MLflow refuses to change a parameter; a retry must not fail on it
    assert again.id == first.id
    assert tracking.client().get_run(first.id).data.params == {"a": "1", "b": "3"}
    with tracking.run(usecase="demo", name="work", key="k2") as other:
        pass
    assert other.id != first.id


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_marks_the_run_failed_and_passes_through(error: type[BaseException]) -> None:
    with pytest.raises(error), tracking.run(usecase="demo", name="work", key="k") as run:
        raise error
    assert tracking.client().get_run(run.id).info.status == "FAILED"
    with tracking.run(usecase="demo", name="work", key="k") as again:
        assert tracking.client().get_run(again.id).info.status == "RUNNING"
    assert (again.id, tracking.client().get_run(run.id).info.status) == (run.id, "FINISHED")


def test_a_prompt_is_registered_once_until_it_changes() -> None:
    first = tracking.register_prompt(name="demo-prompt", template="{{ text }}", sha256="a")
    assert first == {"name": "demo-prompt", "version": "1", "sha256": "a"}
    assert tracking.register_prompt(name="demo-prompt", template="{{ text }}", sha256="a") == first
    assert tracking.register_prompt(name="demo-prompt", template="{{ text }}!", sha256="b")["version"] == "2"


def test_everything_is_under_the_home_unless_a_server_is_named(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert tracking.tracking_uri() == f"sqlite:///{home}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://mlflow:5000")
    assert tracking.tracking_uri() == "http://mlflow:5000"


def test_initializing_twice_is_harmless() -> None:
    assert tracking.initialize() == tracking.initialize()


# ---------------------------------------------------------------- unreachable


@pytest.fixture
def outage(monkeypatch: pytest.MonkeyPatch) -> Iterator[Outage]:
    """MLflow comes and goes as the test says."""
    found = Outage(monkeypatch)
    monkeypatch.setattr(tracking, "REST", 0.0)
    monkeypatch.setattr(tracking, "PAUSE", 0.0)
    yield found
    tracking._resting.clear()


class Outage:
    """Its client's calls, some of which fail."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.down, self.once, self.calls = False, set[str](), 0
        client = tracking.client

        class Shaky:
            def __getattr__(shaky, name: str) -> Any:
                if name in self.once:
                    self.once.discard(name)
                    raise ConnectionError("lost")
                return getattr(client(), name)

        def reached() -> Any:
            self.calls += 1
            if self.down:
                raise ConnectionError("unreachable")
            return Shaky()

        monkeypatch.setattr(tracking, "client", reached)

    def __enter__(self) -> None:
        self.down = True

    def __exit__(self, *_: object) -> None:
        self.down = False


def _work(key: str = "k") -> str:
    with tracking.run(usecase="demo", name="work", key=key) as run:
        run.params({"a": 1})
        run.metrics({"loss": 0.5, "worse": math.nan}, step=3)
        run.tags({"b": "c"})
        run.dataset(name="demo", sha256="d" * 64, uri="s3://x", context="training")
        run.json("report.json", {"n": 1})
    return run.id


def _found(key: str = "k") -> Any:
    return tracking.find_run(tracking.client(), "demo", key)


def _is_whole(run: Any) -> bool:
    data, listed = run.data, tracking.client().list_artifacts(run.info.run_id)
    told = (run.info.status, data.params["a"], data.metrics["loss"], data.tags["b"], [item.path for item in listed])
    return told == ("FINISHED", "1", 0.5, "c", ["report.json"]) and len(run.inputs.dataset_inputs) == 1


def test_an_outage_costs_no_run_and_what_was_missed_is_written_by_the_next(outage: Outage) -> None:
    with outage:
        assert _work().startswith("pending:")
    assert _found() is None
    with tracking.run(usecase="demo", name="next", key="next"):
        pass
    assert _is_whole(_found())


def test_an_outage_in_the_middle_loses_nothing_and_keeps_the_order(outage: Outage) -> None:
    with tracking.run(usecase="demo", name="work", key="k") as run:
        for step in range(6):
            if step == 2:
                outage.down = True
            if step == 4:
                outage.down = False
            run.metrics({"loss": float(step)}, step=step)
    history = tracking.client().get_metric_history(run.id, "loss")
    assert [metric.step for metric in history] == list(range(6))
    assert _found().info.status == "FINISHED"


@pytest.mark.parametrize("call", ["create_run", "log_batch", "set_tag", "log_text", "set_terminated", "search_runs"])
def test_one_lost_call_is_made_again_at_once(outage: Outage, call: str) -> None:
    outage.once = {call}
    _work()
    assert _is_whole(_found())


def test_a_run_begun_in_an_outage_is_continued_by_its_retry_afterwards(outage: Outage) -> None:
    with outage, pytest.raises(ValueError), tracking.run(usecase="demo", name="work", key="k") as run:
        run.metrics({"loss": 9.0}, step=1)
        raise ValueError
    _work()
    assert _is_whole(_found())
    assert [metric.step for metric in tracking.client().get_metric_history(_found().info.run_id, "loss")] == [1, 3]
    tracking.Run(run.id).tags({"later": "x"})  # the name it had in the outage still leads to it
    assert _found().data.tags["later"] == "x"


def test_after_an_outage_was_seen_nobody_waits_for_it_again(outage: Outage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tracking, "REST", 60.0)
    with outage:
        _work()
    assert outage.calls == tracking.TRIES


def test_what_mlflow_refuses_is_said_and_does_not_block_what_follows(
    outage: Outage, caplog: pytest.LogCaptureFixture
) -> None:
    with outage, tracking.run(usecase="demo", name="work", key="k") as run:
        run.metrics({"x" * 300: 1.0})
    _work("next")
    assert "MLflow refuses metrics (INVALID_PARAMETER_VALUE)" in caplog.text
    assert _found().info.status == "FINISHED"


def test_a_server_that_hangs_is_given_up_on_quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """By what is asked for, not by the clock: two looks of less than a second, a pause, and then no more of it."""
    import socket

    waits, look = [], tracking.urllib.request.urlopen
    monkeypatch.setattr(
        tracking.urllib.request, "urlopen", lambda url, timeout: waits.append(timeout) or look(url, timeout=timeout)
    )
    monkeypatch.setattr(tracking, "client", lambda: pytest.fail("its own client would wait for minutes"))
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{server.getsockname()[1]}")
        _work()
    assert len(waits) == tracking.TRIES and sum(waits) + tracking.PAUSE < 4
    tracking._resting.clear()


def test_a_prompt_waits_too(outage: Outage) -> None:
    with outage:
        given = tracking.register_prompt(name="demo-prompt", template="{{ text }}", sha256="a")
    assert given == {"name": "demo-prompt", "version": None, "sha256": "a"}
    _work()
    assert tracking.register_prompt(name="demo-prompt", template="{{ text }}", sha256="a")["version"] == "1"


def test_an_address_with_credentials_is_not_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://me:secret@127.0.0.1:9")
    _work()
    assert "unreachable" in caplog.text and "secret" not in caplog.text
    tracking._resting.clear()


def test_a_server_whose_address_holds_a_password_is_reached_without_telling_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """urllib would take it for a part of the host's name, and ask the network for that."""
    asked: list[str] = []
    monkeypatch.setattr(tracking.urllib.request, "urlopen", lambda url, **_: asked.append(url) or nullcontext())
    for address in ("http://me:secret@127.0.0.1:9/mlflow/", "http://127.0.0.1:9/mlflow"):
        tracking._probe(address)
    assert asked == ["http://127.0.0.1:9/mlflow/health"] * 2
