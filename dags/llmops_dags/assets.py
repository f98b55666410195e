"""The arrows between the DAGs of one use case."""

from __future__ import annotations

from typing import NamedTuple

from airflow.sdk import Asset


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
