"""A release's model card: origin, training, interface, and restrictions."""

from __future__ import annotations

from typing import Any

from llmops_tasks.config import UseCase
from llmops_tasks.contracts import ArtifactRef
from llmops_tasks.prompts import interface


def model_card(
    case: UseCase,
    name: str,
    trained: ArtifactRef,
    base: ArtifactRef,
    dataset: ArtifactRef,
    calibrated: dict[str, Any],
) -> str:
    """Markdown from the training's meta; a release that can never be promoted says so at the top.

    Args:
        case: as it is packaged.
        name: of the use case.
        trained: what is merged.
        base: what it is merged into.
        dataset: that it was trained on.
        calibrated: from `calibrate`.
    """
    meta = trained["meta"]
    marks = [f"negative control: {meta['control']}"] * (meta["control"] != "none") + ["smoke run"] * meta["smoke"]
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
| result | {_result(meta)} |
| input | `text`: a masked record, rendered by the release's own template |
| output | {", ".join(interface.of_release(trained).outcomes) or "free text"} |
| calibration | {_calibration(calibrated)} |
| used by | batch inference, and `mlflow.pyfunc.load_model("models:/{name}/<version>")` with the same answers |

Its metrics are in its evaluation reports, its approval is in the ledger.
It supports human decisions and does not replace them.
"""


def _calibration(found: dict[str, Any]) -> str:
    if found["reason"]:
        return f"temperature 1: {found['reason']}"
    return f"temperature {found['temperature']:g}, from {found['records']} validation records"


def _by_whom(meta: dict[str, Any]) -> str:
    """If the code changed during the training."""
    changed = meta.get("code_changed_after")
    return f"; the code changed after step {', '.join(map(str, changed))}" if changed else ""


def _result(meta: dict[str, Any]) -> str:
    if "preferred.after" in meta:
        before, after = meta["preferred.before"], meta["preferred.after"]
        return f"corrected answers preferred in {before:.1%} of held-out pairs before, {after:.1%} after"
    return f"loss {meta['train_loss']:.4f} at the end, {meta['held_out_loss']:.4f} held out"
