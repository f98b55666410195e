"""Identifiers leave the records: as columns, in free text, and by rarity."""

from __future__ import annotations

import json
import time
from collections import Counter
from pathlib import Path

import pytest

from llmops_tasks import config
from llmops_tasks.contracts import ArtifactRef
from llmops_tasks.data.anonymization import PATTERNS, anonymize, mask, pseudonym
from llmops_tasks.data.ingestion import ingest
from llmops_tasks.data.validation import validate
from llmops_tasks.store import artifacts
from tests.support import small

ALL = list(PATTERNS)


def _masked(text: str, own: list[tuple[str, str | None]] | None = None) -> str | None:
    return mask(text, ALL, own or [], Counter())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("see https://x.org/a?b=1 now", "see [url] now"),
        ("www.example.com", "[url]"),
        ("mail jo.d+x@mail.example.org!", "mail [email]!"),
        ("MRN-1234567, nhs 9434765919", "[record_number], [record_number]"),
        ("born 1980-02-01 or 1/2/1980 or 3 March 1980", "born [date] or [date] or [date]"),
        ("call 020 7946 0958 or (0161) 496-0000", "call [phone] or [phone]"),
        ("lives 12 Mill Road, Leeds", "lives [address]"),
        ("Mrs. Ada Lovelace and Dr Who", "[name] and [name]"),
        ("BP 120/80, HR 88, T 36.6, pain 7/10", "BP 120/80, HR 88, T 36.6, pain 7/10"),
        ("2 tablets at 10 am, twice", "2 tablets at 10 am, twice"),
    ],
)
def test_patterns_mask_identifiers_and_leave_findings(text: str, expected: str) -> None:
    assert _masked(text) == expected


def test_a_rows_own_identifiers_are_masked_wherever_they_stand_longest_first() -> None:
    own: list[tuple[str, str | None]] = [("name", "Ada"), ("name", "Ada Lovelace"), ("phone", None), ("address", "")]
    assert _masked("Ada Lovelace, called Ada by all", own) == "[name], called [name] by all"


def test_only_the_kinds_asked_for_are_masked() -> None:
    assert mask("a@b.org 1980-02-01", ["date"], [], Counter()) == "a@b.org [date]"


def test_what_was_masked_is_counted_by_kind() -> None:
    counts: Counter[str] = Counter()
    mask("Ada Ada 1980-02-01", ALL, [("name", "Ada")], counts)
    assert {kind: count for kind, count in counts.items() if count} == {"name": 2, "date": 1}


def test_a_missing_text_stays_missing() -> None:
    assert mask(None, ALL, [], Counter()) is None


@pytest.mark.parametrize(
    "poison",
    ["a" * 100_000, "1" * 100_000, "1 " * 50_000, "a.b@" * 25_000, "a-" * 50_000, "1 Aa" * 25_000, "Dr " * 33_000,
     "www." * 25_000, "MRN----" * 14_000, "a@" + "b." * 50_000, "12 A" + "'" * 100_000, "020-" * 25_000],
    ids=lambda text: repr(text[:8]),
)  # fmt: skip
def test_no_text_makes_a_pattern_hang(poison: str) -> None:
    started = time.monotonic()
    _masked(poison)
    assert time.monotonic() - started < 5


def test_a_pseudonym_follows_value_and_key() -> None:
    assert pseudonym("P1", b"key") == pseudonym("P1", b"key")
    assert len({pseudonym("P1", b"key"), pseudonym("P1", b"other"), pseudonym("P2", b"key")}) == 3
    assert "P1" not in pseudonym("P1", b"key")


def _run(folder: Path) -> ArtifactRef:
    lines = [
        small.row(1, age="97", note="Ada says 020 7946 0958", phone="55 123"),
        small.row(2, patient="P1", age="", note="ring 55 124 please", phone="55 124"),
        small.row(3, age="40"),
    ]
    columns = {"comment": {"role": "ignore"}}
    uri = small.csv(folder, [f"{line},x" for line in lines], header=small.HEADER + ",comment")
    usecase = small.usecase(folder, {"uri": uri}, columns)
    return anonymize(usecase=usecase, records=validate(usecase=usecase, records=ingest(usecase=usecase)))


@pytest.fixture(scope="module")
def anonymized(tmp_path_factory: pytest.TempPathFactory) -> ArtifactRef:
    """Three rows, two of one patient."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LLMOPS_HOME", str(tmp_path_factory.mktemp("home")))
        patch.setenv("LLMOPS_PSEUDONYM_KEY", "one")
        return _run(tmp_path_factory.mktemp("rows"))


def test_identifier_leakage_and_ignored_columns_are_gone(anonymized: ArtifactRef) -> None:
    import pandas as pd

    frame = pd.read_parquet(artifacts.fetch(anonymized) / "records.parquet")
    assert list(frame) == ["visit", "patient", "seen", "level", "age", "note"]
    assert frame["note"].tolist() == ["Ada says [phone]", "ring [phone] please", "sore throat 3"]
    assert anonymized["meta"]["masked"]["phone"] == 2


def test_ages_are_capped_and_missing_ones_stay_missing(anonymized: ArtifactRef) -> None:
    import pandas as pd

    ages = pd.read_parquet(artifacts.fetch(anonymized) / "records.parquet")["age"]
    assert (ages[0], ages[2]) == (90, 40)
    assert pd.isna(ages[1])


def test_groups_stay_together_under_a_pseudonym(anonymized: ArtifactRef) -> None:
    import pandas as pd

    groups = pd.read_parquet(artifacts.fetch(anonymized) / "records.parquet")["patient"].tolist()
    assert groups[0] == groups[1] == pseudonym("P1", b"one")
    assert groups[2] == pseudonym("P3", b"one")


def test_another_key_gives_another_artifact(
    anonymized: ArtifactRef, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import pandas as pd

    monkeypatch.setenv("LLMOPS_PSEUDONYM_KEY", "two")
    other = _run(tmp_path)
    assert other["sha256"] != anonymized["sha256"]
    assert pd.read_parquet(artifacts.fetch(other) / "records.parquet")["patient"][0] == pseudonym("P1", b"two")


def test_a_key_is_made_once_and_for_its_owner_only(home: Path, tmp_path: Path) -> None:
    first = _run(tmp_path)
    path = home / "keys" / "pseudonym.key"
    assert path.stat().st_mode & 0o777 == 0o600
    key = path.read_bytes()
    assert _run(tmp_path) == first
    assert path.read_bytes() == key
    assert key.decode() not in json.dumps(first)


def test_no_planted_identifier_survives(world: object, notes: Path) -> None:
    """Of the kinds that stand in columns, and dates: by the generator's own truth files."""
    import pandas as pd

    usecase = world.usecase  # type: ignore[attr-defined]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LLMOPS_HOME", str(world.home))  # type: ignore[attr-defined]
        good = validate(usecase=usecase, records=ingest(usecase=usecase))
        ref = anonymize(usecase=usecase, records=good)
    before = pd.read_parquet(artifacts.fetch(good) / "records.parquet").set_index("visit_id")["note"]
    after = pd.read_parquet(artifacts.fetch(ref) / "records.parquet").set_index("visit_id")["note"]
    data = config.load(usecase).data
    kinds = {column.kind for column in data.columns.values() if column.role == "identifier"} | {"date"}
    found: Counter[str] = Counter()
    for line in (notes / "truth" / "landing_history.jsonl").read_text(encoding="utf-8").splitlines():
        truth = json.loads(line)
        for span in truth["spans"]:
            if span["kind"] in kinds and truth["visit_id"] in after:
                found[span["kind"]] += 1
                planted = before[truth["visit_id"]][span["start"] : span["end"]]
                assert planted not in after[truth["visit_id"]], span["kind"]
    assert set(found) == kinds
