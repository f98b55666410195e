"""A model in safetensors that answers prompts in this process: it scores labels, generates text, and measures how well a text is predicted."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any

from llmops_tasks.config.decoding import Decoding
from llmops_tasks.models import decoding, frozen_layers, layers, tokens
from llmops_tasks.models.decoding import Answer


class LocalModel:
    """A model in safetensors, in fp32, in this process."""

    def __init__(self, folder: Path, shared: frozen_layers.Shared | None = None) -> None:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        from llmops_tasks.models import onednn

        torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1)))
        self._tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        self._model = AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float32, use_safetensors=True, local_files_only=True
        ).eval()
        onednn.use(self._model)
        self.cut = 0
        self._shared, self._tried, self._layerwise = shared, 0, True

    def scores(
        self, prompts: list[str], answers: list[str], batch_size: int, max_length: int | None = None
    ) -> list[list[float]]:
        """See Generator. Prompts of like length share a batch; only last positions meet the vocabulary head."""
        import torch

        first = [ids[0] for ids in tokens.encode(self._tokenizer, answers)]
        asked = self._fitted(prompts, answers, max_length)
        self._try_layers(max(map(len, asked), default=0))
        hidden = self._frozen(asked)
        order = sorted(range(len(asked)), key=lambda index: len(asked[index]))
        result: dict[int, list[float]] = {}
        with torch.inference_mode():
            for at in range(0, len(order), batch_size):
                chosen = order[at : at + batch_size]
                logits = self._last_logits([hidden[index] for index in chosen])[:, first]
                rows = torch.softmax(logits.double(), dim=-1).tolist()
                result |= dict(zip(chosen, rows, strict=True))
        return [result[index] for index in range(len(prompts))]

    def _fitted(self, prompts: list[str], answers: list[str], max_length: int | None) -> list[list[int]]:
        """Prompts as tokens, cut as they were in training."""
        whole = tokens.encode_with_bos(self._tokenizer, prompts)
        if max_length is not None:
            fitted = tokens.fit(self._tokenizer, prompts, max_length, tokens.longest(self._tokenizer, answers))
            self.cut += sum(len(short) < len(long) for short, long in zip(fitted, whole, strict=True))
            whole = fitted
        layers.check_context(self._model.config, max(map(len, whole), default=0))
        return whole

    def _try_layers(self, longest: int) -> None:
        """See whether layers may be run one by one over so many tokens."""
        if self._layerwise and longest > self._tried:
            self._layerwise, self._tried = layers.can_cut(self._model, longest), longest

    def _frozen(self, sequences: list[list[int]]) -> list[Any]:
        """What enters the first layer that is not shared: states (time, width), or the tokens if none is."""
        import torch

        if self._shared is None or not self._layerwise:
            return [torch.tensor(sequence) for sequence in sequences]
        return frozen_layers.activations(model=self._model, shared=self._shared, sequences=sequences)

    def _last_logits(self, batch: list[Any]) -> Any:
        """Logits (batch, vocabulary) after each sequence's last token. Padding is on the right, where
        causal attention never looks, so no mask is needed."""
        import torch
        from torch.nn.utils.rnn import pad_sequence

        padded, last = pad_sequence(batch, batch_first=True), torch.tensor([len(sequence) - 1 for sequence in batch])
        counted = torch.arange(padded.shape[1]) == last.unsqueeze(1)
        if not self._layerwise:
            return layers.logits_at(self._model, padded, counted)
        decoder = self._model.model
        cut, states = (self._shared.cut, padded) if self._shared else (0, decoder.embed_tokens(padded))
        states = layers.run_layers_at(decoder, states, decoder.layers[cut:], counted)
        return self._model.lm_head(decoder.norm(states))

    def generate(
        self, prompts: list[str], settings: Decoding, batch_size: int, max_length: int | None = None
    ) -> list[Answer]:
        """See Generator."""
        asked = tokens.encode_with_bos(self._tokenizer, prompts)
        if max_length is not None:
            fitted = tokens.fit(self._tokenizer, prompts, max_length, settings.max_new_tokens)
            self.cut += sum(len(short) < len(long) for short, long in zip(fitted, asked, strict=True))
            asked = fitted
        return decoding.write(self._model, self._tokenizer, asked, settings, batch_size)

    def bits(self, start: str | list[str], texts: list[str], max_length: int | None = None) -> list[float]:
        """See Generator. Text and start are split into tokens apart, so that every model is asked for the same text."""
        import torch

        starts = tokens.encode_with_bos(self._tokenizer, [start] * len(texts) if isinstance(start, str) else start)
        found = []
        with torch.inference_mode():
            for before, text in zip(starts, tokens.encode(self._tokenizer, texts), strict=True):
                if max_length is not None:
                    before = tokens.truncate_left(before, max_length - len(text), tokens.bos(self._tokenizer))
                layers.check_context(self._model.config, len(before) + len(text))
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
        return float(cross_entropy(logits.double(), text[start:], reduction="sum")) / math.log(2)
