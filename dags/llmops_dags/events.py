"""How a run gets its inputs (a form's field, else the asset event that started it, else the newest one),
and how it tells the next stage about a result that is new."""

from __future__ import annotations

from typing import Any

from airflow.sdk import Asset, get_current_context, task
from airflow.sdk.exceptions import AirflowSkipException

from llmops_tasks.errors import InputError


def received(asset: Asset, *, field: str | None = None) -> Any:
    """A task that returns the `extra` of one event of an asset.

    Args:
        asset: what the stage before leaves.
        field: the DAG's Param that may name an earlier event by the beginning of its sha256 or its version.
    """

    @task(task_id=f"receive_{asset.name.rsplit('.', 1)[1]}", inlets=[asset])
    def receive() -> dict[str, Any]:
        context = get_current_context()
        wanted = context["params"].get(field) if field else None
        triggering = context["triggering_asset_events"].get(asset, []) if wanted is None else []
        events = [event.extra for event in triggering or context["inlet_events"][asset] if event.extra.get("sha256")]
        if wanted is not None:
            events = [extra for extra in events if extra["sha256"].startswith(wanted) or extra.get("version") == wanted]
        if not events:
            what = f"'{wanted}' of '{asset.name}'" if wanted else f"'{asset.name}'"
            raise InputError(f"There is no {what} yet. Run the stage that makes it first.")
        return dict(events[-1])

    return receive()


def received_all(asset: Asset) -> Any:
    """A task that returns the `extra` of every event that started the run, else of the newest one."""

    @task(task_id=f"receive_{asset.name.rsplit('.', 1)[1]}", inlets=[asset])
    def receive() -> list[dict[str, Any]]:
        context = get_current_context()
        triggering = [dict(event.extra) for event in context["triggering_asset_events"].get(asset, [])]
        newest = [dict(event.extra) for event in context["inlet_events"][asset]][-1:]
        events = [extra for extra in triggering or newest if extra.get("sha256")]
        if not events:
            raise InputError(f"There is no '{asset.name}' yet. Run the stage that makes it first.")
        return events

    return receive()


def announced(asset: Asset, extra: Any) -> Any:
    """A task that adds an event to an asset, unless it was announced before: what is not new starts nothing."""

    @task(task_id=f"announce_{asset.name.rsplit('.', 1)[1]}", outlets=[asset], inlets=[asset])
    def announce(extra: dict[str, Any]) -> dict[str, Any]:
        context = get_current_context()
        if any(event.extra.get("sha256") == extra["sha256"] for event in context["inlet_events"][asset]):
            raise AirflowSkipException(f"{asset.name} {extra['sha256'][:12]} was announced before: nothing new")
        context["outlet_events"][asset].extra = extra
        return extra

    return announce(extra)
