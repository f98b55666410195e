"""Command-line options from a verb's signature, and the verb's arguments from the command line."""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource
from click.shell_completion import CompletionItem

USECASE = "usecase"
_OPTION = "usecase_option"  # the same by name, for those who like to say it
_PLAIN: dict[str, click.ParamType[Any]] = {
    "str": click.STRING,
    "int": click.INT,
    "float": click.FLOAT,
    "bool": click.BOOL,
}


class Json(click.ParamType[Any]):
    """A value of any shape: written out, `@file.json`, or `-` for standard input."""

    name = "json"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Parse it; errors do not quote its content, which may hold records."""
        try:
            return json.loads(self._text(value))
        except OSError as exc:
            self.fail(f"cannot read '{value[1:]}': {exc.strerror}.", param, ctx)
        except ValueError:
            self.fail(
                "is not JSON. Give it as '{\"key\": ...}', as @file.json, or as - for standard input.", param, ctx
            )

    @staticmethod
    def _text(value: str) -> str:
        if value == "-":
            return sys.stdin.read()
        return Path(value[1:]).read_text(encoding="utf-8") if value.startswith("@") else value


def parameters(verb: Callable[..., Any], said: dict[str, str]) -> list[click.Parameter]:
    """A command's parameters: the use case as its first word, all else as options, and how it speaks.

    Args:
        verb: whose signature is read.
        said: of each argument, from the docstring.
    """
    wanted = inspect.signature(verb).parameters
    found = [_option(parameter, said.get(name)) for name, parameter in wanted.items() if name != USECASE]
    return [*(usecase(said.get(USECASE)) if USECASE in wanted else []), *found, *speaking()]


def usecase(said: str | None) -> list[click.Parameter]:
    """The use case, as a word or by its name."""
    return [
        click.Argument([USECASE], required=False, metavar="USECASE", shell_complete=complete_usecase, help=said),
        click.Option(
            [f"--{USECASE}", _OPTION], metavar="NAME", shell_complete=complete_usecase, help="The same, as an option."
        ),
    ]


def _option(parameter: inspect.Parameter, said: str | None) -> click.Option:
    word, default = parameter.name.replace("_", "-"), parameter.default
    kind = _PLAIN.get(str(parameter.annotation).removesuffix(" | None"), Json())
    usual = {"required": True} if default is parameter.empty else {"default": default}
    return click.Option(
        [f"--{word}/--no-{word}" if kind is click.BOOL else f"--{word}", parameter.name],
        type=kind,
        show_default=usual.get("default") is not None,
        help=said,
        **usual,
    )


def speaking() -> list[click.Parameter]:
    """How any command speaks."""
    return [
        click.Option(["--json", "as_json"], is_flag=True, help="Print the result, or the error, as JSON."),
        click.Option(["--quiet", "-q"], is_flag=True, help="Log errors only."),
        click.Option(["--verbose", "-v"], is_flag=True, help="Log more."),
    ]


def arguments(ctx: click.Context, verb: Callable[..., Any], given: dict[str, Any]) -> dict[str, Any]:
    """The verb's arguments: what was typed; for all else its own defaults hold.

    Raises:
        click.UsageError: if the use case is missing, or given twice.
    """
    known = inspect.signature(verb).parameters
    typed = {
        name: value
        for name, value in given.items()
        if name in known and ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE
    }
    return typed | _usecase(ctx, given) if USECASE in known else typed


def _usecase(ctx: click.Context, given: dict[str, Any]) -> dict[str, str]:
    names = [given[name] for name in (USECASE, _OPTION) if given.get(name) is not None]
    if len(names) == 1:
        return {USECASE: names[0]}
    raise click.UsageError("Name one use case, for example by its file." if names else "Missing use case.", ctx)


def complete_usecase(_ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Names of use cases, or a path to one."""
    from llmops_tasks import config

    if "/" in incomplete or incomplete.startswith("."):
        return [CompletionItem(incomplete, type="file")]
    return [CompletionItem(name) for name in config.usecase_names() if name.startswith(incomplete)]
