"""Detection of changed source columns: the first schema is stored; a different one stops the run with the difference.

A change is accepted by listing the column in the use case's `data.columns` (role `ignore` suffices). Names may be shown here: `columns` has found every needed one, so that what they come from is a header and no
row. Values are not checked; `validate` finds cells of another type.
"""

from __future__ import annotations

from llmops_tasks.config import Data
from llmops_tasks.errors import ConflictError, DataError, nearest
from llmops_tasks.store import digests, objects


def check(*, usecase: str, data: Data, found: list[str], labelled: bool) -> None:
    """Compare the source's columns with those of the first reading under the same `data.columns`.

    Args:
        usecase: whose source it is.
        data: its data section.
        found: the source's columns.
        labelled: a day's new records have their own agreement.

    Raises:
        DataError: with a line for every column that was renamed, added or has gone.
    """
    columns = data.model_dump(mode="json", include={"columns"})
    uri = f"{objects.store_uri()}/{usecase}/schemas/{digests.digest([columns, labelled])[:32]}.json"
    try:
        objects.create(uri, digests.canonical(sorted(found)))
    except ConflictError:  # it was agreed before
        if lines := difference(objects.read_json(uri), sorted(found)):
            raise DataError(
                "The source's columns have changed, so the run stops before training on them:\n"
                + "\n".join(lines)
                + "\nFix the source, or accept the change in data.columns (role: ignore accepts a column)."
            ) from None


def difference(before: list[str], now: list[str]) -> list[str]:
    """In words, a line each: `renamed?`, `gone`, `added`."""
    gone, added = [name for name in before if name not in now], [name for name in now if name not in before]
    lines = []
    for name in list(gone):
        if near := nearest(name, added):
            lines.append(f"~ '{name}' is now '{near}'?")
            gone.remove(name)
            added.remove(near)
    return [*lines, *(f"- '{name}' was removed" for name in gone), *(f"+ '{name}' is new" for name in added)]
