"""Identifiers leave the records: as columns, in free text, and by rarity."""

from __future__ import annotations

import json
import random
import re
import unicodedata
from pathlib import Path
from typing import Any

import pytest
import yaml

from llmops_tasks.contracts import ArtifactRef
from llmops_tasks.data import tables
from llmops_tasks.data.anonymization import anonymize, pseudonym
from llmops_tasks.data.ingestion import ingest
from llmops_tasks.data.validation import validate
from llmops_tasks.errors import InputError
from llmops_tasks.store import artifacts
from tests.support import small


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


def test_an_empty_key_hides_nobody(home: Path, tmp_path: Path) -> None:
    (home / "keys").mkdir(parents=True)
    (home / "keys" / "pseudonym.key").write_text("\n")
    with pytest.raises(InputError, match=r"pseudonym\.key' is empty"):
        _run(tmp_path)


@pytest.fixture
def shared(s3: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store that workers on other machines write to as well."""
    monkeypatch.setenv("LLMOPS_STORE", "s3://bucket/store")
    return tmp_path


def test_a_shared_store_makes_no_key_of_its_own(shared: Path, home: Path) -> None:
    with pytest.raises(InputError, match=r"Set LLMOPS_PSEUDONYM_KEY .* openssl rand -hex 32"):
        _run(shared)
    assert not (home / "keys").exists()


def test_workers_with_the_same_key_share_their_work(
    shared: Path, home: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if one is given it by the environment, and the other by a file that is mounted."""
    with monkeypatch.context() as first:
        first.setenv("LLMOPS_PSEUDONYM_KEY", "k" * 64)
        made = _run(shared)
    other = tmp_path_factory.mktemp("other")
    (other / "keys").mkdir()
    (other / "keys" / "pseudonym.key").write_text("k" * 64 + "\n")
    monkeypatch.setenv("LLMOPS_HOME", str(other))
    assert _run(shared) == made


PEOPLE = ["Zelda Quux", "José Ñúñez", "Mary-Ann O'Brien", "Xi Ng", "Łukasz Wójcik", "Quux, Zelda Maria", "Jürgen Groß"]


def _hidden(text: str, rng: random.Random) -> str:
    """The same to a reader, other characters to a program; or as people write it when they are in a hurry."""
    ways = [
        str.upper, str.lower, lambda t: unicodedata.normalize("NFD", t), lambda t: t.replace(" ", "  "),
        lambda t: t.replace(" ", "\n"), lambda t: t.replace(" ", "\xa0"), lambda t: "\u200b".join(t),
        lambda t: t.replace("-", " "), lambda t: t.replace("-", "\u2011"), lambda t: t.replace("o", "\u043e"),
        lambda t: "".join(chr(ord(c) + 0xFEE0) if c.isascii() and c.isalnum() else c for c in t),
        lambda t: "".join(c for c in unicodedata.normalize("NFD", t) if not unicodedata.combining(c)), lambda t: t,
    ]  # fmt: skip
    if text.replace(" ", "").isalpha() and rng.random() < 0.3:
        text = ", ".join(reversed(text.split(" ", 1)))
    for way in rng.sample(ways, 2):
        text = way(text)
    return text


def test_no_planted_identifier_survives(tmp_path: Path) -> None:
    """Adversarial forms of a row's own name, phone and record number, and of a stranger's behind a title."""
    rng, planted, lines = random.Random(15), [], []
    for number in range(300):
        own = [PEOPLE[number % len(PEOPLE)], f"0209 794 {number:04d}", f"MRN-{5550000 + number}"]
        forms = [_hidden(value, rng) for value in own] + [_hidden_stranger(number, rng)]
        planted.append(forms)
        note = ", then ".join(["seen", *forms, "and sent home"])
        cells = small.row(number, note=f'"{note}"', phone=own[1]) + f',"{own[0]}",{own[2]}'
        lines.append(cells)
    columns = {"who": {"role": "identifier", "kind": "name"}, "mrn": {"role": "identifier", "kind": "record_number"}}
    uri = small.csv(tmp_path, lines, header=small.HEADER + ",who,mrn")
    usecase = small.usecase(tmp_path, {"uri": uri}, columns, max_quarantined=0)
    ref = anonymize(usecase=usecase, records=validate(usecase=usecase, records=ingest(usecase=usecase)))
    notes = [row["note"] for row in tables.rows(artifacts.fetch(ref) / "records.parquet")]
    masked = "seen, then [name], then [phone], then [record_number], then [name], then and sent home"
    assert {re.sub(r"\W*(?=, then)", "", note) for note in notes} == {re.sub(r"\W*(?=, then)", "", masked)}
    assert len(notes) == len(planted)


def _hidden_stranger(number: int, rng: random.Random) -> str:
    name = ("Mr Smith", "Dr. Who", "Mrs Élodie", "Ms Ngo")[number % 4]
    gap = rng.choice([" ", "\u200b ", "  ", "\n", "\u00a0", "\u2009", "\ufeff \u200b"])
    return name.replace(" ", gap)


def test_every_turn_of_a_conversation_is_masked_and_its_json_stays_whole(tmp_path: Path) -> None:
    said = [("user", "I am\nada@example.org"), ("assistant", 'Hello "Ada"'), ("user", "ring\n020 7946 0958")]
    turns = [{"role": role, "content": content} for role, content in said]
    (tmp_path / "rows.jsonl").write_text(
        json.dumps(dict(zip(small.HEADER.split(","), small.row(1).split(","), strict=True)) | {"messages": turns})
    )
    columns = {"note": {"type": "conversation", "source": "conversation"}}
    source = {"uri": f"file://{tmp_path}/rows.jsonl", "format": "jsonl"}
    usecase = small.usecase(tmp_path, source, columns, text="{{ note }}")
    raw = yaml.safe_load(Path(usecase).read_text())
    raw["prompt"] = {"format": "conversation", "template": "{{ text }}"}
    Path(usecase).write_text(yaml.safe_dump(raw))
    done = anonymize(usecase=usecase, records=validate(usecase=usecase, records=ingest(usecase=usecase)))
    (row,) = tables.rows(artifacts.fetch(done) / "records.parquet")
    assert [turn["content"] for turn in json.loads(row["note"])] == ["I am\n[email]", 'Hello "Ada"', "ring\n[phone]"]
