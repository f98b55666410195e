"""Mutants: a module's source with one thing changed, by mutmut's operators, in an order that a seed decides.

Left out, as no test should pin them: docstrings, annotations, what is logged, the words of errors, and `strict=` of zip.
"""

from __future__ import annotations

import ast
import contextlib
import difflib
import random
from collections.abc import Iterator
from typing import Any, NamedTuple

import libcst as cst
from mutmut.mutation.mutators import mutation_operators

SEED = 20_261_125


class Mutant(NamedTuple):
    """A source with one thing changed."""

    line: int
    before: str
    after: str
    source: str

    def told(self) -> dict[str, Any]:
        """All but the source."""
        return {"line": self.line, "before": self.before, "after": self.after}


class Finder(cst.CSTVisitor):
    """Every node with each of its mutations, but what no test should pin."""

    def __init__(self) -> None:
        self.found: list[tuple[cst.CSTNode, cst.CSTNode]] = []

    def on_visit(self, node: cst.CSTNode) -> bool:
        if _is_left_out(node):
            return False
        if _is_cast(node):  # what it says is for mypy alone
            node.args[1].visit(self)
            return False
        for kind, mutate in mutation_operators:
            if isinstance(node, kind):
                mutations = [new for new in mutate(node) if _strict(new) == _strict(node)]
                # of a string's mutations, which differ in case alone, one is enough
                self.found += [(node, new) for new in mutations[: 1 if kind is cst.BaseString else None]]
        return True


def _strict(node: cst.CSTNode) -> list[cst.Arg]:
    """The argument by which `zip` guards against what does not happen."""
    args = node.args if isinstance(node, cst.Call) else ()
    return [arg for arg in args if arg.keyword and arg.keyword.value == "strict"]


def _is_left_out(node: cst.CSTNode) -> bool:
    if isinstance(node, cst.Annotation | cst.Decorator | cst.Import | cst.ImportFrom):
        return True
    if isinstance(node, cst.Arg):
        return bool(node.keyword and node.keyword.value == "strict")
    if isinstance(node, cst.Raise):
        return node.exc is not None  # the words of an error
    if isinstance(node, cst.Expr) and isinstance(node.value, cst.SimpleString | cst.ConcatenatedString):
        return True  # a docstring
    if isinstance(node, cst.If):
        return isinstance(node.test, cst.Name) and node.test.value == "TYPE_CHECKING"
    code = cst.Module([]).code_for_node(node) if isinstance(node, cst.Call | cst.Assign) else ""
    return code.startswith(("log.", "log = ")) or "TypeVar(" in code


def _is_cast(node: cst.CSTNode) -> bool:
    return isinstance(node, cst.Call) and isinstance(node.func, cst.Name) and node.func.value == "cast"


def mutants(source: str) -> Iterator[Mutant]:
    """All mutants of a source that compile, in an order that only the seed and the source decide."""
    module = cst.parse_module(source)
    module.visit(finder := Finder())
    random.Random(SEED).shuffle(finder.found)  # noqa: S311  (which are tried is no secret)
    made = (module.deep_replace(node, new).code for node, new in finder.found)
    return (_mutant(source, code) for code in made if code != source and _compiles(code))


def _compiles(source: str) -> bool:
    with contextlib.suppress(SyntaxError):
        ast.parse(source)
        return True
    return False


def _mutant(source: str, changed: str) -> Mutant:
    old, new = source.splitlines(), changed.splitlines()
    spans = [op for op in difflib.SequenceMatcher(None, old, new, autojunk=False).get_opcodes() if op[0] != "equal"]
    first, last = spans[0], spans[-1]
    before, after = old[first[1] : last[2]], new[first[3] : last[4]]
    return Mutant(first[1] + 1, *(" ".join(map(str.strip, lines)) for lines in (before, after)), changed)
