"""A dataset's split leaks nothing: neither a patient nor the future; and its version follows from its content."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import yaml

from llmops_tasks.config import Split
from llmops_tasks.contracts import ArtifactRef
from llmops_tasks.data import dataset
from llmops_tasks.data.anonymization import anonymize
from llmops_tasks.data.dataset import COLUMNS, build_dataset, render_day
from llmops_tasks.data.ingestion import ingest
from llmops_tasks.data.splits import place_by_digest
from llmops_tasks.data.validation import validate
from llmops_tasks.errors import DataError, EvidenceError
from llmops_tasks.store import artifacts
from tests.support import small


def _dataset(folder: Path, lines: list[str], **data: Any) -> tuple[str, ArtifactRef]:
    usecase = small.usecase(folder, {"uri": small.csv(folder, lines)}, **data)
    return usecase, anonymize(usecase=usecase, records=validate(usecase=usecase, records=ingest(usecase=usecase)))


def _repeating() -> list[str]:
    """80 rows, the last 20 of them near duplicates of earlier ones."""
    rng = random.Random(5)
    words = [f"w{n}" for n in range(60)]
    notes = [" ".join(rng.choices(words, k=15)) for _ in range(60)]
    notes += [note + " more" for note in notes[::3]]
    return [
        small.row(n, note=note, seen=f"2026-02-{1 + n // 24:02d}T{n % 24:02d}:00:00Z") for n, note in enumerate(notes)
    ]


@pytest.fixture
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMOPS_PSEUDONYM_KEY", "tests")


@pytest.mark.usefixtures("_key")
def test_a_dataset_has_its_columns_rendered_text_and_answers(tmp_path: Path) -> None:
    import pandas as pd

    lines = [small.row(n, level="2" if n % 2 else "U", age="" if n == 3 else "40") for n in range(10)]
    usecase, records = _dataset(tmp_path, lines)
    ref = build_dataset(usecase=usecase, records=records)
    frame = pd.read_parquet(artifacts.fetch(ref) / "data.parquet").set_index("record_id")
    assert ["record_id", *frame.columns] == [*COLUMNS, "age"]
    assert frame.loc["V2", "text"] == "sore throat 2 40y"
    assert frame.loc["V3", "text"] == "sore throat 3"
    assert tuple(frame.loc["V2", ["label", "completion"]]) == ("urgent", " urgent")
    assert tuple(frame.loc["V3", ["label", "completion"]]) == ("calm", " less")
    assert ref["meta"]["splits"] == frame["split"].value_counts().to_dict()
    assert ref["meta"]["parents"] == [artifacts.parent(records)]
    assert ref["meta"]["data_docs"].endswith("/data_docs/index.html")
    assert frame["time"].is_monotonic_increasing
    assert build_dataset(usecase=usecase, records=records) == ref


@pytest.mark.usefixtures("_key")
def test_the_same_rows_in_another_order_are_the_same_version(tmp_path: Path) -> None:
    lines = [small.row(n) for n in range(10)]
    usecase, records = _dataset(tmp_path, lines)
    first = build_dataset(usecase=usecase, records=records)
    other, shuffled = _dataset(tmp_path, lines[::-1])
    assert shuffled["sha256"] != records["sha256"]
    assert build_dataset(usecase=other, records=shuffled)["sha256"] == first["sha256"]


@pytest.mark.usefixtures("_key")
def test_rows_put_in_order_part_by_part_are_the_same_dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = _repeating()
    digests = []
    for name, rows in (("whole", dataset.PART), ("parts", 4)):
        monkeypatch.setattr(dataset, "PART", rows)
        monkeypatch.setenv("LLMOPS_HOME", str(tmp_path / name))
        usecase, records = _dataset(tmp_path, lines, curate={"near_duplicates": 0.6})
        ref = build_dataset(usecase=usecase, records=records)
        assert 0 < ref["meta"]["dropped"]["near duplicates"] < 20
        assert _frame(ref)["time"].is_monotonic_increasing
        digests.append(ref["sha256"])
    assert digests[0] == digests[1]


@pytest.mark.usefixtures("_key")
def test_exact_duplicates_are_dropped_and_the_earliest_kept(tmp_path: Path) -> None:
    import pandas as pd

    lines = [small.row(n) for n in range(10)]
    usecase, records = _dataset(tmp_path, [*lines, small.row(90, note="sore throat 2", seen="2026-03-01T00:00:00Z")])
    ref = build_dataset(usecase=usecase, records=records)
    frame = pd.read_parquet(artifacts.fetch(ref) / "data.parquet")
    assert (ref["rows"], ref["meta"]["dropped"]["exact duplicates"]) == (10, 1)
    assert "V90" not in frame["record_id"].tolist()


@pytest.mark.usefixtures("_key")
def test_a_split_that_would_be_empty_is_refused(tmp_path: Path) -> None:
    usecase, records = _dataset(tmp_path, [small.row(n) for n in range(2)])
    with pytest.raises(DataError, match=r"A split would be empty: \{'train': 1, 'validation': 0, 'test': 1\} rows"):
        build_dataset(usecase=usecase, records=records)


LONG = "the patient says that the pain began while walking up the stairs two days ago and has not gone away since then"


def _frame(ref: ArtifactRef) -> Any:
    import pandas as pd

    return pd.read_parquet(artifacts.fetch(ref) / "data.parquet").set_index("record_id")


@pytest.mark.usefixtures("_key")
def test_a_near_duplicate_in_another_split_is_dropped_and_one_in_the_same_is_kept(tmp_path: Path) -> None:
    """V8 (tested on) and V1 (trained on) nearly repeat V0 (trained on)."""
    notes = {0: LONG, 1: LONG + " at all", 8: LONG + " really"}
    lines = [
        small.row(n, note=notes.get(n, f"{LONG.split()[n]} sore {n} throat {n * 7} cough {n * 3}")) for n in range(10)
    ]
    for curate, kept in (({}, 10), ({"near_duplicates": 0.8}, 9)):
        usecase, records = _dataset(tmp_path, lines, curate=curate)
        ref = build_dataset(usecase=usecase, records=records)
        frame = _frame(ref)
        assert (len(frame), ref["meta"]["dropped"]["near duplicates"]) == (kept, 10 - kept)
        assert {"V0", "V1"} <= set(frame.index)
        assert ("V8" in frame.index) == (kept == 10)


@pytest.mark.usefixtures("_key")
def test_later_rows_change_nothing_about_earlier_ones_near_duplicates_included(tmp_path: Path) -> None:
    lines, frames = _repeating(), []
    for count in (60, 80):
        usecase, records = _dataset(tmp_path, lines[:count], curate={"near_duplicates": 0.6})
        frames.append(_frame(build_dataset(usecase=usecase, records=records)))
    early, late = frames
    assert late.loc[early.index, ["text", "label", "split"]].equals(early[["text", "label", "split"]])
    assert 60 == len(early) < len(late) < 80
    tested = late[late["split"] == "test"]
    assert set(early[early["split"] == "test"].index) <= set(tested.index)


@pytest.mark.usefixtures("_key")
def test_conflicting_labels_and_short_texts_are_counted(tmp_path: Path) -> None:
    lines = [small.row(n) for n in range(10)] + [
        small.row(90, note="sore throat 2", level="2"),
        small.row(91, note="a", age=""),
    ]
    usecase, records = _dataset(tmp_path, lines, curate={"min_length": 3})
    meta = build_dataset(usecase=usecase, records=records)["meta"]
    assert (meta["conflicting_texts"], meta["dropped"]["too short"]) == (1, 1)


@pytest.mark.usefixtures("_key")
def test_texts_are_normalised_and_the_records_keep_the_original(tmp_path: Path) -> None:
    import pandas as pd

    lines = [small.row(n, note=f"cafe\u0301\u200b {n}") for n in range(10)]
    usecase, records = _dataset(tmp_path, lines)
    assert _frame(build_dataset(usecase=usecase, records=records)).loc["V3", "text"] == "caf\u00e9 3 40y"
    kept = pd.read_parquet(artifacts.fetch(records) / "records.parquet")
    assert kept["note"].tolist()[3] == "cafe\u0301\u200b 3"


@pytest.mark.usefixtures("_key")
def test_without_time_and_group_the_digest_decides_and_nobody_moves(tmp_path: Path) -> None:
    columns = {"seen": {"role": "ignore"}, "patient": {"role": "ignore"}}
    rule = {"by": "record", "order": "digest", "train": 0.5, "validation": 0.2, "test": 0.3}
    frames = []
    for count in (60, 90):
        lines = [small.row(n) for n in range(count)]
        usecase = small.usecase(tmp_path, {"uri": small.csv(tmp_path, lines)}, columns, split=rule)
        records = anonymize(usecase=usecase, records=validate(usecase=usecase, records=ingest(usecase=usecase)))
        frames.append(_frame(build_dataset(usecase=usecase, records=records)))
    early, late = frames
    assert late.loc[early.index, "split"].equals(early["split"])
    assert early.loc["V7", "split"] == place_by_digest("V7", Split(**rule))


@pytest.mark.usefixtures("_key")
def test_the_evaluation_set_has_a_digest_of_its_own(tmp_path: Path) -> None:
    """Later rows of a full cohort leave it as it is only if none of them is tested on; a changed text never does."""
    lines = [small.row(n) for n in range(10)]
    digests = []
    for change in ({}, {0: "another training note"}, {9: "another test note"}):
        changed = [small.row(n, note=change[n]) if n in change else line for n, line in enumerate(lines)]
        usecase, records = _dataset(tmp_path, changed)
        digests.append(build_dataset(usecase=usecase, records=records)["meta"]["evaluation"])
    assert digests[0] == digests[1] != digests[2]
    assert digests[0]["rows"] == 3


@pytest.mark.usefixtures("_key")
def test_synthetic_records_are_marked_and_only_trained_on(tmp_path: Path) -> None:
    usecase, records = _dataset(tmp_path, [small.row(n, level="2" if n == 1 else "1") for n in range(20)])
    plain = _frame(build_dataset(usecase=usecase, records=records))
    usecase, records = _dataset(
        tmp_path, [small.row(n, level="2" if n == 1 else "1") for n in range(20)], augment={"noise": 1, "minority": 0.5}
    )
    ref = build_dataset(usecase=usecase, records=records)
    frame = _frame(ref)
    made = frame[frame["augmented"] != ""]
    assert ref["meta"]["augmented"] == len(made) > (plain["split"] == "train").sum()
    assert set(made["split"]) == {"train"} and set(made["augmented"]) == {"noise", "minority"}
    assert frame[frame["augmented"] == ""].equals(plain)
    assert ref["meta"]["evaluation"] == build_dataset(usecase=usecase, records=records)["meta"]["evaluation"]


@pytest.mark.usefixtures("_key")
def test_the_card_tells_figures_and_no_record(tmp_path: Path) -> None:
    usecase, records = _dataset(tmp_path, [small.row(n, note=f"zebrafish {n}") for n in range(10)])
    card = (artifacts.fetch(build_dataset(usecase=usecase, records=records)) / "README.md").read_text(encoding="utf-8")
    assert "| train | 5 | 5 | 0 |" in card and "identifiers, masked and dropped: phone" in card
    assert "zebrafish" not in card and "V3" not in card


def test_the_demos_dataset_keeps_patients_apart(world: Any) -> None:
    import pandas as pd

    frame = pd.read_parquet(artifacts.fetch(world.dataset) / "data.parquet")
    assert (frame.groupby("group")["split"].nunique() == 1).all()
    assert frame["record_id"].is_unique


def test_a_day_is_rendered_like_the_dataset_without_answers(world: Any, released: ArtifactRef) -> None:
    import pandas as pd

    date = "2026-03-30"
    usecase = world.usecase
    records = validate(usecase=usecase, records=ingest(usecase=usecase, date=date), labelled=False)
    records, champion = anonymize(usecase=usecase, records=records), {"version": "1", "release": released}
    ref = render_day(usecase=usecase, records=records, date=date, champion=champion)
    frame = pd.read_parquet(artifacts.fetch(ref) / "data.parquet")
    assert (ref["rows"], ref["meta"]["date"]) == (60, date)
    assert list(frame)[:4] == ["record_id", "group", "time", "text"]
    assert not {"label", "completion", "split"} & set(frame)


def _edited(usecase: str, folder: Path, text: str) -> str:
    raw = yaml.safe_load(Path(usecase).read_text(encoding="utf-8"))
    raw["data"]["text"] = text
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(raw, sort_keys=False), encoding="utf-8")
    return str(path)


def test_a_day_is_rendered_as_its_release_reads_it_whatever_the_use_case_says_today(
    world: Any, released: ArtifactRef, tmp_path: Path
) -> None:
    date, champion = "2026-03-30", {"version": "1", "release": released}
    records = anonymize(
        usecase=world.usecase,
        records=validate(usecase=world.usecase, records=ingest(usecase=world.usecase, date=date), labelled=False),
    )
    before = render_day(usecase=world.usecase, records=records, date=date, champion=champion)
    edited = _edited(world.usecase, tmp_path, "{{ note | upper }}")
    after = render_day(usecase=edited, records=records, date=date, champion=champion)
    assert after["meta"]["text_sha256"] == before["meta"]["text_sha256"]
    assert _frame(after)["text"].equals(_frame(before)["text"])


def test_nobody_s_day_is_rendered_before_the_first_promotion(world: Any) -> None:
    with pytest.raises(EvidenceError, match="No version was promoted yet"):
        render_day(usecase=world.usecase, records=world.dataset, date="2026-03-30", champion={"version": None})


def test_a_lost_pseudonym_key_does_not_begin_the_splits_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [small.row(n) for n in range(10)]
    monkeypatch.setenv("LLMOPS_PSEUDONYM_KEY", "first")
    usecase, records = _dataset(tmp_path, lines)
    build_dataset(usecase=usecase, records=records)
    monkeypatch.setenv("LLMOPS_PSEUDONYM_KEY", "second")
    usecase, records = _dataset(tmp_path, lines)
    with pytest.raises(DataError, match="made with another key"):
        build_dataset(usecase=usecase, records=records)
