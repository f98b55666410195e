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
from llmops_tasks.errors import DataError
from llmops_tasks.models import hardware, int8, int8_export, loading
from llmops_tasks.models.generator import MEMBERS
from llmops_tasks.prompts import interface
from llmops_tasks.release import calibrating
from llmops_tasks.release.model_card import model_card
from llmops_tasks.store import artifacts
from llmops_tasks.store.sources import code_digest

log = logging.getLogger(__name__)
SHARD = "4GB"  # of a file of weights: so much memory is needed to write them


def package_release(*, usecase: str, trained: ArtifactRef, base: ArtifactRef, dataset: ArtifactRef) -> ArtifactRef:
    """Merge the adapter and package the release with its model card.

    Returns:
        A reference of kind "release": safetensors in the base's number format, tokenizer, `release.json`, `README.md` (model card); for
        int8 also OpenVINO's files. `meta` carries the stamps `control` and `smoke` of the training run.

    Example:
        >>> release = package_release(usecase="triage", trained=adapter, base=base, dataset=dataset)
    """
    case, name = config.load(usecase), config.usecase_name(usecase)
    inputs = {
        "trained": trained["sha256"],
        "base": base["sha256"],
        "dataset": dataset["sha256"],
        "card": case.digest("description", "owner", "base_model", "finetune"),
        "number_format": hardware.inference_format(case.inference.precision),
        "served": case.inference.server is not None,
        "code": code_digest(__name__),
    }
    if inputs["number_format"] == "int8":  # another version quantises anew
        inputs["openvino"] = int8.library().__version__
    build = partial(_build, case, name, trained, base, dataset)
    return artifacts.publish(usecase=name, kind="release", inputs=inputs, build=build)


def _build(
    case: UseCase, name: str, trained: ArtifactRef, base: ArtifactRef, dataset: ArtifactRef, out: Path
) -> dict[str, Any]:
    source, weights = artifacts.fetch(base), artifacts.fetch(trained)
    number_format = hardware.inference_format(case.inference.precision)
    members = sorted((weights / MEMBERS).glob("*")) or [weights]
    for number, member in enumerate(members):
        folder = out if members == [weights] else out / MEMBERS / str(number)
        _write_model(source, member, trained["kind"], folder)
        if number_format == "int8":
            int8_export.write(folder)
    for carried in (TRAINING_GROUPS, TRAINING_RECORDS):
        if not (weights / carried).is_file():
            raise DataError(f"What was trained has no '{carried}': it is of an earlier version. Train again.")
        shutil.copyfile(weights / carried, out / carried)
    asked = interface.of_release(trained).model_copy(update={"number_format": number_format})
    asked, calibrated = calibrating.calibrate(out, asked, dataset, case.inference.server is not None)
    asked.write(out)
    (out / "README.md").write_text(model_card(case, name, trained, base, dataset, calibrated), encoding="utf-8")
    stamps = {key: trained["meta"][key] for key in ("control", "smoke", "mlflow_run")}
    parents = [artifacts.parent(trained), artifacts.parent(base), artifacts.parent(dataset)]
    made_from = {"dataset_sha256": dataset["sha256"], "base_sha256": base["sha256"]}
    about = {"members": len(members), "calibration": calibrated}
    return {"rows": 0, **about, "parents": parents, **made_from, **stamps}


def _write_model(source: Path, trained: Path, kind: str, out: Path) -> None:
    """Merge an adapter into its base's weights, or take weights as they are; in the base's number format, shard by shard.

    QLoRA trained over weights in 4 bits; they are merged into those that the base has.
    """
    from transformers import AutoTokenizer

    number_format = loading.stored_format(source)
    model = loading.load_weights(source if kind == "adapter" else trained, number_format)
    if kind == "adapter":
        from peft import PeftModel

        model = PeftModel.from_pretrained(model, trained, local_files_only=True).merge_and_unload(safe_merge=True)
    model.save_pretrained(out, safe_serialization=True, max_shard_size=SHARD)
    AutoTokenizer.from_pretrained(source, local_files_only=True).save_pretrained(out)
