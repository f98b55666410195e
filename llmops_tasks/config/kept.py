"""Storage of valid configurations, by digest, and of their order.

<store>/_configurations/<usecase>/forms/<digest>.json   {usecase, policy}, as their files said
<store>/_configurations/<usecase>/order/...             the order in which they were valid
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from llmops_tasks.errors import ConflictError, InputError, IntegrityError
from llmops_tasks.store import digests, journal, objects

DIGITS = 32  # of the digest, in names


def add(name: str, form: dict[str, Any]) -> str:
    """Keep a form, and make it the newest; returns the digits that name it."""
    sha256 = digests.digest(form)[:DIGITS]
    if newest(name) != sha256:
        with suppress(ConflictError):  # it was valid before
            objects.create(_place(name, sha256), digests.canonical(form))
        journal.push(_order(name), digests.canonical({"form": sha256}))
    return sha256


def retire(name: str) -> None:
    """Let no form be in charge any more."""
    journal.push(_order(name), digests.canonical({"form": None}))


def read(name: str, sha256: str) -> dict[str, Any]:
    """A kept form, checked against its digest.

    Raises:
        InputError: if there is none.
        IntegrityError: if it was changed.
    """
    data = objects.read_if_there(uri := _place(name, sha256))
    if data is None:
        raise InputError(
            f"No configuration '{sha256:.40}' of '{name:.60}' is stored. Give the use case's name alone for the current one."
        )
    form: dict[str, Any] = objects.parsed(uri, data)
    if digests.digest(form)[:DIGITS] != sha256:
        raise IntegrityError(f"'{uri}' was changed after it was written. Restore it from a backup.")
    return form


def newest(name: str) -> str | None:
    """The digits of the newest form; None if there is none, or the use case was retired."""
    number = journal.last(folder := _order(name))
    data = objects.read_if_there(uri := journal.address(folder, number)) if number else None
    return None if data is None else objects.parsed(uri, data)["form"]


def names() -> list[str]:
    """Use cases that ever had a valid form."""
    root = f"{_root()}/"
    return sorted({uri.removeprefix(root).split("/")[0] for uri in objects.find(f"{root}*/order/*/*.json")})


def _root() -> str:
    return f"{objects.store_uri()}/_configurations"


def _place(name: str, sha256: str) -> str:
    return f"{_root()}/{name}/forms/{sha256}.json"


def _order(name: str) -> str:
    return f"{_root()}/{name}/order"
