"""Numbers in order, found by one listing, whatever their count."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from llmops_tasks.errors import IntegrityError
from llmops_tasks.store import journal, objects
from llmops_tasks.store import s3 as speaking


@pytest.fixture(params=["file", "s3"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A place in either kind of store."""
    if request.param == "s3":
        request.getfixturevalue("s3")
        return "s3://bucket/journal"
    return f"file://{tmp_path}/journal"


def test_the_newest_number_is_found_across_blocks(folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "BLOCK", 4)
    assert (journal.last(folder), journal.numbers(folder)) == (0, [])
    for number in range(1, 14):
        assert journal.push(folder, str(number).encode()) == number
        assert journal.last(folder) == number
    assert journal.numbers(folder) == list(range(1, 14))
    assert objects.read_bytes(journal.address(folder, 7)) == b"7"


@pytest.mark.parametrize(
    ("number", "place"),
    [(1, "999999/00000001"), (99, "999999/00000099"), (100, "999998/00000100"), (12_345_678, "876543/12345678")],
)
def test_a_number_has_its_place_for_ever(number: int, place: str) -> None:
    assert journal.address("file:///x", number) == f"file:///x/{place}.json"


def test_the_newest_number_takes_one_request(s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "BLOCK", 4)
    monkeypatch.setattr(speaking, "PAGE", 5)  # a listing of everything would take two
    for number in range(1, 10):
        objects.create(journal.address("s3://bucket/journal", number), b"x")
    asked: list[str] = []
    again = speaking._again
    monkeypatch.setattr(speaking, "_again", lambda uri, ask, *more: asked.append(uri) or again(uri, ask, *more))
    assert journal.last("s3://bucket/journal") == 9
    assert len(asked) == 1


def test_who_writes_at_once_gets_numbers_of_their_own(folder: str) -> None:
    with ThreadPoolExecutor(4) as pool:
        numbers = list(pool.map(lambda n: journal.push(folder, str(n).encode()), range(12)))
    assert sorted(numbers) == list(range(1, 13)) == journal.numbers(folder)
    assert {objects.read_bytes(journal.address(folder, number)) for number in numbers} == {b"%d" % n for n in range(12)}


@pytest.mark.parametrize("name", ["00000001.json", "999999/00000200.json", "999999/readme.txt", "a/b.json"])
def test_what_is_none_of_ours_is_refused(folder: str, name: str) -> None:
    """A number in another block than its own would hide the newest one."""
    objects.create(f"{folder}/{name}", b"{}")
    with pytest.raises(IntegrityError, match=f"'{folder}/{name}' is not a journal entry"):
        journal.last(folder)


def test_what_is_none_of_ours_in_an_older_block_is_refused_by_who_reads_all(folder: str) -> None:
    journal.push(folder, b"x")
    objects.create(journal.address(folder, 100), b"x")
    objects.create(f"{folder}/999999/readme.json", b"{}")
    with pytest.raises(IntegrityError, match=f"'{folder}/999999/readme.json' is not a journal entry"):
        journal.numbers(folder)


def test_what_is_being_written_and_an_empty_block_are_passed_over(tmp_path: Path) -> None:
    folder = f"file://{tmp_path}/journal"
    journal.push(folder, b"x")
    (tmp_path / "journal" / "999998").mkdir()  # killed before its first name
    (tmp_path / "journal" / "999999" / ".00000002.json.1234.tmp").touch()
    assert journal.last(folder) == 1 and journal.numbers(folder) == [1]
