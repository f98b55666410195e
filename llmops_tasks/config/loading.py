"""From a use case's file to its validated configuration; all mistakes are reported at once.

The file's name is the use case's name. Addresses may contain `${LLMOPS_HOME}` and `${LLMOPS_STORE}`; no other
variable is expanded.
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

from llmops_tasks.config import checks, kept
from llmops_tasks.config.data import Section
from llmops_tasks.config.selection import Policy
from llmops_tasks.config.usecase import UseCase
from llmops_tasks.errors import ConfigError, InputError, did_you_mean
from llmops_tasks.store.objects import store_uri

SEPARATOR = "@"  # between a use case's name and the digest of one form of it
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
    raise InputError(f"'{date:.40}' is not a date. Allowed: YYYY-MM-DD, for example 2026-03-30.")


def usecase_folder() -> Path:
    """Where use cases are looked for (`LLMOPS_USECASES`, default `include/usecases` of this project)."""
    return Path(os.environ.get("LLMOPS_USECASES", _INCLUDE / "usecases"))


def usecase_names() -> list[str]:
    """All use cases of the folder."""
    return sorted(path.stem for path in usecase_folder().glob("*.yaml"))


def misnamed() -> list[str]:
    """What is wrong with names in the folder: files that no use case can be read from."""
    files = (
        [path for path in usecase_folder().iterdir() if path.suffix in (".yaml", ".yml")]
        if usecase_folder().is_dir()
        else []
    )
    return sorted(
        f"{path.name}: a use case's file is named <name>.yaml, of a-z, 0-9 and _, beginning with a letter. Rename it."
        for path in files
        if path.suffix != ".yaml" or not _NAME.fullmatch(path.stem)
    )


def is_bound(usecase: str) -> bool:
    """Whether this names one form of a use case, as `<name>@<digest>`."""
    return SEPARATOR in usecase and "/" not in usecase and not usecase.endswith(".yaml")


def bound(name: str, sha256: str) -> str:
    """The name of one form of a use case."""
    return f"{name}{SEPARATOR}{sha256}"


def _form(usecase: str) -> dict[str, Any]:
    name, _, sha256 = usecase.partition(SEPARATOR)
    if not _NAME.fullmatch(name) or not re.fullmatch(r"[0-9a-f]{32}", sha256):
        raise InputError(
            f"'{usecase:.100}' is not a stored configuration of a use case. Allowed: <name>@<32 hexadecimal digits>."
        )
    return kept.read(name, sha256)


def raw_form(usecase: str) -> dict[str, Any]:
    """A use case and its policy as their files say, for keeping."""
    return {"usecase": _read(usecase_path(usecase)), "policy": _read(_policy_path(usecase))}


def usecase_path(usecase: str) -> Path:
    """The file of a use case, given by name or as a path to its YAML."""
    if usecase.endswith(".yaml"):
        path = Path(usecase)
        usecase = path.stem
    else:
        path = usecase_folder() / f"{usecase}.yaml"
    if not _NAME.fullmatch(usecase):
        raise InputError(f"'{usecase}' is not a use-case name. Allowed: a-z, 0-9 and _, beginning with a letter.")
    if not path.is_file():
        known = usecase_names()
        raise InputError(f"No use case '{usecase}' at '{path}'. Known: {known}.{did_you_mean(usecase, known)}")
    return path


def usecase_name(usecase: str) -> str:
    """The use case's name: its file's stem, or what stands before a form's digest."""
    return usecase.partition(SEPARATOR)[0] if is_bound(usecase) else usecase_path(usecase).stem


def load(usecase: str) -> UseCase:
    """Read and check a use case.

    Args:
        usecase: name, YAML path, or one form of it as `<name>@<digest>`.

    Raises:
        ConfigError: with all mistakes, each with its path in the file.
        InputError: if there is no such file or form.
    """
    if is_bound(usecase):
        return _load_form(usecase, store_uri())
    path = usecase_path(usecase)
    return _load(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=64)
def _load(path: Path, _modified: int) -> UseCase:
    case = _checked(path.name, _mapping(path, UseCase))
    known = {*usecase_names(), *(other.stem for other in path.parent.glob("*.yaml"))}
    if problems := list(checks.reference_problems(case, known)):
        raise _mistaken(path.name, problems)
    return case


@lru_cache(maxsize=64)
def _load_form(usecase: str, _store: str) -> UseCase:
    return _checked(usecase, _form(usecase)["usecase"])


def _checked(what: str, raw: dict[str, Any]) -> UseCase:
    case = _shaped(what, raw, UseCase)
    if problems := checks.column_problems(case):
        raise _mistaken(what, problems)
    return case


def policy(usecase: str) -> Policy:
    """The rules by which the use case's base model is chosen: the file at `selection.policy`, else the shipped one.

    Raises:
        ConfigError: with all mistakes of the policy, or if there is no such file.
    """
    if is_bound(usecase):
        return _shaped(usecase, _form(usecase)["policy"], Policy)
    path = _policy_path(usecase)
    return _shaped(path.name, _mapping(path, Policy), Policy)


def _policy_path(usecase: str) -> Path:
    named = load(usecase).selection.policy
    path = usecase_path(usecase).parent / named if named else POLICY
    if not path.is_file():
        raise ConfigError(f"selection.policy: no file at '{path}'. Paths are relative to the use case's folder.")
    return path


def _mapping(path: Path, shape: type[Section]) -> dict[str, Any]:
    """A YAML file as the mapping that it must be."""
    try:
        raw = _read(path)
    except (yaml.YAMLError, ValueError) as exc:  # also text that is no UTF-8
        where = getattr(exc, "problem_mark", None)
        raise ConfigError(f"{path.name} is not valid YAML{f', line {where.line + 1}' if where else ''}.") from exc
    if not isinstance(raw, dict):
        raise ConfigError(f"{path.name} must hold a mapping with the keys {sorted(shape.model_fields)}.")
    return raw


def _shaped(what: str, raw: dict[str, Any], shape: type[_Shape]) -> _Shape:
    try:
        return shape.model_validate(raw)
    except ValidationError as exc:
        raise _mistaken(what, checks.explain(exc, shape)) from None


def _read(path: Path) -> Any:
    loader = _Loader(path.read_text(encoding="utf-8"))
    try:
        raw = loader.get_single_data()
    finally:
        loader.dispose()
    if loader.repeated:
        raise _mistaken(path.name, loader.repeated)
    return raw


class _Loader(yaml.SafeLoader):
    """Of a key that a mapping holds twice, YAML's own loader keeps the last and says nothing.

    Dates stay as they are written: the schema reads them, and says which are none.
    """

    yaml_implicit_resolvers = {  # noqa: RUF012  (PyYAML's interface)
        first: [(tag, pattern) for tag, pattern in known if tag != "tag:yaml.org,2002:timestamp"]
        for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

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


def _mistaken(what: str, problems: list[str]) -> ConfigError:
    return ConfigError(f"{what} has {len(problems)} mistake(s):", problems)


def json_schema() -> dict[str, Any]:
    """Print the JSON Schema of use cases, for editors.

    Example:
        >>> json_schema()
    """
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **UseCase.model_json_schema()}
