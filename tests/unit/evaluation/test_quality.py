"""Quality: the very bytes are measured, on one split, record by record."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from llmops_tasks.contracts import ABSTAINED, ArtifactRef, Report
from llmops_tasks.errors import DataError, EvidenceError, InputError, IntegrityError
from llmops_tasks.evaluation import comparison, quality
from llmops_tasks.models.generator import open_generator
from llmops_tasks.prompts import interface
from llmops_tasks.store import artifacts, objects

NAMES = ["resuscitation", "emergent", "urgent", "less-urgent", "non-urgent"]


@pytest.fixture(scope="module")
def reports(world: Any, released: ArtifactRef, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Report]:
    """The base model and the TF-IDF baseline on the world's test split."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LLMOPS_HOME", str(tmp_path_factory.mktemp("quality")))
        given = {"usecase": world.usecase, "dataset": world.dataset, "asked_as": released}
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
    versus = comparison.compare_pair(usecase=world.usecase, candidate=reports["tfidf"], reference=reports["base"])
    assert (versus["reference"], versus["metric"], versus["n"]) == ("base", "quadratic_kappa", reports["base"]["n"])
    values = [reports[name]["metrics"]["quadratic_kappa"]["value"] for name in ("tfidf", "base")]
    assert versus["difference"]["value"] == pytest.approx(values[0] - values[1], abs=2e-6)
    assert versus["difference"]["low"] < versus["difference"]["value"] < versus["difference"]["high"]


def test_a_comparison_is_paired_and_turns_round(world: Any, reports: dict[str, Report]) -> None:
    one = comparison.compare_pair(usecase=world.usecase, candidate=reports["tfidf"], reference=reports["base"])[
        "difference"
    ]
    two = comparison.compare_pair(usecase=world.usecase, candidate=reports["base"], reference=reports["tfidf"])[
        "difference"
    ]
    assert one and two and two["value"] == pytest.approx(-one["value"])
    assert (two["low"], two["high"]) == (pytest.approx(-one["high"], abs=0.05), pytest.approx(-one["low"], abs=0.05))
    same = comparison.compare_pair(usecase=world.usecase, candidate=reports["base"], reference=reports["base"])[
        "difference"
    ]
    assert same and [same[end] for end in ("low", "value", "high")] == [0.0, 0.0, 0.0]


def test_the_candidate_is_compared_with_every_other_subject(world: Any, reports: dict[str, Report]) -> None:
    candidate: Report = {**reports["tfidf"], "subject": "candidate"}
    evidence = comparison.compare_subjects(
        usecase=world.usecase, reports=[reports["base"], candidate, reports["tfidf"]]
    )
    assert [report["subject"] for report in evidence["reports"]] == ["candidate", "base", "tfidf"]
    assert [comparison["reference"] for comparison in evidence["comparisons"]] == ["base", "tfidf"]


def test_who_is_measured_follows_from_the_policy_and_the_champion(world: Any) -> None:
    nobody: dict[str, Any] = {"version": None, "release": None}
    given: dict[str, Any] = {"usecase": world.usecase, "candidate": {"release": {"sha256": "c"}}, "base": world.base}
    assert [who["subject"] for who in quality.list_subjects(champion=nobody, **given)] == ["candidate", "base", "tfidf"]
    plan = quality.list_subjects(champion={"version": "1", "release": {"sha256": "d"}}, **given)
    assert [who["subject"] for who in plan] == ["candidate", "base", "tfidf", "champion"]
    assert [who["model"] and who["model"]["sha256"] for who in plan] == ["c", world.base["sha256"], None, "d"]
    assert [who["asked_as"]["sha256"] for who in plan] == ["c", "c", "c", "d"]  # the champion as its own release says


def test_reports_on_other_records_cannot_be_compared(
    world: Any, released: ArtifactRef, reports: dict[str, Report]
) -> None:
    other = quality.evaluate(
        usecase=world.usecase, dataset=world.dataset, subject="tfidf", asked_as=released, split="validation"
    )
    with pytest.raises(EvidenceError, match="measured on different records"):
        comparison.compare_pair(usecase=world.usecase, candidate=reports["base"], reference=other)


def test_measuring_again_is_no_work_and_changes_nothing(world: Any, released: ArtifactRef) -> None:
    given = {"usecase": world.usecase, "dataset": world.dataset, "subject": "tfidf", "asked_as": released}
    first = quality.evaluate(**given)
    written = objects.find(f"{objects.store_uri()}/*/evaluations/*/predictions.parquet")
    time = objects.local_path(written[0]).stat().st_mtime_ns
    assert quality.evaluate(**given) == first
    assert objects.local_path(written[0]).stat().st_mtime_ns == time


def test_damaged_weights_are_not_measured(world: Any, released: ArtifactRef, tmp_path: Path, tiny_model: Path) -> None:
    def build(out: Path) -> dict[str, Any]:
        for path in tiny_model.iterdir():
            (out / path.name).write_bytes(path.read_bytes())
        interface.of_release(released).write(out)
        return {}

    model: ArtifactRef = artifacts.publish(usecase="tiny", kind="release", inputs={}, build=build)
    weights = artifacts.fetch(model) / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x7f")
    with pytest.raises(IntegrityError, match=r"model.safetensors' is damaged"):
        quality.evaluate(
            usecase=world.usecase, dataset=world.dataset, subject="candidate", model=model, asked_as=released
        )


def test_a_split_without_records_is_no_evidence(world: Any, released: ArtifactRef) -> None:
    with pytest.raises(EvidenceError, match=r"The split 'tests' has no records. Splits: train, validation, test"):
        quality.evaluate(
            usecase=world.usecase, dataset=world.dataset, subject="tfidf", asked_as=released, split="tests"
        )


def test_a_subject_comes_with_its_model_or_is_trained_here(world: Any, released: ArtifactRef) -> None:
    given = {"usecase": world.usecase, "dataset": world.dataset, "asked_as": released}
    with pytest.raises(InputError, match="Subject 'candidate' needs a model"):
        quality.evaluate(**given, subject="candidate")
    with pytest.raises(InputError, match="Subject 'tfidf' takes no model"):
        quality.evaluate(**given, subject="tfidf", model=world.base)


def _changed(usecase: str, folder: Path, **sections: Any) -> str:
    """The use case as somebody edited it after the release was made."""
    raw = yaml.safe_load(Path(usecase).read_text(encoding="utf-8"))
    for name, values in sections.items():
        raw[name] |= values
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(raw, sort_keys=False), encoding="utf-8")
    return str(path)


def test_a_release_is_asked_as_it_says_whatever_the_use_case_says_today(
    world: Any, released: ArtifactRef, tmp_path: Path
) -> None:
    given = {"dataset": world.dataset, "subject": "candidate", "model": released, "asked_as": released}
    before = quality.evaluate(usecase=world.usecase, **given)
    prompt = {"template": "Ignore this: {{ text }}\nSay:"}
    data = {"text": "{{ note | upper }}"}
    after = quality.evaluate(usecase=_changed(world.usecase, tmp_path, prompt=prompt, data=data), **given)
    assert after == before


def test_a_release_with_another_text_template_is_measured_on_what_it_reads(
    world: Any, released: ArtifactRef, tmp_path: Path
) -> None:
    """On the same records: the dataset's own text is another release's."""
    asked = interface.of_release(released)
    other = asked.model_copy(update={"text": "{{ note | upper }}"})
    found = _asked_as(world, other, tmp_path)
    frame = _predictions(found).set_index("record_id")
    texts = _texts(world, other)
    prompts = [other.render_prompt(texts[name]) for name in frame.index[:8]]
    scores = open_generator("transformers", artifacts.fetch(world.base)).scores(prompts, other.answers, 1, 160)
    assert frame["score"][:8].tolist() == pytest.approx([max(row) for row in scores], abs=1e-5)
    assert all(text == text.upper() for text in texts.values())


def _asked_as(world: Any, asked: interface.Interface, tmp_path: Path) -> Report:
    def build(out: Path) -> dict[str, Any]:
        asked.write(out)
        return {}

    release = artifacts.publish(usecase="tiny", kind="release", inputs={"asked": asked.digest()}, build=build)
    given = {"usecase": world.usecase, "dataset": world.dataset, "asked_as": release}
    return quality.evaluate(**given, subject="base", model=world.base)


def _texts(world: Any, asked: interface.Interface) -> dict[str, str]:
    import pandas as pd

    above = artifacts.at(world.dataset["meta"]["parents"][0]["uri"])
    assert above
    frame = pd.read_parquet(artifacts.fetch(above) / "records.parquet")
    return {row["visit_id"]: asked.render_text(row) for row in frame.to_dict("records")}


def test_records_that_lack_what_a_release_reads_are_a_clear_error(
    world: Any, released: ArtifactRef, tmp_path: Path
) -> None:
    other = interface.of_release(released).model_copy(update={"text": "{{ note }} {{ weight }}"})
    with pytest.raises(DataError, match=r"text template reads \['weight'\], which the records do not have"):
        _asked_as(world, other, tmp_path)


def test_baselines_never_abstain_and_have_no_temperature(
    world: Any, released: ArtifactRef, reports: dict[str, Report], tmp_path: Path
) -> None:
    """Else a limit that weak models never reach would make them easy to beat."""
    asked = interface.of_release(released)
    task = asked.task.model_copy(update={"abstain_below": 0.99})
    careful = asked.model_copy(update={"task": task, "temperature": 3.0})
    found = _asked_as(world, careful, tmp_path)
    assert found["metrics"] == reports["base"]["metrics"] and "coverage" not in found["metrics"]
    assert _predictions(found).equals(_predictions(reports["base"]))
    assert found["predictions"]["meta"]["calibration"]["temperature"] == 1


def test_a_release_abstains_as_it_says_and_is_compared_so(world: Any, released: ArtifactRef, tmp_path: Path) -> None:
    def build(out: Path) -> dict[str, Any]:
        shutil.copytree(artifacts.fetch(released), out, dirs_exist_ok=True, ignore=shutil.ignore_patterns("_manifest*"))
        task = asked.task.model_copy(update={"abstain_below": least})
        asked.model_copy(update={"task": task, "temperature": 2.0}).write(out)
        return {}

    given = {"usecase": world.usecase, "dataset": world.dataset, "subject": "candidate"}
    plain, asked = quality.evaluate(**given, model=released, asked_as=released), interface.of_release(released)
    least = 0.5
    careful = artifacts.publish(usecase="tiny", kind="release", inputs={"careful": least}, build=build)
    found = quality.evaluate(**given, model=careful, asked_as=careful)
    one, other = _predictions(plain), _predictions(found)
    assert other["label"].tolist() == one["label"].mask(other["score"] < least, ABSTAINED).tolist()
    assert (other["score"] < one["score"]).all()  # a higher temperature is less sure
    share = (other["label"] != ABSTAINED).mean()
    assert share < 1 and found["metrics"]["coverage"]["value"] == pytest.approx(share, abs=1e-6)
    assert found["metrics"]["accuracy"]["value"] == pytest.approx((other["label"] == other["truth"]).mean(), abs=1e-6)
    calibration = found["predictions"]["meta"]["calibration"]
    before = plain["predictions"]["meta"]["calibration"]
    assert calibration["temperature"] == 2.0 != before["temperature"]
    assert calibration["nll_uncalibrated"] == before["nll_uncalibrated"] == before["nll_calibrated"]
    assert calibration["nll_calibrated"] != calibration["nll_uncalibrated"]
    versus = comparison.compare_pair(usecase=world.usecase, candidate=found, reference=plain)
    assert versus["difference"]


def test_labels_that_a_release_does_not_know_are_no_evidence(world: Any, released: ArtifactRef, tmp_path: Path) -> None:
    asked = interface.of_release(released)
    task = asked.task.model_copy(update={"labels": asked.task.labels[:3]})
    with pytest.raises(EvidenceError, match=r"labels \['less-urgent', 'non-urgent'\], which the release does not know"):
        _asked_as(world, asked.model_copy(update={"task": task}), tmp_path)


def test_long_prompts_are_cut_as_in_training_and_counted(world: Any, released: ArtifactRef, tmp_path: Path) -> None:
    short = interface.of_release(released).model_copy(update={"max_length": 24})
    report = _asked_as(world, short, tmp_path)
    assert report["predictions"]["meta"]["cut_prompts"] > report["n"] / 2
    assert _asked_as(world, interface.of_release(released), tmp_path)["predictions"]["meta"]["cut_prompts"] == 0
