"""Text curation: near duplicates, languages.

Near duplicates are found by MinHash and banding (datasketch) and confirmed by the exact share of common word triples.
Which of two is dropped is decided by `dataset`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

PERMUTATIONS, BANDS = 64, 16  # bands of 4: of pairs with a Jaccard of 0.8 more than 99.9 % share a band
_WORD = re.compile(r"\w+")


def shingles(text: str) -> set[str]:
    """All runs of three words, in lower case; shorter texts are one run."""
    words = _WORD.findall(text.lower())
    return {" ".join(words[at : at + 3]) for at in range(max(1, len(words) - 2))}


def jaccard(left: str, right: str) -> float:
    """Share of common word triples, 0 to 1."""
    a, b = shingles(left), shingles(right)
    return len(a & b) / len(a | b)


def bands(texts: list[str]) -> Iterator[list[int]]:
    """For every text BANDS numbers; similar texts have some of them in common, others hardly ever."""
    import xxhash
    from datasketch import MinHash

    sets = [[shingle.encode() for shingle in shingles(text)] for text in texts]
    width = PERMUTATIONS // BANDS
    for sketch in MinHash.generator(sets, num_perm=PERMUTATIONS, seed=1, hashfunc=xxhash.xxh32_intdigest):
        values = sketch.digest()
        yield [
            xxhash.xxh64_intdigest(values[at * width : (at + 1) * width].tobytes(), seed=at) >> 1  # fits a BIGINT
            for at in range(BANDS)
        ]


def language_of() -> Callable[[str], str]:
    """A function from a text to its most likely language (ISO 639-1). Short texts are often taken for another."""
    import py3langid

    return lambda text: str(py3langid.classify(text)[0])
