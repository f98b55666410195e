"""Whether a day's records still look like those that the champion was judged on.

Three kinds of signal: watched numbers and their missing share, and the mix of answers (an abstention is one), by the
population stability index; words, by Jensen-Shannon divergence. Of a generation, the length of answers, their finish
reasons and refusals take the place of labels (`answers`). A signal drifts when its effect is larger than the limit *and* than
chance: than on days made of the same groups in random order, day and reference together, corrected for the number of
signals. Patients are moved whole, as the records of one are alike. So a quiet day stays quiet, and a huge one does not
alarm over trifles. Of very many groups, GROUPS of each side are used, drawn by their digest.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmops_tasks import config
from llmops_tasks.config import UseCase
from llmops_tasks.contracts import ArtifactRef, Partition
from llmops_tasks.monitoring import answers, cells, pages, permutation
from llmops_tasks.prompts import interface
from llmops_tasks.store import artifacts, digests
from llmops_tasks.store.sources import code_digest

if TYPE_CHECKING:
    import pandas as pd

log = logging.getLogger(__name__)
ALPHA = 0.01  # family-wise, over all signals of a day
GROUPS = 20_000  # groups of either side; more would change no verdict and take memory
WORDS = 400  # most frequent words of reference and day; the rest share one cell
# Up to GROUPS groups of a table, drawn by their digest, and all of their rows.
_DRAWN = """
select * from (select {columns} from read_parquet($path) {where}) semi join (
  select "group" from (select distinct "group" from read_parquet($path) {where}) order by md5("group") limit $groups
) using ("group")
"""


def measure_drift(
    *, usecase: str, day: ArtifactRef, predictions: Partition, champion: dict[str, Any]
) -> dict[str, Any]:
    """Measure drift of a scored partition against the champion's test set.

    Args:
        usecase: name or YAML path.
        day: from `render_day`.
        predictions: of that day.
        champion: the release that scored it, with the dataset and report of its promotion.

    Returns:
        {date, predictions_sha256, verdict, alarm, drifting, signals, n, report}: `verdict` is "alarm", "quiet" or, with too few
        rows, "insufficient"; `report` refers to `report.json` and `report.html`.

    Example:
        >>> drift = measure_drift(usecase="triage", day=day, predictions=partition, champion=champion)
    """
    case, name = config.load(usecase), config.usecase_name(usecase)
    inputs = {
        "day": day["sha256"],
        "predictions": predictions["sha256"],
        "release": champion["release"]["sha256"],
        "reference": [champion["dataset"]["sha256"], champion["report"]["predictions"]["sha256"]],
        "config": case.digest("monitoring"),
        "code": code_digest(__name__),
    }
    build = partial(_build, case, day, predictions, champion)
    ref = artifacts.publish(usecase=name, kind="drift", inputs=inputs, build=build)
    found = {key: ref["meta"][key] for key in ("verdict", "alarm", "drifting", "signals")}
    about = {"date": day["meta"]["date"], "predictions_sha256": predictions["sha256"], "n": ref["rows"]}
    return {**about, "report": ref, **found}


def measure_drift_of_days(*, usecase: str, days: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Measure drift of several partitions: {day, predictions, champion} each.

    Example:
        >>> measure_drift_of_days(usecase="triage", days=[{"day": day, "predictions": partition, "champion": champion}])
    """
    return [measure_drift(usecase=usecase, **day) for day in days]


def _build(
    case: UseCase, day: ArtifactRef, predictions: Partition, champion: dict[str, Any], out: Path
) -> dict[str, Any]:
    enough = day["rows"] >= case.monitoring.min_rows
    labels = interface.of_release(champion["release"]).outcomes
    signals = compare_days(case, labels, *_sides(case, day, predictions, champion)) if enough else []
    drifting = [signal["name"] for signal in signals if signal["drifted"]]
    alarm = len(drifting) >= case.monitoring.min_signals
    verdict = "insufficient" if not enough else "alarm" if alarm else "quiet"
    reference = champion["report"]["n"]
    found = {"verdict": verdict, "alarm": alarm, "drifting": drifting, "signals": signals}
    report = {"date": day["meta"]["date"], "n": day["rows"], "reference_n": reference, **found}
    report["needed"] = case.monitoring.min_rows
    (out / "report.json").write_bytes(digests.canonical(report))
    (out / "report.html").write_text(pages.drift(report), encoding="utf-8")
    log.info("%s: drift %s %s", report["date"], verdict, drifting)
    return {"rows": day["rows"], **found}


def _sides(
    case: UseCase, day: ArtifactRef, predictions: Partition, champion: dict[str, Any]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Reference and day, each with group, text, predicted label (or what is watched of answers) and the watched columns."""
    names = ["record_id", "group", "text", *case.monitoring.columns]
    old = _drawn(artifacts.fetch(champion["dataset"]) / "data.parquet", names, "where split = 'test'")
    new = _drawn(artifacts.fetch(day) / "data.parquet", names)
    given = [champion["report"]["predictions"]], predictions["parts"]
    if case.task.type == "generation":
        found = [answers.watched(_predictions(parts, answers.COLUMNS), case.monitoring.refusals) for parts in given]
        return old.join(found[0], on="record_id"), new.join(found[1], on="record_id")
    old["predicted"], new["predicted"] = (
        frame["record_id"].map(_predictions(parts, ["record_id", "label"]).set_index("record_id")["label"])
        for frame, parts in zip((old, new), given, strict=True)
    )
    return old, new


def _drawn(path: Path, names: list[str], where: str = "") -> pd.DataFrame:
    import duckdb

    columns = ", ".join('"' + name.replace('"', '""') + '"' for name in names)
    query = _DRAWN.format(columns=columns, where=where)
    with duckdb.connect() as db:
        return db.execute(query, {"path": str(path), "groups": GROUPS}).df()


def _predictions(parts: list[ArtifactRef], columns: list[str]) -> pd.DataFrame:
    import pandas as pd

    return pd.concat(
        [pd.read_parquet(artifacts.fetch(part) / "predictions.parquet", columns=columns) for part in parts]
    )


def compare_days(case: UseCase, labels: list[str], old: pd.DataFrame, new: pd.DataFrame) -> list[dict[str, Any]]:
    """Every signal: {name, value, limit, p, drifted}. Frames have group, text, what was predicted and the watched columns."""
    rule = case.monitoring
    both = cells.together(old, new)
    signals: list[tuple[str, Any, Callable[..., Any], float]] = []
    for name in rule.columns:
        signals.append((name, cells.numbers(both, name), permutation.psi, rule.psi))
    if case.task.type == "generation":
        signals.append(("answer length", cells.numbers(both, answers.LENGTH), permutation.psi, rule.psi))
        for column, (name, names) in answers.CATEGORIES.items():
            signals.append((name, cells.categories(both, column, names), permutation.psi, rule.psi))
    else:
        signals.append(("predicted labels", cells.labels(both, labels), permutation.psi, rule.psi))
    signals.append(("words", cells.words(both, WORDS), permutation.js, rule.text_js))
    alpha = ALPHA / len(signals)
    return [_signal(name, counts, both.days, effect, limit, alpha) for name, counts, effect, limit in signals]


def _signal(
    name: str, counts: Any, days: Any, effect: Callable[..., Any], limit: float, alpha: float
) -> dict[str, Any]:
    value, p = permutation.test(counts, days, effect, alpha)
    drifted = value > limit and p <= alpha
    return {"name": name, "value": round(value, 5), "limit": limit, "p": round(p, 6), "drifted": drifted}
