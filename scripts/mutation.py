"""Do the tests notice when the code is wrong? A sample of mutants of the modules that decide, each run against their tests.

mutmut's runner is not used: results are addressed by digests of the source files, which a file with all mutants in it
would change. Here every mutant is a file of its own in a copy of the tree. A fork that has all libraries loaded already
runs those tests over it that run its function. A mutant that runs into the time limit counts as killed.

    make mutation                                      # all modules; an hour or two
    make mutation ONLY="release.ledger metrics"        # some
    make mutation ONLY=release.ledger AGAIN=1          # only those that survived the last time
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import gc
import importlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from mutants import SEED, Mutant, mutants

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks/results/mutation.jsonl"
SAMPLE = 40  # mutants a module, unless MORE says otherwise
LIMIT = 90  # seconds a mutant may take
MORE = {
    "release.evidence": 90, "release.ledger": 120, "release.registry": 60, "release.promotion": 40, "evaluation.gate": 150,
    "store.attempts": 50, "store.journal": 90, "data.splits": 80, "data.assignments": 60,
}  # fmt: skip
# Which tests are about a module: the quickest first, as the first that fails ends a run.
TESTS = {
    "release.evidence": "evidence registry",
    "release.ledger": "ledger_form records ledger registry promotion_faults",
    "release.witnesses": "witnesses ledger projection",
    "release.registry": "registry promotion projection",
    "release.promotion": "promotion evidence promotion_faults",
    "release.records": "records registry monitoring/retrain",
    "release.projection": "projection rebuild",
    "release.rebuild": "rebuild",
    "release.packaging": "packaging",
    "release.model_card": "model_card",
    "evaluation.gate": "gate gate_rows",
    "evaluation.gate_table": "gate_table",
    "evaluation.comparison": "comparison",
    "evaluation.exposure": "exposure",
    "evaluation.quality": "quality",
    "data.splits": "splits assignments",
    "data.assignments": "assignments",
    "store.digests": "digests sources",
    "store.journal": "journal outbox",
    "store.outbox": "outbox",
    "store.sources": "sources",
    "store.scratch": "scratch",
    "store.cache": "cache",
    "store.artifacts": "artifacts cache",
    "store.attempts": "attempts artifacts",
    "store.objects": "objects artifacts",
    "store.files": "files objects",
    "store.retention": "retention",
    "store.s3": "s3 objects",
    "metrics": "metrics",
}


class Watch:
    """A pytest plugin that notes which functions of a file each test runs."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.found: dict[str, list[int]] = {}  # by test: the functions' first lines; what fixtures ran, by ""

    def _watched(self, name: str) -> Iterator[None]:
        found = self.found.setdefault(name, [])

        def trace(frame: Any, *_: Any) -> None:
            if frame.f_code.co_filename.endswith(self.file):
                found.append(frame.f_code.co_firstlineno)

        threading.settrace(trace)
        sys.settrace(trace)
        try:
            return (yield)
        finally:
            sys.settrace(None)
            threading.settrace(None)  # type: ignore[arg-type]

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_setup(self) -> Iterator[None]:
        return (yield from self._watched(""))

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Iterator[None]:
        return (yield from self._watched(item.nodeid))


def _forked(do: Callable[[], int], limit: float = LIMIT) -> bool:
    """Whether something ends well, in a process of its own."""
    if (child := os.fork()) == 0:
        os.setsid()
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
        code = 1
        with contextlib.suppress(BaseException):
            code = do()
        os._exit(code)
    end, done, status = time.monotonic() + limit, 0, 1
    while not done and time.monotonic() < end:
        time.sleep(0.02)
        done, status = os.waitpid(child, os.WNOHANG)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)  # what the tests started, too
    return status == 0 if done else bool(os.waitpid(child, 0) and False)


def _test(tests: list[str], *plugins: object) -> int:
    """Those that wait for seconds are left out: they find nothing that others do not."""
    sys.dont_write_bytecode = not plugins
    base = str(Path("../tests").resolve())
    options = ["-x", "-q", "-p", "no:cacheprovider", "--timeout", "60", "--basetemp", base]
    return int(pytest.main([*tests, *options, "-k", "not endpoint_that_refuses"], list(plugins)))


def _warm(tests: list[str], file: str) -> dict[str, list[int]]:
    """Run the tests over the code as it is, load all libraries that they load, and return what each of them runs."""
    told = Path("../told")

    def do() -> int:
        code = _test(tests, watch := Watch(file))
        told.write_text(json.dumps([watch.found, list(sys.modules)]))
        return code

    if not _forked(do, 10 * LIMIT):
        raise SystemExit(f"The tests fail without a mutant: {tests}")
    found, modules = json.loads(told.read_text())
    ours = {"llmops_tasks", "tests", "conftest", "benchmarks", "scripts", "dags", "plugins", "__main__", "__mp_main__"}
    for name in modules:
        if name.split(".")[0] not in ours:
            with contextlib.suppress(Exception):
                importlib.import_module(name)
    gc.freeze()  # pytest collects garbage at its end: not that of the libraries, every time
    return dict(found)


def _about(line: int, source: str, runs: dict[str, list[int]], tests: list[str]) -> list[str]:
    """The tests that run the function of a line; all of them where that does not tell."""
    classes = [node for node in ast.parse(source).body if isinstance(node, ast.ClassDef)]
    for node in [*ast.parse(source).body, *(inner for found in classes for inner in found.body)]:
        if isinstance(node, ast.FunctionDef):
            first = min([node.lineno, *(mark.lineno for mark in node.decorator_list)])
            inside = range(first, (node.end_lineno or first) + 1)
            if line in inside and not any(at in inside for at in runs.get("", [])):
                return [test for test, found in runs.items() if any(at in inside for at in found)] or tests
    return tests


@contextlib.contextmanager
def _copy() -> Iterator[Path]:
    """The tree as it is, in a folder of its own, which becomes the current one."""
    command = ["git", "ls-files", "-co", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        tree = Path(folder) / "tree"
        for name in filter(lambda name: (ROOT / name).is_file(), listed.stdout.decode().splitlines()):
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(ROOT / name, tree / name)
        os.chdir(tree)
        os.environ |= {"PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}
        sys.path[:] = [path for path in sys.path if Path(path).resolve() not in (ROOT, ROOT / "scripts")]
        # by content, not by time: a mutant may be as old as the source before it, and as long
        command = [sys.executable, "-m", "compileall", "-q", "--invalidation-mode", "checked-hash", "llmops_tasks"]
        subprocess.run(command, check=True)
        yield tree


def examine(module: str, tree: Path, last: dict[str, Any] | None) -> dict[str, Any]:
    """Try a sample of a module's mutants, or those that survived the last time."""
    path = tree / "llmops_tasks" / f"{module.replace('.', '/')}.py"
    source, tests = path.read_text(encoding="utf-8"), _tests(module)
    chosen, tried = _chosen(source, module, last)
    runs = _warm(tests, str(path.relative_to(tree)))
    survivors = []
    for mutant in sorted(chosen):
        path.write_text(mutant.source, encoding="utf-8")
        if _forked(partial(_test, _about(mutant.line, source, runs, tests))):
            survivors.append(mutant.told())
            print(f"  {path.name}:{mutant.line}\n    - {mutant.before}\n    + {mutant.after}", flush=True)
    path.write_text(source, encoding="utf-8")
    return {"module": module, "seed": SEED, "tried": tried, "survivors": survivors}


def _chosen(source: str, module: str, last: dict[str, Any] | None) -> tuple[list[Mutant], int]:
    """The mutants to try, and how many were in all: a survivor whose line was changed since is not counted."""
    if last is None:
        sample = list(islice(mutants(source), MORE.get(module, SAMPLE)))
        return sample, len(sample)
    waiting, found = [(old["before"], old["after"]) for old in last["survivors"]], []
    for mutant in mutants(source):
        if (mutant.before, mutant.after) in waiting:
            waiting.remove((mutant.before, mutant.after))
            found.append(mutant)
    return found, last["tried"] - len(waiting)


def _tests(module: str) -> list[str]:
    package = module.rpartition(".")[0]
    names = [Path(package) / name if "/" not in name else Path(name) for name in TESTS[module].split()]
    return [f"tests/unit/{name.parent}/test_{name.name}.py" for name in names]


def _known() -> dict[str, dict[str, Any]]:
    lines = RESULTS.read_text(encoding="utf-8").splitlines() if RESULTS.exists() else []
    return {line["module"]: line for line in map(json.loads, lines)}


def main() -> None:
    """Examine modules, and keep a line of each."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("modules", nargs="*", metavar="module", help=f"of {', '.join(TESTS)}")
    parser.add_argument("--again", action="store_true", help="only what survived the last time")
    asked, known = parser.parse_args(), _known()
    with _copy() as tree:
        for module in asked.modules or TESTS:
            started = time.monotonic()
            known[module] = line = examine(module, tree, known.get(module) if asked.again else None)
            killed, seconds = line["tried"] - len(line["survivors"]), time.monotonic() - started
            print(f"{module}: {killed} of {line['tried']} killed, seed {SEED}, {seconds:.0f} s", flush=True)
            RESULTS.write_text("".join(f"{json.dumps(known[name])}\n" for name in TESTS if name in known))


if __name__ == "__main__":
    main()
