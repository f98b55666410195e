"""Masking of identifiers in free text: found in its folded view, masked in the text itself.

Two kinds of detectors: patterns for what belongs to anybody, and a row's own identifiers, known from its columns. Own
ones are found in any case, with or without accents and hyphens, over doubled spaces and line ends, names also with the
surname first; never within a longer word. Not found: names that are in no column and follow no title,
and parts of names alone.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

from llmops_tasks.data.folding import view

_MONTHS = "January|February|March|April|May|June|July|August|September|October|November|December"
_STREETS = "Road|Street|Lane|Close|Avenue|Way|Drive|Court|Place|Crescent|Rd|St|Ave"
# Each pattern is linear: no nested repetition, so no text can make it hang. They read views: one space is any white space.
PATTERNS: dict[str, re.Pattern[str]] = {
    "url": re.compile(r"\b(?:https?://|www\.)[^\s<>]{1,400}"),
    "email": re.compile(r"\b[\w.+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,4}\b"),
    "record_number": re.compile(r"\b(?:MRN|NHS|HOSP)[-:# ]{0,3}\d{5,12}\b", re.IGNORECASE),
    "date": re.compile(
        rf"\b(?:\d{{4}}-\d{{2}}-\d{{2}}|\d{{1,2}}[/.]\d{{1,2}}[/.]\d{{2,4}}|\d{{1,2}} (?:{_MONTHS}) \d{{4}})\b",
        re.IGNORECASE,
    ),
    "phone": re.compile(r"(?<![\d/])\+?\(?\d{2,4}\)?[ -]\d{3,4}[ -]?\d{3,4}(?![\d/])"),
    "address": re.compile(rf"\b\d{{1,4}} [A-Z][\w']{{1,30}} (?:{_STREETS})\b(?:, [A-Z]\w{{1,30}})?"),
    "name": re.compile(r"\b(?:Mr|Mrs|Ms|Miss|Dr)\.? ?[A-Z][\w'-]{1,30}(?: [A-Z][\w'-]{1,30})?"),
}
_TOKEN, _NO_DIGITS = re.compile(r"[^\W_]+"), re.compile(r"\D+")
_TITLES = {"mr", "mrs", "ms", "miss", "dr", "prof"}
# Written small, these are words and no names: "no pain" keeps its meaning where the patient's name is No.
_WORDS = re.findall(
    r"\w+",
    "a am an and as at be but by can day do for go had has he her him his how i if in is it may me my no not of off on or "
    "our out she so the to too up us was we who why will you",
)
_LETTER = "A-Za-z\u00c0-\u052f"  # of scripts that put spaces between words
Span = tuple[int, int, str]


def mask(text: str | None, kinds: list[Any], own: list[tuple[str, str | None]], counts: Counter[str]) -> str | None:
    """Replace a row's own identifiers (pairs of kind and value), and what the patterns of `kinds` find, by `[kind]`.

    Finds that overlap become one mask, named after the longest of them.
    """
    if not isinstance(text, str):
        return None
    seen = view(text)
    found = [*_own(seen.text, own), *_others(seen.text, kinds)]
    pieces, at = list[str](), 0
    for start, end, kind in _merged(found):
        first, last = seen.span(start, end)
        pieces += text[at:first], f"[{kind}]"
        at = last
        counts[kind] += 1
    return "".join([*pieces, text[at:]])


def _others(text: str, kinds: list[Any]) -> Iterator[Span]:
    for kind, pattern in PATTERNS.items():
        if kind in kinds:
            yield from ((*found.span(), kind) for found in pattern.finditer(text))


def _merged(found: list[Span]) -> list[Span]:
    """Spans in order, none of which overlaps the next."""
    merged: list[Span] = []
    longest = 0
    for start, end, kind in sorted(found, key=lambda span: (span[0], -span[1])):
        if not merged or start >= merged[-1][1]:
            merged.append((start, end, kind))
            longest = end - start
        else:
            first, last, name = merged[-1]
            merged[-1] = (first, max(last, end), kind if end - start > longest else name)
            longest = max(longest, end - start)
    return merged


# ---------------------------------------------------------------- a row's own


def _own(text: str, own: list[tuple[str, str | None]]) -> Iterator[Span]:
    lower, digits = text.lower(), _NO_DIGITS.sub("", text)
    for kind, value in own:
        for tokens in _spellings(value):
            # Most stand in no text at all: spare the pattern.
            if all(token in (digits if token.isdecimal() else lower) for token in tokens):
                yield from ((*found.span(), kind) for found in _pattern(kind, tokens).finditer(text))


def _spellings(value: str | None) -> list[list[str]]:
    """An identifier as it is read: one way, or several where capitals look like other letters than small ones do."""
    if not isinstance(value, str):
        return []
    cases = [value] if value.isascii() else [value, value.lower(), value.upper(), value.title()]
    ways = {tuple(_tokens(case)) for case in cases}
    return [list(tokens) for tokens in sorted(ways) if tokens]


def _tokens(value: str) -> list[str]:
    """The words and numbers of an identifier in small letters, without a title; none if it is too short to be one."""
    tokens = _TOKEN.findall(view(value).text.lower())
    if len(tokens) > 1 and tokens[0] in _TITLES:
        tokens = tokens[1:]
    whole = "".join(tokens)
    return tokens if len(whole) >= (3 if whole.isdecimal() else 2) else []


def _pattern(kind: str, tokens: list[str]) -> re.Pattern[str]:
    """All forms in which an identifier is written."""
    if len(tokens) == 1 and tokens[0] in _WORDS:
        return re.compile(_bordered([tokens[0].capitalize()]) + "|" + _bordered([tokens[0].upper()]))
    orders = [tokens]
    if kind in ("name", "identifier") and len(tokens) <= 5 and all(map(str.isalpha, tokens)):
        orders = [[*tokens[at:], *tokens[:at]] for at in range(len(tokens))]  # "Smith, Mary Ann" too
    return re.compile("|".join(map(_bordered, orders)), re.IGNORECASE)


def _bordered(tokens: list[str]) -> str:
    """These words with little or nothing between them, not within a longer word or number."""
    parts = [r"[\W_]{0,2}".join(token) if token.isdecimal() and len(token) > 4 else token for token in tokens]
    return _no(tokens[0][0], "(?<![{}])") + r"[\W_]{0,3}".join(map(str, parts)) + _no(tokens[-1][-1], "(?![{}])")


def _no(edge: str, border: str) -> str:
    """What may not stand beside an identifier's first or last character; scripts without spaces have no borders."""
    if edge.isdecimal():
        return border.format(r"\d")
    return border.format(_LETTER) if re.match(f"[{_LETTER}]", edge) else ""
