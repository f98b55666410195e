"""The last valid form stays in charge, and a run keeps the form that it began with."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from llmops_tasks import config
from llmops_tasks.errors import ConfigError, InputError, IntegrityError
from llmops_tasks.store import objects
from tests.support import tiny


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """Writes the use case `ward` with other epochs, or with a mistake."""
    monkeypatch.setenv("LLMOPS_USECASES", str(tmp_path))

    def write(epochs: Any) -> Path:
        raw = yaml.safe_load(tiny.TRIAGE.read_text(encoding="utf-8"))
        raw["finetune"]["epochs"] = epochs
        path = tmp_path / "ward.yaml"
        path.write_text(yaml.safe_dump(raw), encoding="utf-8")
        return path

    return write


def _epochs(usecase: str) -> int:
    return config.load(usecase).finetune.epochs


def test_a_run_keeps_the_form_that_it_began_with_whatever_is_edited_since(write: Callable[..., Path]) -> None:
    path = write(3)
    bound = config.bind(usecase="ward")
    write(5)
    assert (_epochs(bound), _epochs("ward")) == (3, 5)
    assert config.usecase_name(bound) == "ward"
    write("many")
    path.unlink()
    assert _epochs(bound) == 3 and config.policy(bound).licences


def test_what_is_bound_stays_bound(write: Callable[..., Path]) -> None:
    write(3)
    bound = config.bind(usecase="ward")
    write(5)
    assert config.bind(usecase=bound) == bound


def test_the_same_form_has_the_same_name_and_an_earlier_one_that_returns_is_the_newest_again(
    write: Callable[..., Path],
) -> None:
    names = []
    for epochs in (3, 5, 3):
        write(epochs)
        names.append(config.bind(usecase="ward"))
        assert config.bind(usecase="ward") == names[-1]
    assert names[0] == names[2] != names[1]
    write("many")
    assert _epochs(config.bind(usecase="ward")) == 3


def test_a_mistake_leaves_the_last_valid_form_in_charge_and_is_reported(write: Callable[..., Path]) -> None:
    write(3)
    config.keep("ward")
    write("many")
    case, problem = config.current("ward")
    assert case.finetune.epochs == 3 and "finetune.epochs" in str(problem)
    with pytest.raises(ConfigError):  # who asks for the file gets its mistakes
        config.load("ward")
    write(4)
    assert config.current("ward") == (config.load("ward"), None)


def test_without_any_valid_form_there_is_nothing_to_go_on_with(write: Callable[..., Path]) -> None:
    write("many")
    for attempt in (lambda: config.current("ward"), lambda: config.bind(usecase="ward")):
        with pytest.raises(ConfigError, match=r"finetune\.epochs"):
            attempt()


def test_the_policy_file_is_a_part_of_the_form(write: Callable[..., Path]) -> None:
    path = write(3)
    raw = yaml.safe_load(path.read_text())
    raw["selection"]["policy"] = "own.yaml"
    path.write_text(yaml.safe_dump(raw))
    own = yaml.safe_load(config.POLICY.read_text())
    (path.parent / "own.yaml").write_text(yaml.safe_dump(own))
    bound, before = config.bind(usecase="ward"), config.policy("ward")
    (path.parent / "own.yaml").write_text("licences: {allowed: []}")
    assert config.policy(bound) == before


def test_a_use_case_that_is_gone_is_known_until_it_is_retired(write: Callable[..., Path]) -> None:
    path = write(3)
    config.keep("ward")
    assert config.removed() == []
    with pytest.raises(InputError, match="'ward' still has a file"):
        config.retire(usecase="ward")
    path.unlink()
    assert config.removed() == ["ward"]
    assert config.retire(usecase="ward") == {"retired": "ward"}
    assert config.removed() == []
    with pytest.raises(InputError, match="No use case 'ward'"):
        config.current("ward")
    write(3)
    assert config.bind(usecase="ward") and config.current("ward").problem is None


@pytest.mark.parametrize("name", ["ward@", "ward@xyz", f"ward@{'0' * 31}", f"Ward@{'0' * 32}"])
def test_what_names_no_form_is_refused(write: Callable[..., Path], name: str) -> None:
    write(3)
    with pytest.raises(InputError, match="is not a stored configuration of a use case"):
        config.load(name)


def test_a_form_that_nobody_kept_and_one_that_was_changed_are_refused(write: Callable[..., Path]) -> None:
    write(3)
    with pytest.raises(InputError, match="No configuration '0000"):
        config.load(f"ward@{'0' * 32}")
    bound = config.bind(usecase="ward")
    (form,) = objects.find(f"{objects.store_uri()}/_configurations/ward/forms/*.json")
    file = objects.local_path(form)
    file.write_bytes(file.read_bytes().replace(b'"epochs":3', b'"epochs":9'))
    config.loading._load_form.cache_clear()
    with pytest.raises(IntegrityError, match="was changed after it was written"):
        config.load(bound)


def test_a_date_as_yaml_writes_it_is_kept_and_one_that_is_none_is_a_mistake(write: Callable[..., Path]) -> None:
    path = write(3)
    text = path.read_text()
    path.write_text(text.replace("schedule: null", "schedule: null\n  start_date: 2026-03-01"))
    assert str(config.load(config.bind(usecase="ward")).batch.start_date) == "2026-03-01"  # type: ignore[union-attr]
    path.write_text(text.replace("schedule: null", "schedule: null\n  start_date: 2026-02-30"))
    with pytest.raises(ConfigError, match="start_date"):
        config.load("ward")


@pytest.mark.parametrize("hours", [".inf", "1.0e+12", ".nan"])
def test_a_limit_that_airflow_cannot_count_is_a_mistake(write: Callable[..., Path], hours: str) -> None:
    path = write(3)
    path.write_text(path.read_text().replace("timeout_hours: 72", f"timeout_hours: {hours}"))
    with pytest.raises(ConfigError, match="timeout_hours"):
        config.load("ward")


def test_a_broken_policy_leaves_the_last_valid_form_in_charge_as_well(write: Callable[..., Path]) -> None:
    path = write(3)
    config.keep("ward")
    raw = yaml.safe_load(path.read_text())
    raw["selection"]["policy"] = "nowhere.yaml"
    path.write_text(yaml.safe_dump(raw))
    assert "selection.policy" in str(config.current("ward").problem)


def test_what_is_in_charge_is_not_taken_from_an_earlier_form(write: Callable[..., Path]) -> None:
    write(3)
    bound = config.bind(usecase="ward")
    write(5)
    assert (config.in_charge(bound).finetune.epochs, config.load(bound).finetune.epochs) == (5, 3)
