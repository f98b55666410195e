"""The choice of a base model: measurements and a policy in, a ranking with reasons out. Pure.

A licence that the policy does not allow is refused by name. Of those that keep within the limits, the best in the
policy's measure comes first; the current base model stays unless the best one is better beyond both intervals.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_args

import yaml

from llmops_tasks import config
from llmops_tasks.config.selection import CURRENT, BaseModelChoice, Licences, Measure, Policy
from llmops_tasks.contracts import Interval, Measurement, ModelFigures, Ranked, Selected
from llmops_tasks.errors import EvidenceError
from llmops_tasks.store import digests

Choices = dict[str, BaseModelChoice]
MEASURES: tuple[Measure, ...] = get_args(Measure)


def refusal(rule: Licences, licence: str) -> str | None:
    """Why a model under this licence may not be opened; None if it may."""
    if licence in rule.allowed or licence in rule.accepted:
        return None
    if licence in rule.refused:
        return f"licence '{licence}' is refused: {rule.refused[licence]}"
    return f"licence '{licence}' is refused: the policy does not list it. Allowed: {rule.allowed}"


def choose_base_model(*, usecase: str, measurements: list[Measurement]) -> Selected:
    """Choose among the use case's candidates by its policy.

    Args:
        usecase: name or YAML path.
        measurements: from `measure_base_model`, one for each candidate whose licence is allowed.

    Raises:
        EvidenceError: if one is missing, or they were not made on the same records.

    Example:
        >>> decision = choose_base_model(usecase="triage", measurements=[measurement])
    """
    case, policy = config.load(usecase), config.policy(usecase)
    # what a process cost is no evidence: only a measurement's own keys count
    own = [{name: found[name] for name in Measurement.__annotations__} for found in measurements]  # type: ignore[literal-required]
    measure: Measure = policy.rank if case.task.labels else "bits_per_character"
    return select(policy, case.base_models(), own, measure, case.gate.metric)  # type: ignore[arg-type]


def select(
    policy: Policy, choices: Choices, measurements: list[Measurement], measure: Measure, metric: str
) -> Selected:
    """The decision on measurements and policy alone."""
    _check(policy, choices, measurements)
    measurements = sorted(measurements, key=lambda found: found["candidate"])
    found = {measurement["candidate"]: measurement for measurement in measurements}
    rows = [_judged(policy, name, choice, found.get(name)) for name, choice in choices.items()]
    order = {"fits": 0, "unfit": 1, "refused": 2}
    rows.sort(key=lambda row: (order[row["verdict"]], -_worth(row, measure)))
    chosen, reason = _chosen([row for row in rows if row["verdict"] == "fits"], measure, words(measure, metric))
    for row in rows:
        row["verdict"] = "chosen" if row["candidate"] == chosen else row["verdict"]
    first = measurements[0] if measurements else None
    return {
        "chosen": chosen,
        "reasons": [reason],
        "ranking": rows,
        "measure": measure,
        "metric": metric,
        "n": first["n"] if first else 0,
        "write": _write(choices, rows) if chosen not in (None, CURRENT) else "",
        "accepted": {name: who for name, who in policy.licences.accepted.items() if _uses(choices, name)},
        "sample_sha256": first["sample_sha256"] if first else "",
        "policy_sha256": digests.digest(policy.model_dump(mode="json")),
        "evidence_sha256": digests.digest([{n: c.model_dump(mode="json") for n, c in choices.items()}, measurements]),
    }


def _uses(choices: Choices, licence: str) -> bool:
    return any(choice.licence == licence for choice in choices.values())


def _check(policy: Policy, choices: Choices, measurements: list[Measurement]) -> None:
    wanted = {name for name, choice in choices.items() if not refusal(policy.licences, choice.licence)}
    given = {measurement["candidate"] for measurement in measurements}
    if wanted != given:
        raise EvidenceError(f"Measured are {sorted(given)}; the policy asks for {sorted(wanted)}. Measure these again.")
    if len({found["sample_sha256"] for found in measurements}) > 1:
        raise EvidenceError("The candidates were measured on different records. Measure all of them again.")


def _judged(policy: Policy, name: str, choice: BaseModelChoice, found: Measurement | None) -> Ranked:
    refused = refusal(policy.licences, choice.licence)
    inside = found["licence_in_files"] if found else None
    if inside and inside.lower() != choice.licence.lower():
        refused = f"its files name the licence '{inside}', the use case '{choice.licence}'. Fix the use case"
    figures = found["figures"] if found and not refused else None
    reasons = [refused] if refused else [*_too_much(policy, figures)] if figures else []
    verdict = "refused" if refused else "unfit" if reasons else "fits"
    if who := policy.licences.accepted.get(choice.licence):
        reasons.append(f"licence '{choice.licence}' is refused by default, and was accepted: {who}")
    return {
        "candidate": name,
        "model": choice.uri.rstrip("/").rsplit("/", 1)[-1],
        "licence": choice.licence,
        "languages": found["languages"] if found else choice.languages,
        "verdict": verdict,
        "reasons": reasons,
        "figures": figures,
    }


def _too_much(policy: Policy, figures: ModelFigures) -> Iterator[str]:
    """What keeps a measured candidate from being chosen."""
    yield from figures["problems"]
    yield from figures["obstacles"]
    for what, value, most in (
        ("disk", figures["disk_mib"], policy.max_disk_mib),
        ("memory", figures["memory_mib"], policy.max_memory_mib),
    ):
        if most is not None and value > most:
            yield f"{what}: {value:.0f} MiB, at most {most:g} are allowed"
    speed, least = figures["tokens_per_second"], policy.min_tokens_per_second
    if least is not None and speed < least:
        yield f"speed: {speed:.0f} tokens/s, at least {least:g} are required"


def _figure(row: Ranked, measure: Measure) -> Interval | None:
    return row["figures"][measure] if row["figures"] else None


def _worth(row: Ranked, measure: Measure) -> float:
    """More is better; what was not measured is worth least."""
    figure = _figure(row, measure)
    if figure is None:
        return float("-inf")
    return -figure["value"] if measure == "bits_per_character" else figure["value"]


def _chosen(fits: list[Ranked], measure: Measure, name: str) -> tuple[str | None, str]:
    """The best one; the current one if the sample does not distinguish the two."""
    if not fits:
        return None, "no candidate fits the policy"
    best, current = fits[0], next((row for row in fits if row["candidate"] == CURRENT), None)
    ahead = f"'{best['candidate']}' has the best {name} of those that fit, {shown(_figure(best, measure))}"
    if current is None or current is best:
        return best["candidate"], ahead
    theirs = _figure(current, measure)
    if _apart(_figure(best, measure), theirs):
        return best["candidate"], f"{ahead}, beyond that of the current model, {shown(theirs)}"
    return CURRENT, f"{ahead}, but the sample does not distinguish it from the current model, {shown(theirs)}"


def _apart(one: Interval | None, two: Interval | None) -> bool:
    return bool(one and two and (one["low"] > two["high"] or one["high"] < two["low"]))


def _write(choices: Choices, rows: list[Ranked]) -> str:
    """What the use case must say to start from the chosen model."""
    row = next(row for row in rows if row["verdict"] == "chosen")
    section = choices[row["candidate"]].model_dump(mode="json", exclude={"name"}, exclude_defaults=True)
    return yaml.safe_dump({"base_model": section}, sort_keys=False, width=1000)


# ---------------------------------------------------------------- for people


def words(measure: str, metric: str) -> str:
    """A measure's name in words: the shots are in a metric."""
    shots = measure.endswith("shot")
    return f"{measure.replace('_', '-')} {metric.replace('_', ' ')}" if shots else measure.replace("_", " ")


def shown(figure: Interval | None) -> str:
    """A figure with its interval."""
    return "not measured" if figure is None else f"{figure['value']:.3f} [{figure['low']:.3f}, {figure['high']:.3f}]"


def table(*, decision: Selected) -> str:
    """The decision in Markdown."""
    head = (
        "candidate", "verdict", *(words(measure, decision["metric"]) for measure in MEASURES), "parameters (million)",
        "disk (MiB)", "memory (MiB)", "tokens/s", "context (tokens)", "languages", "licence",
    )  # fmt: skip
    lines = [f"**{decision['chosen'] or 'none'}**: {'; '.join(decision['reasons'])} ({decision['n']} records).", ""]
    lines += [_line(head), _line(["---"] * len(head)), *(_line(_cells(row)) for row in decision["ranking"])]
    reasons = [(row["candidate"], reason.rstrip(".")) for row in decision["ranking"] for reason in row["reasons"]]
    lines += ["", *(f"- {candidate}: {reason}." for candidate, reason in reasons)]
    if decision["write"]:
        lines += ["", "To use it, set in the use case:", "```yaml", decision["write"].rstrip(), "```"]
    lines += ["", f"Policy `{decision['policy_sha256'][:12]}`, evidence `{decision['evidence_sha256'][:12]}`."]
    return "\n".join(lines) + "\n"


def _line(cells: Any) -> str:
    return f"| {' | '.join(cells)} |"


def _cells(row: Ranked) -> list[str]:
    figures, ends = row["figures"], [", ".join(row["languages"]), row["licence"]]
    start = [f"{row['candidate']} ({row['model']})", row["verdict"]]
    if figures is None:
        return [*start, *["not measured"] * 3, *[""] * 5, *ends]
    numbers = [figures["parameters"] / 1e6, figures["disk_mib"], figures["memory_mib"], figures["tokens_per_second"]]
    quality = [shown(figures[measure]) for measure in MEASURES]
    context = str(figures["context_length"] or "")
    return [*start, *quality, *(f"{number:.0f}" for number in numbers), context, *ends]
