"""The arrows between the DAGs of one use case."""

from __future__ import annotations

from typing import NamedTuple

from airflow.sdk import Asset

from llmops_tasks.config import Landing


class Assets(NamedTuple):
    """What one stage leaves for the next; every event's `extra` is one JSON dict with a `sha256`."""

    dataset: Asset  # {sha256, dataset}
    candidate: Asset  # {sha256, candidate, dataset}
    champion: Asset  # {sha256, version}
    predictions: Asset  # {sha256, day, predictions, champion}
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
