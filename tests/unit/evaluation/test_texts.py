"""A release reads the text that it will read when it serves, whatever text the dataset holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from llmops_tasks import config
from llmops_tasks.contracts import ArtifactRef
from llmops_tasks.errors import DataError
from llmops_tasks.evaluation import texts
from llmops_tasks.prompts import interface
from llmops_tasks.store import artifacts

ASKED = interface.of_usecase(config.load("triage")).model_copy(update={"text": "{{ note }} at {{ age }}"})
RECORDS = [{"visit": f"V{n}", "note": f"note {n}", "age": n, "more": "x"} for n in range(5)]


def _rows(*numbers: int) -> Any:
    import pandas as pd

    return pd.DataFrame({"record_id": [f"V{n}" for n in numbers], "text": [f"kept {n}" for n in numbers]})


def _behind(records: list[dict[str, Any]]) -> ArtifactRef:
    import pandas as pd

    def build(out: Path) -> dict[str, Any]:
        pd.DataFrame(records).to_parquet(out / "records.parquet", index=False)
        return {}

    return artifacts.publish(usecase="triage", kind="anonymized", inputs={"records": records}, build=build)


def _dataset(parents: list[Any], text: str = "another") -> Any:
    return {"meta": {"text_sha256": text, "parents": parents, "id_column": "visit"}}


def test_a_text_of_the_same_template_is_taken_as_it_is() -> None:
    assert texts.as_read_by(ASKED, _dataset([], ASKED.text_digest()), _rows(1, 2)) == ["kept 1", "kept 2"]


def test_another_template_makes_its_text_anew_in_the_order_of_the_rows() -> None:
    dataset = _dataset([{"kind": "splits", "uri": "file:///none"}, _behind(RECORDS)])
    assert texts.as_read_by(ASKED, dataset, _rows(3, 0)) == ["note 3 at 3", "note 0 at 0"]


@pytest.mark.parametrize("parents", [[], [{"kind": "anonymized", "uri": "file:///none"}]], ids=["unnamed", "removed"])
def test_where_the_records_are_gone_it_says_what_to_do(parents: list[Any]) -> None:
    with pytest.raises(DataError, match=r"records behind the dataset are gone\. Run prepare_data again"):
        texts.as_read_by(ASKED, _dataset(parents), _rows(1))


def test_a_column_that_is_not_there_any_more_is_named() -> None:
    without = [{name: value for name, value in row.items() if name != "age"} for row in RECORDS]
    with pytest.raises(DataError, match=r"reads \['age'\]"):
        texts.as_read_by(ASKED, _dataset([_behind(without)]), _rows(1))
