"""A day is answered once, by one release, and the answer stands."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from llmops_tasks import config
from llmops_tasks.contracts import ArtifactRef
from llmops_tasks.errors import ConflictError, EvidenceError, InputError
from llmops_tasks.serving.batch import predict_batch
from llmops_tasks.store import artifacts, objects

DATE = "2026-03-30"
NAMES = ["resuscitation", "emergent", "urgent", "less-urgent", "non-urgent"]


def _day(rows: int = 12, date: str = DATE) -> ArtifactRef:
    """A day as `versions.day` makes it."""
    import pandas as pd

    def build(out: Path) -> dict[str, Any]:
        texts = [f"note {n} " + "pain " * (n % 5) for n in range(rows)]
        frame = pd.DataFrame({"record_id": [f"V{n}" for n in range(rows)], "text": texts})
        frame.to_parquet(out / "data.parquet", index=False)
        return {"rows": rows, "date": date}

    return artifacts.publish(usecase="tiny", kind="day", inputs={"rows": rows, "date": date}, build=build)


def _champion(released: ArtifactRef, version: str = "1") -> dict[str, Any]:
    return {"version": version, "release": released}


def test_every_record_is_answered_with_its_release(world: Any, released: ArtifactRef) -> None:
    import pandas as pd

    ref = predict_batch(usecase=world.usecase, day=_day(), champion=_champion(released))
    assert ref["uri"] == f"{objects.store_uri()}/tiny/predictions/date={DATE}"
    frame = pd.read_parquet(artifacts.fetch(ref) / "predictions.parquet")
    assert frame["record_id"].tolist() == [f"V{n}" for n in range(12)]
    parts = frame[[f"p_{name}" for name in NAMES]]
    assert parts.sum(axis=1).to_numpy() == pytest.approx(1)
    assert (parts.idxmax(axis=1).str.removeprefix("p_") == frame["label"]).all()
    assert (parts.max(axis=1) == frame["score"]).all()
    assert set(frame["release_version"]) == {"1"}
    assert set(frame["release_sha256"]) == {released["sha256"]}
    assert ref["meta"]["labels"] == {name: int((frame["label"] == name).sum()) for name in NAMES}
    assert (ref["rows"], ref["meta"]["release_version"]) == (12, "1")


def test_the_partition_is_read_by_its_folder_name(world: Any, released: ArtifactRef) -> None:
    import pandas as pd

    for date in (DATE, "2026-03-31"):
        predict_batch(usecase=world.usecase, day=_day(date=date), champion=_champion(released))
    frame = pd.read_parquet(objects.local_path(f"{objects.store_uri()}/tiny/predictions"))
    assert frame["date"].astype(str).value_counts().to_dict() == {DATE: 12, "2026-03-31": 12}


def test_a_day_answered_is_kept_even_if_another_release_serves_now(world: Any, released: ArtifactRef) -> None:
    first = predict_batch(usecase=world.usecase, day=_day(), champion=_champion(released))
    newer = {"version": "2", "release": {**released, "sha256": "f" * 64, "uri": "file:///gone"}}
    assert predict_batch(usecase=world.usecase, day=_day(), champion=newer) == first
    assert predict_batch(usecase=world.usecase, day=_day(), champion=newer, requested="1") == first
    with pytest.raises(ConflictError, match="was answered by version 1 and is kept; version 2 may not replace it"):
        predict_batch(usecase=world.usecase, day=_day(), champion=newer, requested="2")


def test_other_records_of_an_answered_day_are_refused(world: Any, released: ArtifactRef) -> None:
    first = predict_batch(usecase=world.usecase, day=_day(), champion=_champion(released))
    with pytest.raises(ConflictError, match="holds the result of other inputs"):
        predict_batch(usecase=world.usecase, day=_day(rows=13), champion=_champion(released))
    assert artifacts.at(first["uri"]) == first


def test_nobody_answers_before_the_first_promotion(world: Any) -> None:
    with pytest.raises(EvidenceError, match="No version was promoted yet"):
        predict_batch(usecase=world.usecase, day=_day(), champion={"version": None, "release": None})
    assert objects.find(f"{objects.store_uri()}/tiny/predictions/*/*") == []


def test_a_day_asks_the_model_what_training_asked_it(world: Any, released: ArtifactRef) -> None:
    """The same prompt and the same answers: scores are those of the generator on rendered prompts."""
    import pandas as pd

    from llmops_tasks.models.generator import open_generator
    from llmops_tasks.prompts import templates

    case, day = config.load(world.usecase), _day(rows=3)
    ref = predict_batch(usecase=world.usecase, day=day, champion=_champion(released))
    texts = pd.read_parquet(artifacts.fetch(day) / "data.parquet")["text"]
    prompts = [templates.render_prompt(case, text) for text in texts]
    answers = [label.text for label in case.task.labels]
    wanted = open_generator("transformers", artifacts.fetch(released)).scores(prompts, answers, 1)
    found = pd.read_parquet(artifacts.fetch(ref) / "predictions.parquet")
    for row, scores in zip(found[[f"p_{name}" for name in NAMES]].to_numpy().tolist(), wanted, strict=True):
        assert row == pytest.approx(scores, abs=1e-5)


def test_free_text_is_not_served_yet(tmp_path: Path) -> None:
    from tests.support import small

    path = Path(small.usecase(tmp_path, {"uri": "file:///none.csv"}, completion="note"))
    text = path.read_text(encoding="utf-8")
    start, end = text.index("task:"), text.index("data:")
    path.write_text(text[:start] + "task: {type: generation}\n" + text[end:], encoding="utf-8")
    with pytest.raises(InputError, match="Only classification is served"):
        predict_batch(usecase=str(path), day=_day(), champion={"version": None})
