"""The source files that a result depends on: a module, what it imports from the packages, and the templates they name.

Found by reading imports (also those within functions, and names of the form "llmops_tasks.package.module:name"), so that
no list must be maintained. Excluded is what does not affect content: errors, contracts, config (its values have digests of
their own), store, tracking and process; and imports for types only.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

from llmops_tasks.store.digests import digest, file_digest

_ROOT = Path(__file__).parents[2]
_SILENT = ("errors", "contracts", "config", "store", "tracking", "process")
_NAMED = re.compile(r"(llmops_tasks(?:\.\w+)+):\w+")


def code_digest(*modules: str) -> str:
    """SHA-256 over the sources that a result follows from, so that changed code gives a new address.

    Args:
        modules: their full names, usually the caller's `__name__`.
    """
    return digest({str(path.relative_to(_ROOT)): file_digest(path) for path in sources(*modules)})


def sources(*modules: str) -> list[Path]:
    """The files behind `code_digest`, in order."""
    found: set[Path] = set()
    waiting = [path for module in modules if (path := _file(module))]
    while waiting:
        path = waiting.pop()
        if path not in found:
            found.add(path)
            waiting += _used(path, path.stat().st_mtime_ns) if path.suffix == ".py" else []
    return sorted(found)


@lru_cache(maxsize=512)
def _used(path: Path, _modified: int) -> list[Path]:
    """What one source uses: modules of the packages, and other files in its folder that it names."""
    nodes = list(_walk(ast.parse(path.read_text(encoding="utf-8"))))
    imported = [module for node in nodes for module in _modules(node)]
    others = {other.name: other for other in path.parent.rglob("*") if other.is_file() and ".py" not in other.suffix}
    named = [node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)]
    found = [_file(module) for module in imported if module.split(".")[1] not in _SILENT]
    return [file for file in [*found, *(others.get(name) for name in named)] if file]


def _walk(tree: ast.AST) -> Iterator[ast.AST]:
    """All nodes but those for types only."""
    for node in ast.iter_child_nodes(tree):
        if not (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"):
            yield node
            yield from _walk(node)


def _modules(node: ast.AST) -> Iterator[str]:
    """The package's modules that a node names."""
    if isinstance(node, ast.ImportFrom) and str(node.module).split(".")[0] == "llmops_tasks":
        for alias in node.names:
            inner = f"{node.module}.{alias.name}"
            if _file(inner) or "." in str(node.module):
                yield inner if _file(inner) else str(node.module)
    elif isinstance(node, ast.Constant) and isinstance(node.value, str) and (match := _NAMED.fullmatch(node.value)):
        yield match[1]


def _file(module: str) -> Path | None:
    path = _ROOT / Path(*module.split(".")).with_suffix(".py")
    return path if path.is_file() else None
