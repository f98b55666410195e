"""Written answers are measured as the released bytes write them, beside base model and retrieval, and kept by content."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from llmops_tasks import config
from llmops_tasks.contracts import ArtifactRef, Report
from llmops_tasks.errors import EvidenceError, InputError
from llmops_tasks.evaluation import comparison, generation, quality, text_metrics
from llmops_tasks.models.generator import open_generator
from llmops_tasks.prompts import interface, shards
from llmops_tasks.store import artifacts, objects
from tests.support import datasets, desk

ANSWERS = ("Hold your badge to any printer.", "Ask the owner of the folder.", "Restart it.")
ASKS = ("print a page", "see the shared folder", "use a slow laptop")


def _rows() -> list[dict[str, Any]]:
    rows = []
    for number in range(36):
        kind, split = number % 3, "train" if number < 18 else "test"
        text = f"How do I {ASKS[kind]}, case {number}?"
        known = {"label": ANSWERS[kind], "completion": ANSWERS[kind], "split": split}
        rows.append({"record_id": f"Q{number}", "text": text, **known})
    return rows


@pytest.fixture
def usecase(tmp_path: Path, tiny_model: Path) -> str:
    return str(desk.usecase(tmp_path, tiny_model, tmp_path / "faq"))


@pytest.fixture
def dataset() -> ArtifactRef:
    return datasets.publish(_rows(), usecase="desk", like="faq")


@pytest.fixture
def release(usecase: str, tiny_model: Path) -> ArtifactRef:
    def build(out: Path) -> dict[str, Any]:
        shutil.copytree(tiny_model, out, dirs_exist_ok=True)
        interface.of_usecase(config.load(usecase)).write(out)
        return {}

    return artifacts.publish(usecase="desk", kind="base", inputs={}, build=build)


def _frame(report: Report) -> Any:
    import pandas as pd

    return pd.read_parquet(artifacts.fetch(report["predictions"]) / "predictions.parquet")


def _evaluate(usecase: str, dataset: ArtifactRef, release: ArtifactRef, subject: str = "base", **more: Any) -> Report:
    model = None if subject == "retrieval" else release
    return quality.evaluate(usecase=usecase, dataset=dataset, subject=subject, asked_as=release, model=model, **more)


def test_figures_and_answers_are_those_of_the_model_on_the_split(
    usecase: str, dataset: ArtifactRef, release: ArtifactRef
) -> None:
    report = _evaluate(usecase, dataset, release)
    frame, rows = _frame(report), [row for row in _rows() if row["split"] == "test"]
    asked, model = interface.of_release(release), open_generator("transformers", artifacts.fetch(release))
    prompts = [asked.render_prompt(row["text"]) for row in rows]
    written = model.generate(prompts, asked.task.decoding, 3, asked.max_length)
    assert frame["record_id"].tolist() == [row["record_id"] for row in rows]
    assert frame["answer"].tolist() == [answer.text for answer in written]
    truth = [row["label"] for row in rows]
    bits = [model.bits(prompt, [text])[0] for prompt, text in zip(prompts, truth, strict=True)]
    assert frame["reference_bits"].tolist() == pytest.approx(bits, rel=1e-5)
    assert report["n"] == 18 and set(report["metrics"]) == {
        "exact_match", "token_f1", "rouge_l", "bleu", "chrf", "bits_per_character"
    }  # fmt: skip
    per_character = sum(bits) / sum(map(len, truth))
    assert report["metrics"]["bits_per_character"]["value"] == pytest.approx(per_character, rel=1e-4)
    assert report["predictions"]["meta"]["finish_reasons"] == {"length": 18}


def test_retrieval_gives_the_answer_to_the_most_similar_training_text(
    usecase: str, dataset: ArtifactRef, release: ArtifactRef
) -> None:
    report = _evaluate(usecase, dataset, release, "retrieval")
    frame = _frame(report)
    assert (frame["answer"] == frame["truth"]).all() and report["metrics"]["exact_match"]["value"] == 1
    assert "bits_per_character" not in report["metrics"] and frame["bits"].isna().all()
    assert report["overlap"] == 0 and report["predictions"]["meta"]["model_kind"] is None


def test_the_nearest_is_by_cosine_and_of_the_train_split_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    import pandas as pd
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.metrics.pairwise import cosine_similarity

    monkeypatch.setattr(generation, "CHUNK", 2)
    train = pd.DataFrame({"text": ["red light", "red red lamp on", "blue lamp", "green"], "label": list("abcd")})
    rows = pd.DataFrame({"text": ["lamp blue", "a red light", "unheard of", "green lamp", "red lamp"]})
    words = TfidfVectorizer(**generation.RETRIEVAL).fit(train["text"])
    wanted = cosine_similarity(words.transform(rows["text"]), words.transform(train["text"])).argmax(axis=1)
    assert generation.retrieve(train, rows)["answer"].tolist() == train["label"].iloc[wanted].tolist()
    with pytest.raises(EvidenceError, match="train split has no records"):
        generation.retrieve(train[:0], rows)


def test_what_grew_is_asked_for_what_is_new_alone(
    usecase: str, dataset: ArtifactRef, release: ArtifactRef, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, "SIZE", 6)
    first = _evaluate(usecase, dataset, release)
    grown = datasets.publish([*_rows(), {**_rows()[-1], "record_id": "Q99"}], usecase="desk", like="faq")
    before = [
        objects.find(f"{objects.store_uri()}/desk/{kind}/*/_manifest.json") for kind in ("answers", "reference_bits")
    ]
    second = _evaluate(usecase, grown, release)
    again = [
        objects.find(f"{objects.store_uri()}/desk/{kind}/*/_manifest.json") for kind in ("answers", "reference_bits")
    ]
    assert [len(found) for found in (*before, *again)] == [3, 3, 4, 4]
    assert (first["n"], second["n"]) == (18, 19)


def test_a_comparison_is_paired_in_the_gates_metric(usecase: str, dataset: ArtifactRef, release: ArtifactRef) -> None:
    ours, theirs = _evaluate(usecase, dataset, release, "retrieval"), _evaluate(usecase, dataset, release)
    found = comparison.compare_pair(usecase=usecase, candidate=ours, reference=theirs)
    assert (found["reference"], found["metric"], found["n"]) == ("base", "token_f1", 18)
    one, other = (report["metrics"]["token_f1"]["value"] for report in (ours, theirs))
    assert found["difference"] and found["difference"]["value"] == pytest.approx(one - other, abs=1e-5)
    rows = _frame(ours)
    given = {"truth": rows["truth"].tolist(), "ours": rows["answer"].tolist(), "groups": rows["group"].tolist()}
    wanted = text_metrics.difference(
        **given, theirs=_frame(theirs)["answer"].tolist(), metric="token_f1", resamples=200, confidence=0.95
    )
    assert found["difference"] == wanted


def test_subjects_are_those_of_the_task(usecase: str, dataset: ArtifactRef, release: ArtifactRef) -> None:
    with pytest.raises(InputError, match=r"No subject 'tfidf' of a generation. Known: \['candidate', .*'retrieval'\]"):
        _evaluate(usecase, dataset, release, "tfidf")
    given: dict[str, Any] = {"usecase": usecase, "dataset": dataset, "asked_as": release}
    with pytest.raises(InputError, match=r"'retrieval' takes no model. 'retrieval' is trained here"):
        quality.evaluate(**given, subject="retrieval", model=release)
    nobody: dict[str, Any] = {"version": None, "release": None}
    plan = quality.list_subjects(usecase=usecase, candidate={"release": release}, champion=nobody, base=release)
    assert [(one["subject"], one["model"] is None) for one in plan] == [
        ("candidate", False), ("base", False), ("retrieval", True)
    ]  # fmt: skip


def test_what_cannot_be_compared_is_no_evidence(usecase: str, dataset: ArtifactRef, release: ArtifactRef) -> None:
    with pytest.raises(EvidenceError, match="The split 'tests' has no records"):
        _evaluate(usecase, dataset, release, split="tests")
    rows = [{**row, "label": " " if row["record_id"] == "Q20" else row["label"]} for row in _rows()]
    with pytest.raises(EvidenceError, match="1 records of the split 'test' have an empty answer") as caught:
        _evaluate(usecase, datasets.publish(rows, usecase="desk", like="faq"), release)
    assert "badge" not in str(caught.value)
