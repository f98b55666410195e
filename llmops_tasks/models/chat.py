"""Chats as tokens: a conversation rendered by the tokenizer's own chat template, and cut so that it stays well-formed.

Templates run in transformers' sandbox. Special tokens that stand in a message's text are read as text, so that no record
can end its turn or speak in another role. Dates that a template asks for are fixed: a release is asked the same on any day.
What this does not do: tools, images, or templates that a tokenizer has beside its default one.

Source: transformers' guide "Chat templates" (`apply_chat_template`, `sanitize_control_tokens`).
"""

from __future__ import annotations

import bisect
import json
from typing import TYPE_CHECKING, Any, NamedTuple

from jinja2.exceptions import TemplateError

from llmops_tasks.errors import ContextError, ModelError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Message = dict[str, str]  # {role: system | user | assistant, content}
# The day that Llama 3's template says where it cannot ask for the date, in place of today; trim_blocks drops the line end.
_DAY = "{%- macro strftime_now(form) %}26 Jul 2024{% endmacro %}\n"
_ALONE = "{{ messages[0]['content'] }}"
_FAILURES = (TemplateError, TypeError, ValueError, ArithmeticError, LookupError, AttributeError, RuntimeError)


class Chat(NamedTuple):
    """A prompt in turns; the last is the user's."""

    messages: list[Message]
    text: tuple[int, int]  # where in the last message the record's text stands: what may be shortened
    thinking: bool  # what `enable_thinking` is in templates that know it

    def shortened(self, characters: int) -> Chat:
        """Without the text's first characters."""
        (start, end), last = self.text, self.messages[-1]
        content = last["content"][:start] + last["content"][start + characters :]
        return Chat([*self.messages[:-1], {**last, "content": content}], (start, end - characters), self.thinking)

    def without_oldest(self) -> Chat | None:
        """Without the first user's turn and its answer; None where only the last turn is left."""
        users = [place for place, message in enumerate(self.messages) if message["role"] == "user"]
        if len(users) < 2:
            return None
        return self._replace(messages=[*self.messages[: users[0]], *self.messages[users[1] :]])


Prompt = str | Chat


def dumped(prompt: Prompt) -> str:
    """A prompt as text: a chat as JSON."""
    return prompt if isinstance(prompt, str) else json.dumps(prompt, ensure_ascii=False)


def loaded(text: str) -> Chat:
    """A chat from its JSON."""
    messages, (start, end), thinking = json.loads(text)
    return Chat(messages, (start, end), thinking)


def encode(tokenizer: PreTrainedTokenizerBase, chat: Chat, answer: str | None = None) -> list[int]:
    """A chat's tokens up to where the answer begins, or with it and all that the template writes after it.

    Raises:
        ModelError: if the tokenizer has no chat template, or its template fails; the message names the error's class only.
    """
    if not tokenizer.chat_template:
        raise ModelError("This model has no chat template. Set prompt.format to plain, or choose an instruct model.")
    said = [] if answer is None else [{"role": "assistant", "content": answer}]
    asks = {"add_generation_prompt": answer is None, "enable_thinking": chat.thinking}
    try:
        template = tokenizer.get_chat_template()
        template = _DAY + template if "strftime_now" in template else template
        return _applied(tokenizer, [*chat.messages, *said], template, **asks)
    except _FAILURES as exc:
        roles = ", ".join(dict.fromkeys(message["role"] for message in [*chat.messages, *said]))
        failed = type(exc).__name__
    raise ModelError(
        f"The model's chat template fails: {failed}, for turns of {roles}. Some templates allow no system turn: remove "
        "prompt.system, or set prompt.format to plain."
    )


def _applied(tokenizer: PreTrainedTokenizerBase, turns: list[Message], template: str, **asks: bool) -> list[int]:
    if getattr(tokenizer, "chat_control_tokens", None) is None:
        tokenizer.chat_control_tokens = []  # special ones only: <think> in an answer is that token
    more = {"return_dict": False, "sanitize_control_tokens": True}
    found: Any = tokenizer.apply_chat_template(turns, chat_template=template, **more, **asks)
    return list(found)


def fit(tokenizer: PreTrainedTokenizerBase, chat: Chat, space: int) -> list[int]:
    """At most `space` tokens: the oldest turns go first, then the beginning of the record's text; the rest stays whole.

    Raises:
        ContextError: if the turns around the text alone are longer.
    """
    found = encode(tokenizer, chat)
    while len(found) > space and (shorter := chat.without_oldest()):
        chat, found = shorter, encode(tokenizer, shorter)
    if len(found) <= space:
        return found
    length = chat.text[1] - chat.text[0]

    def fits(characters: int) -> bool:
        return len(encode(tokenizer, chat.shortened(characters))) <= space

    least = bisect.bisect_left(range(length + 1), True, key=fits)
    if least > length:
        raise ContextError(
            f"A chat without its text has more than {space} tokens, so no text fits. Shorten prompt.system and "
            "prompt.template, or raise finetune.max_length."
        )
    return encode(tokenizer, chat.shortened(least))


def written(tokenizer: PreTrainedTokenizerBase, chat: Chat, answer: str) -> list[int]:
    """The tokens of an answer to a chat, up to the end of its turn: as the template writes it after the prompt.

    A template that asks otherwise than it writes (it drops thinking, or opens it) is not followed: it is the text and
    the end of the turn.
    """
    asked, whole = encode(tokenizer, chat), encode(tokenizer, chat, answer)
    if whole[: len(asked)] == asked:
        return _to_end(tokenizer, whole[len(asked) :])
    return [*_applied(tokenizer, [{"role": "assistant", "content": answer}], _ALONE), *end_of_turn(tokenizer)]


def end_of_turn(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The token that the template writes after an answer; that of a text's end, where it writes none; or nothing."""
    chat = Chat([{"role": "user", "content": "a"}], (0, 1), False)
    return _to_end(tokenizer, encode(tokenizer, chat, "b")[len(encode(tokenizer, chat)) :])[-1:]


def _to_end(tokenizer: PreTrainedTokenizerBase, tokens: list[int]) -> list[int]:
    special = {*tokenizer.all_special_ids, *_special(tokenizer)}
    at = next((place for place, token in enumerate(tokens) if token in special), None)
    if at is not None:
        return tokens[: at + 1]
    return tokens if tokenizer.eos_token_id is None else [*tokens, tokenizer.eos_token_id]


def _special(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    return [number for number, token in tokenizer.added_tokens_decoder.items() if token.special]
