"""A model that answers prompts in this process, from safetensors or int8 files: it scores labels, generates text, and
measures how well a text is predicted.

A beginning of `PREFIX` tokens or more that all prompts of a call share is read once.
"""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from llmops_tasks.config.decoding import Decoding
from llmops_tasks.errors import ContextError, ModelError
from llmops_tasks.models import chat, decoding, frozen_layers, int8, label_tree, layers, loading, scoring, tokens
from llmops_tasks.models.chat import Chat, Prompt
from llmops_tasks.models.decoding import Answer
from llmops_tasks.models.label_tree import BRANCHING, Scoring, Tree

PREFIX = 32  # tokens; a shorter beginning is read with each prompt

log = logging.getLogger(__name__)


class LocalModel:
    """A model in this process, on its device."""

    def __init__(self, folder: Path, shared: frozen_layers.Shared | None = None, number_format: str = "fp32") -> None:
        import torch

        torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1)))
        self._int8 = number_format == "int8"
        opened = int8.load(folder) if self._int8 else loading.load_model(folder, number_format)
        self._model, self._tokenizer = opened
        self.cut = 0
        self._shared = None if self._int8 else shared  # a graph is run whole
        self._shared_tokens = 0
        self._tried, self._layerwise = 0, not self._int8

    def scores(
        self,
        prompts: Sequence[Prompt],
        answers: list[str],
        batch_size: int,
        max_length: int | None = None,
        rule: Scoring = BRANCHING,
    ) -> list[list[float]]:
        """See Generator. Prompts of like length share a batch; only asked positions meet the vocabulary head."""
        labels = tokens.closed_set(self._tokenizer, answers)
        tree = label_tree.build(labels, rule.whole_text)
        asked = self._fitted(prompts, max(map(len, labels)), max_length)
        longest, deepest = max(map(len, asked), default=0), max(tree.depths, default=-1) + 1
        layers.check_context(self._model.config, longest + deepest)
        self._try_layers(longest + deepest)
        prefix = self._prefix(asked)
        hidden = self._frozen([prompt[len(prefix) :] for prompt in asked], tree)
        order = sorted(range(len(asked)), key=lambda index: len(asked[index]))
        size = self._rows(batch_size, longest, tree)
        result: dict[int, list[float]] = {}
        with loading.running(self._model):
            known = scoring.read(self._model, prefix) if prefix else []
            for at in range(0, len(order), size):
                chosen = order[at : at + size]
                found = self._asked([hidden[index] for index in chosen], tree, rule.whole_text, known)
                result |= dict(zip(chosen, scoring.probabilities(found, tree, rule), strict=True))
        return [result[index] for index in range(len(prompts))]

    def _rows(self, batch_size: int, longest: int, tree: Tree) -> int:
        """Prompts at once, so that a batch has no more tokens than one of prompts alone; a tree counts if it is in the row."""
        more = len(tree.tokens) if self._one_row else 0
        return max(1, batch_size * longest // max(1, longest + more))

    def _fitted(self, prompts: Sequence[Prompt], reserve: int, max_length: int | None) -> list[list[int]]:
        """Prompts as tokens, cut as they were in training."""
        whole = tokens.encode_with_bos(self._tokenizer, prompts)
        if max_length is not None:
            fitted = tokens.fit(self._tokenizer, prompts, max_length, reserve)
            self.cut += sum(len(short) < len(long) for short, long in zip(fitted, whole, strict=True))
            whole = fitted
        return whole

    def _try_layers(self, longest: int) -> None:
        """See whether layers may be run one by one over so many tokens."""
        if self._layerwise and longest > self._tried:
            self._layerwise, self._tried = layers.can_cut(self._model, longest), longest

    @property
    def _one_row(self) -> bool:
        """Whether prompt and tree are read in one row, with a mask of their own."""
        return self._layerwise or self._int8

    def _frozen(self, prompts: list[list[int]], tree: Tree) -> list[Any]:
        """What is run of each prompt: its tokens, and in one pass with them the tree's; or, where lower layers are
        shared, the states (time, width) that enter the first that is not."""
        import torch

        if not self._one_row:
            return [torch.tensor(prompt) for prompt in prompts]
        self._check_disk(sum(map(len, prompts)) + len(prompts) * len(tree.tokens))
        if self._shared is None:
            return [torch.tensor(prompt + tree.tokens) for prompt in prompts]
        return frozen_layers.activations(model=self._model, shared=self._shared, sequences=prompts, tree=tree)

    def _check_disk(self, more: int) -> None:
        """Stop keeping lower layers' output where it would take more disk than it may."""
        self._shared_tokens += more
        if self._shared and frozen_layers.gib(self._model, self._shared_tokens) > self._shared.most_gib:
            log.warning("the frozen layers' output would take more than %g GiB: it is computed", self._shared.most_gib)
            self._shared = None

    def _prefix(self, prompts: list[list[int]]) -> list[int]:
        """What all prompts begin with, where it is long enough; frozen layers are shared in another way."""
        if len(prompts) < 2 or self._shared or not self._one_row:
            return []
        found = tokens.common([prompt[:-1] for prompt in prompts])
        return found if len(found) >= PREFIX else []

    def _asked(self, batch: list[Any], tree: Tree, whole_text: bool, known: scoring.Known) -> list[Any]:
        """What the model says at the tree's nodes."""
        if self._int8 or known:
            return scoring.in_one_call(self._model, batch, tree, whole_text, known)
        if not self._layerwise:
            return scoring.by_forward(self._model, batch, tree, whole_text)
        cut = self._shared.cut if self._shared else 0
        return scoring.in_one_pass(self._model, batch, tree, whole_text, cut)

    def generate(
        self, prompts: Sequence[Prompt], settings: Decoding, batch_size: int, max_length: int | None = None
    ) -> list[Answer]:
        """See Generator."""
        fitted = [self._fitted_or_refused(prompt, settings, max_length) for prompt in prompts]
        asked = [found for found in fitted if not isinstance(found, Answer)]
        chats = any(isinstance(prompt, Chat) for prompt in prompts)
        ends = chat.end_of_turn(self._tokenizer) if chats else []
        written = iter(decoding.write(self._model, self._tokenizer, asked, settings, batch_size, ends))
        return [found if isinstance(found, Answer) else next(written) for found in fitted]

    def _fitted_or_refused(self, prompt: Prompt, settings: Decoding, max_length: int | None) -> list[int] | Answer:
        """A prompt as tokens; or the answer to a chat that cannot be cut so far, which costs itself alone."""
        (whole,) = tokens.encode_with_bos(self._tokenizer, [prompt])
        if max_length is None:
            return whole
        (fitted,) = tokens.fit_each(self._tokenizer, [prompt], max_length, settings.max_new_tokens)
        if isinstance(fitted, ContextError):
            return Answer("", 0, decoding.ERROR, 0.0, type(fitted).__name__)
        self.cut += len(fitted) < len(whole)
        return fitted

    def bits(self, start: Prompt | list[Prompt], texts: list[str], max_length: int | None = None) -> list[float]:
        """See Generator. Text and start are split into tokens apart, so that every model is asked for the same text."""
        import torch

        starts = start if isinstance(start, list) else [start] * len(texts)
        whole = tokens.encode_with_bos(self._tokenizer, starts)
        found = []
        with loading.running(self._model):
            for prompt, before, text in zip(starts, whole, tokens.encode(self._tokenizer, texts), strict=True):
                try:
                    if max_length is not None:
                        (before,) = tokens.fit(self._tokenizer, [prompt], max_length, len(text))
                    layers.check_context(self._model.config, len(before) + len(text))
                except ModelError:  # longer than the model looks at
                    if max_length is None:
                        raise
                    found.append(math.nan)
                    continue
                found.append(self._bits(torch.tensor(before + text), len(before)))
        return found

    def _bits(self, text: Any, start: int) -> float:
        """Of the tokens from `start` on, each foreseen from the position before it. One text at a time: with 260,000
        words in the vocabulary, a batch's logits would outweigh the model."""
        import torch
        from torch.nn.functional import cross_entropy

        counted = torch.zeros(1, len(text), dtype=torch.bool)
        counted[0, start - 1 : -1] = True
        logits = layers.logits_at(self._model, text.unsqueeze(0), counted)
        return float(cross_entropy(logits.cpu().double(), text[start:].cpu(), reduction="sum")) / math.log(2)
