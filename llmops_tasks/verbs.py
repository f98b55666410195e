"""The verbs that the command line and child processes may call by name; nothing else is callable."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

from llmops_tasks.errors import InputError, did_you_mean

PACKAGES = ("data", "prompts", "training", "evaluation", "release", "serving", "monitoring")
# What is no package's: name -> module, function.
_LOOSE = {
    "chain": ("chain", "chain"),
    "tracking.initialize": ("tracking", "initialize"),
    "config.schema": ("config", "json_schema"),
    "config.bind": ("config", "bind"),
    "config.retire": ("config", "retire"),
}
_BESIDE = {"tracking": "MLflow's database.", "config": "Use-case configuration."}  # groups of these


def verbs() -> list[str]:
    """Every verb's name, package by package."""
    return [
        *(f"{package}.{verb}" for package in PACKAGES for verb in import_module(f"llmops_tasks.{package}").VERBS),
        *_LOOSE,
    ]


def groups() -> list[str]:
    """What stands before the point in the names of verbs."""
    return [*PACKAGES, *_BESIDE]


def purpose(group: str) -> str:
    """What a group is for, in a sentence: the first of a package's docstring."""
    said = _BESIDE.get(group) or import_module(f"llmops_tasks.{group}").__doc__ or ""
    return said.partition(". ")[0].rstrip(".\n") + "."


def members(group: str) -> list[str]:
    """The verbs of a group, without its name; no other group is imported."""
    if group in PACKAGES:
        return list(import_module(f"llmops_tasks.{group}").VERBS)
    return [name.partition(".")[2] for name in _LOOSE if name.startswith(f"{group}.")]


def resolve(name: str) -> Callable[..., Any]:
    """The function behind a verb's name.

    Raises:
        InputError: if it stands in no table.
    """
    group, _, member = name.partition(".")
    if name not in _LOOSE and (group not in PACKAGES or member not in members(group)):
        known = verbs()
        raise InputError(f"No verb '{name:.60}'.{did_you_mean(name, known)} Known: {known}.")
    module, function = _LOOSE.get(name) or (group, member)
    verb: Callable[..., Any] = getattr(import_module(f"llmops_tasks.{module}"), function)
    return verb
