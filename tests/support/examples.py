"""Records as tokens, of very different lengths."""

from __future__ import annotations

from llmops_tasks.training.examples import IGNORED, Example

LENGTHS = (3, 40, 9, 1, 22, 13, 30, 5)


def numbered() -> list[Example]:
    """One record of each length; up to three of its last tokens are the answer."""
    made = []
    for number, length in enumerate(LENGTHS):
        answers = 1 + number % min(3, length)
        labels = [IGNORED] * (length - answers) + [(7 * number + n) % 900 for n in range(answers)]
        made.append(Example([(31 * number + 17 * n) % 1000 for n in range(length)], labels))
    return made
