"""What is written on this machine is whole, and for its owner only."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from llmops_tasks.errors import StorageError
from llmops_tasks.store import artifacts, files, objects


def test_the_home_is_for_its_owner_only(home: Path) -> None:
    assert stat.S_IMODE(files.home().stat().st_mode) == 0o700


def test_the_home_is_var_here_by_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LLMOPS_HOME")
    monkeypatch.chdir(tmp_path)
    assert files.home() == tmp_path / "var"
    assert objects.store_uri() == f"file://{tmp_path}/var/store"


@pytest.fixture
def loose_umask() -> Iterator[None]:
    """Nothing is taken away from the rights that a file is made with."""
    before = os.umask(0)
    yield
    os.umask(before)


def _open_to_others(root: Path) -> list[str]:
    return [str(path.relative_to(root)) for path in [root, *root.rglob("*")] if path.stat().st_mode & 0o077]


@pytest.mark.parametrize("store", ["in the home", "elsewhere"])
def test_everything_written_is_for_its_owner_only_whatever_the_umask(
    loose_umask: None, home: Path, tmp_path: Path, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """T33. Databases and logs of libraries included, and folders on the way that were missing."""
    if store == "elsewhere":
        monkeypatch.setenv("LLMOPS_STORE", f"file://{tmp_path}/far/away/store")
    from llmops_tasks import tracking
    from llmops_tasks.release import ledger

    ledger.record_entry(usecase="triage", kind="gate", body={}, once="x")
    artifacts.publish(usecase="triage", kind="dataset", inputs={}, build=lambda out: {"rows": 0})
    with tracking.run(usecase="triage", name="work", key="k") as run:
        run.json("x.json", {})
    (files.home() / "some.log").write_text("a library's own")
    assert (home / "mlflow.db").exists()
    assert _open_to_others(home) == []
    if store == "elsewhere":
        assert _open_to_others(tmp_path / "far") == []


def test_a_home_that_was_open_to_others_is_closed(home: Path) -> None:
    home.mkdir(mode=0o755)
    home.chmod(0o755)
    assert stat.S_IMODE(files.home().stat().st_mode) == 0o700


def test_a_home_that_is_open_and_belongs_to_another_is_refused(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home.mkdir()
    home.chmod(0o755)

    def denied(*_: Any) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "chmod", denied)
    with pytest.raises(StorageError, match=r"open to others and not ours to close .*Run 'chmod 700' on it"):
        files.home()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives folders to other groups")
@pytest.mark.parametrize(("group", "mode", "stays"), [(0, 0o770, True), (0, 0o775, False), (1234, 0o770, False)])
def test_a_home_of_another_may_be_open_to_root_s_group_alone(
    home: Path, monkeypatch: pytest.MonkeyPatch, group: int, mode: int, stays: bool
) -> None:
    """Containers run as any user, in that group."""
    home.mkdir()
    os.chown(home, -1, group)
    home.chmod(mode)

    def denied(*_: Any) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(Path, "chmod", denied)
    if stays:
        assert files.home() == home
    else:
        with pytest.raises(StorageError, match="open to others and not ours to close"):
            files.home()


def test_a_place_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="Cannot write 'file:///"):
        objects.create(f"file://{tmp_path}/file/deep/entry.json", b"x")
