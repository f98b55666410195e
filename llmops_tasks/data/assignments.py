"""Split assignments of groups, permanent: an append-only journal per use case and split rule.

Each entry, `<store>/<usecase>/splits/<rule>/<number>.json`, names all parts so far; a part is an artifact with the
(pseudonymised) groups that were new then, and the split of each. An entry is written once, under the next number: of
two runs that bring new groups at the same time one is refused, and assigns what is still new after the other. So
assigned groups never move, whatever arrives late, in any order, or is erased.

Another split rule starts a journal of its own: its test set may contain groups that an earlier release was trained on.
Releases list the groups they were trained on, and the gate counts the overlap.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, TypedDict

from llmops_tasks.config import Split
from llmops_tasks.contracts import ArtifactRef
from llmops_tasks.data import splits, tables
from llmops_tasks.errors import ConflictError, DataError, IntegrityError
from llmops_tasks.store import artifacts, digests, objects
from llmops_tasks.store.sources import code_digest

log = logging.getLogger(__name__)
_ATTEMPTS = 20
_PART = {"group": "string", "split": "string"}
# Groups that no part names, by their first record.
_NEW = """
select "group" from (select "group", min("time") as first from seen group by "group") candidates
anti join assigned on assigned."group" = md5_number(candidates."group") order by first nulls last, "group"
"""


class Journal(TypedDict):
    """All that is assigned so far."""

    parts: list[ArtifactRef]
    counts: list[int]  # groups by split
    key: str | None  # name of the key that made the groups' pseudonyms


def assigned(*, usecase: str, rule: Split, records: ArtifactRef, group: str, time: str) -> list[ArtifactRef]:
    """Assign the groups of these records that are new; returns all parts.

    Args:
        usecase: its name.
        rule: ordered by time.
        records: with `records.parquet`.
        group: the column of the group.
        time: the column of the time.

    Raises:
        ConflictError: if other runs keep writing the journal.
        DataError: if another key made the pseudonyms: all groups would be new, and might be tested on after training.
        IntegrityError: if a part or an entry is damaged or missing.
    """
    for _ in range(_ATTEMPTS):
        number, journal = _last(usecase, rule)
        _check_key(journal, records)
        grown = _grown(usecase, rule, journal, records, (group, time))
        if grown == journal:
            return journal["parts"]
        try:
            objects.create(_address(usecase, rule, number + 1), digests.canonical(grown))
        except ConflictError:
            log.info("another run assigned groups of %s first: reading again", usecase)
            continue
        return grown["parts"]
    raise ConflictError(f"Other runs keep assigning groups of '{usecase}'. Let one run at a time prepare data.")


def _check_key(journal: Journal, records: ArtifactRef) -> None:
    if journal["parts"] and journal["key"] != records["meta"].get("key"):
        raise DataError(
            "The groups' pseudonyms were made with another key than those assigned to splits before, so earlier "
            "assignments cannot be found. Restore LLMOPS_PSEUDONYM_KEY (or the key under LLMOPS_HOME); to start over, "
            "remove the use case's folder `splits` by hand."
        )


def load(db: Any, parts: list[ArtifactRef]) -> None:
    """Provide all assignments as the table `assigned`: the group's digest, in a fixed width, and its split."""
    db.execute('create table assigned ("group" uhugeint, split varchar)')
    for part in parts:
        add(db, artifacts.fetch(part) / "groups.parquet")


def add(db: Any, path: Path) -> None:
    """Add a file's groups (group, split) to the table `assigned`."""
    db.execute('insert into assigned select md5_number("group"), split from read_parquet($path)', {"path": str(path)})


def _folder(usecase: str, rule: Split) -> str:
    return f"{objects.store_uri()}/{usecase}/splits/{digests.digest(rule.model_dump(mode='json'))[:16]}"


def _address(usecase: str, rule: Split, number: int) -> str:
    return f"{_folder(usecase, rule)}/{number:08d}.json"


def _last(usecase: str, rule: Split) -> tuple[int, Journal]:
    """The journal's newest entry, and its number."""
    found = objects.find(f"{_folder(usecase, rule)}/*.json")
    if not found:
        return 0, {"parts": [], "counts": [0] * len(splits.SPLITS), "key": None}
    journal: Journal = objects.read_json(found[-1])
    if len(journal["parts"]) != len(found):
        raise IntegrityError(f"Entries are missing among the {len(found)} in '{_folder(usecase, rule)}'. Restore them.")
    return len(found), journal


def _grown(usecase: str, rule: Split, journal: Journal, records: ArtifactRef, columns: tuple[str, str]) -> Journal:
    """The journal with one more part, if there are new groups."""
    with tables.told_as_full(), artifacts.scratch() as work, tables.database(records["rows"]) as db:
        _candidates(records, columns, work / "groups.parquet")
        tables.view(db, work / "groups.parquet", "seen")
        load(db, journal["parts"])
        db.execute(f"create table fresh as {_NEW}")
        if tables.one(db, "select count(*) from fresh")[0] == 0:
            return journal
        inputs = {
            "rule": rule.model_dump(mode="json"),
            "before": [part["sha256"] for part in journal["parts"]],
            "new": _digest(db),
            "code": code_digest(splits.__name__),
        }
        build = partial(_write, db, rule, journal["counts"])
        part = artifacts.publish(usecase=usecase, kind="splits_part", inputs=inputs, build=build)
    counts = [have + part["meta"]["counts"][name] for name, have in zip(splits.SPLITS, journal["counts"], strict=True)]
    log.info("assigned %d new groups: %s", part["rows"], part["meta"]["counts"])
    return {"parts": [*journal["parts"], part], "counts": counts, "key": records["meta"].get("key")}


def _candidates(records: ArtifactRef, columns: tuple[str, str], path: Path) -> None:
    import pyarrow as pa

    group, time = columns
    with tables.Writer(path) as writer:
        for batch in tables.read(artifacts.fetch(records) / "records.parquet"):
            writer.add(pa.table({"group": batch[group], "time": batch[time].cast(pa.int64())}))


def _digest(db: Any) -> str:
    """SHA-256 over the new groups in order."""
    import hashlib

    total = hashlib.sha256()
    for group in _fresh(db):
        total.update(digests.canonical(group))
    return total.hexdigest()


def _fresh(db: Any) -> Iterator[str]:
    cursor = db.cursor().execute('select "group" from fresh order by rowid')
    while found := cursor.fetchmany(tables.BATCH):
        yield from (group for (group,) in found)


def _write(db: Any, rule: Split, counts: list[int], out: Path) -> dict[str, Any]:
    given = dict.fromkeys(splits.SPLITS, 0)
    with tables.Writer(out / "groups.parquet", _PART) as writer:
        for group, part in splits.assign(_fresh(db), counts, rule):
            writer.add_row({"group": group, "split": part})
            given[part] += 1
    return {"rows": writer.rows, "counts": given}
