"""What the candidate is held against: the same records, in pairs, and the test_records that the champion once passed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from llmops_tasks import config, metrics
from llmops_tasks.contracts import EARLIER, Report
from llmops_tasks.errors import EvidenceError
from llmops_tasks.evaluation import comparison
from llmops_tasks.store import artifacts
from tests.support import datasets, tiny

LABELS = ["high", "middle", "low"]
TRUTH = {f"r{number:02}": LABELS[number % 3] for number in range(30)}
WRONG = TRUTH | {name: "low" for name in list(TRUTH)[:12]}  # the first twelve all called harmless
OLD = [f"r{number:02}" for number in range(12)]


def _report(subject: str, answers: dict[str, str], labels: list[str] = LABELS) -> Report:
    """The report of a subject that gave these answers, kept in their order; two records a patient."""
    frame = pd.DataFrame({"record_id": list(answers), "label": list(answers.values())})
    frame["truth"] = frame["record_id"].map(TRUTH)
    frame["group"] = [f"p{int(name[1:]) // 2}" for name in answers]

    def build(out: Path) -> dict[str, Any]:
        frame.to_parquet(out / "predictions.parquet")
        return {"rows": len(frame), "labels": labels}

    inputs = {"answers": list(answers.items()), "labels": labels}
    kept = artifacts.publish(usecase="tiny", kind="evaluations", inputs=inputs, build=build)
    told: Any = {"subject_sha256": "s", "dataset_sha256": "d", "split": "test", "metrics": {}, "overlap": 0}
    return told | {"subject": subject, "n": len(frame), "predictions": kept}  # type: ignore[no-any-return]


def _usecase(folder: Path, **gate: Any) -> str:
    return str(tiny.usecase(folder, Path("/no-model"), "file:///none/*.csv", gate=gate))


def _champion(tested: list[str]) -> dict[str, Any]:
    """A champion that was tested on these records, and has learnt from another."""
    rows = [{"record_id": name, "split": "test"} for name in tested] + [{"record_id": "r29", "split": "train"}]
    return {"version": "1", "dataset": datasets.publish(rows)}


def _compared(usecase: str, champion: dict[str, Any] | None, *others: str) -> list[Any]:
    reports = [_report(name, TRUTH) for name in others]
    return comparison.compare_subjects(
        usecase=usecase, reports=[_report("candidate", WRONG), *reports], champion=champion
    )["comparisons"]


def test_what_the_champion_knew_is_asked_on_its_own_test_set_alone(tmp_path: Path) -> None:
    usecase = _usecase(tmp_path, max_forgetting=0.1, metric="accuracy")
    whole, test_records = _compared(usecase, _champion(OLD), "champion")
    assert (whole["reference"], whole["n"], whole["metric"]) == ("champion", 30, "accuracy")
    assert (test_records["reference"], test_records["n"], test_records["metric"]) == (EARLIER, 12, "accuracy")
    forgotten = sum(TRUTH[name] != "low" for name in OLD)
    assert whole["difference"]["value"] == pytest.approx(-forgotten / 30, abs=1e-6)
    assert test_records["difference"]["value"] == pytest.approx(-forgotten / 12, abs=1e-6)


def test_forgetting_is_asked_only_where_the_gate_limits_it_and_somebody_serves(tmp_path: Path) -> None:
    limited, free = _usecase(tmp_path / "limited", max_forgetting=0.1), _usecase(tmp_path / "free")
    champion = _champion(OLD)
    asked = {
        "no limit": _compared(free, champion, "champion"),
        "no champion": _compared(limited, None, "base"),
        "its report is missing": _compared(limited, champion, "base"),
        "it is not known": _compared(limited, None, "champion"),
    }
    assert {why: [one["reference"] for one in found] for why, found in asked.items()} == {
        "no limit": ["champion"], "no champion": ["base"],
        "its report is missing": ["base"], "it is not known": ["champion"],
    }  # fmt: skip


def test_a_test_set_of_which_nothing_was_measured_is_no_evidence(tmp_path: Path) -> None:
    usecase = _usecase(tmp_path, max_forgetting=0.1)
    with pytest.raises(EvidenceError, match="No record of the champion's test set is among those measured"):
        _compared(usecase, _champion(["another"]), "champion")


def test_records_are_paired_by_their_ids_in_whatever_order_they_lie(tmp_path: Path) -> None:
    usecase = _usecase(tmp_path)
    turned = dict(reversed(TRUTH.items()))
    found = comparison.compare_pair(
        usecase=usecase, candidate=_report("candidate", TRUTH), reference=_report("base", turned)
    )
    assert found["difference"] and [found["difference"][end] for end in ("low", "value", "high")] == [0, 0, 0]  # type: ignore[literal-required]


def test_the_interval_is_that_of_patients_as_the_use_case_asks_for_it(tmp_path: Path) -> None:
    usecase = _usecase(tmp_path)
    case = config.load(usecase)
    found = comparison.compare_pair(
        usecase=usecase, candidate=_report("candidate", WRONG), reference=_report("base", TRUTH)
    )
    codes = {name: pd.Series(answers).map(LABELS.index).to_numpy() for name, answers in (("truth", TRUTH), ("ours", WRONG), ("theirs", TRUTH))}  # fmt: skip
    assert found["difference"] == metrics.difference(
        **codes, groups=[n // 2 for n in range(30)], labels=LABELS, metric=case.gate.metric,
        resamples=case.evaluation.bootstrap, confidence=case.evaluation.confidence,
    )  # fmt: skip


@pytest.mark.parametrize("labels", [["high", "low", "middle"], ["high", "middle", "low", "none"]])
def test_answers_on_another_scale_are_not_compared(tmp_path: Path, labels: list[str]) -> None:
    with pytest.raises(EvidenceError, match="'candidate' and 'base' use different label scales"):
        comparison.compare_pair(
            usecase=_usecase(tmp_path), candidate=_report("candidate", TRUTH), reference=_report("base", TRUTH, labels)
        )


def test_what_a_process_cost_is_no_evidence(tmp_path: Path) -> None:
    report: Any = _report("candidate", TRUTH)
    evidence = comparison.compare_subjects(usecase=_usecase(tmp_path), reports=[report | {"process": {"seconds": 3}}])
    assert evidence["reports"] == [report]
