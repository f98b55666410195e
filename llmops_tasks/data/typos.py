"""Slips of the pen, one at a time: used by synthetic data and augmentation to imitate real typing."""

from __future__ import annotations


def swapped(text: str, at: int) -> str:
    """The characters at `at` and `at + 1` change places."""
    return text[:at] + text[at + 1] + text[at] + text[at + 2 :]


def dropped(text: str, at: int) -> str:
    """The character at `at` is missing."""
    return text[:at] + text[at + 1 :]


def doubled(text: str, at: int) -> str:
    """The character at `at` stands twice."""
    return text[:at] + text[at] + text[at:]


def lost(text: str, at: int) -> str:
    """The character at `at` did not survive some other system's encoding."""
    return text[:at] + "??" + text[at + 1 :]
