"""What is masked in a text, in whatever form it is written, and what is left alone."""

from __future__ import annotations

import random
import time
import unicodedata
from collections import Counter

import pytest

from llmops_tasks.data.masking import PATTERNS, mask

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
    started = time.process_time()  # not the clock's: neighbours would count
    _masked(poison)
    assert time.process_time() - started < 5


# ---------------------------------------------------------------- Unicode before detectors


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("seen Mr\u200b Smith today", "seen [name] today"),
        ("MRN\u200b1234567", "[record_number]"),
        ("M\u200dR\u2060N 123\ufeff4567.", "[record_number]."),
        ("Mr\u200bSmith", "[name]"),
        ("\uff2d\uff32\uff2e\uff1a\uff11\uff12\uff13\uff14\uff15\uff16\uff17", "[record_number]"),
        ("call \u0660\u0662\u0660 \u0667\u0669\u0664\u0666 \u0660\u0669\u0665\u0668", "call [phone]"),
        ("\u041cr Smith, D\u0433 no", "[name], D\u0433 no"),
        ("Mr\u00a0Smith and Dr.\n\t Who", "[name] and [name]"),
        ("020\u20137946\u20130958", "[phone]"),
        ("jo@mail\u200b.example.org", "[email]"),
        ("born 3\u2009March  1980", "born [date]"),
        ("Mrs E\u0301lodie\u0301 left", "[name] left"),
        ("\U0001d40c\U0001d42b Smith", "[name]"),
    ],
)
def test_what_looks_like_an_identifier_is_read_as_one(text: str, expected: str) -> None:
    assert _masked(text) == expected


@pytest.mark.parametrize(
    "text",
    ["caf\u00e9 \u200b\u2013 na\u00efve\u0301", "\u0434\u0430 \u4e2d\u6587", "a  b\n\nc", "\ufb01 \u00bd \ud800"],
)
def test_what_is_not_masked_stays_byte_for_byte(text: str) -> None:
    assert _masked(text) == text
    assert _masked(f"{text}|1980-02-01|{text}") == f"{text}|[date]|{text}"


def test_finds_that_overlap_are_one_mask() -> None:
    counts: Counter[str] = Counter()
    assert mask("Mr John Smith rang", ALL, [("name", "John Smith")], counts) == "[name] rang"
    assert counts == {"name": 1}


# ---------------------------------------------------------------- a row's own

FORMS = {
    "John Smith": ["John Smith", "JOHN SMITH", "john smith", "Smith, John", "Smith John", "SMITH,JOHN", "John  Smith",
                   "John\nSmith", "John\r\n  Smith", "John\u200bSmith", "John_Smith", "John-Smith", "J\u043ehn Smith"],
    "Smith, John": ["John Smith", "smith john"],
    "Mary-Ann Lee": ["Mary Ann Lee", "Mary-Ann Lee", "MaryAnn Lee", "Lee, Mary-Ann", "Mary\u2011Ann Lee", "mary ann  lee"],
    "Mary Ann Lee": ["Mary-Ann Lee", "Lee, Mary Ann"],
    "Jos\u00e9 N\u00fa\u00f1ez": ["Jose Nunez", "Jos\u00e9 N\u00fa\u00f1ez", "JOS\u00c9 NUNEZ", "Jose\u0301 Nu\u0301n\u0303ez"],
    "Jose Nunez": ["Jos\u00e9 N\u00fa\u00f1ez"],
    "O'Brien": ["O'Brien", "O\u2019Brien", "OBrien", "o' brien"],
    "Ng": ["Ng", "NG", "ng"],
    "Dr. Ada Lovelace": ["Ada Lovelace", "lovelace, ada"],
    "Anna": ["Anna", "ANNA", "anna", "A\u200bnna", "\uff21\uff4e\uff4e\uff41"],
    "\u738b\u5c0f\u660e": ["\u738b\u5c0f\u660e"],
    "\u0418\u0432\u0430\u043d": ["\u0418\u0432\u0430\u043d", "\u0418\u0412\u0410\u041d"],
}  # fmt: skip


@pytest.mark.parametrize(("value", "form"), [(value, form) for value, forms in FORMS.items() for form in forms])
def test_an_own_name_is_masked_in_every_form(value: str, form: str) -> None:
    for before, after in (("", ""), ("pt ", " left"), ("(", ")"), ("x;", ".\n"), ("\u4e2d", "\u4e2d"), ("", "'s leg")):
        assert mask(before + form + after, [], [("name", value)], Counter()) == f"{before}[name]{after}"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("Anna", "Annapolis, Hannah, Susanna and banna"), ("Ng", "walking, ongoing, 5 ngx"), ("Lee", "asleep, leeward"),
        ("No", "no pain, not so"), ("Do", "do not"), ("020 7946", "1020 7946, 020 79461"), ("P1", "P12, XP1"),
        ("A", "a A"), ("12", "12 tablets"), ("", "x"), (" - ", "a - b"), ("\u200b", "a\u200bb"),
    ],
)  # fmt: skip
def test_no_longer_word_and_no_common_word_is_taken_for_an_own_identifier(value: str, text: str) -> None:
    assert mask(text, [], [("name", value)], Counter()) == text


def test_a_common_word_that_is_written_like_a_name_is_masked() -> None:
    assert mask("Mrs No has no pain. NO came", [], [("name", "No")], Counter()) == "Mrs [name] has no pain. [name] came"


@pytest.mark.parametrize(
    "form", ["02079460958", "020 7946 0958", "(020) 7946-0958", "020.7946.0958", "0 2 0 7 9 4 6 0 9 5 8"]
)
@pytest.mark.parametrize("value", ["02079460958"])
def test_an_own_number_is_masked_however_it_is_grouped(value: str, form: str) -> None:
    assert mask(f"ring {form}.", [], [("phone", value)], Counter()) in ("ring [phone].", "ring ([phone].")


LETTERS = "abcefghijklopqrstuvwxyz\u00e9\u00fc\u00f1\u00e7\u00e5"


def _varied(name: str, rng: random.Random) -> str:
    """Another way to write a name."""
    parts = name.split(" ")
    if rng.random() < 0.5:
        parts = [*parts[1:], parts[0]]
    joint = rng.choice([" ", "  ", ", ", "\n", "-", " \u200b", "\xa0", "\t\r\n"])
    text = joint.join(parts)
    text = rng.choice([str.upper, str.lower, str.title, str])(text)
    text = unicodedata.normalize(rng.choice(["NFC", "NFD"]), text)
    if rng.random() < 0.3:
        text = "".join(char for char in unicodedata.normalize("NFD", text) if not unicodedata.combining(char))
    at = rng.randrange(len(text) + 1)
    return text[:at] + rng.choice(["", "\u200b", "\u00ad", "\u2060"]) + text[at:]


@pytest.mark.parametrize("seed", range(4))
def test_whatever_a_name_is_none_of_its_forms_survives_and_nothing_else_goes(seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(300):
        name = " ".join("".join(rng.choices(LETTERS, k=rng.randint(2, 8))).title() for _ in range(rng.randint(2, 3)))
        longer = "q" + name.split(" ")[0].lower()
        before, after = f"7 {longer} 3: ", f"; 8 caf\u00e9 {longer}q"
        masked = mask(before + _varied(name, rng) + after, [], [("name", name)], Counter())
        assert masked is not None and masked.replace("\u200b", "").replace("\u00ad", "").replace("\u2060", "") == (
            f"{before}[name]{after}"
        )


@pytest.mark.parametrize("poison", ["ab " * 50_000, "a" * 100_000, "a\u200b" * 50_000, " \n" * 50_000, "1-" * 50_000])
def test_no_text_makes_own_identifiers_slow(poison: str) -> None:
    own: list[tuple[str, str | None]] = [("name", "ab ab ab ab"), ("name", "a a a"), ("phone", "1111111111111")]
    started = time.process_time()  # not the clock's: neighbours would count
    mask(poison, ALL, own, Counter())
    assert time.process_time() - started < 5
