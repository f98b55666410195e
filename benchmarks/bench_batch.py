"""Batch inference beside that of transformers: seconds for the same prompts, in fp32 and in a faster number format.

SmolLM2-135M-Instruct, briefly trained on synthetic triage notes, so that its labels mean something; batches of 16.
Every peer computes in fp32 and alternates with ours in fp32 and in int8 or bf16, whichever is faster here in a trial;
the latter is the line `<peer>_fast`. Peers:

- `pipeline`: the text-generation pipeline, one new token, constrained to the labels.
- `decision`: the decision pipeline with the same rendered prompt; it takes one prompt at a time.
- `generate_batch`: continuous batching, one new token, not constrained.
- `pipeline_prefix`: `pipeline`, with 200 tokens that all prompts begin with.
- `pipeline_generation`: the text-generation pipeline, 60 new tokens.

`equal` is the share of prompts with the peer's label or text. `onednn_share` is our speed in fp32 as a share of the speed
of oneDNN's matrix products: two operations for each weight and token; attention, vocabulary head and the last layer are
not counted. `fp32_over_fast` is our time in fp32 over our time in the faster format.
"""

from __future__ import annotations

import platform
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import pandas as pd
import yaml

from benchmarks.bench_finetune import _onednn_gflops
from benchmarks.harness import paired, report, short
from llmops_tasks import chain
from llmops_tasks.config.decoding import Decoding
from llmops_tasks.data import synthetic
from llmops_tasks.models import tokens
from llmops_tasks.models.decoding import Answer
from llmops_tasks.models.local import LocalModel
from llmops_tasks.prompts import interface
from llmops_tasks.store import artifacts, files

NOTES, PROMPTS, LONG, WRITTEN, BATCH, N = 400, 64, 32, 16, 16, 3
NEW, PREFIX = 60, 200  # tokens
GREEDY = {"return_tensors": True, "do_sample": False}
GOALS = {
    "pipeline": (1.5, 3.5),
    "decision": (3.5, 7.0),
    "generate_batch": (1.5, 3.5),
    "pipeline_prefix": (6.0, 12.0),
    "pipeline_generation": (1.4, 4.0),
}  # in fp32, and in the faster format
GUIDE = "Levels follow the hospital's guideline for triage nurses, which weighs vital signs, pain and history. "


class World:
    """A packaged release, its prompts, the peer's model and ours in each format."""

    def __init__(self) -> None:
        from transformers import AutoModelForCausalLM, AutoTokenizer

        release = _release()
        self.folder, asked = artifacts.fetch(release), interface.of_release(release)
        self.tokenizer = AutoTokenizer.from_pretrained(self.folder)
        self.tokenizer.padding_side = "left"
        self.theirs = AutoModelForCausalLM.from_pretrained(self.folder, dtype="float32")
        self.first = [ids[0] for ids in tokens.closed_set(self.tokenizer, asked.answers)]
        self.labels = [self.tokenizer.decode([token]) for token in self.first]  # one token each, as `decision` wants
        notes = pd.read_csv(files.home() / "demo" / "landing" / "history.csv").to_dict("records")
        self.prompts = [asked.render_prompt(text) for text in asked.render_texts(notes)[0] if text][:PROMPTS]
        guide = self.tokenizer.decode(self.tokenizer(GUIDE * 20)["input_ids"][:PREFIX])
        self.long = [guide + prompt for prompt in self.prompts[:LONG]]
        self.ours = LocalModel(self.folder)
        self.name, self.fast = self._fast()

    def _fast(self) -> tuple[str, LocalModel]:
        """The faster of int8 and, where the processor computes in it, bf16."""
        import torch

        formats = ["int8", *["bf16"] * torch.ops.mkldnn._is_mkldnn_bf16_supported()]
        models = {name: LocalModel(self.folder, number_format=name) for name in formats}
        trials = {name: Timed(partial(self.scores, model, self.prompts)) for name, model in models.items()}
        name = min(trials, key=lambda name: min(trials[name]() for _ in range(3)))
        return name, models[name]

    def scores(self, model: LocalModel, prompts: list[str]) -> list[int]:
        """Number of the label of each prompt, by ours."""
        rows = model.scores(prompts, self.labels, BATCH)
        return [row.index(max(row)) for row in rows]

    def pipeline(self, prompts: list[str]) -> list[int]:
        """The same by the text-generation pipeline."""
        found = self._pipeline()(prompts, max_new_tokens=1, prefix_allowed_tokens_fn=lambda *_: self.first, **GREEDY)
        return [self.first.index(row[0]["generated_token_ids"][-1]) for row in found]

    def generation(self, prompts: list[str]) -> list[str]:
        """Texts of the text-generation pipeline."""
        found = self._pipeline()(prompts, max_new_tokens=NEW, return_full_text=False, do_sample=False)
        return [row[0]["generated_text"].strip() for row in found]

    def _pipeline(self) -> Any:
        from transformers import pipeline

        self.tokenizer.pad_token = self.tokenizer.pad_token or self.tokenizer.eos_token
        return pipeline("text-generation", model=self.theirs, tokenizer=self.tokenizer, batch_size=BATCH)

    def decision(self, prompts: list[str]) -> list[int]:
        """By the decision pipeline, which is also the oracle."""
        from transformers import DecisionConfig, pipeline

        options = {str(number): str(number) for number in range(len(self.labels))}
        settings = DecisionConfig(labels={"choice": self.labels}, chat_template="{{ state }}")
        ask = pipeline("decision", model=self.theirs, tokenizer=self.tokenizer, decision_config=settings)
        question = {"level": {"type": "choice", "instructions": "", "criteria": options}}
        return [int(ask({"state": prompt, "questions": question})["level"]["choice"]) for prompt in prompts]

    def generate_batch(self, prompts: list[str]) -> list[int]:
        """By continuous batching; -1 for a token that is no label."""
        from transformers import GenerationConfig

        ids = tokens.encode_with_bos(self.tokenizer, prompts)
        settings = GenerationConfig(max_new_tokens=1, do_sample=False, eos_token_id=-1, pad_token_id=0)
        found = self.theirs.generate_batch(ids, generation_config=settings, progress_bar=False)
        written = [found[key].generated_tokens[0] for key in sorted(found, key=lambda key: int(key.rsplit("_", 1)[1]))]
        return [self.first.index(token) if token in self.first else -1 for token in written]

    def texts(self, model: LocalModel, prompts: list[str]) -> list[str]:
        """What ours writes."""
        return [answer.text.strip() for answer in self.answers(model, prompts)]

    def answers(self, model: LocalModel, prompts: list[str]) -> list[Answer]:
        """The same, with the numbers of tokens."""
        return model.generate(prompts, Decoding(max_new_tokens=NEW), BATCH)

    def flops(self, count: int) -> float:
        """Of so many tokens through all layers but the last."""
        layers = self.theirs.model.layers[:-1]
        return 2.0 * count * sum(part.numel() for layer in layers for part in layer.parameters() if part.ndim == 2)

    def count(self, prompts: list[str], prefix: int = 0) -> int:
        """Tokens that ours computes of these prompts, of which it reads so many once."""
        return sum(len(ids) - prefix for ids in tokens.encode_with_bos(self.tokenizer, prompts)) + prefix


def _release() -> Any:
    """Train for a moment, and package with int8 files."""
    synthetic.write_triage(out=f"file://{files.home()}/demo", notes=NOTES, day_notes=10, reviewed_notes=10)
    raw = yaml.safe_load(Path("include/usecases/triage.yaml").read_text(encoding="utf-8"))
    raw["data"]["source"]["uri"] = f"file://{files.home()}/demo/landing/*.csv"
    raw["finetune"] |= {"epochs": 1}
    raw["inference"] = {"precision": "int8"}
    path = files.home() / "triage8.yaml"
    path.write_text(yaml.safe_dump(raw, sort_keys=False), encoding="utf-8")
    return chain.chain(usecase=str(path), until="package")["package"]


class Timed:
    """Work that notes its seconds, and what it gave last."""

    def __init__(self, work: Callable[[], list[Any]]) -> None:
        self.work, self.seconds, self.given = work, list[float](), list[Any]()

    def __call__(self, *_: int) -> float:
        started = time.perf_counter()
        self.given = self.work()
        self.seconds.append(time.perf_counter() - started)
        return self.seconds[-1]

    def equal(self, other: Timed) -> float:
        """The share of answers that are the other's."""
        same = [mine == its for mine, its in zip(self.given, other.given, strict=True)]
        return round(sum(same) / len(same), 4)


def compare(
    world: World, peer: str, theirs: Callable[[], list[Any]], ours: Callable[[LocalModel], list[Any]], count: int
) -> None:
    """Two lines of one alternation: the peer beside ours in fp32, and beside ours in the faster format.

    Args:
        world: with our models.
        peer: its name.
        theirs: the peer's answers.
        ours: our answers, by a model.
        count: tokens that ours computes.
    """
    other, slow, fast = Timed(theirs), Timed(partial(ours, world.ours)), Timed(partial(ours, world.fast))
    for leg in (other, slow, fast):
        leg.work()  # warm up
    both = paired(lambda _: (slow(), fast())[0], other, N)
    share = world.flops(count) / both["ours"] / 1e9 / _onednn_gflops()
    unit, about = f"s for {len(other.given)} prompts", {"processor": _processor()}
    equal = {"equal": slow.equal(other), "onednn_share": round(share, 2)}
    report("batch", peer, unit, GOALS[peer][0], both | equal | about)
    equal = {"format": world.name, "equal": fast.equal(other), "fp32_over_fast": _ratio(slow, fast)}
    report("batch", f"{peer}_fast", unit, GOALS[peer][1], both | _figures(other, fast) | equal | about)


def _ratio(slow: Timed, fast: Timed) -> float:
    return round(median(one / two for one, two in zip(slow.seconds, fast.seconds, strict=True)), 2)


def _figures(other: Timed, fast: Timed) -> dict[str, Any]:
    """As `paired` gives them."""
    pairs = [[short(mine), short(its)] for mine, its in zip(fast.seconds, other.seconds, strict=True)]
    return {"ratio": _ratio(other, fast), "ours": short(median(fast.seconds)), "pairs": pairs}


def _processor() -> str:
    path = Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())


def main() -> None:
    """All peers."""
    world = World()
    prompts, long, texts = world.prompts, world.long, world.prompts[:WRITTEN]
    for peer in ("pipeline", "decision", "generate_batch"):
        theirs = partial(getattr(world, peer), prompts)
        compare(world, peer, theirs, lambda model: world.scores(model, prompts), world.count(prompts))
    compare(
        world,
        "pipeline_prefix",
        lambda: world.pipeline(long),
        lambda model: world.scores(model, long),
        world.count(long, PREFIX),
    )
    written = sum(answer.tokens for answer in world.answers(world.ours, texts))
    compare(
        world,
        "pipeline_generation",
        lambda: world.generation(texts),
        lambda model: world.texts(model, texts),
        world.count(texts) + written,
    )
