"""Keys and use cases: what is wrong is named, and no key is told."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from llmops_tasks import config, doctor
from llmops_tasks.doctor import Finding, settings
from llmops_tasks.errors import InputError
from tests.support import small

FERNET = base64.urlsafe_b64encode(b"k" * 32).decode()


def _key() -> Finding:
    (found,) = settings.pseudonym_key()
    return found


def test_no_key_yet_is_no_fault_and_none_is_made(home: Path) -> None:
    assert (_key()["status"], home.exists()) == ("ok", False)


def test_a_key_in_the_environment_is_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMOPS_PSEUDONYM_KEY", "s3cret")
    monkeypatch.setenv("LLMOPS_STORE", "s3://bucket/store")
    assert _key()["status"] == "ok" and "s3cret" not in str(_key())


@pytest.mark.parametrize(("mode", "status"), [(0o600, "ok"), (0o400, "ok"), (0o640, "problem"), (0o604, "problem")])
def test_a_key_that_others_may_read_is_a_problem(home: Path, mode: int, status: str) -> None:
    (file := home / "keys" / "pseudonym.key").parent.mkdir(parents=True)
    file.write_text("s3cret")
    file.chmod(mode)
    found = _key()
    assert found["status"] == status and "s3cret" not in str(found)
    assert (found["fix"] == f"Run: chmod 600 {file}") == (status == "problem")


def test_a_shared_store_wants_a_shared_key(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMOPS_STORE", "s3://bucket/store")
    assert _key()["status"] == "problem" and "LLMOPS_PSEUDONYM_KEY" in _key()["fix"]
    (file := home / "keys" / "pseudonym.key").parent.mkdir(parents=True)
    file.write_text("s3cret")
    file.chmod(0o600)
    assert _key()["status"] == "warning"  # it may be mounted everywhere; that cannot be seen from here
    file.chmod(0o644)
    assert _key()["status"] == "problem"


@pytest.fixture
def postgres(monkeypatch: pytest.MonkeyPatch) -> None:
    """Airflow on PostgreSQL, with all its secrets."""
    monkeypatch.setenv("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", "postgresql://me:s3cret@db/airflow")
    for name in settings.SECRETS:
        monkeypatch.setenv(name, "s3cret")
        for end in ("_CMD", "_SECRET"):
            monkeypatch.delenv(name + end, raising=False)
    monkeypatch.setenv(settings.SECRETS[0], FERNET)


def _keys() -> Finding:
    (found,) = settings.airflow_keys()
    assert "s3cret" not in str(found)
    return found


def test_all_keys_are_well(postgres: None) -> None:
    assert _keys()["status"] == "ok"


def test_on_sqlite_no_key_is_wanted(postgres: None, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in settings.SECRETS:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN", "sqlite:////x/airflow.db")
    assert _keys()["status"] == "ok"
    monkeypatch.delenv("AIRFLOW__DATABASE__SQL_ALCHEMY_CONN")
    assert _keys()["status"] == "ok"


@pytest.mark.parametrize("name", settings.SECRETS)
def test_a_missing_key_is_named(postgres: None, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(name, "")
    found = _keys()
    assert (found["status"], found["found"]) == ("problem", f"not set: {name}")
    assert "make init" in found["fix"]


@pytest.mark.parametrize("end", ["_CMD", "_SECRET"])
def test_a_key_may_come_from_a_command_or_a_backend(postgres: None, monkeypatch: pytest.MonkeyPatch, end: str) -> None:
    for name in settings.SECRETS:
        monkeypatch.delenv(name)
        monkeypatch.setenv(name + end, "somewhere")
    assert _keys()["status"] == "ok"


@pytest.mark.parametrize("key", ["s3cret", FERNET[:-4], f"{FERNET},short", "ä" * 44])
def test_what_is_no_fernet_key_is_named(postgres: None, monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    monkeypatch.setenv(settings.SECRETS[0], key)
    found = _keys()
    assert found["status"] == "problem" and key not in str(found)


def test_keys_in_turn_are_several(postgres: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(settings.SECRETS[0], f"{FERNET},{FERNET}")
    assert _keys()["status"] == "ok"


# ---------------------------------------------------------------- use cases


def test_the_shipped_use_cases_are_well() -> None:
    found = list(settings.usecases(None))
    assert [finding["check"] for finding in found] == [f"use case {name}" for name in config.usecase_names()]
    assert {finding["status"] for finding in found} == {"ok"}


def test_a_mistake_in_a_file_is_reported_and_the_others_are_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLMOPS_USECASES", str(tmp_path))
    small.usecase(tmp_path, {"uri": "file:///x.csv"}, name="fine")
    (tmp_path / "broken.yaml").write_text("version: 3\n")
    small.usecase(tmp_path, {"uri": "file:///x.csv"}, name="policed")
    with (tmp_path / "policed.yaml").open("a") as file:
        file.write("selection: {policy: none.yaml}\n")
    broken, fine, policed = settings.usecases(None)
    assert broken["status"] == "problem" and "broken.yaml has" in broken["found"]
    assert fine["status"] == "ok"
    assert policed["status"] == "problem" and "selection.policy" in policed["found"]


def test_int8_without_openvino_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = small.usecase(tmp_path, {"uri": "file:///x.csv"})
    with Path(path).open("a") as file:
        file.write("inference: {precision: int8}\n")
    assert [finding["status"] for finding in settings.usecases(path)] == ["ok"]
    monkeypatch.setattr(settings, "version", lambda name: "")
    (found,) = settings.usecases(path)
    assert found["status"] == "problem" and "requirements-int8.txt" in found["fix"]


def test_no_use_case_at_all_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMOPS_USECASES", str(tmp_path))
    (found,) = settings.usecases(None)
    assert found["status"] == "problem" and "LLMOPS_USECASES" in found["fix"]


def test_one_use_case_is_looked_at_alone_and_an_unknown_one_refused(tmp_path: Path) -> None:
    path = small.usecase(tmp_path, {"uri": "file:///x.csv"})
    assert [finding["check"] for finding in settings.usecases(path)] == ["use case small"]
    with pytest.raises(InputError, match="No use case 'nobody'"):
        list(settings.usecases("nobody"))


def test_the_whole_examination_has_every_check(home: Path, tmp_path: Path) -> None:
    path = small.usecase(tmp_path, {"uri": "file:///x.csv"})
    found = [finding["check"].split(" 8")[0].split(" 5")[0] for finding in doctor.examine(usecase=path)]
    assert found == [
        "python", "memory", "disk", "port", "port", "gpu", "packages", "store", "mlflow", "airflow", "pseudonym key",
        "airflow keys", "use case small",
    ]  # fmt: skip
