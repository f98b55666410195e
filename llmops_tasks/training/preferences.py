"""Learning from people's corrections: direct preference optimisation (DPO), by trl.

Where the champion's answer was corrected, the corrected one is preferred to the given one. Training goes on from the
champion; how often the model prefers what people prefer is measured before and after, on pairs that are held out.
Source: Rafailov et al. 2023, "Direct Preference Optimization: Your Language Model is Secretly a Reward Model".
"""

from __future__ import annotations

import logging
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmops_tasks import artifacts, config, storage, tracking
from llmops_tasks.config import UseCase
from llmops_tasks.config_training import Preferences
from llmops_tasks.contracts import ArtifactRef
from llmops_tasks.errors import DataError, InputError
from llmops_tasks.prompts import templates
from llmops_tasks.training import loop, methods
from llmops_tasks.training.examples import IGNORED, Example

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger(__name__)
HELD_OUT = 0.25  # of the pairs


def corrections(*, usecase: str, dataset: ArtifactRef) -> ArtifactRef:
    """Pairs from answered days: what people said against what the model had answered, where the two differ.

    Args:
        usecase: name or YAML path; a classification.
        dataset: from `versions`; its train split has the reviewed labels.

    Returns:
        A reference of kind "pairs": `pairs.parquet` with record_id, prompt, chosen, rejected, split.

    Raises:
        DataError: if there are fewer corrections than `finetune.preferences.min_pairs`.
    """
    case, name = config.load(usecase), config.usecase_name(usecase)
    days = storage.find(f"{storage.store_uri()}/{name}/predictions/date=*/{artifacts.MANIFEST}")
    answered = [ref for day in days if (ref := artifacts.at(day.rsplit("/", 1)[0])) is not None]
    inputs = {
        "dataset": dataset["sha256"],
        "answered": [ref["sha256"] for ref in answered],
        "config": case.digest("task", "prompt"),
        "code": storage.code_digest(__file__, templates.__file__),
    }
    build = partial(_pair, case, _settings(case), dataset, answered)
    return artifacts.publish(usecase=name, kind="pairs", inputs=inputs, build=build)


def prefer(*, usecase: str, pairs: ArtifactRef, base: ArtifactRef) -> ArtifactRef:
    """Tune on pairs, with LoRA over the weights that training starts from.

    Args:
        usecase: name or YAML path, with `finetune.preferences`.
        pairs: from `corrections`, or made otherwise in that shape.
        base: the champion's release.

    Returns:
        A reference of kind "adapter". `meta` has `preferred.before` and `preferred.after`: the share of held-out
        pairs whose preferred answer is the likelier one.
    """
    case, name = config.load(usecase), config.usecase_name(usecase)
    inputs = {
        "pairs": pairs["sha256"],
        "base": base["sha256"],
        "settings": case.finetune.model_dump(mode="json", exclude={"budget", "resources", "checkpoint_every"}),
        "code": storage.code_digest(__file__, loop.__file__, methods.__file__),
    }
    key = storage.digest(inputs)
    build = partial(_tune, case, _settings(case), name, key, pairs, base)
    return artifacts.publish(usecase=name, kind="adapter", inputs=inputs, build=build)


def _settings(case: UseCase) -> Preferences:
    if case.finetune.preferences is None:
        raise InputError("The use case has no 'finetune.preferences'. Add it, to learn from corrections.")
    return case.finetune.preferences


# ---------------------------------------------------------------- pairs


def _pair(
    case: UseCase, settings: Preferences, dataset: ArtifactRef, answered: list[ArtifactRef], out: Path
) -> dict[str, Any]:
    import pandas as pd

    truth = pd.read_parquet(artifacts.fetch(dataset) / "data.parquet", columns=["record_id", "text", "label", "split"])
    truth = truth[truth["split"] == "train"]
    given = [pd.read_parquet(artifacts.fetch(ref) / "predictions.parquet", columns=["record_id", "label"]) for ref in answered]  # fmt: skip
    both = truth.merge(pd.concat(given), on="record_id", suffixes=("", "_given")) if given else truth.head(0)
    wrong = both[both["label"] != both["label_given"]] if given else both
    if len(wrong) < settings.min_pairs:
        raise DataError(
            f"{len(wrong)} corrected answers among {len(both)} reviewed ones; finetune.preferences.min_pairs asks for "
            f"{settings.min_pairs}. Wait for more reviewed records, or lower it."
        )
    pairs = _told(case, wrong)
    pairs.to_parquet(out / "pairs.parquet", index=False)
    return {"rows": len(pairs), "reviewed": len(both), "parents": [artifacts.parent(dataset)]}


def _told(case: UseCase, wrong: pd.DataFrame) -> pd.DataFrame:
    import pandas as pd

    words = {label.name: label.text for label in case.task.labels}
    held_out = wrong["record_id"].map(lambda name: int(storage.digest(name)[:8], 16) / 16**8 < HELD_OUT)
    return pd.DataFrame(
        {
            "record_id": wrong["record_id"],
            "prompt": [templates.render_prompt(case, text) for text in wrong["text"]],
            "chosen": wrong["label"].map(words),
            "rejected": wrong["label_given"].map(words),
            "split": held_out.map({True: "validation", False: "train"}),
        }
    )


# ---------------------------------------------------------------- tuning


def _tune(
    case: UseCase, settings: Preferences, usecase: str, key: str, pairs: ArtifactRef, base: ArtifactRef, out: Path
) -> dict[str, Any]:
    import pandas as pd
    import torch

    frame = pd.read_parquet(artifacts.fetch(pairs) / "pairs.parquet")
    train, held_out = (frame[frame["split"] == split].to_dict("records") for split in ("train", "validation"))
    if not train or not held_out:
        raise DataError(
            f"{len(train)} pairs to learn from and {len(held_out)} held out: both are needed. Wait for more."
        )
    loop.threads()
    torch.manual_seed(case.finetune.seed)
    model, tokenizer = methods.load_base(artifacts.fetch(base))
    state = methods.prepare(model, case.finetune.model_copy(update={"method": "lora"}))
    with tracking.run(usecase=usecase, name=f"prefer {key[:8]}", key=key) as run:
        before = preferred(case, state, tokenizer, held_out)
        losses = _train(case, settings, state, tokenizer, train)
        figures = {"preferred.before": before, "preferred.after": preferred(case, state, tokenizer, held_out)}
        run.metrics({**figures, "train_loss": losses[-1]})
    log.info("preferred answers: %.3f of %d held-out pairs before, %.3f after", before, len(held_out), figures["preferred.after"])  # fmt: skip
    state.model.save_pretrained(out, safe_serialization=True)
    (out / "README.md").unlink(missing_ok=True)
    (out / "training.json").write_bytes(storage.canonical({"losses": losses}))
    stamp = {"control": "none", "smoke": False, "mlflow_run": run.id, "members": 1}
    made = {"rows": len(train), "held_out": len(held_out), "steps": len(losses), "train_loss": losses[-1]}
    return {**made, **figures, **stamp}


def _train(
    case: UseCase, settings: Preferences, state: methods.State, tokenizer: Any, pairs: list[dict[str, Any]]
) -> list[float]:
    from datasets import Dataset
    from trl.trainer.dpo_config import DPOConfig
    from trl.trainer.dpo_trainer import DPOTrainer

    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    with artifacts.scratch() as folder:
        arguments = DPOConfig(
            output_dir=str(folder),
            beta=settings.beta,
            learning_rate=settings.learning_rate,
            num_train_epochs=settings.epochs,
            per_device_train_batch_size=case.finetune.batch_size,
            gradient_accumulation_steps=case.finetune.accumulate,
            gradient_checkpointing=case.finetune.recompute,
            max_length=case.finetune.max_length,
            bf16=state.bf16,
            use_cpu=methods.device() == "cpu",
            seed=case.finetune.seed,
            logging_steps=1,
            save_strategy="no",
            report_to="none",
            disable_tqdm=True,
        )
        columns = [{name: pair[name] for name in ("prompt", "chosen", "rejected")} for pair in pairs]
        trainer = DPOTrainer(
            model=state.model, args=arguments, train_dataset=Dataset.from_list(columns), processing_class=tokenizer
        )
        trainer.train()
    return [float(entry["loss"]) for entry in trainer.state.log_history if "loss" in entry]


def preferred(case: UseCase, state: methods.State, tokenizer: Any, pairs: list[dict[str, Any]]) -> float:
    """The share of pairs whose chosen answer is likelier than the rejected one (0 to 1)."""
    chosen, rejected = (_log_likelihoods(case, state, tokenizer, pairs, name) for name in ("chosen", "rejected"))
    return sum(one > other for one, other in zip(chosen, rejected, strict=True)) / len(pairs)


def _log_likelihoods(
    case: UseCase, state: methods.State, tokenizer: Any, pairs: list[dict[str, Any]], answer: str
) -> list[float]:
    import torch

    state.model.eval()
    result = []
    with torch.inference_mode():
        for pair in pairs:
            asked, said = (tokenizer(pair[name], add_special_tokens=False)["input_ids"] for name in ("prompt", answer))
            example = Example([*asked, *said][:-1], [IGNORED] * (len(asked) - 1) + said)
            logits, targets = loop.answer_logits(state, case.finetune, [example], None)
            result.append(-float(torch.nn.functional.cross_entropy(logits.float(), targets, reduction="sum")))
    return result
