"""`make gpu`: training and scoring of a large model on a GPU, and what a kill costs there.

    python -m benchmarks.gpu [--size tiny]

Needs PyTorch, transformers, peft and safetensors beside this folder; weights are random, as speed does not depend on
them. Every line is written to `benchmarks/results/gpu.jsonl` as soon as it is measured. `tiny` runs anywhere, to see
that the bench itself works.

Useful tokens are those of records, without padding. Of N weights that are multiplied by, LoRA costs 4N FLOP a token
(2N forward, 2N for the gradient of the states; none for frozen weights), scoring 2N. `peak_share` is of the GPU's dense
16-bit peak. The bar: NVIDIA NeMo Automodel's 12,473 tokens/s of Llama 3 8B on one H100 (LoRA of rank 16 on all
projections, 4,096 tokens, mock data without padding; docs/performance-summary.mdx there).
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results" / "gpu.jsonl"
PEAKS = {
    "H100": 989e12,
    "H200": 989e12,
    "A100": 312e12,
    "L40S": 362e12,
    "L4": 121e12,
}  # dense bf16 FLOP/s, NVIDIA's data sheets
SIZES: dict[str, dict[str, Any]] = {
    "8b": {
        "model": {"vocab_size": 128_256, "hidden_size": 4096, "intermediate_size": 14_336, "num_hidden_layers": 32,
                  "num_attention_heads": 32, "num_key_value_heads": 8, "max_position_embeddings": 8192},
        "batch": 16, "longest": 4096, "steps": 8, "prompts": 256,
    },
    "tiny": {
        "model": {"vocab_size": 512, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
                  "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 512},
        "batch": 4, "longest": 128, "steps": 3, "prompts": 16,
    },
}  # fmt: skip
LABELS = ((5,), (6, 7), (6, 8), (9,))  # tokens of four answers, two of which begin alike


def report(what: str, **figures: Any) -> None:
    """Print a line and keep it."""
    import torch
    import transformers

    from llmops_tasks.models import hardware

    gpu = hardware.device_type() == "cuda"
    about = {"device": torch.cuda.get_device_name() if gpu else "cpu", "torch": torch.__version__}
    about |= {"transformers": transformers.__version__, "cuda": torch.version.cuda}
    line = json.dumps({"bench": "gpu", "what": what, **figures, **about, "time": datetime.now(UTC).isoformat(timespec="seconds")})  # fmt: skip
    RESULTS.parent.mkdir(exist_ok=True)
    with RESULTS.open("a", encoding="utf-8") as file:
        file.write(line + "\n")
    print(line, flush=True)


def peak() -> float | None:
    """The GPU's dense 16-bit FLOP/s, if its name is known."""
    import torch

    name = torch.cuda.get_device_name() if torch.cuda.is_available() else ""
    return next((value for part, value in PEAKS.items() if part in name), None)


def share(flops: float) -> float | None:
    """Of the peak."""
    return round(flops / found, 3) if (found := peak()) else None


def make_model(size: dict[str, Any]) -> Any:
    """A random Llama in bf16, made on the device."""
    import torch
    from transformers import AutoModelForCausalLM, LlamaConfig

    from llmops_tasks.models import hardware

    torch.manual_seed(0)
    torch.set_default_dtype(torch.bfloat16)
    with torch.device(hardware.device()):
        model = AutoModelForCausalLM.from_config(LlamaConfig(**size["model"]))
    torch.set_default_dtype(torch.float32)
    return model.eval()


def records(size: dict[str, Any], count: int) -> list[Any]:
    """Ragged records, loss on every token but the first: lengths spread evenly from a sixteenth of the longest."""
    from llmops_tasks.training.examples import Example

    rng, found = random.Random(7), []
    for _ in range(count):
        length = rng.randint(size["longest"] // 16, size["longest"])
        tokens = [rng.randrange(10, size["model"]["vocab_size"]) for _ in range(length + 1)]
        found.append(Example(tokens[:-1], tokens[1:]))
    return found


def settings(size: dict[str, Any], **more: Any) -> Any:
    """LoRA of rank 16 on all projections, packed, with recomputation."""
    from llmops_tasks.config import Finetune

    plain = {"method": "lora", "rank": 16, "target_modules": "all-linear", "top_layers": size["model"]["num_hidden_layers"],
             "batch_size": size["batch"], "max_length": size["longest"], "packing": True, "precision": "bf16", "recompute": True}  # fmt: skip
    return Finetune.model_validate(plain | more)


def train(size: dict[str, Any]) -> None:
    """Useful tokens a second of steps, and memory beside what preflight expects."""
    from llmops_tasks.models import hardware
    from llmops_tasks.training import loop, preflight, trainable
    from llmops_tasks.training.training_plan import TrainingPlan

    asked, examples = settings(size), records(size, size["batch"] * size["steps"])
    state = trainable.prepare(make_model(size), asked, size["longest"])
    batches = [list(range(at, at + size["batch"])) for at in range(0, len(examples), size["batch"])]
    expected = (
        preflight.needs(state, asked, TrainingPlan(examples, batches, {}), 0.0).memory_mib - preflight.PROCESS_MIB
    )
    weights = multiplied(state.base)
    seconds, tokens = 0.0, 0
    for number, batch in enumerate(batches):
        chosen = [examples[index] for index in batch]
        synchronise()
        started = time.perf_counter()
        loop.step(state, asked, number, len(batches), chosen, None)
        synchronise()
        if number >= 2:  # kernels are chosen, and memory is taken, in the first ones
            seconds += time.perf_counter() - started
            tokens += sum(len(example.tokens) for example in chosen)
    speed = tokens / seconds
    report(
        "train",
        tokens_per_second=round(speed),
        goal=12_500,
        tflops=round(4 * weights * speed / 1e12, 1),
        peak_share=share(4 * weights * speed),
        memory_mib=round(hardware.peak_mib()),
        expected_mib=round(expected),
        varlen=state.varlen,
        layerwise=state.layerwise,
    )


def multiplied(model: Any) -> int:
    """Weights that every token is multiplied by: all but the embedding's rows."""
    return sum(value.numel() for value in model.parameters()) - model.get_input_embeddings().weight.numel()


def synchronise() -> None:
    """Wait for the device."""
    import torch

    if torch.cuda.is_available():
        torch.cuda.synchronize()


def score(size: dict[str, Any]) -> None:
    """Prompts a second, each weighed against four answers in one pass."""
    import torch

    from llmops_tasks.models import label_tree, loading, scoring

    model, tree = make_model(size), label_tree.build([list(label) for label in LABELS])
    prompts = sorted((example.tokens[: size["longest"] // 4] for example in records(size, size["prompts"])), key=len)
    speed = 0.0
    with loading.running(model):
        for _ in range(2):  # the first time is for the kernels
            synchronise()
            started = time.perf_counter()
            for at in range(0, len(prompts), 32):
                batch = [torch.tensor(prompt + tree.tokens) for prompt in prompts[at : at + 32]]
                scoring.probabilities(scoring.in_one_pass(model, batch, tree, False, 0), tree, label_tree.BRANCHING)
            synchronise()
            speed = len(prompts) / (time.perf_counter() - started)
    flops = 2 * multiplied(model) * speed * sum(map(len, prompts)) / len(prompts)
    report("score", rows_per_second=round(speed, 1), tflops=round(flops / 1e12, 1), peak_share=share(flops), goal=0.5)


# ---------------------------------------------------------------- a kill


def resumed() -> None:
    """A training that is killed with -9 after a checkpoint, and one that is not: their last losses."""
    with tempfile.TemporaryDirectory(prefix="gpu-") as home:
        whole = _steps(f"{home}/whole", 0)
        killed = _steps(f"{home}/killed", 5)
        again = _steps(f"{home}/killed", 0)
    report("resume", killed=killed is None, loss=again, undisturbed=whole, equal=again == whole)


def _steps(home: str, kill_after: int) -> float | None:
    """The last loss of a training in a process of its own; None if it was killed."""
    command = [sys.executable, "-m", "benchmarks.gpu", "--steps", str(kill_after)]
    done = subprocess.run(command, env={**os.environ, "LLMOPS_HOME": home}, capture_output=True, text=True, check=False)
    if done.returncode == -9:
        return None
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    return float(done.stdout.split()[-1])


def victim(kill_after: int) -> None:
    """Eight steps with a checkpoint after every second; ends itself after so many."""
    import signal

    import torch

    from llmops_tasks.training import checkpoints, loop, trainable

    torch.use_deterministic_algorithms(True, warn_only=True)
    size = SIZES["tiny"]
    asked, examples = settings(size, packing=False, recompute=False), records(size, 32)
    state = trainable.prepare(make_model(size), asked, size["longest"])
    about: dict[str, Any] = {"usecase": "gpu", "run": "r" * 32}
    best: dict[str, Any] = {}
    done, meta = checkpoints.resume(**about, fits="same", trained=state.trained, optimizer=state.optimizer, best=best)
    state.losses = list(meta.get("losses", []))
    for number in range(done, 8):
        state.losses.append(loop.step(state, asked, number, 8, examples[4 * number : 4 * number + 4], None))
        if number % 2:
            tensors = checkpoints.snapshot(state.trained, state.optimizer, {})
            checkpoints.save(**about, step=number + 1, tensors=tensors, meta={"losses": state.losses, "fits": "same"})
        if number + 1 == kill_after:
            os.kill(os.getpid(), signal.SIGKILL)
    print(state.losses[-1])


def main() -> None:
    """All of it, or the victim of a kill."""
    parser = argparse.ArgumentParser(prog="make gpu", description="Training and scoring of a large model on a GPU.")
    parser.add_argument("--size", choices=SIZES, default="8b")
    parser.add_argument(
        "--steps", type=int, help="internal: the training that is killed after so many steps; 0: is not"
    )
    given = parser.parse_args()
    if given.steps is not None:
        victim(given.steps)
        return
    train(SIZES[given.size])
    score(SIZES[given.size])
    resumed()


if __name__ == "__main__":
    main()
