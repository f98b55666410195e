"""Records to a dataset: text rendered and curated, duplicates dropped, split leak-safe, published by content.

Rows pass in batches; DuckDB orders and joins them within a memory limit, on disk where they do not fit. The same
rows in another order are the same version. What this does not do: look at labels' truth, or at who may see what.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmops_tasks import artifacts, config, storage
from llmops_tasks.config import UseCase
from llmops_tasks.contracts import ArtifactRef
from llmops_tasks.data import augment, cards, curate, figures, splits, tables
from llmops_tasks.data.splits import SPLITS
from llmops_tasks.errors import DataError
from llmops_tasks.prompts import templates

if TYPE_CHECKING:
    import pyarrow as pa

log = logging.getLogger(__name__)
# What every dataset has; watched columns follow.
COLUMNS = ("record_id", "group", "time", "text", "label", "completion", "split", "augmented")
_CODE = (
    __file__,
    augment.__file__,
    templates.__file__,
    curate.__file__,
    splits.__file__,
    cards.__file__,
    figures.__file__,
)
# Of every row what order and duplicates need; texts stay in their file, and memory small.
_KEYS = """
create table keys as select file_row_number as row, "time", record_id, "group", label, md5_number("text") as digest
from rendered
"""
# Of rows with the same text and label the earliest, numbered in their order.
_KEPT = """
create table kept as select row, "group", row_number() over (order by "time", record_id) - 1 as place from (
  from keys qualify row_number() over (partition by digest, label order by "time", record_id) = 1)
"""
_RANKS = """
create table ranks as select "group", row_number() over (order by min(place)) - 1 as rank from kept group by "group"
"""
_PLACES = 'create table places as select row, place, rank from kept join ranks using ("group")'
_JOINED = """
create table joined as select rendered.* exclude (file_row_number), place, rank
from rendered join places on file_row_number = row
"""
_PLACED = "from joined order by place"
_CONFLICTS = "select count(*) from (select 1 from keys group by digest having min(label) <> max(label))"
# Rows of different splits that share a band, the later one and the five earliest of each other split.
_PAIRS = """
select distinct b.place as later, a.place as earlier from bands b join (
  select * from bands qualify row_number() over (partition by band, hash, split order by place) <= 5
) a on a.band = b.band and a.hash = b.hash and a.split <> b.split and a.place < b.place order by 1, 2
"""

_TEXTS = """
select later, earlier, l."text", e."text" from pairs
join joined l on l.place = later join joined e on e.place = earlier order by later, earlier
"""


def version(*, usecase: str, records: ArtifactRef) -> ArtifactRef:
    """Make a dataset version from anonymized records.

    Returns:
        A reference of kind "dataset": `data.parquet` with COLUMNS and the watched columns, and `README.md`, its card.
        Its sha256 is the version. `meta` has rows and labels by split, what was dropped and why, texts with
        conflicting labels, the digest of the evaluation set (`evaluation`), and its parents.

    Raises:
        DataError: if a split would be empty.
    """
    case, name = config.load(usecase), config.usecase_name(usecase)
    inputs = {
        "records": records["sha256"],
        "config": case.digest("data", "task", "monitoring"),
        "code": storage.code_digest(*_CODE),
    }
    build = partial(_build, name, case, records)
    return artifacts.publish(usecase=name, kind="dataset", inputs=inputs, build=build)


def day(*, usecase: str, records: ArtifactRef, date: str) -> ArtifactRef:
    """Make a day's anonymized records ready for inference: the same rendering, no labels, no split.

    Returns:
        A reference of kind "day": `data.parquet` with record_id, time, text and the watched columns.
    """
    case, name = config.load(usecase), config.usecase_name(usecase)
    inputs = {
        "records": records["sha256"],
        "date": config.checked_date(date),
        "config": case.digest("data", "monitoring"),
        "code": storage.code_digest(*_CODE),
    }
    return artifacts.publish(usecase=name, kind="day", inputs=inputs, build=partial(_build_day, case, records, date))


def _build_day(case: UseCase, records: ArtifactRef, date: str, out: Path) -> dict[str, Any]:
    names = ["record_id", "time", "text", *case.monitoring.columns]
    with artifacts.scratch() as work, tables.database() as db, tables.Writer(out / "data.parquet") as writer:
        dropped = _render(case, records, work / "rendered.parquet", answers=False)
        tables.view(db, work / "rendered.parquet", "rendered")
        rows = db.sql('from rendered order by "time", record_id')
        for batch in tables.batches(rows):
            writer.add(_timed(batch).select(names))
    return {"rows": writer.rows, "date": date, "too_short": dropped, "parents": [artifacts.parent(records)]}


def _build(usecase: str, case: UseCase, records: ArtifactRef, out: Path) -> dict[str, Any]:
    with artifacts.scratch() as work, tables.database() as db:
        short = _render(case, records, work / "rendered.parquet")
        tables.view(db, work / "rendered.parquet", "rendered", file_row_number=True)
        for step in (_KEYS, _KEPT, _RANKS, _PLACES, _JOINED):
            db.execute(step)
        (before,) = tables.one(db, "select count(*) from rendered")
        (unique,) = tables.one(db, "select count(*) from kept")
        if unique == 0:
            raise DataError(f"No text of at least {case.data.curate.min_length} characters is left of {short} rows.")
        leaks = _near_duplicates(db, case, unique, work / "bands.parquet")
        kept, made = _write(db, case, leaks, out / "data.parquet")
        (conflicting,) = tables.one(db, _CONFLICTS)
    found = figures.figures(case, out / "data.parquet")
    dropped = {"too short": short, "exact duplicates": before - unique, "near duplicates": int(leaks.sum())}
    if not all(found["splits"].values()):
        raise DataError(f"A split would be empty: {found['splits']} rows. Bring more groups, or change data.split.")
    log.info("dataset: %s rows, dropped: %s", found["splits"], dropped)
    meta = {**found, "dropped": dropped, "conflicting_texts": conflicting, "parents": [artifacts.parent(records)]}
    meta["augmented"] = made
    meta["data_docs"] = _data_docs(records)
    (out / "README.md").write_text(cards.card(usecase, case, kept, meta), encoding="utf-8")
    return {"rows": kept, **meta}


def _data_docs(records: ArtifactRef) -> str | None:
    """The page about the records that these were made from."""
    checked = next((above for above in records["meta"].get("parents", []) if above["kind"] == "validated"), None)
    return f"{checked['uri']}/data_docs/index.html" if checked else None


# ---------------------------------------------------------------- text and answers


def _render(case: UseCase, records: ArtifactRef, path: Path, answers: bool = True) -> int:
    """Write rows with the roles' names, the text that the model reads, and microseconds as time.

    Returns:
        How many were dropped because their text is too short.
    """
    with tables.Writer(path) as writer:
        for batch in tables.read(artifacts.fetch(records) / "records.parquet"):
            writer.add(_rendered(case, batch, answers))
    return records["rows"] - writer.rows


def _rendered(case: UseCase, batch: pa.Table, answers: bool) -> pa.Table:
    import pyarrow as pa
    import pyarrow.compute as pc

    data = case.data
    rows = batch.select(data.named("input")).to_pylist()
    texts = [curate.normalised(templates.render_text(case, row), data.curate) for row in rows]
    columns: dict[str, Any] = {"record_id": batch[data.one("id")], "group": batch[data.one("group")]}
    columns["time"] = (
        batch[data.one("time")].cast(pa.int64()) if data.named("time") else pa.nulls(len(rows), pa.int64())
    )
    columns["text"] = pa.array(texts, pa.string())
    if answers:
        columns["label"], columns["completion"] = (pa.array(part, pa.string()) for part in _answers(case, batch))
    columns |= {name: batch[name] for name in case.monitoring.columns}
    table = pa.table(columns)
    return table.filter(pc.greater_equal(pc.utf8_length(table["text"]), data.curate.min_length))


def _answers(case: UseCase, batch: pa.Table) -> tuple[list[str], list[str]]:
    """The label's name (or, for generation, the answer) and what the model is to write."""
    if case.task.type == "generation":
        answers = batch[case.data.completion].to_pylist()
        return answers, answers
    by_value = {value: label for label in case.task.labels for value in label.values}
    labels = [by_value[value] for value in batch[case.data.one("label")].to_pylist()]
    return [label.name for label in labels], [label.text for label in labels]


# ---------------------------------------------------------------- order, duplicates, splits


def _placed(db: Any, case: UseCase) -> Iterator[tuple[pa.Table, list[str]]]:
    """All kept rows in order, and the split of each."""
    rule = case.data.split
    (groups,) = tables.one(db, "select count(*) from ranks")
    for batch in tables.batches(db.sql(_PLACED)):
        if rule.order == "time":
            yield batch, [splits.place(rank, groups, rule) for rank in batch["rank"].to_pylist()]
        else:
            yield batch, [splits.place_by_digest(group, rule) for group in batch["group"].to_pylist()]


def _near_duplicates(db: Any, case: UseCase, rows: int, path: Path) -> Any:
    """For every place, does the row nearly repeat an earlier one of another split? What is tested on was not trained on."""
    import numpy as np

    limit, leaks = case.data.curate.near_duplicates, np.zeros(rows, dtype=bool)
    if limit is None:
        return leaks
    _write_bands(db, case, path)
    tables.view(db, path, "bands")
    db.execute("create table pairs as " + _PAIRS)
    # in order of the later row: what was dropped itself makes no other row a duplicate
    cursor = db.execute(_TEXTS)
    while found := cursor.fetchmany(tables.BATCH):
        for later, earlier, text, other in found:
            if not (leaks[later] or leaks[earlier]) and curate.jaccard(text, other) >= limit:
                leaks[later] = True
    return leaks


def _write_bands(db: Any, case: UseCase, path: Path) -> None:
    import numpy as np
    import pyarrow as pa

    with tables.Writer(path) as writer:
        for batch, parts in _placed(db, case):
            hashes = np.array(list(curate.bands(batch["text"].to_pylist())), dtype=np.int64)
            count = curate.BANDS
            columns = {
                "place": np.repeat(batch["place"].to_numpy(), count),
                "split": np.repeat(np.array([SPLITS.index(part) for part in parts], dtype=np.int8), count),
                "band": np.tile(np.arange(count, dtype=np.int8), len(parts)),
                "hash": hashes.reshape(-1),
            }
            writer.add(pa.table(columns))


def _write(db: Any, case: UseCase, leaks: Any, path: Path) -> tuple[int, int]:
    """Write the dataset; returns how many records it has, and how many of them are made up."""
    import pyarrow as pa
    import pyarrow.compute as pc

    rule, train = case.data.augment, list[dict[str, Any]]()
    with tables.Writer(path) as writer:
        for batch, parts in _placed(db, case):
            kept = pa.array(~leaks[batch["place"].to_numpy()])
            table = _timed(batch).append_column("split", pa.array(parts, pa.string()))
            table = table.append_column("augmented", pa.array([""] * len(parts), pa.string()))
            table = table.select([*COLUMNS, *case.monitoring.columns]).filter(kept)
            writer.add(table)
            if rule.active:
                train += table.filter(pc.equal(table["split"], SPLITS[0])).to_pylist()
        made = augment.augmented(train, rule)[len(train) :]
        if made:
            writer.add(pa.Table.from_pylist(made, schema=table.schema))
    return writer.rows, len(made)


def _timed(batch: pa.Table) -> pa.Table:
    """Microseconds to points in time, UTC."""
    import pyarrow as pa

    time = batch["time"].cast(pa.timestamp("us", tz="UTC"))
    return batch.set_column(batch.column_names.index("time"), "time", time)
