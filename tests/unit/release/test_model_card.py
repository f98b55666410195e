"""A model card says what a release was made of."""

from __future__ import annotations

from typing import Any

from llmops_tasks import config
from llmops_tasks.contracts import ArtifactRef
from llmops_tasks.release.model_card import model_card
from llmops_tasks.store import artifacts

NOT = {"temperature": 1.0, "records": 9, "reason": "9 records to calibrate on, 30 are needed"}


def test_the_card_says_how_probabilities_were_calibrated_or_why_not(world: Any, trained: ArtifactRef) -> None:
    case, fitted = config.load(world.usecase), {"temperature": 1.83, "records": 42, "reason": ""}
    for found, words in (
        (fitted, "temperature 1.83, from 42 validation records"),
        (NOT, f"temperature 1: {NOT['reason']}"),
    ):
        assert f"| calibration | {words} |" in model_card(case, "tiny", trained, world.base, world.dataset, found)


def test_the_card_says_what_it_was_made_of(world: Any, trained: ArtifactRef, released: ArtifactRef) -> None:
    card = (artifacts.fetch(released) / "README.md").read_text(encoding="utf-8")
    assert world.dataset["sha256"][:12] in card
    assert world.base["sha256"][:12] in card
    assert f"trained on | {trained['rows']} records, {trained['meta']['steps']} steps" in card
    assert "Not for use" not in card


def test_the_card_says_what_it_reads_and_who_opens_it(world: Any, trained: ArtifactRef) -> None:
    card = model_card(config.load(world.usecase), "tiny", trained, world.base, world.dataset, NOT)
    assert "| input | `text`: a masked record, rendered by the release's own template" in card
    assert 'mlflow.pyfunc.load_model("models:/tiny/<version>")' in card


def test_the_card_says_where_other_code_went_on(world: Any, trained: ArtifactRef) -> None:
    case = config.load(world.usecase)
    for changed, words in (([], "6 steps |"), ([4], "steps; the code changed after step 4 |")):
        meta = {**trained["meta"], "steps": 6, "code_changed_after": changed}
        assert words in model_card(case, "tiny", {**trained, "meta": meta}, world.base, world.dataset, NOT)
