"""Triggers, which wait without holding a worker slot: for landing files, and for an answer."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

from airflow.providers.standard.triggers.hitl import HITLTrigger
from airflow.triggers.base import BaseEventTrigger, TriggerEvent

from llmops_tasks.config.data import expand
from llmops_tasks.errors import StorageError
from llmops_tasks.store import digests, objects

log = logging.getLogger(__name__)
_KEY = "landed"  # in Airflow's store of an asset's state


class LandingTrigger(BaseEventTrigger):
    """One event each time the files at an address have changed and were then unchanged for one interval.

    The last reported state is kept in the asset's state, so files that land while the triggerer is down are
    reported when it is back. Files present at the very first look cause no event. An address that cannot be
    listed is tried again later.

    Args:
        usecase: owner of the landing area; each has its own trigger and state.
        uri: the source's address, with its variables and wildcards.
        seconds: between two looks.
    """

    def __init__(self, usecase: str, uri: str, seconds: float) -> None:
        super().__init__()
        self.usecase, self.uri, self.seconds = usecase, uri, seconds

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """What the triggerer recreates this from."""
        arguments = {"usecase": self.usecase, "uri": self.uri, "seconds": self.seconds}
        return "llmops_triggers.LandingTrigger", arguments

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Look, compare, report; forever."""
        reported, before = await self._recalled(), None
        while True:
            now = await self._look()
            if reported is None and now is not None:
                reported = await self._remembered(now)
            if now is not None and now != reported and now == before:
                yield TriggerEvent({"landed": now})
                reported = await self._remembered(now)  # afterwards: reporting twice does no harm, missing one does
            before = now
            await asyncio.sleep(self.seconds)

    async def _look(self) -> str | None:
        """A digest of the files; None if they cannot be listed."""
        try:
            return digests.digest(await asyncio.to_thread(objects.fingerprints, expand(self.uri)))
        except StorageError as exc:
            log.warning("cannot list %s: %s", self.uri, exc)
            return None

    async def _recalled(self) -> str | None:
        state = self.asset_state_store
        stored = await state.aget(_KEY) if state is not None else None
        return stored if isinstance(stored, str) else None

    async def _remembered(self, now: str) -> str:
        if self.asset_state_store is not None:
            await self.asset_state_store.aset(_KEY, now)
        return now


class AnswerTrigger(HITLTrigger):
    """Airflow's own trigger, for a question that was asked before: its answer may be stored already.

    It waits a few seconds first: a task that resumes before the scheduler has noticed the end of its worker is
    considered failed.
    """

    SETTLE = 5.0  # seconds

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """What the triggerer recreates this from."""
        return "llmops_triggers.AnswerTrigger", super().serialize()[1]

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait, then poll for the answer until it is given or time runs out."""
        await asyncio.sleep(self.SETTLE)
        async for event in super().run():
            yield event
