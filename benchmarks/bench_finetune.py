"""Fine-tuning beside two trainers: how soon as good, and how many useful tokens a second.

Same base model (SmolLM2-135M-Instruct) in fp32, same records in batches of 8, loss on the answer only, held-out loss by
the same function. Two questions, each to `transformers.Trainer` and TRL's `SFTTrainer`:

- `hf_trainer`, `trl`: seconds until our held-out loss is what theirs is at the end, they with LoRA on all linear
  layers and their own defaults (three epochs, their learning rate and schedule).
- `hf_trainer_same_layers`, `trl_same_layers`: useful (not padded) tokens a second over three epochs, they with LoRA
  on the same top layers as ours.

Ours counts everything: the frozen layers' pass over the data, too. `sgemm_share` is how much of a plain matrix product's
speed our steps reach, numpy's; `onednn_share` the same of oneDNN's, which is what multiplies in them.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import pandas as pd

from benchmarks.harness import calibrate, paired, report
from llmops_tasks import chain, config
from llmops_tasks.models import frozen_layers
from llmops_tasks.models.loading import load_model
from llmops_tasks.store import artifacts, files
from llmops_tasks.training.base_model import fetch_base_model
from llmops_tasks.training.examples import Example, batch_plan, encode
from llmops_tasks.training.loop import mean_loss, step
from llmops_tasks.training.trainable import State, prepare

TRAIN, HELD_OUT, BATCH, EPOCHS, N = 96, 60, 8, 3, 3
MAX_EPOCHS = 12  # ours gives up after so many, and the ratio says so


class World:
    """The data and the folder of the base model."""

    def __init__(self) -> None:
        from llmops_tasks.data import synthetic

        synthetic.write_triage(out=f"file://{files.home()}/demo")
        done = chain.chain(usecase="triage", until="version")
        self.case = config.load("triage")
        frame = pd.read_parquet(artifacts.fetch(done["version"]) / "data.parquet")
        rows = {
            name: frame[frame["split"] == name][["text", "completion"]].to_dict("records") for name in ("train", "test")
        }
        self.train, self.held_out = rows["train"][:TRAIN], rows["test"][:HELD_OUT]
        self.base = fetch_base_model(usecase="triage")
        self.folder = artifacts.fetch(self.base)
        self.targets: dict[int, float] = {}  # repetition -> the peer's held-out loss
        self.shares: list[dict[str, float]] = []  # of a repetition
        model, tokenizer = load_model(self.folder)
        self.layers = model.config.num_hidden_layers
        self.tokens = sum(len(example.tokens) for example in self.encoded(tokenizer)[0])

    def encoded(self, tokenizer: Any) -> tuple[list[Example], list[Example]]:
        """Both splits as tokens."""
        return encode(self.case, tokenizer, self.train), encode(self.case, tokenizer, self.held_out)

    def loss(self, model: Any, held_out: list[Example]) -> float:
        """Held-out loss of a trained peer, by the same function as ours."""
        return mean_loss(State(model, {}, None, 0), self.case.finetune, held_out, None)


class Ours:
    """Our run: the frozen layers once, then epochs on what it gave."""

    def __init__(self, world: World, repetition: int) -> None:
        import torch

        model, tokenizer = load_model(world.folder)
        self.train, self.held_out = world.encoded(tokenizer)
        self.settings = world.case.finetune.model_copy(update={"seed": repetition, "batch_size": BATCH})
        torch.manual_seed(repetition)
        self.state, self.number, self.spent = prepare(model, self.settings, self.settings.max_length), 0, 0.0
        started = time.perf_counter()
        self.hidden = self._frozen(self.train)
        self.spent += time.perf_counter() - started
        self.seen = self._frozen(self.held_out)

    def _frozen(self, examples: list[Example]) -> Any:
        """At an address of its own, so that no repetition profits from another's."""
        shared = frozen_layers.Shared(f"bench-{time.time_ns()}", self.state.cut)
        sequences = [example.tokens for example in examples]
        return frozen_layers.activations(model=self.state.base, shared=shared, sequences=sequences)

    def epoch(self, number: int, epochs: int) -> None:
        """All records once, on a schedule over so many epochs."""
        started = time.perf_counter()
        plan = batch_plan([len(example.tokens) for example in self.train], BATCH, self.settings.seed, number)
        for batch in plan:
            examples, hidden = [self.train[i] for i in batch], [self.hidden[i] for i in batch]
            step(self.state, self.settings, self.number, epochs * len(plan), examples, hidden)
            self.number += 1
        self.spent += time.perf_counter() - started

    def loss(self) -> float:
        """Held out."""
        return mean_loss(self.state, self.settings, self.held_out, self.seen)


def as_good(world: World, repetition: int) -> float:
    """Seconds until our held-out loss is no higher than the peer's; looking at the loss is not counted."""
    run = Ours(world, repetition)
    for number in range(MAX_EPOCHS):
        run.epoch(number, MAX_EPOCHS)
        if run.loss() <= world.targets[repetition]:
            return run.spent
    return float("inf")


def seconds_a_thousand(world: World, repetition: int) -> float:
    """Seconds per 1,000 useful tokens over all epochs."""
    run = Ours(world, repetition)
    for number in range(EPOCHS):
        run.epoch(number, EPOCHS)
    spent = run.spent
    world.shares.append(_shares(run))
    return spent / (EPOCHS * world.tokens / 1000)


def _shares(run: Ours) -> dict[str, float]:
    """Floating-point operations of a training step, forward and backward, per second, of what matrix products get.

    Two operations a weight and token forward and two backward (weights are frozen, so only states get a gradient); LoRA
    matrices take the same again for their own gradients. Attention, norms, the vocabulary and the last
    layer, which is computed at the answers alone, are not counted.
    """
    frozen = sum(
        value.numel()
        for layer in run.state.base.model.layers[run.state.cut : -1]
        for name, value in layer.named_parameters()
        if "lora" not in name and value.ndim == 2
    )
    own = sum(value.numel() for value in run.state.trained.values())
    tokens = sum(len(example.tokens) for example in run.train)
    before = run.spent
    run.epoch(EPOCHS, EPOCHS + 1)
    onednns, numpys = _onednn_gflops(), calibrate()  # in this order: numpy's threads spin on for a while
    ours = (4 * frozen + 6 * own) * tokens / (run.spent - before) / 1e9
    return {"sgemm_share": ours / numpys, "onednn_share": ours / onednns}


def _onednn_gflops(size: int = 768, count: int = 50) -> float:
    """Of the product that `harness.calibrate` asks numpy for."""
    import torch

    from llmops_tasks.models import onednn

    left, right = torch.randn(size, size), torch.randn(size, size)
    onednn.product(left, right)  # warm up
    started = time.perf_counter()
    for _ in range(count):
        onednn.product(left, right)
    return count * 2 * size**3 / (time.perf_counter() - started) / 1e9


def _lora(layers: list[int] | None) -> Any:
    from peft import LoraConfig

    where: Any = "all-linear" if layers is None else config.load("triage").finetune.target_modules  # the same, by name
    return LoraConfig(r=16, lora_alpha=32, target_modules=where, layers_to_transform=layers, task_type="CAUSAL_LM")


def _plain(world: World) -> tuple[Any, Any]:
    """The base model and its tokenizer as transformers load them."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(world.folder)
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    return AutoModelForCausalLM.from_pretrained(world.folder, dtype=torch.float32), tokenizer


def hf_trainer(world: World, repetition: int, layers: list[int] | None = None) -> float:
    """Seconds of transformers.Trainer."""
    from peft import get_peft_model
    from transformers import DataCollatorForSeq2Seq, Trainer, TrainingArguments

    model, tokenizer = _plain(world)
    model = get_peft_model(model, _lora(layers))
    # Trainer shifts labels itself: give it whole sequences.
    data = [_whole(row, tokenizer, world) for row in world.train]
    with tempfile.TemporaryDirectory() as folder:
        settings = TrainingArguments(**_settings(folder, repetition))
        collate = DataCollatorForSeq2Seq(tokenizer, label_pad_token_id=-100)
        trainer = Trainer(model=model, args=settings, train_dataset=data, data_collator=collate)
        return _timed(world, repetition, trainer, tokenizer)


def _whole(row: dict[str, Any], tokenizer: Any, world: World) -> dict[str, list[int]]:
    from llmops_tasks.prompts.interface import of_usecase

    prompt = tokenizer(of_usecase(world.case).render_prompt(row["text"]), add_special_tokens=False)["input_ids"]
    answer = tokenizer(row["completion"], add_special_tokens=False)["input_ids"]
    return {
        "input_ids": prompt + answer,
        "attention_mask": [1] * len(prompt + answer),
        "labels": [-100] * len(prompt) + answer,
    }


def trl(world: World, repetition: int, layers: list[int] | None = None) -> float:
    """Seconds of TRL's SFTTrainer."""
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    from llmops_tasks.prompts.interface import of_usecase

    model, tokenizer = _plain(world)
    rows = [
        {"prompt": of_usecase(world.case).render_prompt(row["text"]), "completion": row["completion"]}
        for row in world.train
    ]
    with tempfile.TemporaryDirectory() as folder:
        trainer = SFTTrainer(
            model=model,
            args=SFTConfig(**_settings(folder, repetition)),
            train_dataset=Dataset.from_list(rows),
            processing_class=tokenizer,
            peft_config=_lora(layers),
        )
        return _timed(world, repetition, trainer, tokenizer)


def _timed(world: World, repetition: int, trainer: Any, tokenizer: Any) -> float:
    started = time.perf_counter()
    trainer.train()
    spent = time.perf_counter() - started
    _, held_out = world.encoded(tokenizer)
    world.targets[repetition] = world.loss(trainer.model, held_out)
    return spent


def _settings(folder: str, seed: int) -> dict[str, Any]:
    """What is not left at its default: where it runs, in which precision, and that it keeps quiet."""
    return {
        "output_dir": str(Path(folder)),
        "num_train_epochs": EPOCHS,
        "per_device_train_batch_size": BATCH,
        "seed": seed,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "use_cpu": True,
        "bf16": False,
    }


def main() -> None:
    """Both peers, both questions; the peer's leg sets the target, so it goes first in every pair."""
    world = World()
    layers = world.case.finetune.top_layers
    top = list(range(world.layers - layers, world.layers))
    peers: list[tuple[str, Callable[..., float], float, float]] = [
        ("trl", trl, 3.0, 1.3),
        ("hf_trainer", hf_trainer, 4.0, 2.0),
    ]
    thousands = EPOCHS * world.tokens / 1000
    for name, leg, sooner, faster in peers:
        figures = paired(lambda r: as_good(world, r), lambda r, leg=leg: leg(world, r), N, peer_first=True)  # type: ignore[misc]
        figures["held_out_loss"] = [round(loss, 4) for loss in world.targets.values()]
        report("finetune", name, "s to equal held-out loss", sooner, figures)
        same = paired(lambda r: seconds_a_thousand(world, r), lambda r, leg=leg: leg(world, r, top) / thousands, N)  # type: ignore[misc]
        same["tokens_per_second"] = [round(1000 / same["ours"]), round(1000 / same["theirs"])]
        for share in ("sgemm_share", "onednn_share"):
            same[share] = round(median(found[share] for found in world.shares), 2)
        report("finetune", f"{name}_same_layers", "s per 1,000 useful tokens", faster, same)
