"""Records share rows without seeing each other, and none is lost."""

from __future__ import annotations

from llmops_tasks.training import batches
from llmops_tasks.training.examples import IGNORED
from tests.support.examples import LENGTHS, numbered


def test_packed_records_share_rows_and_none_is_lost() -> None:
    rows = batches.bins(list(LENGTHS), 41)
    assert sorted(index for row in rows for index in row) == list(range(len(LENGTHS)))
    assert all(sum(LENGTHS[index] for index in row) <= 41 for row in rows)
    assert len(rows) == 4 < len(LENGTHS)
    assert batches.bins([50, 2], 41) == [[0], [1]]  # too long a record has a row for itself


def test_packed_records_do_not_see_each_other() -> None:
    batch = batches.assemble(numbered(), None, 64)
    assert batch.mask is not None and batch.positions is not None
    labels = sum(label != IGNORED for example in numbered() for label in example.labels)
    assert int((batch.labels != IGNORED).sum()) == labels
    row = batch.mask[0, 0]
    second = int((batch.positions[0] == 0).nonzero()[1])
    assert not row[second:, :second].any() and not row.triu(1).any()
    assert bool(row.diagonal().all())
