"""Quality: the very bytes are measured, on one split, record by record."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from llmops_tasks.contracts import ArtifactRef, Report
from llmops_tasks.errors import EvidenceError, InputError, IntegrityError
from llmops_tasks.evaluation import quality
from llmops_tasks.store import artifacts, objects

NAMES = ["resuscitation", "emergent", "urgent", "less-urgent", "non-urgent"]


@pytest.fixture(scope="module")
def reports(world: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Report]:
    """The base model and the TF-IDF baseline on the world's test split."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LLMOPS_HOME", str(tmp_path_factory.mktemp("quality")))
        given = {"usecase": world.usecase, "dataset": world.dataset}
        base = quality.evaluate(**given, subject="base", model=world.base)
        return {"base": base, "tfidf": quality.evaluate(**given, subject="tfidf")}


def _predictions(report: Report) -> Any:
    import pandas as pd

    return pd.read_parquet(artifacts.fetch(report["predictions"]) / "predictions.parquet")


@pytest.mark.parametrize("subject", ["base", "tfidf"])
def test_a_report_says_who_on_what_with_which_figures(world: Any, reports: dict[str, Report], subject: str) -> None:
    report = reports[subject]
    assert (report["subject"], report["split"]) == (subject, "test")
    assert report["dataset_sha256"] == world.dataset["sha256"]
    assert report["n"] == world.dataset["meta"]["splits"]["test"] == len(_predictions(report))
    assert {"accuracy", "macro_f1", "quadratic_kappa", "severe_under_triage_rate"} <= set(report["metrics"])
    assert all(figure["low"] <= figure["value"] <= figure["high"] for figure in report["metrics"].values())
    assert json.loads(json.dumps(report)) == report


def test_figures_follow_from_the_predictions_left_beside_them(reports: dict[str, Report]) -> None:
    from sklearn.metrics import cohen_kappa_score

    frame = _predictions(reports["tfidf"])
    kappa = cohen_kappa_score(
        frame["truth"].map(NAMES.index), frame["label"].map(NAMES.index), weights="quadratic", labels=range(5)
    )
    assert reports["tfidf"]["metrics"]["quadratic_kappa"]["value"] == pytest.approx(kappa, abs=1e-6)
    assert frame["score"].between(0, 1).all()


def test_the_split_is_measured_that_was_asked_for(world: Any, reports: dict[str, Report]) -> None:
    import pandas as pd

    data = pd.read_parquet(artifacts.fetch(world.dataset) / "data.parquet").set_index("record_id")
    for report in reports.values():
        found = _predictions(report).set_index("record_id")
        assert set(data.loc[found.index, "split"]) == {"test"}
        assert (data.loc[found.index, "label"] == found["truth"]).all()


def test_a_comparison_is_the_difference_of_the_gates_metric(world: Any, reports: dict[str, Report]) -> None:
    versus = quality.compare_pair(usecase=world.usecase, candidate=reports["tfidf"], reference=reports["base"])
    assert (versus["reference"], versus["metric"], versus["n"]) == ("base", "quadratic_kappa", reports["base"]["n"])
    values = [reports[name]["metrics"]["quadratic_kappa"]["value"] for name in ("tfidf", "base")]
    assert versus["difference"]["value"] == pytest.approx(values[0] - values[1], abs=2e-6)
    assert versus["difference"]["low"] < versus["difference"]["value"] < versus["difference"]["high"]


def test_a_comparison_is_paired_and_turns_round(world: Any, reports: dict[str, Report]) -> None:
    one = quality.compare_pair(usecase=world.usecase, candidate=reports["tfidf"], reference=reports["base"])[
        "difference"
    ]
    two = quality.compare_pair(usecase=world.usecase, candidate=reports["base"], reference=reports["tfidf"])[
        "difference"
    ]
    assert two["value"] == pytest.approx(-one["value"])
    assert (two["low"], two["high"]) == (pytest.approx(-one["high"]), pytest.approx(-one["low"]))
    same = quality.compare_pair(usecase=world.usecase, candidate=reports["base"], reference=reports["base"])[
        "difference"
    ]
    assert set(same.values()) == {0.0}


def test_the_candidate_is_compared_with_every_other_subject(world: Any, reports: dict[str, Report]) -> None:
    candidate: Report = {**reports["tfidf"], "subject": "candidate"}
    evidence = quality.compare_subjects(usecase=world.usecase, reports=[reports["base"], candidate, reports["tfidf"]])
    assert [report["subject"] for report in evidence["reports"]] == ["candidate", "base", "tfidf"]
    assert [comparison["reference"] for comparison in evidence["comparisons"]] == ["base", "tfidf"]


def test_who_is_measured_follows_from_the_policy_and_the_champion(world: Any) -> None:
    nobody: dict[str, Any] = {"version": None, "release": None}
    given: dict[str, Any] = {"usecase": world.usecase, "candidate": {"release": {"sha256": "c"}}, "base": world.base}
    assert [who["subject"] for who in quality.list_subjects(champion=nobody, **given)] == ["candidate", "base", "tfidf"]
    plan = quality.list_subjects(champion={"version": "1", "release": {"sha256": "d"}}, **given)
    assert [who["subject"] for who in plan] == ["candidate", "base", "tfidf", "champion"]
    assert [who["model"] and who["model"]["sha256"] for who in plan] == ["c", world.base["sha256"], None, "d"]


def test_reports_on_other_records_cannot_be_compared(world: Any, reports: dict[str, Report]) -> None:
    other = quality.evaluate(usecase=world.usecase, dataset=world.dataset, subject="tfidf", split="validation")
    with pytest.raises(EvidenceError, match="measured on different records"):
        quality.compare_pair(usecase=world.usecase, candidate=reports["base"], reference=other)


def test_measuring_again_is_no_work_and_changes_nothing(world: Any) -> None:
    given = {"usecase": world.usecase, "dataset": world.dataset, "subject": "tfidf"}
    first = quality.evaluate(**given)
    written = objects.find(f"{objects.store_uri()}/*/evaluations/*/predictions.parquet")
    time = objects.local_path(written[0]).stat().st_mtime_ns
    assert quality.evaluate(**given) == first
    assert objects.local_path(written[0]).stat().st_mtime_ns == time


def test_damaged_weights_are_not_measured(world: Any, tmp_path: Path, tiny_model: Path) -> None:
    def build(out: Path) -> dict[str, Any]:
        for path in tiny_model.iterdir():
            (out / path.name).write_bytes(path.read_bytes())
        return {}

    model: ArtifactRef = artifacts.publish(usecase="tiny", kind="release", inputs={}, build=build)
    weights = artifacts.fetch(model) / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x7f")
    with pytest.raises(IntegrityError, match=r"model.safetensors' is damaged"):
        quality.evaluate(usecase=world.usecase, dataset=world.dataset, subject="candidate", model=model)


def test_a_split_without_records_is_no_evidence(world: Any) -> None:
    with pytest.raises(
        EvidenceError, match=r"The split 'tests' has no records. Splits: \['test', 'train', 'validation'\]"
    ):
        quality.evaluate(usecase=world.usecase, dataset=world.dataset, subject="tfidf", split="tests")


def test_a_subject_comes_with_its_model_or_is_trained_here(world: Any) -> None:
    with pytest.raises(InputError, match="Subject 'candidate' needs a model"):
        quality.evaluate(usecase=world.usecase, dataset=world.dataset, subject="candidate")
    with pytest.raises(InputError, match="Subject 'tfidf' takes no model"):
        quality.evaluate(usecase=world.usecase, dataset=world.dataset, subject="tfidf", model=world.base)
