"""A use case whose answers are text is trained and packaged as it is shipped."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import yaml

from llmops_tasks import config
from llmops_tasks.contracts import ArtifactRef
from llmops_tasks.data.synthetic_faq import write_faq
from llmops_tasks.prompts import interface
from llmops_tasks.release.packaging import package_release
from llmops_tasks.store import artifacts
from llmops_tasks.training.base_model import fetch_base_model
from llmops_tasks.training.finetuning import finetune
from tests.support import datasets


def _dataset(folder: Path) -> ArtifactRef:
    """The help desk's questions as `versions` would leave them."""
    import pandas as pd

    write_faq(out=folder.as_uri(), questions=60, chats=1)
    lines = (folder / "landing" / "faq.jsonl").read_text(encoding="utf-8").splitlines()
    frame = pd.DataFrame([json.loads(line) for line in lines]).rename(columns={"prompt": "text"})
    frame["label"] = frame["completion"]
    frame["record_id"] = frame["group"] = [f"faq.jsonl#{number}" for number in range(len(frame))]
    frame["split"] = ["train"] * 40 + ["validation"] * 10 + ["test"] * 10
    return datasets.publish(frame.to_dict("records"), usecase="desk", like="faq")


@pytest.mark.usefixtures("mlflow")
def test_the_shipped_use_case_trains_and_is_packaged(tmp_path: Path, tiny_model: Path) -> None:
    raw = yaml.safe_load(config.usecase_path("faq").read_text(encoding="utf-8"))
    raw["base_model"] = {"uri": tiny_model.as_uri(), "licence": "none, random weights"}
    raw["finetune"] |= {"top_layers": 1, "epochs": 2}
    path = tmp_path / "desk.yaml"
    path.write_text(yaml.safe_dump(raw), encoding="utf-8")
    dataset, base = _dataset(tmp_path / "faq"), fetch_base_model(usecase=str(path))
    trained = finetune(usecase=str(path), dataset=dataset, start=base)
    assert (trained["rows"], trained["meta"]["steps"]) == (40, 10)
    losses = json.loads((artifacts.fetch(trained) / "training.json").read_bytes())["losses"]
    assert losses[-1] < losses[0]
    release = package_release(usecase=str(path), trained=trained, base=base, dataset=dataset)
    assert "| output | free text |" in (artifacts.fetch(release) / "README.md").read_text(encoding="utf-8")
    asked = interface.of_release(release)
    assert (asked.task.decoding.max_new_tokens, asked.task.decoding.stop) == (48, ["\nQuestion:"])
