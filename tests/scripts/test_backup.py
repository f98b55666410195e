"""A backup restored elsewhere is what was saved, and is never poured over something else. In a real PostgreSQL."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import tiny

sys.path.insert(0, str(tiny.ROOT / "scripts"))
import composed
import postgres

pytestmark = pytest.mark.skipif(postgres.programs() is None, reason="PostgreSQL is not installed")
SECRETS = {"POSTGRES_PASSWORD": "super", "AIRFLOW_DB_PASSWORD": "a-pw", "MLFLOW_DB_PASSWORD": "m-pw"}
TABLE = """
CREATE TABLE runs (id serial PRIMARY KEY, name text UNIQUE NOT NULL, body bytea);
INSERT INTO runs (name, body) SELECT 'run ' || n, '\\x00ff' FROM generate_series(1, 500) n;
"""


class Installation:
    """Both databases as compose makes them, the folders of the volumes, and the script."""

    def __init__(self, folder: Path, backups: Path, port: int) -> None:
        self.folder, self.backups = folder, backups
        self.server = postgres.Postgres(folder / "postgres", port, SECRETS["POSTGRES_PASSWORD"])
        made = composed.read(_env())["configs"]["create-databases"]["content"]
        done = self.server.sql(made, "postgres", "super", "postgres", **SECRETS)
        assert not done.stderr
        for name in ("var", "mlartifacts"):
            (folder / name).mkdir()

    def backup(self, *words: str, **env: str) -> subprocess.CompletedProcess[str]:
        """Run the script with compose's environment."""
        places = {"BACKUPS": str(self.backups), "LLMOPS_HOME": str(self.folder / "var")}
        places |= {"MLARTIFACTS": str(self.folder / "mlartifacts")}
        login = {**self.server.environment("", "", ""), **SECRETS, **places, **env}
        command = ["bash", str(tiny.ROOT / "scripts" / "backup.sh"), *words]
        return subprocess.run(command, env=login, capture_output=True, text=True, check=False)

    def fill(self) -> None:
        """Something of everything."""
        for role in ("airflow", "mlflow"):
            assert self.sql(role, TABLE).returncode == 0
        for name in (
            "var/store/triage/ledger/000001.json",
            "var/keys/pseudonym.key",
            "var/cache/huge",
            "mlartifacts/1/m",
        ):
            (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
            (self.folder / name).write_text(name)
            (self.folder / name).chmod(0o640)  # others of the image's group may read

    def sql(self, role: str, text: str) -> subprocess.CompletedProcess[str]:
        return self.server.sql(text, role, SECRETS[f"{role.upper()}_DB_PASSWORD"], role)

    def rows(self, role: str) -> str:
        return self.sql(role, "SELECT count(*), max(encode(body, 'hex')), max(id) FROM runs").stdout.strip()

    def files(self) -> dict[str, tuple[str, int]]:
        paths = [path for name in ("var", "mlartifacts") for path in (self.folder / name).rglob("*") if path.is_file()]
        return {str(path.relative_to(self.folder)): (path.read_text(), path.stat().st_mode) for path in paths}


def _env() -> dict[str, str]:
    import init_env

    return dict(line.split("=", 1) for line in init_env.with_missing_keys("")[0].splitlines())


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """A folder that PostgreSQL's own user may enter; and short enough for its socket."""
    with tempfile.TemporaryDirectory(prefix="backup-") as folder:
        os.chmod(folder, 0o711)  # noqa: S103
        yield Path(folder)


@pytest.fixture(scope="module")
def installations(place: Path) -> Iterator[list[Installation]]:
    """One that is filled, and a new one."""
    made: list[Installation] = []
    try:
        for name in ("old", "new"):
            (place / name).mkdir()
            os.chmod(place / name, 0o711)  # noqa: S103  (whatever umask a test before has left)
            made.append(Installation(place / name, place / "backups", int(composed.free_ports()["5432"])))
        made[0].fill()
        yield made
    finally:
        for installation in made:
            installation.server.stop()


def test_a_backup_is_restored_into_a_new_installation_and_nowhere_else(installations: list[Installation]) -> None:
    old, new = installations
    saved = old.backup()
    assert saved.returncode == 0, saved.stderr
    (name,) = [path.name for path in old.backups.iterdir()]
    assert saved.stdout.strip().endswith(name)
    assert {path.stat().st_mode & 0o77 for path in (old.backups / name).iterdir()} == {0}  # for its owner only
    old.sql("airflow", "DELETE FROM runs WHERE id > 10")
    restored = new.backup("restore", name)
    assert restored.returncode == 0, restored.stderr
    assert [new.rows(role) for role in ("airflow", "mlflow")] == ["500|00ff|500"] * 2
    expected = old.files()
    del expected["var/cache/huge"]  # a copy of what is elsewhere
    assert new.files() == expected
    assert (
        new.sql("mlflow", "INSERT INTO runs (name) VALUES ('next')").returncode == 0
    )  # sequences go on, and it is theirs
    again = new.backup("restore", name)
    assert again.returncode == 1 and "Nothing was restored: the database airflow has 1 tables" in again.stderr
    assert "a-pw" not in saved.stdout + saved.stderr + restored.stdout + restored.stderr


def test_a_damaged_backup_is_not_restored(installations: list[Installation]) -> None:
    old, _ = installations
    (whole,) = list(old.backups.iterdir())
    subprocess.run(["cp", "-r", whole, old.backups / "torn"], check=True)
    with (old.backups / "torn" / "mlflow.dump").open("r+b") as dump:
        dump.truncate(100)
    for name in ("airflow", "mlflow"):
        old.sql(name, "DROP TABLE runs")
    done = old.backup("restore", "torn")
    assert done.returncode != 0 and "mlflow.dump" in done.stdout + done.stderr
    assert "runs" in old.sql("airflow", "SELECT 1 FROM runs").stderr
    for other in ("var", "mlartifacts"):  # the databases are empty, one of the volumes is not
        (old.folder / other).rename(old.folder / "aside")
        (old.folder / other).mkdir()
        filled = old.backup("restore", whole.name)
        (old.folder / other).rmdir()
        (old.folder / "aside").rename(old.folder / other)
        assert filled.returncode == 1 and "holds files" in filled.stderr
    assert "runs" in old.sql("airflow", "SELECT 1 FROM runs").stderr


def test_a_backup_that_ends_half_way_has_no_name(installations: list[Installation]) -> None:
    old, _ = installations
    before = sorted(path.name for path in old.backups.iterdir())
    assert old.backup(MLFLOW_DB_PASSWORD="wrong").returncode != 0
    assert sorted(path.name for path in old.backups.iterdir() if not path.name.startswith(".")) == before


def test_a_store_elsewhere_is_said_not_to_be_saved(installations: list[Installation]) -> None:
    assert "not saved: the store s3://bucket/x" in installations[0].backup(LLMOPS_STORE="s3://bucket/x").stdout
