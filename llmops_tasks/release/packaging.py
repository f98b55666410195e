"""A release: one folder with everything that serves, and nothing else has to be fetched.

The adapter is merged into the base model; the merged bytes are what is evaluated, approved and served.
"""

from __future__ import annotations

import logging
import shutil
from functools import partial
from pathlib import Path
from typing import Any

from llmops_tasks import config
from llmops_tasks.config import UseCase
from llmops_tasks.contracts import TRAINING_GROUPS, TRAINING_RECORDS, ArtifactRef
from llmops_tasks.models.generator import MEMBERS
from llmops_tasks.prompts import interface
from llmops_tasks.store import artifacts
from llmops_tasks.store.sources import code_digest

log = logging.getLogger(__name__)


def package_release(*, usecase: str, trained: ArtifactRef, base: ArtifactRef, dataset: ArtifactRef) -> ArtifactRef:
    """Merge, and write the card.

    Returns:
        A reference of kind "release": safetensors (fp32), tokenizer, `release.json`, `README.md` (model card).
        `meta` carries the stamps `control` and `smoke` of the training run.

    Example:
        >>> release = package_release(usecase="triage", trained=adapter, base=base, dataset=dataset)
    """
    case, name = config.load(usecase), config.usecase_name(usecase)
    inputs = {
        "trained": trained["sha256"],
        "base": base["sha256"],
        "dataset": dataset["sha256"],
        "card": case.digest("description", "owner", "base_model", "finetune"),
        "code": code_digest(__name__),
    }
    build = partial(_build, case, name, trained, base, dataset)
    return artifacts.publish(usecase=name, kind="release", inputs=inputs, build=build)


def _build(
    case: UseCase, name: str, trained: ArtifactRef, base: ArtifactRef, dataset: ArtifactRef, out: Path
) -> dict[str, Any]:
    source, weights = artifacts.fetch(base), artifacts.fetch(trained)
    members = sorted((weights / MEMBERS).glob("*")) or [weights]
    for number, member in enumerate(members):
        folder = out if members == [weights] else out / MEMBERS / str(number)
        _write_model(source, member, trained["kind"], folder)
    for carried in (TRAINING_GROUPS, TRAINING_RECORDS, interface.FILE):
        shutil.copyfile(weights / carried, out / carried)
    (out / "README.md").write_text(_card(case, name, trained, base, dataset), encoding="utf-8")
    stamps = {key: trained["meta"][key] for key in ("control", "smoke", "mlflow_run")}
    parents = [artifacts.parent(trained), artifacts.parent(base), artifacts.parent(dataset)]
    made_from = {"dataset_sha256": dataset["sha256"], "base_sha256": base["sha256"]}
    return {"rows": 0, "members": len(members), "parents": parents, **made_from, **stamps}


def _write_model(source: Path, trained: Path, kind: str, out: Path) -> None:
    """Merge an adapter into its base's weights in fp32 (QLoRA trained over them in 4 bits), or take weights as they are."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    start = source if kind == "adapter" else trained
    model = AutoModelForCausalLM.from_pretrained(
        start, dtype=torch.float32, use_safetensors=True, local_files_only=True
    )
    if kind == "adapter":
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, trained, local_files_only=True).merge_and_unload(safe_merge=True)
    model.save_pretrained(out, safe_serialization=True)
    AutoTokenizer.from_pretrained(source, local_files_only=True).save_pretrained(out)


def _card(case: UseCase, name: str, trained: ArtifactRef, base: ArtifactRef, dataset: ArtifactRef) -> str:
    meta = trained["meta"]
    marks = [f"control run: {meta['control']}"] * (meta["control"] != "none") + ["smoke run"] * meta["smoke"]
    banner = f"\n**Not for use: {', '.join(marks)}. It can never be promoted.**\n" if marks else ""
    return f"""# {name}
{banner}
{case.description}

| | |
|---|---|
| owner | {case.owner} |
| base model | {case.base_model.uri} (`{base["sha256"][:12]}`), licence {case.base_model.licence} |
| method | {case.finetune.method}, seed {case.finetune.seed}, {meta["members"]} member(s), from {base["kind"]} |
| dataset | `{dataset["sha256"][:12]}`: {dataset["meta"]["splits"]} rows |
| trained on | {trained["rows"]} records, {meta["steps"]} steps{_by_whom(meta)} |
| learnt | {_learnt(meta)} |
| answers | {", ".join(interface.of_release(trained).labels) or "free text"} |

How good it is stands in its evaluation reports; who approved it, in the ledger.
It supports a person's decision and does not replace it.
"""


def _by_whom(meta: dict[str, Any]) -> str:
    """Said where one version of the code began the steps and another went on."""
    changed = meta["code_changed_after"]
    return f"; the code changed after step {', '.join(map(str, changed))}" if changed else ""


def _learnt(meta: dict[str, Any]) -> str:
    if "preferred.after" in meta:
        before, after = meta["preferred.before"], meta["preferred.after"]
        return f"corrected answers preferred in {before:.1%} of held-out pairs before, {after:.1%} after"
    return f"loss {meta['train_loss']:.4f} at the end, {meta['held_out_loss']:.4f} held out"
