"""Witnesses outside the ledger that remember how far it went: MLflow's registered model, and scored partitions.

A hash chain does not notice when its end is cut off; witnesses keep number and digest of an entry.
"""

from __future__ import annotations

import logging
from typing import Any, NamedTuple

from llmops_tasks import tracking
from llmops_tasks.contracts import LedgerEntry, LedgerLink
from llmops_tasks.errors import IntegrityError, StorageError
from llmops_tasks.store import objects
from llmops_tasks.store.attempts import MANIFEST

log = logging.getLogger(__name__)
TAGS = {"seq": "ledger_seq", "sha256": "ledger_sha256"}  # of MLflow's registered model
META = "ledger_head"  # in the meta of a scored partition


class Witness(NamedTuple):
    """An observation of the ledger."""

    who: str
    seq: int
    sha256: str


def heard(name: str) -> list[Witness]:
    """All witnesses of a use case's ledger."""
    return [*_registered_model(name), *_answered_days(name)]


def tell(api: Any, name: str, head: LedgerLink) -> None:
    """Store the ledger's newest entry on MLflow's registered model."""
    for part, tag in TAGS.items():
        api.set_registered_model_tag(name, tag, str(head[part]))  # type: ignore[literal-required]


def check(chain: list[LedgerEntry], seen: list[Witness]) -> None:
    """Hold a verified chain against what was seen.

    Raises:
        IntegrityError: naming a witness of an entry that is gone or has become another.
    """
    for witness in sorted(seen, key=lambda witness: -witness.seq):
        if witness.seq > len(chain):
            raise IntegrityError(
                f"The ledger ends at entry {len(chain)}, but {witness.who} saw entry {witness.seq} "
                f"({witness.sha256[:12]}). Its end was removed: restore the ledger from a backup."
            )
        if witness.seq and chain[witness.seq - 1]["sha256"] != witness.sha256:
            raise IntegrityError(
                f"Ledger entry {witness.seq} is {chain[witness.seq - 1]['sha256'][:12]}, but {witness.who} saw "
                f"{witness.sha256[:12]}. It was replaced: restore the ledger from a backup."
            )


def _registered_model(name: str) -> list[Witness]:
    if not tracking.exists():
        return []
    tags = tracking.attempt(f"asking for the model '{name}'", lambda api: _tags(api, name)) or {}
    if not all(tag in tags for tag in TAGS.values()):
        return []
    return [Witness(f"MLflow's registered model '{name}'", int(tags[TAGS["seq"]]), tags[TAGS["sha256"]])]


def _tags(api: Any, name: str) -> dict[str, str]:
    found = api.search_registered_models(f"name = '{name}'")
    return dict(found[0].tags) if found else {}


def _answered_days(name: str) -> list[Witness]:
    """A part of a scored partition, whose manifest names the newest ledger entry of that time."""
    folder = f"{objects.store_uri()}/{name}/predictions"
    found: list[Witness] = []
    for uri in sorted({*objects.find(f"{folder}/*/{MANIFEST}"), *objects.find(f"{folder}/*/*/{MANIFEST}")}):
        try:
            seen = objects.read_json(uri)["meta"].get(META)
        except StorageError as exc:  # a damaged day is no witness; that it is damaged, its readers notice
            log.warning("%s", exc)
            continue
        if seen:
            where = uri.removeprefix(f"{folder}/").removesuffix(f"/{MANIFEST}")
            found.append(Witness(f"the predictions of {where}", int(seen["seq"]), str(seen["sha256"])))
    return found
