"""Answers written token by token, several prompts at once: greedy or drawn, up to a stop text, within a JSON Schema.

Continuous batching: where an answer ends, the next prompt takes its row, so no row waits for the longest answer. What all
prompts begin with is read once. An answer does not depend on what shares its batch: what is drawn follows from seed and
prompt. A prompt that cannot be answered costs itself, not the others.

What this does not do: beams, penalties, speculation, paged attention.
Sources: Yu et al. 2022, "Orca" (continuous batching). Holtzman et al. 2020, "The Curious Case of Neural Text
Degeneration" (top_p).
"""

from __future__ import annotations

import hashlib
import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from llmops_tasks.config.decoding import Decoding
from llmops_tasks.errors import ConstraintError, ContextError, InputError, LLMOpsError, ModelError
from llmops_tasks.models import grammar, loading, tokens
from llmops_tasks.models.states import States

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

ERROR = "error"
FINISHED = ("stop", "length", ERROR)  # by itself, at max_new_tokens, or not answered


@dataclass(frozen=True)
class Answer:
    """What was written after a prompt."""

    text: str
    tokens: int  # written, those of its end included
    finish_reason: str  # one of FINISHED
    bits: float  # -log2 of the written tokens' probability under the model, whatever temperature and schema
    error: str | None = None  # class of the error


@dataclass
class _Row:
    """An answer that is being written."""

    prompt: tuple[int, ...]
    draw: torch.Generator
    fits: grammar.Matcher | None
    written: list[int] = field(default_factory=list)
    bits: float = 0.0


def write(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    prompts: list[list[int]],
    settings: Decoding,
    batch_size: int,
    ends: Sequence[int] = (),
) -> list[Answer]:
    """Answer prompts, the same one once.

    Args:
        model: any causal language model that keeps keys and values.
        tokenizer: of the model.
        prompts: as tokens, with the opening.
        settings: of the answers.
        batch_size: rows at once.
        ends: tokens that end an answer, beside those that end the model's texts.

    Raises:
        ModelError: if the model's output is not a number, the schema cannot be followed, or a stop text holds a special
            token beside other text.
    """
    found = {prompt: _refused(model, prompt, settings) for prompt in dict.fromkeys(map(tuple, prompts))}
    order = sorted(
        (prompt for prompt, said in found.items() if said is None), key=lambda prompt: (-len(prompt), prompt)
    )
    if order:
        with loading.running(model):
            found |= _Writer(model, tokenizer, settings, ends).write(order, batch_size)
    return [answer for prompt in prompts if (answer := found[tuple(prompt)])]


def _refused(model: Any, prompt: tuple[int, ...], settings: Decoding) -> Answer | None:
    """The answer to a prompt that cannot be answered."""
    try:
        check(model.config, len(prompt), settings)
    except LLMOpsError as exc:
        return _failed(exc)
    return None


def _failed(exc: LLMOpsError, row: _Row | None = None) -> Answer:
    return Answer("", len(row.written) if row else 0, ERROR, row.bits if row else 0.0, type(exc).__name__)


def check(config: Any, tokens: int, settings: Decoding) -> None:
    """Refuse a prompt of so many tokens.

    Raises:
        ContextError: if prompt and answer are longer than the model's context.
        InputError: if there is nothing in it.
    """
    context = getattr(config.get_text_config(), "max_position_embeddings", None)
    if not tokens:
        raise InputError("A prompt has no tokens. Check prompt.template.")
    if context and tokens + settings.max_new_tokens > context:
        raise ContextError(
            f"A prompt has {tokens} tokens and its answer up to {settings.max_new_tokens}, the model's context is "
            f"{context}. Shorten the text, or lower task.decoding.max_new_tokens."
        )


class _Writer:
    """A model, and the answers that it is writing."""

    def __init__(self, model: Any, tokenizer: PreTrainedTokenizerBase, settings: Decoding, ends: Sequence[int]) -> None:
        self._model, self._tokenizer, self._settings = model, tokenizer, settings
        self._ends = [*dict.fromkeys([*_ends(model, tokenizer), *ends, *stop_tokens(tokenizer, settings.stop)])]
        schema = settings.json_schema
        self._begin = grammar.opener(tokenizer, schema, self._ends) if schema else lambda: None

    def write(self, prompts: list[tuple[int, ...]], batch_size: int) -> dict[tuple[int, ...], Answer]:
        """Every answer by its prompt; the longest prompts first."""
        import torch

        beginning = tokens.common([prompt[:-1] for prompt in prompts]) if len(prompts) > 1 else []
        states, waiting = States(self._model, beginning), deque(prompts)
        found: dict[tuple[int, ...], Answer] = {}
        rows: list[_Row] = []
        logits: list[torch.Tensor] = []
        while waiting or rows:
            fresh = [self._row(waiting.popleft()) for _ in range(min(batch_size - len(rows), len(waiting)))]
            if fresh:
                rows += fresh
                logits.append(states.add([list(row.prompt[len(beginning) :]) for row in fresh]))
            answers = self._extend(rows, torch.cat(logits).float())
            found |= {row.prompt: answer for row, answer in zip(rows, answers, strict=True) if answer}
            going_on = [number for number, answer in enumerate(answers) if answer is None]
            states.keep(going_on)
            rows = [rows[number] for number in going_on]
            logits = [states.step([row.written[-1] for row in rows])] if rows else []
        return found

    def _row(self, prompt: tuple[int, ...]) -> _Row:
        import torch

        said = hashlib.sha256(f"{self._settings.seed}|{prompt}".encode()).digest()
        draw = torch.Generator("cpu").manual_seed(int.from_bytes(said[:7], "big"))
        return _Row(prompt, draw, self._begin())

    def _extend(self, rows: list[_Row], logits: torch.Tensor) -> list[Answer | None]:
        """Write a token in every row: the answers that end here."""
        if (logits.isnan() | logits.isposinf()).any():
            raise ModelError("The model gives no numbers (NaN) as probabilities. Train it again, with a lower rate.")
        surprise = logits.logsumexp(-1, keepdim=True) - logits
        greedy = logits.argmax(-1).tolist()
        return [self._token(*given) for given in zip(rows, logits, surprise, greedy, strict=True)]

    def _token(self, row: _Row, logits: torch.Tensor, surprise: torch.Tensor, greedy: int) -> Answer | None:
        try:
            token = self._chosen(row, logits, greedy)
        except ConstraintError as exc:
            return _failed(exc, row)
        row.written.append(token)
        row.bits += float(surprise[token]) / math.log(2)
        complete = row.fits is not None and row.fits.take(token)
        return self._finished(row, complete or token in self._ends)

    def _chosen(self, row: _Row, logits: torch.Tensor, greedy: int) -> int:
        """The next token: the most probable one that is allowed, or one that is drawn."""
        import torch

        if row.fits:
            known = row.fits.allowed()[: len(logits)].to(logits.device)
            allowed = torch.zeros_like(logits, dtype=torch.bool)  # a model may have rows for more tokens than there are
            allowed[: len(known)] = known
            logits = logits.masked_fill(~allowed, -math.inf)
            greedy = int(logits.argmax())
        if not self._settings.temperature:
            return greedy
        return drawn(logits.cpu(), self._settings.temperature, self._settings.top_p, row.draw)

    def _finished(self, row: _Row, complete: bool) -> Answer | None:
        stop = self._settings.stop
        full = len(row.written) == self._settings.max_new_tokens
        if not (complete or full or stop):
            return None
        kept = row.written[:-1] if row.written[-1] in self._ends else row.written
        text = str(self._tokenizer.decode(kept, skip_special_tokens=True))
        at = min((place for word in stop if (place := text.find(word)) >= 0), default=None)
        if at is None and not complete:
            return Answer(text, len(row.written), "length", row.bits) if full else None
        return Answer(text[:at], len(row.written), "stop", row.bits)


def _ends(model: Any, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Tokens that end a text: of some models several."""
    said = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    ends = tokenizer.eos_token_id if said is None else said
    return [] if ends is None else ends if isinstance(ends, list) else [ends]


def stop_tokens(tokenizer: PreTrainedTokenizerBase, stop: list[str]) -> list[int]:
    """Stop texts that are special tokens: an answer's text never holds them."""
    special = {str(token): number for number, token in tokenizer.added_tokens_decoder.items() if token.special}
    mixed = [word for word in stop if word not in special and any(name in word for name in special)]
    if mixed:
        raise ModelError(
            f"The stop text {mixed[0]!r} holds a special token beside other text, so no answer can hold it. Give the "
            f"special token alone ({sorted(special)}), or the other text."
        )
    return [special[word] for word in stop if word in special]


def drawn(logits: torch.Tensor, temperature: float, top_p: float, draw: torch.Generator) -> int:
    """A token by its probability, among the most probable of a total probability of at least `top_p`.

    Args:
        logits: (vocabulary,).
        temperature: divides them.
        top_p: 1 for all tokens.
        draw: gives one number.
    """
    import torch

    chances, order = torch.softmax(logits.double() / temperature, -1).sort(descending=True, stable=True)
    sums = chances.cumsum(-1)
    kept = int((sums - chances < top_p).sum())
    number = torch.rand((), generator=draw, dtype=torch.float64, device="cpu") * sums[kept - 1]
    return int(order[min(int(torch.searchsorted(sums, number, right=True)), kept - 1)])
