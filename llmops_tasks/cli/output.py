"""Output: results on stdout, everything else on stderr.

On a terminal a result is a table, in a pipe tab-separated lines, with `--json` one line of JSON. rich is imported
only when a table is shown, so that help and completion are fast.
"""

from __future__ import annotations

import contextlib
import json
import logging
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import click

from llmops_tasks.process import LOG_FORMAT

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

_COLOURS = {"ok": "green", "warning": "yellow", "problem": "bold red", "not checked": "dim"}


# ---------------------------------------------------------------- results


def show(result: Any, as_json: bool, console: Console | None = None) -> None:
    """Print a result: as JSON, for people, or for the next program in a pipe."""
    if as_json:
        click.echo(json.dumps(result, allow_nan=False))
    elif console or sys.stdout.isatty():
        from rich.console import Console as Terminal

        (console or Terminal()).print(rendered(result))
    else:
        for line in lines(result):
            click.echo(line)


def lines(result: Any) -> list[str]:
    """A result as plain lines: a list of flat rows under its header, anything else as a path and its value."""
    if columns := _columns(result):
        return ["\t".join(columns), *("\t".join(_word(row.get(name)) for name in columns) for row in result)]
    return ["\t".join(filter(None, [path, word])) for path, word in _leaves(result, "")]


def _leaves(value: Any, path: str) -> Iterator[tuple[str, str]]:
    if not value or not isinstance(value, dict | list):
        yield path, _word(value)
        return
    inside = value.items() if isinstance(value, dict) else enumerate(value)
    for name, part in inside:
        yield from _leaves(part, f"{path}.{name}" if path else str(name))


def _word(value: Any) -> str:
    """A single value on one line."""
    if value is None or value in ([], {}):
        return "none"
    return value.replace("\n", "\\n").replace("\t", "\\t") if isinstance(value, str) else json.dumps(value)


def _columns(value: Any) -> list[str]:
    """The columns of a list of flat rows; none if it is anything else."""
    rows = value if isinstance(value, list) else []
    if not all(
        isinstance(row, dict) and not any(isinstance(cell, dict | list) for cell in row.values()) for row in rows
    ):
        return []
    return list(dict.fromkeys(name for row in rows for name in row))


def rendered(value: Any) -> RenderableType:
    """A result as rich shows it: rows as a table, what is nested indented, what is wide wrapped."""
    from rich.table import Table
    from rich.text import Text

    if columns := _columns(value):
        table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
        for name in columns:
            table.add_column(name, overflow="fold")
        for row in value:
            table.add_row(*(rendered(row.get(name)) for name in columns))
        return table
    if value and isinstance(value, dict | list):
        return _nested(value)
    if isinstance(value, str) and "\n|" in value:
        from rich.markdown import Markdown

        return Markdown(value)
    return Text(value if isinstance(value, str) else _word(value), style=_COLOURS.get(str(value), ""))


def _nested(value: dict[str, Any] | list[Any]) -> RenderableType:
    from rich.table import Table
    from rich.text import Text

    if isinstance(value, list) and not any(isinstance(part, dict | list) for part in value):
        return Text(", ".join(map(_word, value)))
    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for name, part in value.items() if isinstance(value, dict) else enumerate(value):
        grid.add_row(Text(str(name), style="bold"), rendered(part))
    return grid


# ---------------------------------------------------------------- errors


def complain(kind: str, message: str, code: int, as_json: bool) -> int:
    """Say what went wrong: for people on stderr, for programs on stdout; returns the exit code."""
    if as_json:
        click.echo(json.dumps({"error": {"type": kind, "message": message, "exit_code": code}}))
    else:
        click.echo(f"{click.style(kind, fg='red')}: {message}", err=True)
    return code


# ---------------------------------------------------------------- on the way


@contextlib.contextmanager
def working(title: str, quiet: bool, verbose: bool) -> Iterator[None]:
    """While a verb runs: what libraries print joins the log on stderr, where a terminal shows that time passes."""
    with contextlib.redirect_stdout(sys.stderr), contextlib.ExitStack() as stack:
        if quiet or not sys.stderr.isatty():
            handler: logging.Handler = logging.StreamHandler(sys.stderr)
            handler.setFormatter(logging.Formatter(LOG_FORMAT))
        else:
            handler = stack.enter_context(_ticking(title))
        stack.enter_context(_logging(handler, quiet, verbose))
        yield


@contextlib.contextmanager
def _ticking(title: str) -> Iterator[logging.Handler]:
    """A line that ticks on the terminal; log lines that go to the handler stand above it."""
    from rich.console import Console as Terminal
    from rich.logging import RichHandler
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    console = Terminal(stderr=True)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        progress.add_task(title, total=None)
        yield RichHandler(console=console, log_time_format="%X", show_path=False, show_level=False, highlighter=None)


@contextlib.contextmanager
def _logging(handler: logging.Handler, quiet: bool, verbose: bool) -> Iterator[None]:
    """Our own log lines, and warnings of libraries, whose debug lines would contain requests and records."""
    levels = {
        "": logging.INFO if verbose else logging.WARNING,
        "llmops_tasks": logging.DEBUG if verbose else logging.INFO,
        "bitsandbytes": logging.ERROR,  # it advises to install what downloads kernels
    }
    before = {name: logging.getLogger(name).level for name in levels}
    silenced = logging.root.manager.disable
    logging.getLogger().addHandler(handler)
    try:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)
        logging.disable(logging.WARNING if quiet else silenced)  # also of libraries with handlers of their own
        yield
    finally:
        logging.disable(silenced)
        logging.getLogger().removeHandler(handler)
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)
