"""From a use case's file to its shape: found by name, read, checked; every mistake is told at once.

The file's name is the use case's name. `${LLMOPS_HOME}` and `${LLMOPS_STORE}` may stand in addresses; no other
variable is read.
"""

from __future__ import annotations

import datetime
import os
import re
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError

from llmops_tasks.config import checks
from llmops_tasks.config.data import Section
from llmops_tasks.config.selection import Policy
from llmops_tasks.config.usecase import UseCase
from llmops_tasks.errors import ConfigError, InputError, did_you_mean

_NAME = re.compile(r"[a-z][a-z0-9_]{1,40}")
_Shape = TypeVar("_Shape", bound=Section)
_INCLUDE = Path(__file__).parents[2] / "include"
POLICY = _INCLUDE / "policies" / "base_models.yaml"


def checked_date(date: str) -> str:
    """A day as YYYY-MM-DD; anything else is refused before it gets near an address."""
    try:
        if re.fullmatch(r"\d{4}-\d{2}-\d{2}", date) and datetime.date.fromisoformat(date):
            return date
    except ValueError:
        pass
    raise InputError(f"'{date:.40}' is no date. Allowed: YYYY-MM-DD, for example 2026-03-30.")


def usecase_folder() -> Path:
    """Where use cases are looked for (`LLMOPS_USECASES`, default `include/usecases` of this project)."""
    return Path(os.environ.get("LLMOPS_USECASES", _INCLUDE / "usecases"))


def usecase_names() -> list[str]:
    """All use cases of the folder."""
    return sorted(path.stem for path in usecase_folder().glob("*.yaml"))


def usecase_path(usecase: str) -> Path:
    """The file of a use case, given by name or as a path to its YAML."""
    if usecase.endswith(".yaml"):
        path = Path(usecase)
        usecase = path.stem
    else:
        path = usecase_folder() / f"{usecase}.yaml"
    if not _NAME.fullmatch(usecase):
        raise InputError(f"'{usecase}' is no use-case name. Allowed: a-z, 0-9 and _, beginning with a letter.")
    if not path.is_file():
        known = usecase_names()
        raise InputError(f"No use case '{usecase}' at '{path}'. Known: {known}.{did_you_mean(usecase, known)}")
    return path


def usecase_name(usecase: str) -> str:
    """The use case's name: its file's stem."""
    return usecase_path(usecase).stem


def load(usecase: str) -> UseCase:
    """Read and check a use case.

    Raises:
        ConfigError: with all mistakes, each with its path in the file.
        InputError: if there is no such file.
    """
    path = usecase_path(usecase)
    return _load(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=64)
def _load(path: Path, _modified: int) -> UseCase:
    case = _parsed(path, UseCase)
    if problems := checks.column_problems(case):
        raise _mistaken(path, problems)
    return case


def policy(usecase: str) -> Policy:
    """The rules by which the use case's base model is chosen: the file at `selection.policy`, else the shipped one.

    Raises:
        ConfigError: with all mistakes of the policy, or if there is no such file.
    """
    named = load(usecase).selection.policy
    path = usecase_path(usecase).parent / named if named else POLICY
    if not path.is_file():
        raise ConfigError(f"selection.policy: no file at '{path}'. Paths count from the use case's own folder.")
    return _parsed(path, Policy)


def _parsed(path: Path, shape: type[_Shape]) -> _Shape:
    """A YAML file as what it must be."""
    try:
        raw = _read(path)
    except (yaml.YAMLError, UnicodeDecodeError) as exc:
        where = getattr(exc, "problem_mark", None)
        raise ConfigError(f"{path.name} is not valid YAML{f', line {where.line + 1}' if where else ''}.") from exc
    if not isinstance(raw, dict):
        raise ConfigError(f"{path.name} must hold a mapping with the keys {sorted(shape.model_fields)}.")
    try:
        return shape.model_validate(raw)
    except ValidationError as exc:
        raise _mistaken(path, checks.explain(exc, shape)) from None


def _read(path: Path) -> Any:
    loader = _Loader(path.read_text(encoding="utf-8"))
    try:
        raw = loader.get_single_data()
    finally:
        loader.dispose()
    if loader.repeated:
        raise _mistaken(path, loader.repeated)
    return raw


class _Loader(yaml.SafeLoader):
    """Of a key that a mapping holds twice, YAML's own loader keeps the last and says nothing."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.repeated: list[str] = []

    def compose_mapping_node(self, anchor: Any) -> Any:
        """Look at the keys as they are written: later, those of a merge (`<<`) stand among them."""
        node = super().compose_mapping_node(anchor)
        lines: dict[Any, int] = {}
        for key, _ in node.value:
            line, known = key.start_mark.line + 1, (key.tag, str(key.value))
            if known in lines:
                self.repeated.append(
                    f"line {line}: '{key.value}' stands on line {lines[known]} already; keep one of them"
                )
            lines[known] = line
        return node


def _mistaken(path: Path, problems: list[str]) -> ConfigError:
    return ConfigError(f"{path.name} has {len(problems)} mistake(s):", problems)


def json_schema() -> dict[str, Any]:
    """The JSON Schema that editors complete and check use cases with.

    Example:
        >>> json_schema()
    """
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **UseCase.model_json_schema()}
