"""The house's rules, read from the source: who may import whom, what is never done, how long a file may be."""

from __future__ import annotations

import ast
import importlib
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "llmops_tasks"
PACKAGES = ("data", "training", "evaluation", "release", "serving", "monitoring")
# Left to right; a module may import its own column and those before it.
COLUMNS = [
    ("errors", "contracts"),
    ("store", "config"),
    ("tracking", "process", "metrics", "models"),
    ("prompts",),
    PACKAGES,
    ("chain", "verbs", "child", "doctor"),
    ("cli", "__main__"),
]
# What one loose file is by nature; everything else has a package.
LOOSE = {"errors", "contracts", "metrics", "tracking", "process", "chain", "verbs", "child", "__main__", "__init__"}
HEAVY = (
    "torch", "transformers", "datasets", "peft", "mlflow", "great_expectations", "pandas", "numpy", "pyarrow",
    "sklearn", "scipy", "boto3", "botocore", "safetensors", "gguf", "optuna", "trl", "accelerate", "bitsandbytes", "airflow",
)  # fmt: skip
# They derive from torch's, peft's and MLflow's classes: imported where a model is loaded, never by a task's module.
DERIVED = ("llmops_tasks.models.onednn", "llmops_tasks.training.lora_linear", "llmops_tasks.release.serving_model")
FILES = sorted(PACKAGE.rglob("*.py"))


def _place(module: str) -> int:
    """The column of `llmops_tasks.<module>...`."""
    name = module.split(".")[1]
    return next(place for place, names in enumerate(COLUMNS) if name in names)


def _module(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def _imports(path: Path) -> Iterator[str]:
    """Every module imported anywhere in the file, also within functions and for types."""
    for node in ast.walk(_tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}: relative import"
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                is_module = (ROOT / Path(*whole.split("."))).with_suffix(".py").exists() or (
                    ROOT / Path(*whole.split("."))
                ).is_dir()
                yield whole if is_module else str(node.module)


@pytest.mark.parametrize("path", FILES, ids=lambda path: _module(path))
def test_imports_go_left_to_right_and_packages_do_not_import_each_other(path: Path) -> None:
    me = _module(path)
    if me == "llmops_tasks":
        assert not [name for name in _imports(path) if name.startswith("llmops_tasks")]
        return
    for name in _imports(path):
        if not name.startswith("llmops_tasks."):
            continue
        assert _place(name) <= _place(me), f"{me} imports {name}, which stands to its right"
        package, other = me.split(".")[1], name.split(".")[1]
        assert package not in PACKAGES or other not in PACKAGES or package == other, (
            f"{me} imports {name}: packages do not meet"
        )


@pytest.mark.parametrize("path", FILES, ids=lambda path: _module(path))
def test_airflow_is_not_known_here(path: Path) -> None:
    assert not [name for name in _imports(path) if name.split(".")[0] == "airflow"]


def test_only_what_is_one_file_by_nature_lies_beside_the_packages() -> None:
    assert {path.stem for path in PACKAGE.glob("*.py")} == LOOSE


def _verbs(package: str) -> set[str]:
    return set(importlib.import_module(f"llmops_tasks.{package}").VERBS)


@pytest.mark.parametrize(
    "path",
    [
        *sorted((ROOT / "dags").rglob("*.py")),
        *(PACKAGE / f"{name}.py" for name in ("chain", "verbs", "child", "__main__")),
        *sorted((PACKAGE / "cli").glob("*.py")),
        *sorted((PACKAGE / "doctor").glob("*.py")),
    ],
    ids=lambda path: path.name,
)
def test_tasks_use_the_packages_verbs_alone(path: Path) -> None:
    """Whatever else a package holds is private to it."""
    for node in ast.walk(_tree(path)):
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("llmops_tasks."):
            _, package, *inside = str(node.module).split(".")
            if package in (*PACKAGES, "prompts"):
                assert not inside and {alias.name for alias in node.names} <= _verbs(package), ast.unparse(node)


def test_config_knows_no_circle() -> None:
    """A section may be read without what checks or loads it."""
    order = (
        "data",
        "decoding",
        "server",
        "airflow",
        "selection",
        "training",
        "usecase",
        "checks",
        "kept",
        "loading",
        "forms",
    )
    for place, name in enumerate(order):
        inside = {found.split(".")[2] for found in _imports(PACKAGE / "config" / f"{name}.py") if ".config." in found}
        assert inside <= set(order[:place]), name


def test_every_module_has_its_place_in_the_plan() -> None:
    planned = {name for names in COLUMNS for name in names}
    assert {_module(path).split(".")[1] for path in FILES if _module(path) != "llmops_tasks"} == planned


def test_importing_everything_loads_nothing_heavy() -> None:
    modules = [_module(path) for path in FILES if _module(path) not in DERIVED]
    code = (
        "import importlib, json, sys\n"
        f"[importlib.import_module(name) for name in {modules!r}]\n"
        f"print(json.dumps([name for name in {HEAVY!r} if name in sys.modules]))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: _module(path))
def test_no_file_is_longer_than_330_lines(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= 330


@pytest.mark.parametrize("path", [path for path in FILES if path.name != "__init__.py"], ids=lambda path: _module(path))
def test_every_module_says_what_it_is_for(path: Path) -> None:
    assert ast.get_docstring(_tree(path))
