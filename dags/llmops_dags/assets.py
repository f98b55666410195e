"""The arrows between the DAGs of one use case, and how a result that is new is announced along them.

An event is the bell and nothing more: a run that it starts asks store and ledger what there is to do.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from airflow.sdk import Asset, get_current_context, task
from airflow.sdk.exceptions import AirflowSkipException

from llmops_tasks.config import Landing


class Assets(NamedTuple):
    """What one stage leaves for the next; every event's `extra` is one JSON dict with a `sha256`, for people."""

    dataset: Asset  # {sha256, rows}
    candidate: Asset  # {sha256, version}
    champion: Asset  # {sha256, version}
    predictions: Asset  # {sha256, date, rows}
    retrain: Asset  # {sha256, date}


def assets_of(usecase: str) -> Assets:
    """The assets of a use case, named `<usecase>.<what>`."""
    return Assets(*(Asset(name=f"{usecase}.{what}", group="llmops") for what in Assets._fields))


def landing_of(usecase: str, source: Landing) -> Asset | None:
    """The place where files land, watched by the triggerer; None where nobody asked for that."""
    if source.watch_seconds is None:
        return None
    from airflow.sdk import AssetWatcher
    from llmops_triggers import LandingTrigger

    name, trigger = f"{usecase}.landing", LandingTrigger(usecase, source.uri, source.watch_seconds)
    return Asset(name=name, group="llmops", watchers=[AssetWatcher(name=name, trigger=trigger)])


def announced(asset: Asset, extra: Any, *, again: bool = False) -> Any:
    """A task that adds an event to an asset, unless it was announced before: what is not new starts nothing.

    Args:
        asset: what this stage leaves.
        extra: of the event.
        again: whether only the last event counts: a champion may return.
    """

    @task(task_id=f"announce_{asset.name.rsplit('.', 1)[1]}", outlets=[asset], inlets=[asset])
    def announce(extra: dict[str, Any]) -> dict[str, Any]:
        context = get_current_context()
        events = [event.extra.get("sha256") for event in context["inlet_events"][asset]]
        if extra["sha256"] in (events[-1:] if again else events):
            raise AirflowSkipException(f"{asset.name} {extra['sha256'][:12]} was announced before: nothing new")
        context["outlet_events"][asset].extra = extra
        return extra

    return announce(extra)


@task
def champion_event(champion: dict[str, Any]) -> dict[str, Any]:
    """Whose event this is: a champion is told by its bytes."""
    release = champion["release"]
    return {"sha256": release["sha256"], "version": champion["version"]}
