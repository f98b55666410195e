"""The life cycle of a language model from the shell.

Start with `llmops doctor`, which checks this machine, or with `llmops chain USECASE`, which runs the life cycle
without Airflow. `llmops list` lists all commands; `--help` explains each.
"""

# The commands are made when they are asked for: help for one package imports that package's modules, and nothing heavy.

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from functools import partial
from importlib import metadata
from typing import Any

import click
from click.shell_completion import get_completion_class

from llmops_tasks import verbs
from llmops_tasks.child import prepare
from llmops_tasks.cli import docstrings, exit_codes, options, output
from llmops_tasks.errors import LLMOpsError, did_you_mean

PROGRAM, PROJECT = "llmops", "llmops-airflow"
_SETTINGS = {"help_option_names": ["-h", "--help"], "token_normalize_func": lambda word: word.replace("_", "-")}


# ---------------------------------------------------------------- verbs as commands


class Verb(click.Command):
    """A verb: its options from its signature, its help from its docstring."""

    def __init__(self, name: str) -> None:
        self.verb, self.words = verbs.resolve(name), name.replace(".", " ").replace("_", "-")
        self.said = said = docstrings.parsed(self.verb)
        parameters = options.parameters(self.verb, said.args)
        super().__init__(
            self.words.split()[-1], help=said.text, short_help=said.summary, params=parameters, callback=self._run
        )

    def _run(self, as_json: bool, quiet: bool, verbose: bool, **given: Any) -> None:
        arguments = options.arguments(click.get_current_context(), self.verb, given)
        with output.working(self.words, quiet, verbose):
            result = self.verb(**arguments)
        output.show(result, as_json)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """What it returns, how it fails and how it is typed, below the options."""
        if self.said.returns:
            with formatter.section("Result"):
                formatter.write_text(self.said.returns)
        if self.said.raises:
            with formatter.section("Errors"):
                formatter.write_dl([(f"{k} ({exit_codes.of(k)})", text) for k, text in self.said.raises.items()])
        with formatter.section("Example"):
            formatter.write_text(docstrings.command(self.words, self.said.example))


class Lazy(click.Group):
    """A group whose commands are created on demand."""

    def __init__(self, name: str, text: str, make: Mapping[str, Callable[[], click.Command]], **more: Any) -> None:
        super().__init__(name, help=text, context_settings=_SETTINGS, **more)
        self._make = make

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names, in the order of the table."""
        return list(self._make)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """One command."""
        return self._make[cmd_name]() if cmd_name in self._make else None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that is asked for; a misspelled one is answered with the nearest."""
        word = args[0].replace("_", "-")
        if word in self._make or word.startswith("-") or ctx.resilient_parsing:
            return super().resolve_command(ctx, args)
        near = f" Did you mean '{word.replace('.', ' ')}'?" if "." in word else did_you_mean(word, self._make)
        raise click.UsageError(f"No such command '{args[0]:.60}'.{near}", ctx)


def _group(name: str) -> Lazy:
    made = {verb.replace("_", "-"): partial(Verb, f"{name}.{verb}") for verb in verbs.members(name)}
    return Lazy(name, verbs.purpose(name), made)


# ---------------------------------------------------------------- what is no verb


def _list() -> click.Command:
    def run(as_json: bool, **_: bool) -> None:
        found = {name: docstrings.parsed(verbs.resolve(name)).summary for name in verbs.verbs()}
        rows = [{"command": _typed(name), "what it does": said} for name, said in found.items()]
        output.show(rows, as_json)

    return click.Command("list", help="List all commands.", params=options.speaking(), callback=run)


def _typed(name: str) -> str:
    return name.replace(".", " ").replace("_", "-")


def _doctor() -> click.Command:
    def run(as_json: bool, quiet: bool, verbose: bool, usecase_option: str | None) -> None:
        from llmops_tasks import doctor

        with output.working("doctor", quiet, verbose):
            found = doctor.examine(usecase=usecase_option)
        problems = sum(finding["status"] == "problem" for finding in found)
        output.show({"problems": problems, "findings": found} if as_json else found, as_json)
        if problems:
            click.get_current_context().exit(1)

    text = "Check this machine and its services, and say how to fix what is wrong."
    wanted = [options.usecase("Check this use case only.")[1], *options.speaking()]
    return click.Command("doctor", help=text, params=wanted, callback=run)


def _completion() -> click.Command:
    def run(shell: str) -> None:
        if found := get_completion_class(shell):
            click.echo(found(app(), {}, PROGRAM, f"_{PROGRAM.upper()}_COMPLETE").source())

    text = 'Print the script that completes commands and use cases: eval "$(llmops completion bash)"'
    shells = click.Argument(["shell"], type=click.Choice(["bash", "zsh", "fish"]))
    return click.Command("completion", help=text, params=[shells], callback=run)


def _say_version(ctx: click.Context, _parameter: click.Parameter, wanted: bool) -> None:
    if wanted and not ctx.resilient_parsing:
        try:
            click.echo(f"{PROGRAM} {metadata.version(PROJECT)}")
        except metadata.PackageNotFoundError as exc:
            raise click.ClickException("The project is not installed: run 'make install'.") from exc
        ctx.exit()


# ---------------------------------------------------------------- the program


def app() -> Lazy:
    """The whole command line."""
    made: dict[str, Callable[[], click.Command]] = {
        "chain": partial(Verb, "chain"),
        **{name: partial(_group, name) for name in verbs.groups()},
        "list": _list,
        "doctor": _doctor,
        "completion": _completion,
    }
    version = click.Option(
        ["--version"], is_flag=True, is_eager=True, expose_value=False, callback=_say_version, help="Print the version."
    )
    codes = "\n".join(f"  {code:>3}  {meaning}" for code, meaning in exit_codes.MEANINGS.items())
    return Lazy(PROGRAM, __doc__ or "", made, params=[version], epilog=f"\b\nExit codes:\n{codes}")


def main(words: list[str] | None = None) -> int:
    """Run the program; returns the exit code."""
    words = sys.argv[1:] if words is None else words
    prepare()
    as_json = "--json" in words
    try:
        return int(app().main(words, PROGRAM, standalone_mode=False) or 0)
    except LLMOpsError as exc:
        return output.complain(type(exc).__name__, str(exc), exit_codes.of(exc), as_json)
    except click.exceptions.Abort:
        return output.complain("Interrupted", "Stopped.", exit_codes.INTERRUPTED, as_json)
    except click.ClickException as exc:
        if not as_json:
            exc.show()
            return exc.exit_code
        return output.complain(type(exc).__name__, exc.format_message(), exc.exit_code, as_json)
