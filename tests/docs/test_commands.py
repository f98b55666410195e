"""Every command in README and docs is run: whole blocks by bash, beside a small store, programs that need a server as stand-ins.

A block that is no command says so by its language. Commands between backticks are checked for their shape by
`tests/architecture/test_docs.py` and here.
"""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import pytest

from tests.docs.conftest import Installation, section_problem
from tests.support import shims
from tests.support.tiny import ROOT

FILES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(ROOT.glob("docs/*.md"))]
BLOCK = re.compile(r"^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.M | re.S)
RUN = ("bash", "python")
LANGUAGES = (*RUN, "yaml", "mermaid", "text")
# What stands for a digest in the documentation.
DIGESTS = ("1a2b3c", "3c4d5e")
SPAN = re.compile(r"`((?:make|docker) [^`<]*)`")


def _blocks(path: Path, language: str) -> list[str]:
    return [
        found["text"] for found in BLOCK.finditer(path.read_text(encoding="utf-8")) if found["language"] == language
    ]


def _named(files: list[Path], languages: tuple[str, ...]) -> list[Path]:
    return [path for path in files if any(_blocks(path, language) for language in languages)]


def _run(command: list[str], script: str, installation: Installation) -> None:
    for digest in DIGESTS:
        script = script.replace(digest, installation.dataset[:12])
    script = script.replace("V000017", installation.record)
    done = subprocess.run(
        [*command, script],
        cwd=installation.folder,
        env=installation.environment,
        capture_output=True,
        text=True,
        timeout=540,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-4000:]}"


@pytest.mark.parametrize("path", _named(FILES, ("bash",)), ids=lambda path: path.name)
def test_the_commands_run(path: Path, installation: Installation) -> None:
    """All blocks of a document in one shell, which stops at the first command that fails."""
    script = "\n".join(_blocks(path, "bash"))
    _run(["bash", "-euo", "pipefail", "-x", "-c"], script, installation)


@pytest.mark.parametrize("path", _named(FILES, ("python",)), ids=lambda path: path.name)
def test_the_python_runs(path: Path, installation: Installation) -> None:
    for block in _blocks(path, "python"):
        _run([f"{installation.environment['SHIMS']}/python", "-c"], block, installation)


@pytest.mark.parametrize("path", _named(FILES, ("yaml",)), ids=lambda path: path.name)
def test_the_yaml_is_valid(path: Path) -> None:
    for block in _blocks(path, "yaml"):
        assert section_problem(block) is None


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_block_says_what_it_is(path: Path) -> None:
    """A block without a language would be run by nobody."""
    text = path.read_text(encoding="utf-8")
    assert {found["language"] for found in BLOCK.finditer(text)} <= set(LANGUAGES)
    assert len(re.findall(r"^ *(?:```|~~~)", text, re.M)) == 2 * len(BLOCK.findall(text)), "a block that is not seen"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_a_command_between_backticks_has_the_shape_it_should(path: Path) -> None:
    for span in SPAN.findall(BLOCK.sub("", path.read_text(encoding="utf-8"))):
        program, *words = shlex.split(span)
        shims.CHECKED[program](*words)


@pytest.mark.parametrize(
    "words",
    [
        "make demos",
        "docker compose upp",
        "docker compose exec nobody sh",
        "curl http://host/api/v2/dags",
        "curl -H 'Authorization: Bearer token' http://host/api/v3/dags",
        "curl -X PATCH -H 'Authorization: Bearer token' http://host/api/v2/dags/triage.train -d '{\"paused\": true}'",
        "curl -H 'Authorization: Bearer token' http://host/api/v2/dags/triage.train/dagRuns"
        ' -d \'{"logical_date": null, "conf": {"steps": 1}}\'',
    ],
)
def test_the_stand_ins_notice(words: str) -> None:
    program, *rest = shlex.split(words)
    with pytest.raises((AssertionError, ValueError)) as caught:
        _checked(program, rest)
    assert caught


def _checked(program: str, words: list[str]) -> None:
    from jsonschema import ValidationError

    try:
        shims.CHECKED[program](*words)
    except ValidationError as exc:
        raise AssertionError(str(exc)) from exc
