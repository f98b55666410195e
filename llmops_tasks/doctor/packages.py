"""Of the packages: is what is installed what the project asks for?"""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from llmops_tasks.doctor.findings import PROJECT, Finding, ok, problem, unknown, version

REQUIREMENTS = Path(__file__).parents[2] / "requirements.txt"


def packages() -> Iterator[Finding]:
    """Are the packages installed in the versions that the project asks for?"""
    if not (wanted := _requirements()):
        yield unknown("packages", "no requirements.txt, and the project is not installed", "Run 'make install'.")
    elif wrong := [words for requirement in wanted if (words := _misfit(requirement))]:
        yield problem("packages", "; ".join(wrong), "Run 'make install' (in an image: build it again).")
    else:
        yield ok("packages", f"all {len(wanted)} fit")


def _requirements() -> list[str]:
    """What the source says; where there is none beside the package, what was said when it was installed."""
    if REQUIREMENTS.is_file():
        lines = REQUIREMENTS.read_text(encoding="utf-8").splitlines()
        return [line for line in lines if re.match(r"[A-Za-z]", line)]
    try:
        return list(metadata.requires(PROJECT) or [])
    except metadata.PackageNotFoundError:
        return []


def _misfit(text: str) -> str:
    """How an installed package differs from a requirement; empty if it fits or is not for this machine."""
    from packaging.requirements import Requirement

    wanted = Requirement(text)
    found = version(wanted.name)
    if (wanted.marker and not wanted.marker.evaluate()) or (found and wanted.specifier.contains(found, True)):
        return ""
    return f"{wanted.name} is {found or 'absent'}, wanted: {wanted.specifier or 'any'}"
