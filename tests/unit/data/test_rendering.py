"""A row whose text cannot be made costs itself, with a reason that quotes nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmops_tasks import config
from llmops_tasks.data import tables
from llmops_tasks.data.anonymization import anonymize
from llmops_tasks.data.dataset import build_dataset, render_day
from llmops_tasks.data.ingestion import ingest
from llmops_tasks.data.validation import validate
from llmops_tasks.errors import DataError
from llmops_tasks.prompts import interface
from llmops_tasks.store import artifacts
from tests.support import small

FAILING = {
    "{{ note }} {{ 100 // (age - 40) }}": "ZeroDivisionError",
    "{{ note }} {{ ({} if age == 40 else {'a': {'b': 1}}).a.b }}": "UndefinedError",
    "{{ {1: 2}.pop(note) if age == 40 else note }}": "KeyError",
}


@pytest.mark.parametrize(("template", "error"), FAILING.items())
@pytest.mark.parametrize("day", [True, False])
def test_a_row_whose_template_fails_is_set_aside_with_the_errors_class(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, template: str, error: str, day: bool
) -> None:
    lines = [small.row(n, age="41", note=f"sore throat {n}") for n in range(60)]
    uri = small.csv(tmp_path, [*lines, small.row(99, age="40", note="zebrafish")])
    usecase = small.usecase(tmp_path, {"uri": uri}, text=template)
    clean = anonymize(usecase=usecase, records=validate(usecase=usecase, records=ingest(usecase=usecase)))
    monkeypatch.setattr(interface, "of_release", lambda release: interface.of_usecase(config.load(usecase)))
    ref = (
        render_day(usecase=usecase, records=clean, date="2026-01-01", champion={"version": "1", "release": {}})
        if day
        else build_dataset(usecase=usecase, records=clean)
    )
    assert ref["rows"] == 60
    assert ref["meta"]["dropped"][f"data.text fails: {error}"] == 1
    aside = list(tables.rows(artifacts.fetch(ref) / "set_aside.parquet"))
    assert aside == [{"record_id": "V99", "reason": f"data.text fails: {error}"}]
    assert "zebrafish" not in str(ref)


def test_a_template_that_fails_for_too_many_rows_is_refused_without_their_words(tmp_path: Path) -> None:
    lines = [small.row(n, age="40" if n < 30 else "41", note=f"zebrafish {n}") for n in range(60)]
    usecase = small.usecase(
        tmp_path, {"uri": small.csv(tmp_path, lines)}, text="{{ {1: 2}.pop(note) if age == 40 else note }}"
    )
    clean = anonymize(usecase=usecase, records=validate(usecase=usecase, records=ingest(usecase=usecase)))
    with pytest.raises(
        DataError, match=r"cannot be rendered for 30 of 60 rows: \{'data.text fails: KeyError': 30\}"
    ) as caught:
        build_dataset(usecase=usecase, records=clean)
    assert "zebrafish" not in repr(caught.value) and caught.value.__context__ is None
