"""Who decided what, when, and why: an append-only hash chain, one small object an entry.

An entry is written by a conditional PUT at the next sequence number, which makes it a compare-and-set: of
two writers one wins, the other reads on and tries again. Order is the sequence, never the clock.

Each entry names, with their digests, the newest entry of every thread before it (each kind, and a few more), so that
the head answers "who serves" and "what was decided last" in a fixed number of requests, however long the chain is.
A decision is written once: first a mark by its name is created, which says from which number on its entry can be
(`claimed`), then the entry. Any later writer, even beside one thought dead, looks there before it writes.

The head alone is verified on the way; `verify_ledger` reads everything, and asks witnesses whether the end is missing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any, NamedTuple, cast

from llmops_tasks import config
from llmops_tasks.contracts import LedgerEntry, LedgerLink
from llmops_tasks.errors import ConflictError, InputError, IntegrityError, LLMOpsError
from llmops_tasks.release import witnesses
from llmops_tasks.store import digests, journal, objects

log = logging.getLogger(__name__)
KINDS = ("registration", "gate", "approval", "promotion", "rollback", "retrain", "base_model_selection")
CHANGE, RETRAINING = "change of champion", "retraining"  # threads beside the kinds
GENESIS = "0" * 64
_TRIES = 500
_RESTORE = "Restore the ledger from a backup."


class Head(NamedTuple):
    """The end of a ledger, as it was seen."""

    name: str  # of the use case
    entry: LedgerEntry | None

    @property
    def seq(self) -> int:
        """Its number; 0 before the first entry."""
        return self.entry["seq"] if self.entry else 0

    @property
    def sha256(self) -> str:
        """Its digest, which pins all entries before it."""
        return self.entry["sha256"] if self.entry else GENESIS

    def links(self) -> dict[str, LedgerLink]:
        """The newest entry of every thread."""
        if self.entry is None:
            return {}
        here: LedgerLink = {"seq": self.seq, "sha256": self.sha256}
        return self.entry["last"] | {thread: here for thread in _threads(self.entry["kind"], self.entry["body"])}

    def walk(self, thread: str) -> Iterator[LedgerEntry]:
        """A thread's entries, the newest first; each pinned by the one after it."""
        link = self.links().get(thread)
        while link:
            yield (entry := _linked(self.name, link))
            link = entry["last"].get(thread)

    def last(self, thread: str) -> LedgerEntry | None:
        """The newest entry of a thread."""
        return next(self.walk(thread), None)


def _threads(kind: str, body: dict[str, Any]) -> list[str]:
    more = [CHANGE] * (kind in ("promotion", "rollback")) + [RETRAINING] * (kind == "retrain" and body["retrain"])
    return [kind, *more]


# ---------------------------------------------------------------- reading


def newest(usecase: str) -> Head:
    """The end of the ledger; two requests.

    Raises:
        IntegrityError: if the last entry is damaged.
    """
    name = config.usecase_name(usecase)
    seq = journal.last(_folder(name))
    return Head(name, _read(name, seq) if seq else None)


def head(*, usecase: str) -> LedgerLink:
    """Number and digest of the last entry: what a witness outside of the ledger keeps."""
    end = newest(usecase)
    return {"seq": end.seq, "sha256": end.sha256}


def find_entry(*, usecase: str, kind: str, once: str) -> LedgerEntry | None:
    """The entry of a decision, or None; two requests, as a rule."""
    name = config.usecase_name(usecase)
    start = _claimed(name, kind, once)
    return None if start is None else next((e for e in _from(name, start) if _is(e, kind, once)), None)


def read_ledger(*, usecase: str, kind: str | None = None) -> list[LedgerEntry]:
    """Read all ledger entries in order, with the chain verified.

    Raises:
        IntegrityError: naming the first entry that is damaged, missing or out of order.

    Example:
        >>> read_ledger(usecase="triage")
    """
    name = config.usecase_name(usecase)
    end = Head(name, None)
    chain: list[LedgerEntry] = []
    for expected, seq in enumerate(journal.numbers(_folder(name)), start=1):
        entry = _read(name, seq)
        if entry is None or (seq, entry["previous_sha256"], entry["last"]) != (expected, end.sha256, end.links()):
            raise IntegrityError(f"Ledger entry {expected} is missing, moved or reordered. {_RESTORE}")
        chain.append(entry)
        end = Head(name, entry)
    return [entry for entry in chain if kind in (None, entry["kind"])]


def verify_ledger(*, usecase: str) -> dict[str, Any]:
    """Verify the whole hash chain, and compare it with its witnesses (MLflow, predictions).

    Returns:
        {entries, head_sha256, witnesses}: number of entries, digest of the newest, number of witnesses.

    Raises:
        IntegrityError: naming the first bad entry, or the witness of a missing one.

    Example:
        >>> verify_ledger(usecase="triage")
    """
    name, chain = config.usecase_name(usecase), read_ledger(usecase=usecase)
    heard = witnesses.heard(name)
    witnesses.check(chain, heard)
    return {"entries": len(chain), "head_sha256": chain[-1]["sha256"] if chain else GENESIS, "witnesses": len(heard)}


def _folder(name: str) -> str:
    return f"{objects.store_uri()}/{name}/ledger"


def _read(name: str, seq: int) -> LedgerEntry | None:
    """The entry with this number, if there is one; its own digest is checked."""
    data = objects.read_if_there(uri := journal.address(_folder(name), seq))
    if data is None:
        return None
    entry = cast(LedgerEntry, objects.parsed(uri, data))
    content = {key: value for key, value in entry.items() if key != "sha256"}
    if digests.digest(content) != entry.get("sha256"):
        raise IntegrityError(f"Ledger entry {seq} was changed after it was written. {_RESTORE}")
    if entry["seq"] != seq:
        raise IntegrityError(f"Ledger entry {seq} is missing, moved or reordered. {_RESTORE}")
    return entry


def _linked(name: str, link: LedgerLink) -> LedgerEntry:
    entry = _read(name, link["seq"])
    if entry is None or entry["sha256"] != link["sha256"]:
        raise IntegrityError(
            f"Ledger entry {link['seq']} is missing, or differs from what a later entry names. {_RESTORE}"
        )
    return entry


def entry_at(end: Head, link: LedgerLink) -> LedgerEntry:
    """The entry that another one names.

    Raises:
        IntegrityError: if it is gone or has become another.
    """
    return _linked(end.name, link)


def _from(name: str, seq: int) -> Iterator[LedgerEntry]:
    """Entries from a number on."""
    while (entry := _read(name, seq)) is not None:
        yield entry
        seq += 1


def _is(entry: LedgerEntry, kind: str, once: str) -> bool:
    return entry["kind"] == kind and entry["body"].get("once") == once


# ---------------------------------------------------------------- writing


def append(
    *,
    usecase: str,
    kind: str,
    once: str,
    body: Callable[[Head], dict[str, Any]],
) -> LedgerEntry:
    """Append an entry, unless one of this kind with the same `once` is there: a retried task adds nothing.

    Args:
        usecase: name or YAML path.
        kind: one of KINDS.
        once: identifies the decision.
        body: makes the body of the very end of the chain that the entry would follow, and may refuse by raising. As
            the entry is written at the next number or not at all, nothing can come between what it saw and the entry.

    Raises:
        InputError: if the kind is unknown.
        IntegrityError: if the end of the chain is damaged; nothing is appended to it.
    """
    if kind not in KINDS:
        raise InputError(f"Ledger kind '{kind}' is unknown. Allowed: {list(KINDS)}.")
    end = newest(usecase)
    try:
        body(end)  # what is refused leaves no mark
    except LLMOpsError:
        if (known := find_entry(usecase=usecase, kind=kind, once=once)) is not None:
            return known
        raise
    return _append(end, _claim(end, kind, once), kind, once, body)


def _append(end: Head, seq: int, kind: str, once: str, body: Callable[[Head], dict[str, Any]]) -> LedgerEntry:
    """Go from the first number that the entry can have to the first free one, and write there."""
    conflicts, is_free = 0, seq == end.seq + 1
    while conflicts < _TRIES:
        if is_free or (entry := _read(end.name, seq)) is None:
            end = end if end.seq == seq - 1 else _end_at(end.name, seq - 1)
            entry = _write(end, kind, {**body(end), "once": once})
            conflicts += 1
        if _is(entry, kind, once):
            return entry
        end, seq, is_free = Head(end.name, entry), seq + 1, False
    raise ConflictError(f"The ledger of '{end.name}' was busy for {_TRIES} tries; nothing was written. Try again.")


def _write(end: Head, kind: str, body: dict[str, Any]) -> LedgerEntry:
    """Write the entry that follows; returns it, or the one that another writer put there first."""
    time = datetime.now(UTC).isoformat(timespec="seconds")
    chained = {"seq": end.seq + 1, "previous_sha256": end.sha256, "last": end.links()}
    content = {**chained, "kind": kind, "time": time, "body": body}
    entry = cast(LedgerEntry, {**content, "sha256": digests.digest(content)})
    try:
        objects.create(journal.address(_folder(end.name), end.seq + 1), digests.canonical(entry))
    except ConflictError:
        return cast(LedgerEntry, _end_at(end.name, end.seq + 1).entry)
    log.info("ledger %d: %s", entry["seq"], kind)
    return entry


def _end_at(name: str, seq: int) -> Head:
    """The ledger as it ended with this number."""
    if seq and (entry := _read(name, seq)) is None:
        raise IntegrityError(f"Ledger entry {seq} is gone: a mark shows that the ledger continued after it. {_RESTORE}")
    return Head(name, entry if seq else None)


def _mark(name: str, kind: str, once: str) -> str:
    return f"{objects.store_uri()}/{name}/ledger_once/{digests.digest([kind, once])}"


def _claim(end: Head, kind: str, once: str) -> int:
    """Mark a decision as about to be written; returns the first number that its entry can have.

    No entry is written without the mark, and the mark is never changed. So a process that was killed in between
    loses nothing, and its retry, beside it if it lives after all, begins to look where it began to write.
    """
    try:
        objects.create(_mark(end.name, kind, once), digests.canonical({"from": end.seq + 1}))
        return end.seq + 1
    except ConflictError:
        return _claimed(end.name, kind, once) or end.seq + 1


def _claimed(name: str, kind: str, once: str) -> int | None:
    data = objects.read_if_there(uri := _mark(name, kind, once))
    if data is None:
        return None
    start = objects.parsed(uri, data).get("from")
    if not isinstance(start, int) or start < 1:
        raise IntegrityError(f"'{uri}' was changed after it was written. {_RESTORE}")
    return start


def record_entry(*, usecase: str, kind: str, body: dict[str, Any], once: str) -> LedgerEntry:
    """Append a ledger entry, once.

    Args:
        usecase: name or YAML path.
        kind: one of KINDS.
        body: what was decided, on what evidence; digests and numbers, no record text.
        once: identifies the decision.

    Example:
        >>> record_entry(usecase="triage", kind="note", body={"text": "read by the board"}, once="board-2026-03")
    """
    return append(usecase=usecase, kind=kind, once=once, body=lambda end: body)
