"""The figures of one model on given records: answers, cost of the text, size, memory, speed.

Quality is what the model's probabilities of the labels say, with no example in the prompt and with
some. Bits per character compare models with different tokenizers: how unexpected the records' text is, per character.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmops_tasks import metrics
from llmops_tasks.config import UseCase
from llmops_tasks.contracts import Interval, ModelFigures
from llmops_tasks.errors import EvidenceError, ModelError
from llmops_tasks.models import tokens
from llmops_tasks.models.chat import Prompt
from llmops_tasks.models.generator import Generator
from llmops_tasks.models.local import LocalModel
from llmops_tasks.prompts import interface, templates
from llmops_tasks.training import lora_targets
from llmops_tasks.training.examples import check_prompt

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Row = dict[str, Any]
Columns = dict[str, list[Any]]
SHOTS = ("zero_shot", "few_shot")
PASSES = 4  # for the speed


def figures(
    *, case: UseCase, folder: Path, rows: list[Row], shots: list[Row], context: int | None
) -> tuple[ModelFigures, Columns]:
    """Measure the model in a folder.

    Args:
        case: whose prompts, labels and metric count.
        folder: config.json, safetensors, tokenizer.
        rows: to answer, with text, label and completion.
        shots: shown in the few-shot prompt.
        context: tokens the model can look at, where its config.json does not say.

    Returns:
        The figures, and the columns they follow from, one value a row.
    """
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    generator = LocalModel(folder)
    asked = {name: prompts(case, rows, shown) for name, shown in zip(SHOTS, ([], shots), strict=True)}
    context = json.loads((folder / "config.json").read_bytes()).get("max_position_embeddings", context)
    texts: list[Prompt] = [row["text"] for row in rows]
    problems = _problems(case, tokenizer, asked["few_shot"], context)
    speed = _tokens_per_second(case, generator, tokenizer, texts if problems else asked["zero_shot"])
    columns = {"group": [row["group"] for row in rows]}
    columns |= _answers(case, generator, rows, asked) if case.task.labels and not problems else {}
    memory = _peak_mib()  # before whole texts meet the vocabulary, which answering does not ask for
    columns["characters"] = [len(row["text"]) for row in rows]
    columns["bits"] = generator.bits("\n", [row["text"] for row in rows])
    found: ModelFigures = {
        "zero_shot": _quality(case, columns, "zero_shot"),
        "few_shot": _quality(case, columns, "few_shot"),
        "bits_per_character": _density(case, columns),
        "parameters": parameters(folder),
        "disk_mib": round(sum(path.stat().st_size for path in folder.iterdir()) / 2**20, 1),
        "memory_mib": memory,
        "tokens_per_second": speed,
        "context_length": context,
        "problems": problems,
        "obstacles": _against(partial(lora_targets.check, folder, case.finetune)),
    }
    return found, columns


def prompts(case: UseCase, rows: list[Row], shots: list[Row]) -> list[Prompt]:
    """Prompts with these examples and no others."""
    examples = [{"text": str(row["text"]), "answer": str(row["completion"])} for row in shots]
    shown = case.prompt.model_copy(update={"examples": examples})
    return [templates.render_prompt(shown, case.task, row["text"]) for row in rows]


def _problems(case: UseCase, tokenizer: PreTrainedTokenizerBase, asked: list[Prompt], context: int | None) -> list[str]:
    """Why this model's answers to these prompts would mean nothing."""
    if found := _against(partial(check_prompt, interface.of_usecase(case), tokenizer)):
        return found
    longest = max(map(len, tokens.encode_with_bos(tokenizer, asked)))
    if context and longest > context:
        found.append(f"A prompt with examples has {longest} tokens, its context {context}.")
    return found


def _against(check: Callable[[], Any]) -> list[str]:
    """What a check has to say against the model."""
    try:
        check()
    except ModelError as exc:
        return [str(exc)]
    return []


def _tokens_per_second(
    case: UseCase, generator: Generator, tokenizer: PreTrainedTokenizerBase, asked: list[Prompt]
) -> float:
    """Of the fastest of some passes over a few batches: other work on the machine only ever makes one slower."""
    size, some = case.evaluation.batch_size, asked[: 4 * case.evaluation.batch_size]
    seconds = []
    for _ in range(PASSES):
        started = time.perf_counter()
        generator.scores(some, ["\n"], size)
        seconds.append(time.perf_counter() - started)
    return round(sum(map(len, tokens.encode_with_bos(tokenizer, some))) / min(seconds), 1)


def _answers(case: UseCase, generator: Generator, rows: list[Row], prompts: dict[str, list[Prompt]]) -> Columns:
    """The likeliest label of every row, with and without examples, beside the true one."""
    asked = interface.of_usecase(case)
    columns: Columns = {"truth": [row["label"] for row in rows]}
    for shown, texts in prompts.items():
        scores = generator.scores(texts, asked.answers, case.evaluation.batch_size, rule=asked.rule)
        columns[shown] = [asked.labels[max(range(len(row)), key=row.__getitem__)] for row in scores]
    return columns


def _quality(case: UseCase, columns: Columns, shown: str) -> Interval | None:
    """The gate's metric, or None where there are no answers."""
    import numpy as np

    if shown not in columns:
        return None
    names = [label.name for label in case.task.labels]
    truth, predicted = (np.array([names.index(name) for name in columns[key]]) for key in ("truth", shown))
    found = metrics.measure(
        truth=truth,
        predicted=predicted,
        groups=columns["group"],
        labels=names,
        severe=case.task.severe,
        resamples=case.evaluation.bootstrap,
        confidence=case.evaluation.confidence,
    )
    return found.get(case.gate.metric)


def _density(case: UseCase, columns: Columns) -> Interval:
    bits, characters, groups = (columns[name] for name in ("bits", "characters", "group"))
    rule = case.evaluation
    found = metrics.ratio(
        parts=bits, wholes=characters, groups=groups, resamples=rule.bootstrap, confidence=rule.confidence
    )
    if found is None:
        raise EvidenceError("All records of the sample are of one group, so there is no interval. Prepare more data.")
    return found


def parameters(folder: Path) -> int:
    """How many numbers the safetensors hold; what two layers share is kept once."""
    from safetensors import safe_open

    total = 0
    for path in folder.glob("*.safetensors"):
        with safe_open(path, framework="numpy") as weights:
            total += sum(math.prod(weights.get_slice(name).get_shape()) for name in weights.keys())  # noqa: SIM118
    return total


def _peak_mib() -> float:
    """The most memory this process has held so far."""
    import resource

    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1)  # KiB on Linux
