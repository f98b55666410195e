"""De-identification: identifiers are dropped as columns and masked in free text, rare values are capped.

A row's own identifiers (name, phone, ...) are masked wherever they stand in its text; patterns catch what
belongs to others (`masking`). The group key becomes a keyed pseudonym. Not done yet: measuring
the recall.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
import secrets
from collections import Counter
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmops_tasks import config
from llmops_tasks.config import Data
from llmops_tasks.contracts import ArtifactRef
from llmops_tasks.data import tables
from llmops_tasks.data.masking import mask
from llmops_tasks.data.tables import ORIGIN
from llmops_tasks.errors import ConflictError, InputError
from llmops_tasks.prompts import conversations
from llmops_tasks.store import artifacts, files, objects
from llmops_tasks.store.sources import code_digest

if TYPE_CHECKING:
    import pyarrow as pa

log = logging.getLogger(__name__)


def anonymize(*, usecase: str, records: ArtifactRef) -> ArtifactRef:
    """De-identify records: mask and drop identifiers, replace group keys by keyed pseudonyms.

    Returns:
        A reference of kind "anonymized": `records.parquet` without identifier and leakage columns.
        `meta.masked` counts what was masked, by kind.

    Example:
        >>> anonymized = anonymize(usecase="triage", records=checked)
    """
    case, name = config.load(usecase), config.usecase_name(usecase)
    key = _pseudonym_key()
    inputs = {
        "records": records["sha256"],
        "data": case.data.model_dump(mode="json", include={"columns", "mask", "completion"}),
        "key": _name_of(key),
        "code": code_digest(__name__),
    }
    build = partial(_build, case.data, records, key)
    return artifacts.publish(usecase=name, kind="anonymized", inputs=inputs, build=build)


def _pseudonym_key() -> bytes:
    """`LLMOPS_PSEUDONYM_KEY`, else the key under `LLMOPS_HOME`, generated once if store and home are on one machine.

    Raises:
        InputError: if the store is shared and no key is given. A key that each worker made for itself would give other
            pseudonyms each time: new datasets, new splits, a training every night.
    """
    if key := os.environ.get("LLMOPS_PSEUDONYM_KEY"):
        return key.encode()
    path = files.home() / "keys" / "pseudonym.key"
    if not path.exists() and objects.is_s3(objects.store_uri()):
        raise InputError(
            f"The store '{objects.store_uri()}' is shared, and no pseudonym key is given. Set LLMOPS_PSEUDONYM_KEY "
            f"to the same value on every worker, or mount it as '{path}'. To make one, once: openssl rand -hex 32"
        )
    if not path.exists():
        try:
            objects.create(f"file://{path}", secrets.token_hex(32).encode())
        except ConflictError:
            log.info("another worker made the pseudonym key first")
    if not (made := path.read_bytes().strip()):
        raise InputError(f"The key for pseudonyms '{path}' is empty, so pseudonyms could be guessed. Restore it.")
    return made


def _name_of(key: bytes) -> str:
    """Which key, not the key."""
    return hashlib.sha256(b"id:" + key).hexdigest()


def pseudonym(value: str, key: bytes) -> str:
    """The same pseudonym for the same value and key; without the key neither guessed nor linked."""
    return hmac.new(key, value.encode(), "sha256").hexdigest()[:16]


def _build(data: Data, records: ArtifactRef, key: bytes, out: Path) -> dict[str, Any]:
    counts: Counter[str] = Counter()
    with tables.Writer(out / "records.parquet") as writer:
        for batch in tables.read(artifacts.fetch(records) / "records.parquet"):
            writer.add(_anonymous(data, batch, key, counts))
    log.info("anonymized %d records, masked %s", writer.rows, dict(counts))
    made = {"rows": writer.rows, "masked": dict(counts), "key": _name_of(key)}
    return {**made, "parents": [artifacts.parent(records)]}


def _anonymous(data: Data, batch: pa.Table, key: bytes, counts: Counter[str]) -> pa.Table:
    import pyarrow as pa

    identifiers = data.named("identifier")
    kinds = [data.columns[name].kind or "identifier" for name in identifiers]
    owns = list(zip(*(batch[name].to_pylist() for name in identifiers), strict=True)) or [()] * batch.num_rows
    for name in data.free_text():
        if name == data.completion and name not in batch.column_names:
            continue  # new records come without answers
        masked = _mask_turns if data.columns[name].type == "conversation" else mask
        texts = [
            masked(text, data.mask, list(zip(kinds, own, strict=True)), counts)
            for text, own in zip(batch[name].to_pylist(), owns, strict=True)
        ]
        batch = _with(batch, name, pa.array(texts, pa.string()))
    if group := data.named("group"):
        hidden = [pseudonym(value, key) for value in batch[group[0]].to_pylist()]
        batch = _with(batch, group[0], pa.array(hidden, pa.string()))
    gone = {*identifiers, *data.named("leakage"), *data.named("ignore"), *ORIGIN} - {data.completion}
    return _capped(batch.select([name for name in batch.column_names if name not in gone]), data)


def _mask_turns(
    text: str | None, kinds: list[Any], own: list[tuple[str, str | None]], counts: Counter[str]
) -> str | None:
    """Every turn of a conversation masked: within its JSON, escapes would hide what patterns look for."""
    return text and conversations.changed(text, lambda content: mask(content, kinds, own, counts) or "")


def _with(batch: pa.Table, name: str, cells: Any) -> pa.Table:
    return batch.set_column(batch.column_names.index(name), name, cells)


def _capped(batch: pa.Table, data: Data) -> pa.Table:
    import pyarrow.compute as pc

    for name, column in data.columns.items():
        if column.cap is not None and name in batch.column_names:
            batch = _with(batch, name, pc.min_element_wise(batch[name], column.cap, skip_nulls=False))
    return batch
