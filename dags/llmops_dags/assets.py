"""The assets that connect a use case's DAGs, and how a new result is announced.

An event only wakes a DAG up: its run asks store and ledger what is due.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from airflow.sdk import Asset, get_current_context, task
from airflow.sdk.exceptions import AirflowSkipException

from llmops_tasks.config import Landing


class Assets(NamedTuple):
    """What one stage produces for the next; every event's `extra` is a JSON object with a `sha256`, for information."""

    dataset: Asset  # {sha256, rows}
    candidate: Asset  # {sha256, version}
    champion: Asset  # {sha256, version}
    predictions: Asset  # {sha256, date, rows}
    retrain: Asset  # {sha256, date}


def assets_of(usecase: str) -> Assets:
    """The assets of a use case, named `<usecase>.<what>`."""
    return Assets(*(Asset(name=f"{usecase}.{what}", group="llmops") for what in Assets._fields))


def landing_of(usecase: str, source: Landing) -> Asset | None:
    """The landing area, watched by the triggerer; None without `watch_seconds`."""
    if source.watch_seconds is None:
        return None
    from airflow.sdk import AssetWatcher
    from llmops_triggers import LandingTrigger

    name, trigger = f"{usecase}.landing", LandingTrigger(usecase, source.uri, source.watch_seconds)
    return Asset(name=name, group="llmops", watchers=[AssetWatcher(name=name, trigger=trigger)])


def announced(asset: Asset, extra: Any, *, again: bool = False) -> Any:
    """A task that adds an event to an asset, unless it was announced before.

    Args:
        asset: what this stage produces.
        extra: of the event.
        again: compare with the last event only, as a champion may return.
    """

    @task(task_id=f"announce_{asset.name.rsplit('.', 1)[1]}", outlets=[asset], inlets=[asset])
    def announce(extra: dict[str, Any]) -> dict[str, Any]:
        context = get_current_context()
        events = [event.extra.get("sha256") for event in context["inlet_events"][asset]]
        if extra["sha256"] in (events[-1:] if again else events):
            raise AirflowSkipException(f"{asset.name} {extra['sha256'][:12]} was announced before; nothing is new")
        context["outlet_events"][asset].extra = extra
        return extra

    return announce(extra)


@task
def champion_event(champion: dict[str, Any]) -> dict[str, Any]:
    """The champion's event, identified by its release."""
    release = champion["release"]
    return {"sha256": release["sha256"], "version": champion["version"]}
