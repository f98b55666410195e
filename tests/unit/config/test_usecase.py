"""A use-case file is right, or every mistake in it is named with its place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from llmops_tasks import config
from llmops_tasks.errors import ConfigError, InputError
from llmops_tasks.store import digests
from tests.support import tiny


def _write(folder: Path, changes: dict[str, Any], name: str = "demo") -> str:
    """The shipped use case with some values replaced; dotted paths, None removes."""
    raw = yaml.safe_load(tiny.TRIAGE.read_text(encoding="utf-8"))
    for path, value in changes.items():
        *parents, last = path.split("/")
        at = raw
        for part in parents:
            at = at[int(part) if part.isdigit() else part]
        if value is None:
            del at[last]
        else:
            at[last] = value
    file = folder / f"{name}.yaml"
    file.write_text(yaml.safe_dump(raw), encoding="utf-8")
    return str(file)


def test_three_mistakes_are_reported_at_once_each_with_its_place(tmp_path: Path) -> None:
    changes = {"finetune/ranks": 8, "gate/min_n": 0, "data/columns/age/rol": "input"}
    with pytest.raises(ConfigError) as caught:
        config.load(_write(tmp_path, changes))
    problems = caught.value.problems
    assert len(problems) == 3
    assert any(p.startswith("finetune.ranks: unknown key. Did you mean 'rank'?") for p in problems)
    assert any(p.startswith("gate.min_n: input should be greater than 0; given: 0") for p in problems)
    assert any(p.startswith("data.columns.age.rol: unknown key. Did you mean 'role'?") for p in problems)
    assert "demo.yaml has 3 mistake(s)" in str(caught.value)


def test_problems_between_columns_are_reported_at_once(tmp_path: Path) -> None:
    changes = {"data/text": "{{ nurse_level }} {{ notes }}", "monitoring/columns": ["heartrate"]}
    with pytest.raises(ConfigError) as caught:
        config.load(_write(tmp_path, changes))
    assert len(caught.value.problems) == 3
    assert "data.text: 'nurse_level' is a leakage column" in str(caught.value)
    assert "data.text: no column 'notes'. Did you mean 'note'?" in str(caught.value)
    assert "monitoring.columns: 'heartrate' is no number column. Did you mean 'heart_rate'?" in str(caught.value)


MISTAKES: list[tuple[str, dict[str, Any], str]] = [
    ("leakage in text", {"data/text": "{{ note }} {{ disposition }}"}, "data.text: 'disposition' is a leakage column"),
    ("label in text", {"data/text": "{{ triage_level }}"}, "data.text: 'triage_level' has the role 'label'"),
    ("identifier in text", {"data/text": "{{ phone }}"}, "data.text: 'phone' has the role 'identifier'"),
    ("broken text", {"data/text": "{{ note "}, "data.text: not a valid template, line 1"),
    ("broken prompt", {"prompt/template": "{% if %}"}, "prompt.template: not a valid template"),
    ("prompt without text", {"prompt/template": "{{ labels }}"}, "prompt.template: uses ['labels']"),
    ("prompt with a stranger", {"prompt/template": "{{ text }} {{ note }}"}, "prompt.template: uses ['note', 'text']"),
    (
        "no group",
        {"data/columns/patient_id/role": "ignore"},
        "exactly one column needs the role 'group' (or data.split.by: record); given: []",
    ),
    ("two ids", {"data/columns/hospital/role": "id"}, "exactly one column needs the role 'id'"),
    ("no label", {"data/columns/triage_level/role": "ignore"}, "exactly one column needs the role 'label'"),
    ("time as text", {"data/columns/arrival_time/type": "string"}, "a column with the role 'time' is a timestamp"),
    ("a cap on words", {"data/columns/sex/cap": 3}, "data.columns.sex: min, max and cap are for numbers"),
    ("unknown role", {"data/columns/sex/role": "inputs"}, "data.columns.sex.role: input should be 'id', 'group'"),
    ("one label", {"task/labels": [], "task/severe": []}, "task: a classification needs at least two labels"),
    ("generation with labels", {"task/type": "generation"}, "task: a generation task has no labels"),
    ("equal names", {"task/labels/1/name": "urgent", "task/severe": []}, "task: label names must differ"),
    ("equal values", {"task/labels/1/values": ["3"]}, "task: the same value stands for two labels"),
    ("unknown severe", {"task/severe": ["emergant"]}, "task: severe names unknown labels ['emergant']"),
    ("scheme", {"data/source/uri": "http://host/x.csv"}, "data.source.uri: Address 'http://host/x.csv'"),
    ("long delimiter", {"data/source/delimiter": ";;"}, "data.source.delimiter: string should have at most 1"),
    ("increments of a day", {"batch/source/incremental": "objects"}, "batch.source.incremental: unknown key. Known: ["),
    ("a watched day", {"batch/source/watch_seconds": 5}, "batch.source.watch_seconds: unknown key. Known: ["),
    ("encoding", {"data/source/encoding": "utf-99"}, "data.source.encoding: 'utf-99' is no known encoding"),
    ("split sum", {"data/split/train": 0.9}, "data.split: train + validation + test must be 1"),
    ("both limits", {"gate/limits/0/at_most": 1.0}, "gate.limits.0: give either at_least or at_most"),
    ("no limit", {"gate/limits/0/at_least": None}, "gate.limits.0: give either at_least or at_most"),
    ("unlimited gate", {"gate/limits": []}, "gate.limits: list should have at least 1 item"),
    ("digest", {"base_model/sha256": "abc"}, "base_model.sha256: string should match pattern"),
    ("nothing to learn", {"finetune/learning_rate": 0}, "finetune.learning_rate: input should be greater than 0"),
    ("version", {"version": 2}, "version: input should be 1; given: 2"),
    ("no owner", {"owner": None}, "owner: field required"),
    ("candidates alike", {"selection/candidates/0/name": "current"}, "selection: candidates need names that differ"),
    (
        "unknown in a candidate",
        {"selection/candidates/0/license": "x"},
        "license: unknown key. Did you mean 'licence'?",
    ),
    ("no sample", {"selection/sample": 3}, "selection.sample: input should be greater than or equal to 20; given: 3"),
    ("unknown section", {"finetuning": {}}, "finetuning: unknown key. Did you mean 'finetune'?"),
]


@pytest.mark.parametrize(("changes", "message"), [m[1:] for m in MISTAKES], ids=[m[0] for m in MISTAKES])
def test_a_mistake_is_named_with_its_place(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config.load(_write(tmp_path, changes))
    assert message in str(caught.value)
    assert len(caught.value.problems) == 1, caught.value.problems


def test_a_generation_task_names_its_answer_column(tmp_path: Path) -> None:
    changes: dict[str, Any] = {"task": {"type": "generation"}, "data/columns/triage_level/role": "ignore"}
    with pytest.raises(ConfigError, match=r"data.completion: a generation task names its answer column; given: None"):
        config.load(_write(tmp_path, changes))
    assert config.load(_write(tmp_path, changes | {"data/completion": "triage_level"})).task.labels == []


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


def test_addresses_know_two_variables_only(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert config.expand("file://${LLMOPS_HOME}/a") == f"file://{home}/a"
    monkeypatch.setenv("LLMOPS_STORE", "s3://bucket/x/")
    assert config.expand("${LLMOPS_STORE}/a") == "s3://bucket/x/a"
    monkeypatch.setenv("SECRET", "hidden")
    assert config.expand("file:///${SECRET}") == "file:///${SECRET}"


def test_the_folder_of_use_cases_is_a_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _write(tmp_path, {}, "beta")
    _write(tmp_path, {}, "alpha")
    monkeypatch.setenv("LLMOPS_USECASES", str(tmp_path))
    assert config.usecase_names() == ["alpha", "beta"]
    assert config.usecase_name("beta") == "beta"
    assert config.load("beta").task.severe == ["resuscitation", "emergent"]


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    import os

    path = _write(tmp_path, {})
    assert config.load(path).finetune.seed == 7
    _write(tmp_path, {"finetune/seed": 8})
    os.utime(path, ns=(1, 1))
    assert config.load(path).finetune.seed == 8


def test_a_use_case_cannot_be_changed_once_loaded() -> None:
    case = config.load("triage")
    with pytest.raises(ValueError, match="frozen"):
        case.owner = "me"  # type: ignore[misc]


def test_a_digest_follows_its_sections_only(tmp_path: Path) -> None:
    one = config.load(_write(tmp_path, {}, "one"))
    two = config.load(_write(tmp_path, {"finetune/seed": 8}, "two"))
    assert one.digest("data", "task") == two.digest("data", "task")
    assert one.digest("finetune") != two.digest("finetune")


def test_columns_are_found_by_role() -> None:
    data = config.load("triage").data
    assert data.named("leakage") == ["nurse_level", "disposition"]
    assert data.one("label") == "triage_level"


def test_the_schema_is_json_and_knows_every_section() -> None:
    schema = json.loads(json.dumps(config.json_schema()))
    assert set(schema["properties"]) == set(config.UseCase.model_fields)
    assert schema["additionalProperties"] is False
    assert digests.digest(schema) == digests.digest(config.json_schema())


# ---------------------------------------------------------------- the policy of the base model


def _policy(folder: Path, **changes: Any) -> str:
    """A use case with a policy of its own: the shipped one with some values replaced."""
    raw = yaml.safe_load(config.POLICY.read_text(encoding="utf-8"))
    licences = {**raw["licences"], **changes.pop("licences", {})}
    (folder / "own.yaml").write_text(yaml.safe_dump({**raw, **changes, "licences": licences}))
    return _write(folder, {"selection/policy": "own.yaml"})


POLICY_MISTAKES: list[tuple[dict[str, Any], str]] = [
    ({"licences": {"allowed": []}}, "licences.allowed: list should have at least 1 item"),
    ({"licences": {"allowed": ["mit", "gemma"]}}, "licences: both allowed and refused: ['gemma']"),
    (
        {"licences": {"accepted": {"gema": "me"}}},
        "licences: accepted names 'gema', which is not refused. Did you mean 'gemma'?",
    ),
    ({"licences": {"alowed": ["mit"]}}, "licences.alowed: unknown key. Did you mean 'allowed'?"),
    ({"max_disk_mb": 3}, "max_disk_mb: unknown key. Did you mean 'max_disk_mib'?"),
    ({"min_tokens_per_second": 0}, "min_tokens_per_second: input should be greater than 0"),
    ({"rank": "best"}, "rank: input should be 'few_shot', 'zero_shot' or 'bits_per_character'; given: 'best'"),
]


@pytest.mark.parametrize(("changes", "message"), POLICY_MISTAKES, ids=[m[1].split(":")[0] for m in POLICY_MISTAKES])
def test_a_mistake_in_a_policy_is_named_with_its_place(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    path = _policy(tmp_path, **changes)
    with pytest.raises(ConfigError) as caught:
        config.policy(path)
    assert message in str(caught.value) and "own.yaml has 1 mistake(s)" in str(caught.value)


def test_a_policy_is_looked_for_beside_the_use_case_else_the_shipped_one_counts(tmp_path: Path) -> None:
    assert config.policy(_write(tmp_path, {})).rank == "few_shot"
    assert config.policy(_policy(tmp_path, rank="zero_shot")).rank == "zero_shot"
    (tmp_path / "own.yaml").unlink()
    with pytest.raises(ConfigError, match=r"selection.policy: no file at '.*own.yaml'"):
        config.policy(str(tmp_path / "demo.yaml"))
