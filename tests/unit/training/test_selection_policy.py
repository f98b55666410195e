"""The choice follows from measurements and policy alone, each refusal has its reason, and nothing is guessed."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from llmops_tasks import config
from llmops_tasks.config.selection import BaseModelChoice, Policy
from llmops_tasks.contracts import Interval, Measurement, Selected
from llmops_tasks.errors import EvidenceError
from llmops_tasks.store import digests
from llmops_tasks.training import selection_policy
from llmops_tasks.training.selection_policy import choose_base_model, refusal, select, table

POLICY = Policy.model_validate(
    {"version": 1, "licences": {"allowed": ["mit"], "refused": {"gemma": "no open-source licence"}}}
)


def around(value: float, half: float = 0.05) -> Interval:
    """A figure with an interval of this half width."""
    return {"value": value, "low": value - half, "high": value + half}


def measured(name: str, few: float = 0.2, bits: float = 2.0, licence: str | None = None, **figures: Any) -> Measurement:
    """A measurement with no fault unless told."""
    plain: dict[str, Any] = {
        "zero_shot": around(0.1),
        "few_shot": around(few),
        "bits_per_character": around(bits),
        "parameters": 135_000_000,
        "disk_mib": 500.0,
        "memory_mib": 1500.0,
        "tokens_per_second": 400.0,
        "context_length": 8192,
        "problems": [],
        "obstacles": [],
    }
    common: dict[str, Any] = {"model_sha256": name, "sample_sha256": "s", "n": 120}
    evidence: Any = {"sha256": f"evidence of {name}"}
    return {
        **common,
        "candidate": name,
        "licence_in_files": licence,
        "languages": ["en"],
        "figures": {**plain, **figures},
        "evidence": evidence,
    }  # type: ignore[typeddict-item]


def chosen(*measurements: Measurement, policy: dict[str, Any] | None = None, **choices: str) -> Selected:
    """The decision on these measurements; `choices` are further candidates that were not measured: name=licence."""
    names = {measurement["candidate"]: "mit" for measurement in measurements} | choices
    known = {name: BaseModelChoice(uri=f"file:///{name}", licence=licence) for name, licence in names.items()}
    rule = POLICY.model_copy(update=policy or {})
    return select(rule, known, list(measurements), rule.rank, "quadratic_kappa")


def verdicts(decision: Selected) -> dict[str, str]:
    """Every candidate's, the best first."""
    return {row["candidate"]: row["verdict"] for row in decision["ranking"]}


def reasons(decision: Selected, candidate: str) -> str:
    """Of one candidate, joined."""
    return "; ".join(next(row["reasons"] for row in decision["ranking"] if row["candidate"] == candidate))


def test_the_best_in_the_measure_is_chosen_and_the_others_follow_in_order() -> None:
    decision = chosen(measured("current", 0.2), measured("worst", 0.1), measured("best", 0.4))
    assert verdicts(decision) == {"best": "chosen", "current": "fits", "worst": "fits"}
    assert decision["chosen"] == "best"
    assert decision["reasons"] == [
        "'best' has the best few-shot quadratic kappa of those that fit, 0.400 [0.350, 0.450], beyond that of the current model, 0.200 [0.150, 0.250]"
    ]


def test_what_the_sample_does_not_tell_apart_changes_nothing() -> None:
    decision = chosen(measured("current", 0.32), measured("other", 0.40))
    assert verdicts(decision) == {"other": "fits", "current": "chosen"}
    assert "the sample does not distinguish it from the current model" in decision["reasons"][0]
    assert decision["write"] == ""


def test_fewer_bits_are_better() -> None:
    by_bits = {"rank": "bits_per_character"}
    decision = chosen(measured("current", bits=2.0), measured("other", bits=1.5), policy=by_bits)
    assert decision["chosen"] == "other"
    assert chosen(measured("current", bits=1.5), measured("other", bits=2.0), policy=by_bits)["chosen"] == "current"


@pytest.mark.parametrize(
    ("limit", "figures", "reason"),
    [
        ({"max_disk_mib": 400}, {"disk_mib": 401.0}, "disk: 401 MiB, at most 400 are allowed"),
        ({"max_memory_mib": 900}, {"memory_mib": 901.0}, "memory: 901 MiB, at most 900 are allowed"),
        ({"min_tokens_per_second": 50}, {"tokens_per_second": 49.0}, "speed: 49 tokens/s, at least 50 are required"),
        ({}, {"problems": ["the labels begin alike"], "few_shot": None}, "the labels begin alike"),
        ({}, {"obstacles": ["it cannot be split"]}, "it cannot be split"),
    ],
)
def test_a_candidate_beyond_a_limit_is_not_chosen_however_good(
    limit: dict[str, Any], figures: dict[str, Any], reason: str
) -> None:
    fine = {"disk_mib": 400.0, "memory_mib": 900.0, "tokens_per_second": 50.0}  # at the limit is within
    decision = chosen(measured("current", 0.1, **fine), measured("other", 0.9, **fine | figures), policy=limit)
    assert verdicts(decision) == {"current": "chosen", "other": "unfit"}
    assert reasons(decision, "other") == reason


def test_if_the_current_model_does_not_fit_the_best_other_is_chosen() -> None:
    decision = chosen(measured("current", 0.4, problems=["x"]), measured("other", 0.39))
    assert decision["chosen"] == "other"


def test_a_refused_licence_is_refused_by_name_with_the_policys_reason() -> None:
    decision = chosen(measured("current"), gem="gemma", odd="my-own")
    assert verdicts(decision) == {"current": "chosen", "gem": "refused", "odd": "refused"}
    assert reasons(decision, "gem") == "licence 'gemma' is refused: no open-source licence"
    assert "licence 'my-own' is refused: the policy does not list it. Allowed: ['mit']" in reasons(decision, "odd")
    assert decision["accepted"] == {}


def test_an_accepted_licence_is_let_in_and_who_accepted_it_stands_in_the_decision() -> None:
    who = {"gemma": "A. Example, 2026-01-15, for measuring"}
    rule = POLICY.model_copy(update={"licences": POLICY.licences.model_copy(update={"accepted": who})})
    choices = {name: BaseModelChoice(uri="file:///x", licence=name) for name in ("gemma", "mit")}
    assert refusal(rule.licences, "gemma") is None
    decision = select(rule, choices, [measured("gemma", 0.9), measured("mit")], "few_shot", "accuracy")
    assert verdicts(decision) == {"gemma": "chosen", "mit": "fits"}
    assert "was accepted: A. Example, 2026-01-15" in reasons(decision, "gemma")
    assert decision["accepted"] == who


def test_files_that_name_another_licence_than_the_use_case_are_believed() -> None:
    decision = chosen(measured("current", licence="MIT"), measured("other", 0.9, licence="gemma"))
    assert verdicts(decision) == {"current": "chosen", "other": "refused"}
    assert reasons(decision, "other") == "its files name the licence 'gemma', the use case 'mit'. Fix the use case"


def test_nobody_is_chosen_where_nobody_fits() -> None:
    decision = chosen(gem="gemma")
    assert (decision["chosen"], decision["reasons"], decision["n"]) == (None, ["no candidate fits the policy"], 0)
    assert "**none**: no candidate fits the policy" in table(decision=decision)


def test_missing_evidence_is_no_decision() -> None:
    current = measured("current")
    with pytest.raises(EvidenceError, match=r"Measured are \['current'\]; the policy asks for \['current', 'other'\]"):
        chosen(current, other="mit")
    with pytest.raises(EvidenceError, match="the policy asks for"):
        chosen(current, measured("gem"), gem="gemma")  # measured in spite of its licence


def test_figures_of_different_records_are_not_compared() -> None:
    other: Any = {**measured("other"), "sample_sha256": "another"}
    with pytest.raises(EvidenceError, match="measured on different records"):
        chosen(measured("current"), other)


def test_it_says_what_to_write_into_the_use_case() -> None:
    better = measured("other", 0.9)
    text = chosen(measured("current"), better)["write"]
    assert yaml.safe_load(text) == {"base_model": {"uri": "file:///other", "licence": "mit"}}
    page = table(decision=chosen(measured("current"), better))
    assert "set in the use case" in page and text.strip() in page
    assert "set in the use case" not in table(decision=chosen(measured("current")))


def test_the_table_has_a_row_for_everybody_and_every_reason() -> None:
    page = table(decision=chosen(measured("current"), measured("slow", problems=["too slow"]), gem="gemma"))
    rows = [line for line in page.splitlines() if line.startswith("|")]
    assert len({row.count("|") for row in rows}) == 1 and len(rows) == 5
    assert rows[2].startswith("| current (current) | chosen | 0.200 [0.150, 0.250] | 0.100 [0.050, 0.150] | 2.000")
    assert rows[2].endswith("| 135 | 500 | 1500 | 400 | 8192 | en | mit |")
    assert rows[4].startswith("| gem (gem) | refused | not measured")
    assert "- slow: too slow." in page and "- gem: licence 'gemma' is refused: no open-source licence." in page


def test_the_decision_depends_neither_on_the_order_nor_on_what_it_cost() -> None:
    choices = config.load("triage").base_models()
    assert list(choices) == ["current", "gemma-3-270m"]
    one = choose_base_model(usecase="triage", measurements=[measured("current")])
    costly: Any = {**measured("current"), "cost": {"wall_seconds": 3.0}}
    assert choose_base_model(usecase="triage", measurements=[costly]) == one
    assert chosen(measured("a"), measured("b", 0.9)) == chosen(measured("b", 0.9), measured("a"))
    other = choose_base_model(usecase="triage", measurements=[measured("current", 0.3)])
    assert other["evidence_sha256"] != one["evidence_sha256"] and other["policy_sha256"] == one["policy_sha256"]
    assert digests.digest(one)  # plain JSON without NaN


def test_the_shipped_policy_refuses_gemma_by_name() -> None:
    decision = choose_base_model(usecase="triage", measurements=[measured("current", licence="apache-2.0")])
    assert verdicts(decision) == {"current": "chosen", "gemma-3-270m": "refused"}
    assert "licence 'gemma' is refused: Google's Gemma Terms of Use" in reasons(decision, "gemma-3-270m")


def test_generated_text_is_ranked_by_bits_per_character(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    monkeypatch.setattr(selection_policy, "select", lambda *given: seen.append(given[3]))
    choose_base_model(usecase="faq", measurements=[])
    choose_base_model(usecase="triage", measurements=[])
    assert seen == ["bits_per_character", "few_shot"]
