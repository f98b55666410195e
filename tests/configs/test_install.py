"""What is installed: the package alone, in place, with the command `llmops` and the packages of requirements.txt."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
WANTED = [line for line in (ROOT / "requirements.txt").read_text(encoding="utf-8").splitlines() if line[:1].isalpha()]


@pytest.fixture(scope="module")
def metadata(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the build backend says of the project, made from a copy without the code."""
    folder = tmp_path_factory.mktemp("project")
    for name in ("pyproject.toml", "requirements.txt"):
        shutil.copyfile(ROOT / name, folder / name)
    for path in ROOT.glob("*/**/__init__.py"):
        if "var" not in path.parts and not path.relative_to(ROOT).parts[0].startswith("."):
            (folder / path.relative_to(ROOT)).parent.mkdir(parents=True, exist_ok=True)
            (folder / path.relative_to(ROOT)).touch()
    for name in ("dags", "include", "scripts", "tests"):
        (folder / name).mkdir(exist_ok=True)
    code = "from setuptools import build_meta; build_meta.prepare_metadata_for_build_editable('out')"
    (folder / "out").mkdir()
    subprocess.run([sys.executable, "-c", code], cwd=folder, check=True, capture_output=True)
    return next((folder / "out").glob("*.dist-info"))


def test_the_command_is_a_function_that_there_is() -> None:
    assert list(PROJECT["project"]["scripts"]) == ["llmops"]
    module, _, function = PROJECT["project"]["scripts"]["llmops"].partition(":")
    assert callable(getattr(import_module(module), function))


def test_the_backend_makes_the_command_and_the_package_alone(metadata: Path) -> None:
    assert "llmops = llmops_tasks.cli.app:main" in (metadata / "entry_points.txt").read_text()
    assert (metadata / "top_level.txt").read_text().split() == ["llmops_tasks"]


def test_the_installed_project_asks_for_what_requirements_txt_says(metadata: Path) -> None:
    asked = [line for line in (metadata / "METADATA").read_text().splitlines() if line.startswith("Requires-Dist")]
    assert len(asked) == len(WANTED) > 20


@pytest.mark.parametrize("name", ["Makefile", "Dockerfile"])
def test_it_is_installed_in_place_where_everything_else_is(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    (line,) = [line for line in text.splitlines() if "--editable ." in line]
    assert {"--no-deps", "--no-build-isolation"} <= set(line.split())


def test_every_pin_of_the_command_line_is_in_the_lock() -> None:
    locked = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    for name in ("click", "rich", "packaging"):
        assert [line for line in WANTED if line.startswith(name)] and [
            line for line in locked if line.startswith(f"{name}==")
        ]
