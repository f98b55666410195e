"""A release's model card: what it was made of, how, and what it is not for."""

from __future__ import annotations

from typing import Any

from llmops_tasks.config import UseCase
from llmops_tasks.contracts import ArtifactRef
from llmops_tasks.prompts import interface
from llmops_tasks.prompts.interface import Interface


def model_card(case: UseCase, name: str, trained: ArtifactRef, base: ArtifactRef, dataset: ArtifactRef) -> str:
    """Markdown from the training's meta; what may never serve says so at its top."""
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
| reads | `text`: what the release's own template makes of a masked record, not the record itself |
| answers | {", ".join(interface.of_release(trained).labels) or "free text"} |
{_opened(name, interface.of_release(trained))}

How good it is stands in its evaluation reports; who approved it, in the ledger.
It supports a person's decision and does not replace it.
"""


def _opened(name: str, asked: Interface) -> str:
    if not asked.labels:
        return "| opened by | nobody yet: free text is not served |"
    return f'| opened by | batch inference, and `mlflow.pyfunc.load_model("models:/{name}/<version>")` with the same answers |'


def _by_whom(meta: dict[str, Any]) -> str:
    """Said where one version of the code began the steps and another went on."""
    changed = meta.get("code_changed_after")
    return f"; the code changed after step {', '.join(map(str, changed))}" if changed else ""


def _learnt(meta: dict[str, Any]) -> str:
    if "preferred.after" in meta:
        before, after = meta["preferred.before"], meta["preferred.after"]
        return f"corrected answers preferred in {before:.1%} of held-out pairs before, {after:.1%} after"
    return f"loss {meta['train_loss']:.4f} at the end, {meta['held_out_loss']:.4f} held out"
