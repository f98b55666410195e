"""Records to a dataset: text rendered and curated, duplicates dropped, split leak-safe, published by content.

Rows pass in batches; DuckDB orders and joins them within a memory limit, on disk where they do not fit. The same
rows in another order are the same version. It checks neither labels nor permissions.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from functools import partial
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmops_tasks import config
from llmops_tasks.config import UseCase
from llmops_tasks.contracts import ArtifactRef
from llmops_tasks.data import assignments, augment, curate, dataset_card, figures, rendering, splits, tables
from llmops_tasks.data.splits import SPLITS
from llmops_tasks.errors import DataError, EvidenceError
from llmops_tasks.prompts import interface
from llmops_tasks.prompts.interface import Interface
from llmops_tasks.store import artifacts
from llmops_tasks.store.sources import code_digest

if TYPE_CHECKING:
    import pyarrow as pa

log = logging.getLogger(__name__)
# What every dataset has; watched columns follow.
COLUMNS = ("record_id", "group", "time", "text", "label", "completion", "split", "augmented")
PART = 500_000  # rows that are put in order at once
# Of every row what order and duplicates need, in fixed widths; texts stay in their file, and memory small.
_KEYS = """
create table keys as select file_row_number as row, "time", record_id, md5_number("group") as "group", label,
md5_number("text") as digest from rendered
"""
# Of rows with the same text and label the earliest.
_FIRSTS = """
create table firsts as select row, "time", record_id, "group" from keys
semi join (select arg_min(row, ("time", record_id)) as row from keys group by digest, label) using (row)
"""
# A new table's rowid counts its rows in the order in which they came: here a row's place.
_KEPT = 'create table kept as select row, "group" from firsts order by "time", record_id'
_PLACES = 'create table places as select row, kept.rowid as place, split from kept join assigned using ("group")'
# Sorting whole rows takes memory for every run that it merges; so they are split by place first.
_PARTS = """
select rendered.* exclude (file_row_number), places.* exclude (row), place // $rows as part
from rendered join places on file_row_number = row
"""
_PLACED = "from placed where part = $part order by place"
_CONFLICTS = "select count(*) from (select 1 from keys group by digest having min(label) <> max(label))"
# Rows that are alike in a band with others, few of all; then those of different splits: the later one and the five
# earliest of each other split.
_ALIKE = """
create or replace table alike as from band semi join (select hash from band group by hash having count(*) > 1) using (hash)
"""
_PAIRS = """
insert into pairs select b.place, a.place from alike b join (
  from alike qualify row_number() over (partition by hash, split order by place) <= 5
) a on a.hash = b.hash and a.split <> b.split and a.place < b.place
"""
_TEXTS = """
select later, earlier, l."text", e."text" from (select distinct later, earlier from pairs)
join placed l on l.place = later join placed e on e.place = earlier order by later, earlier
"""


def build_dataset(*, usecase: str, records: ArtifactRef) -> ArtifactRef:
    """Build a dataset version from de-identified records.

    Returns:
        A reference of kind "dataset": `data.parquet` with COLUMNS and the watched columns, `set_aside.parquet` (record_id,
        reason) of rows whose text could not be rendered, and `README.md`, the dataset card.
        Its sha256 is the version. `meta` has rows and labels by split, what was dropped and why, texts with
        conflicting labels, the digest of the test set (`evaluation`), and its parents.

    Raises:
        DataError: if a split would be empty.

    Example:
        >>> dataset = build_dataset(usecase="triage", records=anonymized)
    """
    case, name = config.load(usecase), config.usecase_name(usecase)
    parts = _assigned(name, case, records)
    inputs = {
        "records": records["sha256"],
        "splits": [part["sha256"] for part in parts],
        "config": case.digest("data", "task", "monitoring"),
        "code": code_digest(__name__),
    }
    build = partial(_build, name, case, records, parts)
    return artifacts.publish(usecase=name, kind="dataset", inputs=inputs, build=build)


def render_day(*, usecase: str, records: ArtifactRef, date: str, champion: dict[str, Any]) -> ArtifactRef:
    """Render a day's de-identified records for a release, with that release's own text template.

    Args:
        usecase: name or YAML path.
        records: from `anonymize`.
        date: YYYY-MM-DD.
        champion: from `find_champion`: the release that will score them.

    Returns:
        A reference of kind "day": `data.parquet` with record_id, group, time, text and the watched columns, and
        `set_aside.parquet` as of a dataset.

    Raises:
        EvidenceError: if nothing was promoted yet.
        DataError: if the records lack a column that the release's text template reads.

    Example:
        >>> day = render_day(usecase="triage", records=checked, date="2026-03-02", champion=champion)
    """
    case, name = config.load(usecase), config.usecase_name(usecase)
    if champion["version"] is None:
        raise EvidenceError(
            "No version was promoted yet, so records cannot be scored. Train, evaluate and approve one first."
        )
    asked = interface.of_release(champion["release"])
    inputs = {
        "records": records["sha256"],
        "date": config.checked_date(date),
        "text": asked.text_digest(),
        "config": case.digest("data", "monitoring"),
        "code": code_digest(__name__),
    }
    build = partial(_build_day, case, asked, records, date)
    return artifacts.publish(usecase=name, kind="day", inputs=inputs, build=build)


def _build_day(case: UseCase, asked: Interface, records: ArtifactRef, date: str, out: Path) -> dict[str, Any]:
    names = ["record_id", "group", "time", "text", *case.monitoring.columns]
    rows = records["rows"]
    with artifacts.scratch() as work, tables.database(rows) as db, tables.Writer(out / "data.parquet") as writer:
        dropped = rendering.render(case, asked, records, work / "rendered.parquet", out / rendering.SET_ASIDE, False)
        tables.view(db, work / "rendered.parquet", "rendered")
        for batch in tables.batches(db.sql('from rendered order by "time", record_id')):
            writer.add(_timed(batch).select(names))
    made = {"rows": writer.rows, "date": date, "dropped": dropped, "text_sha256": asked.text_digest()}
    return {**made, "parents": [artifacts.parent(records)]}


def _build(usecase: str, case: UseCase, records: ArtifactRef, assigned: list[ArtifactRef], out: Path) -> dict[str, Any]:
    with artifacts.scratch() as work, tables.database(records["rows"]) as db:
        asked = interface.of_usecase(case)
        aside = rendering.render(case, asked, records, work / "rendered.parquet", out / rendering.SET_ASIDE)
        tables.view(db, work / "rendered.parquet", "rendered", file_row_number=True)
        (before,) = tables.one(db, "select count(*) from rendered")
        if before == 0:
            raise DataError(f"No text of at least {case.data.curate.min_length} characters is left: {aside}.")
        _load_splits(db, case, assigned, work / "groups.parquet")
        unique = _place(db, work / "parts")
        leaks = _near_duplicates(db, case, unique, work / "bands.parquet")
        kept, made = _write(db, case, leaks, out / "data.parquet")
        (conflicting,) = tables.one(db, _CONFLICTS)
    found = figures.figures(case, out / "data.parquet", kept)
    dropped = aside | {"exact duplicates": before - unique, "near duplicates": int(leaks.sum())}
    if not all(found["splits"].values()):
        raise DataError(f"A split would be empty: {found['splits']} rows. Add more groups, or change data.split.")
    log.info("dataset: %s rows, dropped: %s", found["splits"], dropped)
    meta = {**found, "dropped": dropped, "conflicting_texts": conflicting, "parents": [artifacts.parent(records)]}
    meta |= {"augmented": made, "text_sha256": asked.text_digest(), "id_column": case.data.one("id")}
    meta["data_docs"] = _data_docs(records)
    (out / "README.md").write_text(dataset_card.dataset_card(usecase, case, kept, meta), encoding="utf-8")
    return {"rows": kept, **meta}


def _data_docs(records: ArtifactRef) -> str | None:
    """The page about the records that these were made from."""
    checked = next((above for above in records["meta"].get("parents", []) if above["kind"] == "validated"), None)
    return f"{checked['uri']}/data_docs/index.html" if checked else None


# ---------------------------------------------------------------- order, duplicates, splits


def _assigned(usecase: str, case: UseCase, records: ArtifactRef) -> list[ArtifactRef]:
    """Where splits are stored; with order `digest` they follow from the group, and nothing is stored."""
    data = case.data
    if data.split.order == "digest":
        return []
    group, time = data.one("group"), data.one("time")
    return assignments.assigned(usecase=usecase, rule=data.split, records=records, group=group, time=time)


def _load_splits(db: Any, case: UseCase, assigned: list[ArtifactRef], path: Path) -> None:
    """Make the table `assigned`."""
    assignments.load(db, assigned)
    if case.data.split.order == "digest":
        groups = db.cursor().execute('select distinct "group" from rendered')
        with tables.Writer(path, {"group": "string", "split": "string"}) as writer:
            while found := groups.fetchmany(tables.BATCH):
                for (group,) in found:
                    writer.add_row({"group": group, "split": splits.place_by_digest(group, case.data.split)})
        assignments.add(db, path)


def _place(db: Any, folder: Path) -> int:
    """Drop exact duplicates and give every row its place, part by part; returns how many rows are left."""
    for step in (_KEYS, _FIRSTS, _KEPT, _PLACES):
        db.execute(step)
    parts = db.sql(_PARTS, params={"rows": PART})
    parts.write_parquet(str(folder), partition_by=["part"], row_group_size=tables.BATCH)
    tables.view(db, folder / "*" / "*.parquet", "placed", hive_partitioning=True)
    return int(tables.one(db, "select count(*) from kept")[0])


def _placed(db: Any) -> Iterator[pa.Table]:
    """All kept rows in order, each with its split."""
    (rows,) = tables.one(db, "select count(*) from kept")
    parts = (db.sql(_PLACED, params={"part": part}) for part in range(-(-rows // PART)))
    yield from chain.from_iterable(map(tables.batches, parts))


def _near_duplicates(db: Any, case: UseCase, rows: int, path: Path) -> Any:
    """For every place, does the row nearly repeat an earlier one of another split? What is tested on was not trained on."""
    import numpy as np

    limit, leaks = case.data.curate.near_duplicates, np.zeros(rows, dtype=bool)
    if limit is None:
        return leaks
    _write_bands(db, path)
    _find_pairs(db, path)
    # in order of the later row: what was dropped itself makes no other row a duplicate
    cursor = db.execute(_TEXTS)
    while found := cursor.fetchmany(tables.BATCH):
        for later, earlier, text, other in found:
            if not (leaks[later] or leaks[earlier]) and curate.jaccard(text, other) >= limit:
                leaks[later] = True
    return leaks


def _write_bands(db: Any, path: Path) -> None:
    import numpy as np
    import pyarrow as pa

    with tables.Writer(path) as writer:
        for batch in _placed(db):
            hashes = np.array(list(curate.bands(batch["text"].to_pylist())), dtype=np.int64)
            numbers = pa.array([SPLITS.index(part) for part in batch["split"].to_pylist()], pa.int8())
            bands = {f"band{band}": hashes[:, band] for band in range(curate.BANDS)}
            writer.add(pa.table({"place": batch["place"], "split": numbers, **bands}))


def _find_pairs(db: Any, path: Path) -> None:
    """Candidates, band by band: as much memory as for the rows of one."""
    from duckdb import ColumnExpression

    db.execute("create table pairs (later bigint, earlier bigint)")
    bands = db.read_parquet(str(path))
    for band in range(curate.BANDS):
        bands.select("place", "split", ColumnExpression(f"band{band}").alias("hash")).create_view("band", replace=True)
        db.execute(_ALIKE)
        db.execute(_PAIRS)


def _write(db: Any, case: UseCase, leaks: Any, path: Path) -> tuple[int, int]:
    """Write the dataset; returns its number of records, and of synthetic ones among them."""
    import pyarrow as pa
    import pyarrow.compute as pc

    rule, train = case.data.augment, list[dict[str, Any]]()
    with tables.Writer(path) as writer:
        for batch in _placed(db):
            kept = pa.array(~leaks[batch["place"].to_numpy()])
            table = _timed(batch).append_column("augmented", pa.array([""] * batch.num_rows, pa.string()))
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
