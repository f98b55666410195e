"""What waits in the triggerer, where it holds no worker slot: for files that land, and for an answer that may be there."""

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
    """One event each time that the files at an address have changed and then stayed as they are for one look.

    What was last told is kept in the asset's state, so that files which land while the triggerer is down are
    told of when it is back. The files that are there at the very first look are where it begins: they are no
    event. An address that cannot be listed is looked at again later.

    Args:
        usecase: whose landing place it is; each has a trigger, and a state, of its own.
        uri: the source's address, with its variables and wildcards.
        seconds: between two looks.
    """

    def __init__(self, usecase: str, uri: str, seconds: float) -> None:
        super().__init__()
        self.usecase, self.uri, self.seconds = usecase, uri, seconds

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """What the triggerer makes this anew from."""
        arguments = {"usecase": self.usecase, "uri": self.uri, "seconds": self.seconds}
        return "llmops_triggers.LandingTrigger", arguments

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Look, compare, tell; for ever."""
        told, before = await self._recalled(), None
        while True:
            now = await self._look()
            if told is None and now is not None:
                told = await self._remembered(now)
            if now is not None and now != told and now == before:
                yield TriggerEvent({"landed": now})
                told = await self._remembered(now)  # afterwards: telling twice does no harm, not telling does
            before = now
            await asyncio.sleep(self.seconds)

    async def _look(self) -> str | None:
        """A digest of the files that are there; None if that cannot be seen."""
        try:
            return digests.digest(await asyncio.to_thread(objects.fingerprints, expand(self.uri)))
        except StorageError as exc:
            log.warning("cannot look at %s: %s", self.uri, exc)
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
    """Airflow's own, for a question that was put before: its answer may be stored already.

    It lets a few seconds pass first. A task that is resumed before the scheduler has heard that its worker ended is taken
    for failed, and this one is there to mend just that.
    """

    SETTLE = 5.0  # seconds

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """What the triggerer makes this anew from."""
        return "llmops_triggers.AnswerTrigger", super().serialize()[1]

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait, then look for the answer until it is there or time runs out."""
        await asyncio.sleep(self.SETTLE)
        async for event in super().run():
            yield event
