"""What is never done, in whatever of this project is run: in the package, the DAGs, the plugins, scripts and benchmarks.

Names are followed to what they were imported as, so that `from torch import load as read` is found too.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FOLDERS = ("llmops_tasks", "dags", "plugins", "scripts", "benchmarks")
FILES = [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))]
PRINTING = ("scripts", "benchmarks")  # what people read on a terminal
ASSERTING = ("benchmarks",)  # a figure of a wrong result is none
# They run what they are given, as code or as a command.
CALLS = {
    "eval", "exec", "compile", "__import__", "builtins.eval", "builtins.exec", "os.system", "os.popen",
    "subprocess.getoutput", "subprocess.getstatusoutput", "asyncio.create_subprocess_shell", "torch.load",
    "pandas.read_pickle", "yaml.load", "yaml.load_all", "yaml.unsafe_load", "yaml.unsafe_load_all", "yaml.full_load",
    "yaml.full_load_all", "marshal.load", "marshal.loads", "tempfile.mktemp",
}  # fmt: skip
LOADERS = {"yaml.Loader", "yaml.UnsafeLoader", "yaml.FullLoader", "yaml.CLoader"}
MODULES = {"pickle", "cPickle", "_pickle", "dill", "joblib", "cloudpickle", "shelve", "jsonpickle"}
SWITCHES = {"shell", "trust_remote_code", "allow_pickle"}


def _imported(tree: ast.Module) -> dict[str, str]:
    """What a name stands for in this file."""
    names: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.asname: alias.name for alias in node.names if alias.asname}
        elif isinstance(node, ast.ImportFrom):
            names |= {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    return names


def _called(node: ast.expr, names: dict[str, str]) -> str:
    first, *rest = ast.unparse(node).split(".")
    return ".".join([names.get(first, first), *rest])


def never(tree: ast.Module, printing: bool = False, asserting: bool = False) -> Iterator[str]:
    """What is done in the file and must not be."""
    names = _imported(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Assert) and not asserting:
            yield f"line {node.lineno}: assert"
        elif isinstance(node, ast.ExceptHandler):
            yield from _broad(node)
        elif isinstance(node, ast.Call):
            yield from _calls(node, names, printing)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            yield from _modules(node)
        elif isinstance(node, ast.Attribute | ast.Name) and _called(node, names) in LOADERS:
            yield f"line {node.lineno}: {_called(node, names)}"


def _modules(node: ast.Import | ast.ImportFrom) -> Iterator[str]:
    given = [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
    if found := MODULES & {name.split(".")[0] for name in given}:
        yield f"line {node.lineno}: {found}"


def _broad(node: ast.ExceptHandler) -> Iterator[str]:
    """Catching everything is allowed to those who pass it on."""
    caught = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
    names = {ast.unparse(kind) if kind else None for kind in caught}
    passes_on = isinstance(node.body[-1], ast.Raise) and node.body[-1].exc is None
    if names & {None, "Exception"} or ("BaseException" in names and not passes_on):
        yield f"line {node.lineno}: except {names}"


def _calls(node: ast.Call, names: dict[str, str], printing: bool) -> Iterator[str]:
    called = _called(node.func, names)
    if called in CALLS or (called == "print" and not printing):
        yield f"line {node.lineno}: {called}"
    for word in node.keywords:
        if word.arg in SWITCHES and getattr(word.value, "value", True) is not False:
            yield f"line {node.lineno}: {word.arg}"


def _in(path: Path, places: tuple[str, ...]) -> bool:
    return path.relative_to(ROOT).as_posix().startswith(places)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_what_is_never_done_is_not_done(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert list(never(tree, printing=_in(path, PRINTING), asserting=_in(path, ASSERTING))) == []


def test_every_folder_that_is_run_is_looked_at() -> None:
    """A new folder of code is looked at, or is one of tests."""
    found = {path.relative_to(ROOT).parts[0] for path in ROOT.glob("[a-z]*/**/*.py")}
    assert found - {"tests", "var"} == set(FOLDERS) == {path.relative_to(ROOT).parts[0] for path in FILES}


@pytest.mark.parametrize(
    "code",
    ["assert x", "print(1)", "try:\n f()\nexcept Exception:\n raise", "try:\n f()\nexcept:\n pass", "import pickle",
     "from pickle import loads", "import torch\ntorch.load(p)", "run(c, shell=True)", "run(c, shell=flag)",
     "m.from_pretrained(p, trust_remote_code=True)", "try:\n f()\nexcept BaseException:\n pass", "eval(x)", "exec(x)",
     "from os import system\nsystem(x)", "import os as o\no.popen(x)", "from torch import load as read\nread(p)",
     "import yaml\nyaml.load(x, yaml.SafeLoader)", "import yaml\nyaml.load(x, Loader=yaml.FullLoader)",
     "from yaml import UnsafeLoader\nUnsafeLoader(x)", "import yaml as y\ny.unsafe_load(x)",
     "import numpy as np\nnp.load(p, allow_pickle=True)", "import pandas as pd\npd.read_pickle(p)",
     "import subprocess\nsubprocess.getoutput(c)", "import tempfile\ntempfile.mktemp()", "import builtins\nbuiltins.exec(x)",
     "import marshal\nmarshal.loads(x)", "import joblib", "import dill as d", "class A:\n def f(self):\n  import shelve"],
)  # fmt: skip
def test_the_rule_above_notices(code: str) -> None:
    assert list(never(ast.parse(code)))


@pytest.mark.parametrize(
    "code",
    ["import re\nre.compile(x)", "import json\njson.load(x)", "run(c, shell=False)", "import yaml\nyaml.safe_load(x)",
     "try:\n f()\nexcept BaseException:\n g()\n raise", "model.eval()", "from os import path\npath.exists(x)"],
)  # fmt: skip
def test_and_lets_pass_what_only_looks_alike(code: str) -> None:
    assert not list(never(ast.parse(code)))
