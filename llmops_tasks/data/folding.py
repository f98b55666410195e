"""The folded view of a text that detectors read; every character keeps its original position.

Compatibility forms (full-width digits, ligatures), accents, letters of other alphabets that look like Latin ones, all
kinds of dashes and quotes, invisible characters and runs of white space are folded: what looks like "Mr Smith" is read
as "Mr Smith". Matches in the view are masked in the original.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, field
from functools import lru_cache

# Format characters, controls, fillers and variation selectors: they show nothing and part no word.
INVISIBLE = (
    "\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f\xad\u034f\u061c\u070f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f"
    "\u202a-\u202e\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff9-\ufffb\U000e0000-\U000e0fff"
)
_ODD = re.compile(rf"[\s{INVISIBLE}]{{2,}}|[^\x20-\x7e]")
_UNSEEN = re.compile(rf"[{INVISIBLE}]*")
# Letters by the Latin ones they look like (after Unicode TR 39), script by script.
_LIKE = {
    # Cyrillic
    **dict(
        zip(
            "\u0410\u0412\u0415\u041a\u041c\u041d\u041e\u0420\u0421\u0422\u0423\u0425\u0406\u0408",
            "ABEKMHOPCTYXIJ",
            strict=True,
        )
    ),
    **dict(
        zip(
            "\u0405\u051a\u051c\u04ae\u04c0\u0430\u0435\u043e\u0440\u0441\u0443\u0445\u0456\u0458",
            "SQWYIaeopcyxij",
            strict=True,
        )
    ),
    **dict(zip("\u0455\u051b\u051d\u04bb\u0501\u04cf\u043a\u043c\u0442\u0475", "sqwhdlkmtv", strict=True)),
    # Greek
    **dict(
        zip(
            "\u0391\u0392\u0395\u0396\u0397\u0399\u039a\u039c\u039d\u039f\u03a1\u03a4\u03a5\u03a7",
            "ABEZHIKMNOPTYX",
            strict=True,
        )
    ),
    **dict(zip("\u03b1\u03b5\u03b9\u03ba\u03bd\u03bf\u03c1\u03c4\u03c5\u03c7", "aeikvoptux", strict=True)),
    # Armenian
    **dict(zip("\u0585\u057d\u0570\u0578\u0581", "ouhng", strict=True)),
    # Latin, which NFKD leaves whole
    **dict(
        zip(
            "\u0131\u0251\u0261\u0269\u0142\u0141\u00f8\u00d8\u0111\u0110\u00f0\u00d0\u0127\u0126",
            "iagilLoOdDdDhH",
            strict=True,
        )
    ),
    **dict(zip("\u014b\u014a", "nN", strict=True)),
    "\u00df": "ss",
    "\u1e9e": "SS",
    "\u00e6": "ae",
    "\u00c6": "AE",
    "\u0153": "oe",
    "\u0152": "OE",
    "\u00fe": "th",
    "\u00de": "Th",
    **dict.fromkeys("\u2018\u2019\u02bc\u00b4\uff07", "'"),
    "\u2212": "-",
    "\u2800": " ",  # an empty Braille cell
    **{chr(start + n): chr(65 + n) for start in (0x1F150, 0x1F170) for n in range(26)},  # on black
}


@dataclass(frozen=True)
class View:
    """A folded text; `starts` and `ends` are those of each of its characters in the original, if it is another."""

    text: str
    original: str
    starts: list[int] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)

    def span(self, start: int, end: int) -> tuple[int, int]:
        """Where a part of the view (not empty) stands in the original, with the marks on its last character."""
        if not self.starts:
            return start, end
        last = self.ends[end - 1]
        while last < len(self.original) and folded(self.original[last]) == "":
            last += 1
        return self.starts[start], last


def view(text: str) -> View:
    """The folded text; of plain text it is the text itself, at no cost."""
    pieces: list[str] = []
    starts: list[int] = []
    ends: list[int] = []
    at = 0
    for found in _ODD.finditer(text):
        begin, end = found.span()
        seen = folded(found[0])
        pieces += text[at:begin], seen
        starts += [*range(at, begin), *([begin] * len(seen))]
        ends += [*range(at + 1, begin + 1), *([end] * len(seen))]
        at = end
    if not at:
        return View(text, text)
    starts += range(at, len(text))
    ends += range(at + 1, len(text) + 1)
    return View("".join([*pieces, text[at:]]), text, starts, ends)


def trimmed(text: str) -> str:
    """The text without white space and invisible characters around it: "P1" and "P1 " are one patient."""
    text = text.strip()
    if text.isascii() and text.isprintable():
        return text
    start, end = 0, len(text)
    while start < end and (text[start].isspace() or _UNSEEN.fullmatch(text[start])):
        start += 1
    while start < end and (text[end - 1].isspace() or _UNSEEN.fullmatch(text[end - 1])):
        end -= 1
    return text[start:end]


@lru_cache(maxsize=1 << 14)
def folded(part: str) -> str:
    """A character, or a run of white space and invisible ones, as it is read."""
    if _UNSEEN.fullmatch(part):
        return ""
    if any(char.isspace() for char in part):
        return " "
    return "".join(_plain(char) for char in unicodedata.normalize("NFKD", _LIKE.get(part, part)))


def _plain(char: str) -> str:
    kind = unicodedata.category(char)
    if kind in ("Mn", "Me", "Cf"):  # accents, and whatever else stands on a letter
        return ""
    if kind in ("Nd", "Pd", "Zs"):
        return {"Pd": "-", "Zs": " "}.get(kind) or str(unicodedata.decimal(char))
    return _LIKE.get(char, char)
