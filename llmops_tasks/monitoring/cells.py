"""Counts for drift: binned numbers, labels, words; summed by group, sparse.

Rows of a table of counts are groups, those of the reference first, then those of the day.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llmops_tasks.errors import DataError

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

BINS = 5  # quantile bins of the reference; more would only add noise on a day of some hundred rows
_WORD = re.compile(r"[^\W\d_]{2,}")


@dataclass(frozen=True)
class Both:
    """Reference and day, one below the other. A group in both counts once in each."""

    frame: pd.DataFrame
    owners: NDArray[np.int64]  # (rows,): the number of each row's group
    days: NDArray[np.bool_]  # (groups,): is it one of the day?
    reference: int  # rows of the reference


def together(old: pd.DataFrame, new: pd.DataFrame) -> Both:
    """Concatenate the two and number their groups."""
    import numpy as np
    import pandas as pd

    first, second = pd.factorize(old["group"])[0], pd.factorize(new["group"])[0]
    count, more = int(first.max()) + 1, int(second.max()) + 1
    frame = pd.concat([old, new], ignore_index=True)
    owners = np.concatenate([first, second + count])
    return Both(frame, owners, np.arange(count + more) >= count, len(old))


def numbers(both: Both, name: str) -> Any:
    """Quantile bins of the reference, and one more cell for missing values: (groups, cells)."""
    import numpy as np

    values = _floats(both.frame[name])
    known = values[: both.reference][~np.isnan(values[: both.reference])]
    edges = np.unique(np.quantile(known, np.linspace(0, 1, BINS + 1)[1:-1])) if len(known) else np.array([])
    codes = np.where(np.isnan(values), len(edges) + 1, np.searchsorted(edges, values, side="right"))
    return _summed(both, both.owners, codes, len(edges) + 2)


def _floats(column: pd.Series) -> Any:
    try:
        return column.astype(float).to_numpy()
    except (ValueError, TypeError):  # its words name the cell
        raise DataError(
            f"The watched column '{column.name}' holds values that are not numbers. Set its type to 'number' in "
            "data.columns, or remove it from monitoring.columns."
        ) from None


def labels(both: Both, names: list[str]) -> Any:
    """One cell a label, and one for answers that the release does not know: (groups, cells)."""
    return categories(both, "predicted", names)


def categories(both: Both, column: str, names: list[str]) -> Any:
    """One cell a value of a column, and one for all others: (groups, cells)."""
    place = {name: code for code, name in enumerate(names)}
    codes = both.frame[column].map(place).fillna(len(names)).astype(int).to_numpy()
    return _summed(both, both.owners, codes, len(names) + 1)


def words(both: Both, most: int) -> Any:
    """The most frequent words, the others in one cell. Masks count as words, so lost masking shows."""
    import numpy as np

    frequent: Counter[str] = Counter()
    for text in both.frame["text"]:
        frequent.update(_WORD.findall(text.lower()))
    place = {
        word: cell
        for cell, (word, _) in enumerate(sorted(frequent.items(), key=lambda item: (-item[1], item[0]))[:most])
    }
    owners, codes = [], []
    for owner, text in zip(both.owners.tolist(), both.frame["text"], strict=True):
        found = [place.get(word, most) for word in _WORD.findall(text.lower())]
        owners += [owner] * len(found)
        codes += found
    return _summed(both, np.array(owners, dtype=np.int64), np.array(codes, dtype=np.int64), most + 1)


def _summed(both: Both, owners: Any, codes: Any, count: int) -> Any:
    import numpy as np
    from scipy.sparse import csr_matrix

    shape = (len(both.days), count)
    return csr_matrix((np.ones(len(codes), dtype=np.float32), (owners, codes)), shape=shape)
