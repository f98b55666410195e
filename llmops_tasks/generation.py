"""One protocol for whatever answers prompts: a local transformers model, or a double for tests.

`scores` weighs a closed set of answers by one forward pass; `generate` writes freely; `bits` tells how well a
text was foreseen.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Callable
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from llmops_tasks import tokens, trunk
from llmops_tasks.errors import InputError, did_you_mean


class Generator(Protocol):
    """Answers prompts."""

    def scores(self, prompts: list[str], answers: list[str], batch_size: int) -> list[list[float]]:
        """The probability of each answer's first token among the answers: (prompts, answers), rows sum to 1."""

    def generate(self, prompts: list[str], max_new_tokens: int, batch_size: int) -> list[str]:
        """Greedy continuations."""

    def bits(self, start: str, texts: list[str], batch_size: int) -> list[float]:
        """How unexpected each text is after `start`: -log2 of its probability."""


CODE = (__file__, tokens.__file__, *trunk.CODE)  # the modules that an answer follows from
MEMBERS = "members"  # the folder of an ensemble's models
# Names of the kinds, and where they are; loaded on first use.
KINDS = {"transformers": "llmops_tasks.generation:LocalModel", "stub": "llmops_tasks.generation:Stub"}


def open_generator(kind: str, folder: Path, shared: trunk.Shared | None = None) -> Generator:
    """Open the generator of this kind over a verified model folder.

    Args:
        kind: one of `KINDS`.
        folder: of the model.
        shared: keep what its lower layers make of the prompts to be scored, for it and all models with the same
            lower layers; what is kept already is not computed again.
    """
    if kind not in KINDS:
        raise InputError(f"No generator '{kind}'.{did_you_mean(kind, KINDS)} Known: {sorted(KINDS)}.")
    module, _, name = KINDS[kind].partition(":")
    factory: Callable[[Path, trunk.Shared | None], Generator] = getattr(import_module(module), name)
    if members := sorted((folder / MEMBERS).glob("*")):
        return Ensemble([partial(factory, member, shared) for member in members])
    return factory(folder, shared)


class LocalModel:
    """A model in safetensors, in fp32, in this process."""

    def __init__(self, folder: Path, shared: trunk.Shared | None = None) -> None:
        import torch
        from transformers import AutoModelForCausalLM, AutoTokenizer

        from llmops_tasks import onednn

        torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", os.cpu_count() or 1)))
        self._tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        self._model = AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float32, use_safetensors=True, local_files_only=True
        ).eval()
        onednn.use(self._model)
        self._shared = shared if trunk.can_cut(self._model) else None

    def check_training(self) -> None:
        """Raise ModelError, with the reason, if fine-tuning cannot run its layers one by one."""
        trunk.check_architecture(self._model)

    def scores(self, prompts: list[str], answers: list[str], batch_size: int) -> list[list[float]]:
        """See Generator. Prompts of like length share a batch; only last positions meet the vocabulary head."""
        import torch

        first = [ids[0] for ids in tokens.plain(self._tokenizer, answers)]
        asked = tokens.opened(self._tokenizer, prompts)
        hidden = self._trunk(asked)
        order = sorted(range(len(asked)), key=lambda index: len(asked[index]))
        result: dict[int, list[float]] = {}
        with torch.inference_mode():
            for at in range(0, len(order), batch_size):
                chosen = order[at : at + batch_size]
                logits = self._last_logits([hidden[index] for index in chosen])[:, first]
                rows = torch.softmax(logits.double(), dim=-1).tolist()
                result |= dict(zip(chosen, rows, strict=True))
        return [result[index] for index in range(len(prompts))]

    def _trunk(self, sequences: list[list[int]]) -> list[Any]:
        """What enters the first layer that is not shared: states (time, width), or the tokens if none is."""
        import torch

        if self._shared is None:
            return [torch.tensor(sequence) for sequence in sequences]
        return trunk.activations(model=self._model, shared=self._shared, sequences=sequences)

    def _last_logits(self, batch: list[Any]) -> Any:
        """Logits (batch, vocabulary) after each sequence's last token. Padding is on the right, where
        causal attention never looks, so no mask is needed."""
        import torch
        from torch.nn.utils.rnn import pad_sequence

        padded, last = pad_sequence(batch, batch_first=True), torch.tensor([len(sequence) - 1 for sequence in batch])
        if self._shared is None:
            hidden = self._model.model(input_ids=padded, use_cache=False).last_hidden_state
            return self._model.lm_head(hidden[torch.arange(len(batch)), last])
        decoder = self._model.model
        counted = torch.arange(padded.shape[1]) == last.unsqueeze(1)
        states = trunk.run_layers_at(decoder, padded, decoder.layers[self._shared.cut :], counted)
        return self._model.lm_head(decoder.norm(states))

    def generate(self, prompts: list[str], max_new_tokens: int, batch_size: int) -> list[str]:
        """See Generator."""
        import torch

        self._tokenizer.padding_side = "left"
        if self._tokenizer.pad_token is None:
            self._tokenizer.pad_token = self._tokenizer.eos_token
        answers: list[str] = []
        with torch.inference_mode():
            for at in range(0, len(prompts), batch_size):
                asked = tokens.opened(self._tokenizer, prompts[at : at + batch_size])
                inputs = self._tokenizer.pad({"input_ids": asked}, return_tensors="pt")
                output = self._model.generate(**inputs, max_new_tokens=max_new_tokens, do_sample=False)
                answers += self._tokenizer.batch_decode(
                    output[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True
                )
        return answers

    def bits(self, start: str, texts: list[str], batch_size: int) -> list[float]:
        """See Generator. Text and start are split into tokens apart, so that every model is asked for the same text."""
        import torch
        from torch.nn.utils.rnn import pad_sequence

        (before,) = tokens.opened(self._tokenizer, [start])
        whole = [torch.tensor(before + ids) for ids in tokens.plain(self._tokenizer, texts)]
        order = sorted(range(len(whole)), key=lambda index: len(whole[index]))
        result: dict[int, float] = {}
        with torch.inference_mode():
            for at in range(0, len(order), batch_size):
                chosen = order[at : at + batch_size]
                padded = pad_sequence([whole[index] for index in chosen], batch_first=True)
                hidden = self._model.model(input_ids=padded, use_cache=False).last_hidden_state
                for row, index in enumerate(chosen):
                    result[index] = self._bits(hidden[row], whole[index], len(before))
        return [result[index] for index in range(len(texts))]

    def _bits(self, hidden: Any, text: Any, start: int) -> float:
        """Of the tokens from `start` on, each foreseen from the position before it. One text at a time meets the
        vocabulary head: with 260,000 words, a batch's logits would outweigh the model."""
        from torch.nn.functional import cross_entropy

        logits = self._model.lm_head(hidden[start - 1 : len(text) - 1])
        return float(cross_entropy(logits.double(), text[start:], reduction="sum")) / math.log(2)


class Ensemble:
    """Several models asked one after the other, so that only one is in memory; their scores are averaged.

    Source: Lakshminarayanan et al. 2017, "Simple and Scalable Predictive Uncertainty Estimation using Deep Ensembles".
    """

    def __init__(self, members: list[Callable[[], Generator]]) -> None:
        self._members = members

    def scores(self, prompts: list[str], answers: list[str], batch_size: int) -> list[list[float]]:
        """See Generator."""
        found = [member().scores(prompts, answers, batch_size) for member in self._members]
        return [[sum(scores) / len(found) for scores in zip(*rows, strict=True)] for rows in zip(*found, strict=True)]

    def bits(self, start: str, texts: list[str], batch_size: int) -> list[float]:
        """See Generator; of the averaged probability."""
        found = [member().bits(start, texts, batch_size) for member in self._members]
        return [
            min(row) - math.log2(sum(2 ** (min(row) - bits) for bits in row) / len(row))
            for row in zip(*found, strict=True)
        ]

    def generate(self, prompts: list[str], max_new_tokens: int, batch_size: int) -> list[str]:
        """Texts have no average."""
        raise InputError("An ensemble weighs labels; it cannot write. Set finetune.members to 1 to generate.")


class Stub:
    """A double for tests: answers follow from the prompt's digest, no model is read."""

    def __init__(self, folder: Path, shared: trunk.Shared | None = None) -> None:
        self.folder = folder

    def scores(self, prompts: list[str], answers: list[str], batch_size: int) -> list[list[float]]:
        """See Generator."""
        result = []
        for prompt in prompts:
            weights = [1 + hashlib.sha256(f"{prompt}|{answer}".encode()).digest()[0] for answer in answers]
            result.append([weight / sum(weights) for weight in weights])
        return result

    def generate(self, prompts: list[str], max_new_tokens: int, batch_size: int) -> list[str]:
        """See Generator."""
        return [hashlib.sha256(prompt.encode()).hexdigest()[:max_new_tokens] for prompt in prompts]

    def bits(self, start: str, texts: list[str], batch_size: int) -> list[float]:
        """See Generator."""
        return [8.0 * len(text.encode()) for text in texts]
