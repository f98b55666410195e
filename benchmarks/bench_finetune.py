"""Seconds of training to reach the held-out loss at which a peer's trainer ends, with its defaults.

Same base model (SmolLM2-135M-Instruct), same records, same held-out records, loss on the answer only.
Peers: `hf_trainer` (transformers.Trainer, LoRA on all linear layers, loss on the answer) and `trl` (SFTTrainer,
prompt/completion data, LoRA on all linear layers). Both with batches of 8, one epoch and the use case's learning
rate, their other settings untouched. Ours counts everything: the trunk's pass over the data, too.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.harness import paired, report
from llmops_tasks import artifacts, chain, config, storage, trunk
from llmops_tasks.training.base_model import base_model
from llmops_tasks.training.examples import Example, batch_plan, encode
from llmops_tasks.training.loop import mean_loss, step
from llmops_tasks.training.methods import State, load_base, prepare

TRAIN, HELD_OUT, BATCH, N = 120, 60, 8, 3
MAX_EPOCHS = 12  # ours gives up after so many, and the ratio says so


class World:
    """The data and the folder of the base model."""

    def __init__(self) -> None:
        from llmops_tasks.data import synthetic

        synthetic.write(out=f"file://{storage.home()}/demo")
        done = chain.chain(usecase="triage", until="version")
        self.case = config.load("triage")
        frame = pd.read_parquet(artifacts.fetch(done["version"]) / "data.parquet")
        rows = {
            name: frame[frame["split"] == name][["text", "completion"]].to_dict("records") for name in ("train", "test")
        }
        self.train, self.held_out = rows["train"][:TRAIN], rows["test"][:HELD_OUT]
        self.base = base_model(usecase="triage")
        self.folder = artifacts.fetch(self.base)
        self.targets: dict[int, float] = {}  # repetition -> the peer's held-out loss

    def encoded(self, tokenizer: Any) -> tuple[list[Example], list[Example]]:
        """Both splits as tokens."""
        return encode(self.case, tokenizer, self.train), encode(self.case, tokenizer, self.held_out)

    def loss(self, model: Any, held_out: list[Example]) -> float:
        """Held-out loss of a trained peer, by the same function as ours."""
        return mean_loss(State(model, {}, None, 0), self.case.finetune, held_out, None)


def ours(world: World, repetition: int) -> float:
    """Seconds until our held-out loss is no higher than the peer's; looking at the loss is not counted."""
    import torch

    model, tokenizer = load_base(world.folder)
    train, held_out = world.encoded(tokenizer)
    settings = world.case.finetune.model_copy(update={"seed": repetition, "batch_size": BATCH})
    torch.manual_seed(repetition)
    state = prepare(model, settings)
    run = f"bench-{time.time_ns()}"  # an address of its own, so that no repetition profits from another's trunk
    started = time.perf_counter()
    options = {"model": state.model.get_base_model(), "shared": trunk.Shared(run, state.cut), "batch_size": BATCH}
    hidden = trunk.activations(sequences=[example.tokens for example in train], **options)
    spent = time.perf_counter() - started
    seen = trunk.activations(sequences=[example.tokens for example in held_out], **options)
    total, number = MAX_EPOCHS * len(batch_plan([0] * len(train), BATCH, 0, 0)), 0
    for epoch in range(MAX_EPOCHS):
        started = time.perf_counter()
        for batch in batch_plan([len(e.tokens) for e in train], BATCH, repetition, epoch):
            step(state, settings, number, total, [train[i] for i in batch], [hidden[i] for i in batch])
            number += 1
        spent += time.perf_counter() - started
        if mean_loss(state, settings, held_out, seen) <= world.targets[repetition]:
            return spent
    return float("inf")


def hf_trainer(world: World, repetition: int) -> float:
    """Seconds of one epoch of transformers.Trainer."""
    from peft import LoraConfig, get_peft_model
    from transformers import DataCollatorForSeq2Seq, Trainer, TrainingArguments

    model, tokenizer = load_base(world.folder)
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    _, held_out = world.encoded(tokenizer)
    model = get_peft_model(model, LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM"))
    # Trainer shifts labels itself: give it whole sequences.
    data = [_whole(row, tokenizer, world) for row in world.train]
    with tempfile.TemporaryDirectory() as folder:
        settings = TrainingArguments(**_settings(world, folder, repetition))
        collate = DataCollatorForSeq2Seq(tokenizer, label_pad_token_id=-100)
        trainer = Trainer(model=model, args=settings, train_dataset=data, data_collator=collate)
        started = time.perf_counter()
        trainer.train()
        spent = time.perf_counter() - started
    world.targets[repetition] = world.loss(model, held_out)
    return spent


def _whole(row: dict[str, Any], tokenizer: Any, world: World) -> dict[str, list[int]]:
    from llmops_tasks.prompts.templates import render_prompt

    prompt = tokenizer(render_prompt(world.case, row["text"]), add_special_tokens=False)["input_ids"]
    answer = tokenizer(row["completion"], add_special_tokens=False)["input_ids"]
    return {
        "input_ids": prompt + answer,
        "attention_mask": [1] * len(prompt + answer),
        "labels": [-100] * len(prompt) + answer,
    }


def trl(world: World, repetition: int) -> float:
    """Seconds of one epoch of TRL's SFTTrainer."""
    from datasets import Dataset
    from peft import LoraConfig
    from trl import SFTConfig, SFTTrainer

    from llmops_tasks.prompts.templates import render_prompt

    model, tokenizer = load_base(world.folder)
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    _, held_out = world.encoded(tokenizer)
    rows = [{"prompt": render_prompt(world.case, row["text"]), "completion": row["completion"]} for row in world.train]
    with tempfile.TemporaryDirectory() as folder:
        trainer = SFTTrainer(
            model=model,
            args=SFTConfig(**_settings(world, folder, repetition)),
            train_dataset=Dataset.from_list(rows),
            processing_class=tokenizer,
            peft_config=LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM"),
        )
        started = time.perf_counter()
        trainer.train()
        spent = time.perf_counter() - started
    world.targets[repetition] = world.loss(trainer.model, held_out)
    return spent


def _settings(world: World, folder: str, seed: int) -> dict[str, Any]:
    return {
        "output_dir": str(Path(folder)),
        "num_train_epochs": 1,
        "per_device_train_batch_size": BATCH,
        "learning_rate": world.case.finetune.learning_rate,
        "seed": seed,
        "save_strategy": "no",
        "report_to": "none",
        "disable_tqdm": True,
        "use_cpu": True,
        "bf16": False,
    }


def main() -> None:
    """Both peers; the peer's leg sets the target, so it goes first in every pair."""
    world = World()
    for peer, leg, goal in (("hf_trainer", hf_trainer, 4.0), ("trl", trl, 3.0)):
        figures = paired(lambda r: ours(world, r), lambda r, leg=leg: leg(world, r), N, peer_first=True)  # type: ignore[misc]
        figures["held_out_loss"] = [round(loss, 4) for loss in world.targets.values()]
        report("finetune", peer, "s to equal held-out loss", goal, figures)
