"""Whether a day's records still look like those the champion was judged on.

Three kinds of signal: watched numbers and their missing share, and the mix of predicted labels, by the
population stability index; words, by Jensen-Shannon divergence. A signal drifts when its effect is larger
than the limit *and* larger than chance: the null comes from days of the same size drawn from the reference,
corrected for the number of signals. So a quiet day stays quiet, and a huge one does not alarm over trifles.
"""

from __future__ import annotations

import html
import logging
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmops_tasks import config
from llmops_tasks.config import UseCase
from llmops_tasks.contracts import ArtifactRef
from llmops_tasks.errors import EvidenceError
from llmops_tasks.store import artifacts, digests
from llmops_tasks.store.sources import code_digest

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from numpy.typing import NDArray

    Counts = NDArray[np.float64]  # (rows, cells): each row's contribution

log = logging.getLogger(__name__)
BINS = 5  # quantile bins of the reference; more would only add noise on a day of some hundred rows
NULL_DRAWS = 400
ALPHA = 0.01  # family-wise, over all signals of a day
SEED = 4242
WORDS = 400  # most frequent words of reference and day; the rest share one cell
_WORD = re.compile(r"[^\W\d_]{2,}")


def measure_drift(
    *, usecase: str, day: ArtifactRef, predictions: ArtifactRef, champion: dict[str, Any]
) -> dict[str, Any]:
    """Compare a day with the champion's evaluation data.

    Args:
        usecase: name or YAML path.
        day: from `versions.day`.
        predictions: of that day.
        champion: the release that answered, with the dataset and report of its promotion.

    Returns:
        {date, alarm, drifting, signals, n, report}: `report` refers to `report.json` and `report.html`.

    Raises:
        EvidenceError: if the day has too few rows to say anything.
    """
    case, name = config.load(usecase), config.usecase_name(usecase)
    if day["rows"] < case.monitoring.min_rows:
        raise EvidenceError(
            f"{day['meta']['date']} has {day['rows']} rows; {case.monitoring.min_rows} are needed to judge drift."
        )
    inputs = {
        "day": day["sha256"],
        "predictions": predictions["sha256"],
        "reference": [champion["dataset"]["sha256"], champion["report"]["predictions"]["sha256"]],
        "config": case.digest("monitoring"),
        "code": code_digest(__name__),
    }
    ref = artifacts.publish(
        usecase=name, kind="drift", inputs=inputs, build=partial(_build, case, day, predictions, champion)
    )
    return {
        "date": day["meta"]["date"],
        "n": ref["rows"],
        "report": ref,
        **{key: ref["meta"][key] for key in ("alarm", "drifting", "signals")},
    }


def measure_drift_of_days(*, usecase: str, days: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """`measure` for several days: {day, predictions, champion} each."""
    return [measure_drift(usecase=usecase, **day) for day in days]


def _build(
    case: UseCase, day: ArtifactRef, predictions: ArtifactRef, champion: dict[str, Any], out: Path
) -> dict[str, Any]:
    import pandas as pd

    old = pd.read_parquet(artifacts.fetch(champion["dataset"]) / "data.parquet", filters=[("split", "==", "test")])
    judged = pd.read_parquet(artifacts.fetch(champion["report"]["predictions"]) / "predictions.parquet")
    old["predicted"] = old["record_id"].map(judged.set_index("record_id")["label"])
    new = pd.read_parquet(artifacts.fetch(day) / "data.parquet")
    answers = pd.read_parquet(artifacts.fetch(predictions) / "predictions.parquet")
    new["predicted"] = new["record_id"].map(answers.set_index("record_id")["label"])
    signals = compare_days(case, old, new)
    drifting = [signal["name"] for signal in signals if signal["drifted"]]
    alarm = len(drifting) >= case.monitoring.min_signals
    report = {"date": day["meta"]["date"], "n": len(new), "reference_n": len(old), "alarm": alarm, "signals": signals}
    (out / "report.json").write_bytes(digests.canonical(report))
    (out / "report.html").write_text(_page(report), encoding="utf-8")
    log.info("%s: drift %s %s", report["date"], "ALARM" if alarm else "none", drifting)
    return {"rows": len(new), "alarm": alarm, "drifting": drifting, "signals": signals}


def compare_days(case: UseCase, old: pd.DataFrame, new: pd.DataFrame) -> list[dict[str, Any]]:
    """Every signal: {name, value, limit, chance, drifted}. Frames have text, predicted and the watched columns."""
    limit = case.monitoring.psi
    cells: list[tuple[str, Counts, Counts, Callable[..., Any], float]] = []
    for name in case.monitoring.columns:
        cells.append((name, *_number_cells(old[name], new[name]), psi, limit))
    names = [label.name for label in case.task.labels]
    cells.append(("predicted labels", _one_hot(old["predicted"], names), _one_hot(new["predicted"], names), psi, limit))
    cells.append(("words", *_word_cells(old["text"], new["text"]), js, case.monitoring.text_js))
    return [_signal(*cell, alpha=ALPHA / len(cells)) for cell in cells]


def _signal(
    name: str, old: Counts, new: Counts, effect: Callable[..., Any], limit: float, alpha: float
) -> dict[str, Any]:
    """The effect, and what chance alone gives on days of this size (the 1 - alpha quantile)."""
    import numpy as np

    rng = np.random.default_rng(SEED)
    value = float(effect(old.sum(axis=0), new.sum(axis=0)))
    null = []
    for _ in range(NULL_DRAWS):
        # a same-sized day against the rest, both drawn from the reference: the shape of no drift
        order = rng.permutation(len(old))
        size = min(len(new), len(old) // 2)
        null.append(float(effect(old[order[size:]].sum(axis=0), old[order[:size]].sum(axis=0))))
    chance = float(np.quantile(null, 1 - alpha))
    return {
        "name": name,
        "value": round(value, 5),
        "limit": limit,
        "chance": round(chance, 5),
        "drifted": bool(value > limit and value > chance),
    }


def psi(old: Any, new: Any) -> Any:
    """Population stability index of two rows of counts, (cells,): sum of (q - p) ln(q / p), smoothed by half a row."""
    import numpy as np

    p, q = ((counts + 0.5) / (counts.sum() + 0.5 * len(counts)) for counts in (old, new))
    return np.sum((q - p) * np.log(q / p))


def js(old: Any, new: Any) -> Any:
    """Jensen-Shannon divergence of two rows of counts, in bits: 0 alike, 1 nothing in common (Lin 1991)."""
    import numpy as np

    p, q = old / max(old.sum(), 1), new / max(new.sum(), 1)
    middle = (p + q) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        return sum(np.nansum(np.where(side > 0, side * np.log2(side / middle), 0)) / 2 for side in (p, q))


def _number_cells(old: pd.Series, new: pd.Series) -> tuple[Counts, Counts]:
    """Quantile bins of the reference, and one more cell for missing values."""
    import numpy as np

    edges = np.unique(np.nanquantile(old.astype(float), np.linspace(0, 1, BINS + 1)[1:-1]))

    def cells(values: pd.Series) -> Counts:
        numbers = values.astype(float).to_numpy()
        codes = np.where(np.isnan(numbers), len(edges) + 1, np.searchsorted(edges, numbers, side="right"))
        result: Counts = np.eye(len(edges) + 2)[codes]
        return result

    return cells(old), cells(new)


def _one_hot(values: pd.Series, names: list[str]) -> Counts:
    import numpy as np

    result: Counts = np.eye(len(names))[values.map(names.index).to_numpy()]
    return result


def _word_cells(old: pd.Series, new: pd.Series) -> tuple[Counts, Counts]:
    """Each row's words, counted over the most frequent ones. Masks count as words, so lost masking shows."""
    from collections import Counter

    import numpy as np

    texts = [[Counter(_WORD.findall(text.lower())) for text in part] for part in (old, new)]
    frequent: Counter[str] = sum((sum(part, Counter()) for part in texts), Counter())
    place = {word: cell for cell, (word, _) in enumerate(frequent.most_common(WORDS))}

    def cells(part: list[Counter[str]]) -> Counts:
        result: Counts = np.zeros((len(part), WORDS + 1))
        for row, counter in enumerate(part):
            for word, count in counter.items():
                result[row, place.get(word, WORDS)] += count
        return result

    return cells(texts[0]), cells(texts[1])


def _page(report: dict[str, Any]) -> str:
    """A small page for people: names and figures only, no words of the notes."""
    rows = "".join(
        f"<tr class={'bad' if s['drifted'] else 'good'}><td>{html.escape(s['name'])}<td>{s['value']:.3f}<td>{s['limit']:.3f}"
        f"<td>{s['chance']:.3f}<td>{'drifting' if s['drifted'] else 'steady'}"
        for s in report["signals"]
    )
    title = f"Drift on {report['date']}: {'alarm' if report['alarm'] else 'none'}"
    style = "body{font:16px system-ui;margin:3em}td,th{padding:.3em 1em;text-align:left}.bad{background:#fdd}.good{background:#efe}"
    head = f"<!doctype html><meta charset=utf-8><title>{title}</title><style>{style}</style><h1>{title}</h1>"
    text = f"<p>{report['n']} records, against {report['reference_n']} of the champion's evaluation."
    legend = "<tr><th>signal<th>effect<th>limit<th>by chance<th>verdict"
    return f"{head}{text}<table>{legend}{rows}</table><p>A signal drifts when its effect exceeds both its limit and chance."
