"""What the model reads: rendered from named columns, in a sandbox, and the same everywhere."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from llmops_tasks import config
from llmops_tasks.config import UseCase
from llmops_tasks.config.usecase import Turn
from llmops_tasks.errors import ConfigError, InputError
from llmops_tasks.prompts import templates
from llmops_tasks.store import digests
from tests.support import small


def _case(folder: Path, text: str = "{{ note }}", prompt: dict[str, Any] | None = None) -> UseCase:
    case = config.load(small.usecase(folder, {"uri": f"file://{folder}/rows.csv"}, text=text))
    changed = case.prompt.model_copy(update=prompt or {})
    return case.model_copy(update={"prompt": changed})


def _prompt(case: UseCase, text: str) -> Any:
    return templates.render_prompt(case.prompt, case.task, text)


def test_runs_of_white_space_are_folded(tmp_path: Path) -> None:
    case = _case(tmp_path, "  {{ note }}\n\n{{ age | int }}y ")
    assert templates.render_text(case.data.text, {"note": "a \t b", "age": 40.0}) == "a b 40y"


def test_missing_values_are_none_and_the_template_may_ask(tmp_path: Path) -> None:
    case = _case(tmp_path, "{{ note }}{% if age is not none %} {{ age }}{% endif %}")
    assert templates.render_text(case.data.text, {"note": "a", "age": None}) == "a"


def test_a_note_that_looks_like_a_template_is_text(tmp_path: Path) -> None:
    text = templates.render_text(_case(tmp_path).data.text, {"note": "{{ 7 * 7 }} {% raw %} <b>&amp;"})
    assert text == "{{ 7 * 7 }} {% raw %} <b>&amp;"
    assert text in _prompt(_case(tmp_path), text)


@pytest.mark.parametrize(
    "text",
    ["{{ note.__class__.__mro__ }}", "{{ note | round }}", "{{ note / 2 }}", "{{ age | round }}", "{{ huge | int }}",
     "{{ {1: 2}.pop(note) }}", "{{ 1 / 0 }}", "{{ note.join }}{{ note.index('q') }}"],
)  # fmt: skip
def test_a_template_that_fails_names_its_place_and_not_the_record(tmp_path: Path, text: str) -> None:
    columns = {"huge": {"role": "input", "type": "number"}}
    case = config.load(small.usecase(tmp_path, {"uri": f"file://{tmp_path}/rows.csv"}, columns, text=text))
    with pytest.raises(ConfigError, match=r"data\.text cannot be rendered: \w+\. Check its variables") as caught:
        templates.render_text(case.data.text, {"note": "zebrafish", "age": None, "huge": float("inf")})
    assert "zebrafish" not in str(caught.value) and caught.value.__context__ is None


def test_a_missing_variable_is_an_error_and_never_an_empty_string(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="UndefinedError"):
        templates.render_text(_case(tmp_path).data.text, {"age": 4})


def test_the_prompt_ends_where_the_answer_begins(tmp_path: Path) -> None:
    assert _prompt(_case(tmp_path), "sore throat") == "Note: sore throat\nPriority:"


def test_the_prompt_may_list_the_answers(tmp_path: Path) -> None:
    case = _case(tmp_path, prompt={"template": "{{ text }} ({{ labels }}):"})
    assert templates.render_prompt(case.prompt, case.task, "x") == "x (urgent, less):"


def test_examples_stand_in_front_with_their_answers(tmp_path: Path) -> None:
    case = _case(
        tmp_path, prompt={"examples": [{"text": "one", "answer": " urgent"}, {"text": "two", "answer": " less"}]}
    )
    assert templates.render_prompt(case.prompt, case.task, "three") == (
        "Note: one\nPriority: urgent\n\nNote: two\nPriority: less\n\nNote: three\nPriority:"
    )


@pytest.mark.usefixtures("mlflow")
def test_the_same_prompt_is_registered_once_and_a_changed_one_again(tmp_path: Path) -> None:
    usecase = small.usecase(tmp_path, {"uri": f"file://{tmp_path}/rows.csv"})
    first = templates.register_prompt(usecase=usecase)
    assert (first["name"], first["version"]) == ("small-prompt", "1")
    assert templates.register_prompt(usecase=usecase) == first
    (tmp_path / "other").mkdir()
    changed = small.usecase(tmp_path / "other", {"uri": f"file://{tmp_path}/rows.csv"}, text="{{ note }}!")
    second = templates.register_prompt(usecase=changed)
    assert second["version"] == "2"
    assert second["sha256"] != first["sha256"]


def test_composed_and_decomposed_letters_and_invisible_marks_become_the_same_text() -> None:
    decomposed, marked = "cafe\u0301 pain", "ca\u200bf\u00e9 \u202epain"
    assert {templates.normalised(text, "NFC") for text in (decomposed, marked)} == {"caf\u00e9 pain"}


def test_compatibility_forms_fold_only_where_asked_for_and_none_changes_nothing() -> None:
    assert templates.normalised("\ufb01ve", "NFC") == "\ufb01ve"
    assert templates.normalised("\ufb01ve", "NFKC") == "five"
    assert templates.normalised("e\u0301\u200b", "none") == "e\u0301\u200b"


def _chat(case: UseCase, text: str) -> list[tuple[str, str]]:
    found = _prompt(case, text)
    assert not isinstance(found, str)
    start, end = found.text
    assert text.endswith("]") or found.messages[-1]["content"][start:end] == text
    return [(turn["role"], turn["content"]) for turn in found.messages]


def test_a_chat_has_system_further_turns_examples_and_the_record(tmp_path: Path) -> None:
    more = [Turn(role="user", content="Ready?"), Turn(role="assistant", content="Yes.")]
    shots = [{"text": "one", "answer": " urgent"}]
    case = _case(
        tmp_path, prompt={"format": "chat", "system": "Say {{ labels }}.", "messages": more, "examples": shots}
    )
    assert _chat(case, "three") == [
        ("system", "Say urgent, less."), ("user", "Ready?"), ("assistant", "Yes."),
        ("user", "Note: one\nPriority:"), ("assistant", "urgent"), ("user", "Note: three\nPriority:"),
    ]  # fmt: skip


def test_a_conversation_keeps_its_turns_and_its_own_system_turn(tmp_path: Path) -> None:
    said = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "<think>x</think>b"}]
    said.append({"role": "user", "content": "c"})
    prompt = {"format": "conversation", "system": "S", "template": "Q: {{ text }}"}
    turns = [("user", "Q: a"), ("assistant", "b"), ("user", "Q: c")]
    case = _case(tmp_path, prompt=prompt)
    assert _chat(case, json.dumps(said)) == [("system", "S"), *turns]
    own = {"role": "system", "content": "own"}
    assert _chat(case, json.dumps([own, *said])) == [("system", "own"), *turns]
    kept = _case(tmp_path, prompt={**prompt, "thinking": "keep"})
    assert _chat(kept, json.dumps(said))[2] == ("assistant", "<think>x</think>b")
    with pytest.raises(InputError, match=r"A text is not a conversation\. Allowed: JSON of turns") as caught:
        _prompt(case, "zebrafish")
    assert "zebrafish" not in str(caught.value) and caught.value.__context__ is None


def test_a_plain_prompt_has_the_digest_that_it_always_had(tmp_path: Path) -> None:
    case = _case(tmp_path)
    always = digests.digest({"text": "x", "template": case.prompt.template, "examples": []})
    assert templates.prompt_digest("x", case.prompt) == always
    chat = case.prompt.model_copy(update={"format": "chat"})
    assert templates.prompt_digest("x", chat) != always


def test_a_conversation_stays_one_whatever_its_texts_become() -> None:
    said = json.dumps([{"role": "user", "content": "\uff02five \ufb01ve\uff3c\uff02"}], ensure_ascii=False)
    found = templates.render_text("{{ said }}", {"said": said}, "NFKC")
    assert json.loads(found) == [{"role": "user", "content": '"five five\\"'}]
    assert templates.render_text("{{ said }}", {"said": "[\ufb01ve"}, "NFKC") == "[five"
