"""What a use case's parts must be to each other, and how mistakes are put into words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from llmops_tasks import config
from llmops_tasks.errors import ConfigError
from tests.support.desk import FAQ
from tests.support.edited import Mistakes, check_mistake, write


def test_three_mistakes_are_reported_at_once_each_with_its_place(tmp_path: Path) -> None:
    changes = {"finetune/ranks": 8, "gate/min_n": 0, "data/columns/age/rol": "input"}
    with pytest.raises(ConfigError) as caught:
        config.load(write(tmp_path, changes))
    problems = caught.value.problems
    assert len(problems) == 3
    assert any(p.startswith("finetune.ranks: unknown key. Did you mean 'rank'?") for p in problems)
    assert any(p.startswith("gate.min_n: input should be greater than 0; given: 0") for p in problems)
    assert any(p.startswith("data.columns.age.rol: unknown key. Did you mean 'role'?") for p in problems)
    assert "demo.yaml has 3 mistake(s)" in str(caught.value)


def test_problems_between_columns_are_reported_at_once(tmp_path: Path) -> None:
    changes = {"data/text": "{{ nurse_level }} {{ notes }}", "monitoring/columns": ["heartrate"]}
    with pytest.raises(ConfigError) as caught:
        config.load(write(tmp_path, changes))
    assert len(caught.value.problems) == 3
    assert "data.text: 'nurse_level' is a leakage column" in str(caught.value)
    assert "data.text: no column 'notes'. Did you mean 'note'?" in str(caught.value)
    assert "monitoring.columns: 'heartrate' is not a number column. Did you mean 'heart_rate'?" in str(caught.value)


ANSWERED = {"metric": "coverage", "at_least": 0.8}
RIGHT = {"metric": "selective_accuracy", "at_least": 0.9}
MISTAKES: Mistakes = [
    (
        "blank text",
        {"task/labels/3/text": "  "},
        "task.labels.3.text: is empty; give 'less-urgent' a text of at least one",
    ),
    (
        "equal texts",
        {"task/labels/3/text": "urgent "},
        "task.labels.3.text: 'less-urgent' has the same text as 'urgent'; give it words of its own",
    ),
    (
        "unlimited abstaining",
        {"task/abstain_below": 0.6},
        "gate.limits: task.abstain_below lets the model abstain; limit",
    ),
    (
        "coverage of who always answers",
        {"gate/limits": [ANSWERED, RIGHT]},
        "gate.limits: ['coverage', 'selective_accuracy'] are figures of a model that may abstain; set task.abstain_below",
    ),
    (
        "comparing the answered alone",
        {"task/abstain_below": 0.6, "gate/limits": [ANSWERED], "gate/metric": "selective_accuracy"},
        "gate.metric: 'selective_accuracy' is not compared",
    ),
    ("leakage in text", {"data/text": "{{ note }} {{ disposition }}"}, "data.text: 'disposition' is a leakage column"),
    ("label in text", {"data/text": "{{ triage_level }}"}, "data.text: 'triage_level' has the role 'label'"),
    ("identifier in text", {"data/text": "{{ phone }}"}, "data.text: 'phone' has the role 'identifier'"),
    (
        "chat settings of a plain prompt",
        {"prompt/system": "S"},
        "prompt: system, messages and thinking are for chats: set format to chat, or remove them",
    ),
    (
        "a stranger in the system turn",
        {"prompt/format": "chat", "prompt/system": "{{ note }}"},
        "prompt.system: uses ['note']; it may use {{ labels }}",
    ),
    (
        "two system turns",
        {"prompt/format": "chat", "prompt/system": "S", "prompt/messages": [{"role": "system", "content": "T"}]},
        "prompt: a system turn comes first and once",
    ),
    (
        "examples before a conversation",
        {"prompt/format": "conversation", "prompt/examples": [{"text": "a", "answer": "b"}]},
        "prompt: a conversation has its own turns: remove messages and examples",
    ),
    (
        "a label after thinking",
        {"prompt/format": "chat", "prompt/thinking": "keep"},
        "prompt.thinking: a label is chosen at once, without thinking",
    ),
    (
        "a conversation among other words",
        {"prompt/format": "conversation", "data/columns/note/type": "conversation", "data/text": "{{ note }}!"},
        "data.text: a conversation is read as it is: {{ <column> }}, an input of the type conversation; there are: ['note']",
    ),
    (
        "variants of a conversation",
        {
            "prompt/format": "conversation",
            "data/columns/note/type": "conversation",
            "data/text": "{{ note }}",
            "data/augment": {"noise": 1},
        },
        "data.augment: variants of a conversation's text would break its turns",
    ),
    (
        "a conversation in a plain prompt",
        {"data/columns/note/type": "conversation"},
        "data.columns.note.type: a conversation is read by prompt.format: conversation",
    ),
    (
        "turns of what has none",
        {"finetune/turns": "all"},
        "finetune.turns: the turns of a conversation; set prompt.format to conversation",
    ),
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
    ("encoding", {"data/source/encoding": "utf-99"}, "data.source.encoding: 'utf-99' is not a known encoding"),
    ("unknown section", {"finetuning": {}}, "finetuning: unknown key. Did you mean 'finetune'?"),
]


@pytest.mark.parametrize(("changes", "message"), [m[1:] for m in MISTAKES], ids=[m[0] for m in MISTAKES])
def test_a_mistake_is_named_with_its_place(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    check_mistake(tmp_path, changes, message)


GENERATION: Mistakes = [
    ("no answer column", {"data/completion": None}, "data.completion: a generation task names its answer column; given: None"),
    ("a metric of labels", {"gate/metric": "accuracy"}, "gate.metric: 'accuracy' is not compared. Allowed (more is better): ['exact_match', 'token_f1', 'rouge_l', 'bleu', 'chrf']"),
    ("bits compared", {"gate/metric": "bits_per_character"}, "gate.metric: 'bits_per_character' is not compared"),
    ("no such figure", {"gate/limits/0/metric": "exact_mach"}, "gate.limits.0.metric: no figure 'exact_mach'. Did you mean 'exact_match'? Known: ['exact_match', 'token_f1', 'rouge_l', 'bleu', 'chrf', 'bits_per_character']"),
    ("bits at least", {"gate/limits": [{"metric": "bits_per_character", "at_least": 1}]}, "of 'bits_per_character' lower is better, so its limit is 'at_most'"),
    ("a baseline of labels", {"evaluation/baselines": ["base", "tfidf"]}, "evaluation.baselines: 'tfidf' is no baseline of a generation. Allowed: ['base', 'retrieval']"),
    ("beats of labels", {"gate/beats": ["tfidf"]}, "gate.beats: 'tfidf' is no baseline of a generation"),
    ("no space", {"task/decoding/max_new_tokens": 128}, "task.decoding.max_new_tokens: 128 leave no space for a prompt within finetune.max_length (128)"),
    ("an ensemble", {"finetune/members": 3}, "finetune.members: 3 models have no common text"),
    ("corrections", {"finetune/preferences": {}, "finetune/start": "champion"}, "finetune.preferences: corrections are of labels"),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "message"), [m[1:] for m in GENERATION], ids=[m[0] for m in GENERATION])
def test_a_mistake_of_a_generation_is_named_with_its_place(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    check_mistake(tmp_path, changes, message, shipped=FAQ)


def test_a_classification_does_not_know_what_is_for_texts(tmp_path: Path) -> None:
    check_mistake(tmp_path, {"gate/beats": ["retrieval"]}, "gate.beats: 'retrieval' is no baseline of a classification")
    check_mistake(tmp_path, {"gate/metric": "rouge_l"}, "gate.metric: 'rouge_l' is not compared")


NEVER = [
    ("a day that never comes", {"schedule": "0 0 31 2 *"}, "schedule: '0 0 31 2 *' names a day that does not exist"),
    ("no cron", {"schedule": "nightly"}, "schedule: 'nightly' has 1 fields"),
    ("a field out of range", {"batch/schedule": "61 6 * * *"}, "batch.schedule: '61 6 * * *'"),
    ("seconds", {"batch/schedule": "0 0 6 * * *"}, "batch.schedule: '0 0 6 * * *' has 6 fields"),
    ("an unknown preset", {"airflow": {"reconcile": "@often"}}, "airflow.reconcile: '@often'"),
    ("no such time zone", {"batch/timezone": "Europe/Zurigo"}, "batch.timezone: "),
    ("catchup from nowhere", {"batch/catchup": True}, "batch: catchup requires start_date"),
    ("no such champion", {"finetune/start": "champion:triagee"}, "finetune.start: "),
    ("no such mix", {"finetune/mix": {"revews": 0.5}}, "finetune.mix.revews: "),
    ("no such texts", {"finetune/domain": {"usecases": ["own", "faqs"]}}, "finetune.domain.faqs: "),
    (
        "a reminder before the question",
        {"notify": {"webhook_connection": "chat", "remind_hours": 80}},
        "notify.remind_hours: ",
    ),
]


@pytest.mark.parametrize(("changes", "message"), [m[1:] for m in NEVER], ids=[m[0] for m in NEVER])
def test_what_can_never_work_is_a_mistake_when_the_file_is_read(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    check_mistake(tmp_path, changes, message)


@pytest.mark.parametrize(
    "changes",
    [
        {"schedule": "0 0 29 2 *"},
        {"schedule": "@daily"},
        {"batch/schedule": "*/15 6-20 * * 1-5", "batch/timezone": "America/Los_Angeles"},
        {"finetune/start": "champion:reviews", "finetune/mix": {"faq": 0.5}, "finetune/domain": {"usecases": ["own"]}},
    ],
)
def test_what_can_work_is_none(tmp_path: Path, changes: dict[str, Any]) -> None:
    config.load(write(tmp_path, changes))


def test_labels_that_begin_alike_or_begin_each_other_are_no_mistake(tmp_path: Path) -> None:
    words = {"task/labels/2/text": " less urgent", "task/labels/4/text": " less urgent still"}
    limits = {"task/abstain_below": 0.6, "gate/limits": [ANSWERED, RIGHT]}
    case = config.load(write(tmp_path, words | limits))
    assert [label.text for label in case.task.labels][2:] == [" less urgent", " less", " less urgent still"]
    assert case.task.abstain_below == 0.6
