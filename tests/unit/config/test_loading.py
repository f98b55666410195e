"""From a use case's name to its file, and from the file to its shape, as it is written."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from llmops_tasks import config
from llmops_tasks.errors import ConfigError, InputError
from tests.support import tiny
from tests.support.edited import write

TEXT = tiny.TRIAGE.read_text(encoding="utf-8")


def _lines(text: str, key: str) -> list[int]:
    return [number for number, line in enumerate(text.splitlines(), 1) if line.strip().startswith(f"{key}:")]


def _load(folder: Path, text: str) -> config.UseCase:
    (folder / "demo.yaml").write_text(text, encoding="utf-8")
    return config.load(str(folder / "demo.yaml"))


def test_a_key_that_stands_twice_is_named_with_both_lines(tmp_path: Path) -> None:
    """YAML's own loader would keep the last, and nobody would know."""
    text = TEXT.replace("finetune:\n", "finetune:\n  seed: 1\n", 1)
    first, second = _lines(text, "seed")[:2]
    with pytest.raises(ConfigError) as caught:
        _load(tmp_path, text)
    assert caught.value.problems == [f"line {second}: 'seed' stands on line {first} already; keep one of them"]
    assert "demo.yaml has 1 mistake(s)" in str(caught.value)


def test_sections_and_columns_that_stand_twice_are_all_told_at_once(tmp_path: Path) -> None:
    text = TEXT + '\n"gate": {min_n: 1}\ntask: {type: classification, type: generation}\n'
    with pytest.raises(ConfigError) as caught:
        _load(tmp_path, text)
    assert [problem.split("'")[1] for problem in caught.value.problems] == ["type", "gate", "task"]


def test_the_same_key_in_two_sections_is_none_of_it(tmp_path: Path) -> None:
    assert len(_lines(TEXT, "uri")) > 1
    assert _load(tmp_path, TEXT) == config.load("triage")


def test_what_is_merged_may_be_overridden(tmp_path: Path) -> None:
    """That is what YAML's merge key is for."""
    raw = yaml.safe_load(TEXT)
    common = yaml.safe_dump({"finetune": raw.pop("finetune")}).replace("finetune:", "finetune:\n  <<: {rank: 2}", 1)
    assert _load(tmp_path, yaml.safe_dump(raw) + common).finetune == config.load("triage").finetune


def test_a_policy_is_read_as_strictly(tmp_path: Path) -> None:
    raw = yaml.safe_load(TEXT) | {"selection": {"policy": "policy.yaml"}}
    (tmp_path / "policy.yaml").write_text(config.loading.POLICY.read_text(encoding="utf-8") * 2, encoding="utf-8")
    _load(tmp_path, yaml.safe_dump(raw))
    with pytest.raises(ConfigError, match=r"policy\.yaml has 6 mistake[^$]*'version' stands on line 2 already"):
        config.policy(str(tmp_path / "demo.yaml"))


@pytest.mark.parametrize(("text", "message"), [("a: [1", "not valid YAML, line"), ("- 1", "must hold a mapping")])
def test_a_file_that_is_no_mapping_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "demo.yaml").write_text(text)
    with pytest.raises(ConfigError, match=message):
        config.load(str(tmp_path / "demo.yaml"))


def test_yaml_that_would_make_python_objects_is_refused(tmp_path: Path) -> None:
    (tmp_path / "demo.yaml").write_text("version: !!python/object/apply:os.getcwd []")
    with pytest.raises(ConfigError, match="not valid YAML"):
        config.load(str(tmp_path / "demo.yaml"))


@pytest.mark.parametrize(
    "name",
    ["../triage", "triage;ls", "{{ triage }}", "file:///triage", "$(ls)", "Triage", "", "a", "tri age", "a" * 50],
)
def test_a_name_that_is_no_name_is_refused_before_any_file_is_read(name: str) -> None:
    with pytest.raises(InputError, match="Allowed: a-z, 0-9 and _"):
        config.usecase_path(name)


def test_an_unknown_name_gets_the_nearest_known_one() -> None:
    with pytest.raises(InputError, match=r"No use case 'triag'.*Did you mean 'triage'\?"):
        config.load("triag")


@pytest.mark.parametrize(
    "date",
    ["../..", "2026-3-30", "2026-02-30", "2026-03-30\n", "{{ ds }}", "20260330", "2026-03-30/..", "", "٢٠٢٦-٠٣-٣٠"],
)
def test_what_is_no_day_is_refused(date: str) -> None:
    with pytest.raises(InputError, match="Allowed: YYYY-MM-DD"):
        config.checked_date(date)


def test_a_day_is_a_day() -> None:
    assert config.checked_date("2026-03-30") == "2026-03-30"


def test_the_folder_of_use_cases_is_a_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, {}, "beta")
    write(tmp_path, {}, "alpha")
    monkeypatch.setenv("LLMOPS_USECASES", str(tmp_path))
    assert config.usecase_names() == ["alpha", "beta"]
    assert config.usecase_name("beta") == "beta"
    assert config.load("beta").task.severe == ["resuscitation", "emergent"]


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    import os

    path = write(tmp_path, {})
    assert config.load(path).finetune.seed == 7
    write(tmp_path, {"finetune/seed": 8})
    os.utime(path, ns=(1, 1))
    assert config.load(path).finetune.seed == 8
