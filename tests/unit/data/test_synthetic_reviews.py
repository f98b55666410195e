"""The invented shop: the same for the same seed, a rule behind the labels, a second new week that is unlike the first."""

from __future__ import annotations

import csv
import json
import random
from collections import Counter
from datetime import date, datetime
from pathlib import Path
from typing import Any

import pytest

from llmops_tasks import config
from llmops_tasks.contracts import METRICS
from llmops_tasks.data.synthetic_reviews import Said, _opinion, reference_sentiment, write_reviews
from llmops_tasks.data.synthetic_reviews_words import PRODUCTS
from llmops_tasks.errors import InputError
from llmops_tasks.monitoring import cells, drift, permutation

SIZES = {"reviews": 3000, "week_reviews": 400, "reviewed": 100}
LABELS = ["neg", "mix", "pos"]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shop large enough to count in."""
    folder = tmp_path_factory.mktemp("reviews")
    write_reviews(out=folder.as_uri(), **SIZES)
    return folder


def _rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def _history(written: Path) -> list[dict[str, str]]:
    return [row for path in sorted((written / "landing").iterdir()) for row in _rows(path)]


def _inbox(written: Path) -> list[list[dict[str, str]]]:
    return [_rows(path / "reviews.csv") for path in sorted((written / "inbox").iterdir())]


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        write_reviews(out=(tmp_path / name).as_uri(), seed=seed, reviews=60, week_reviews=5, reviewed=5)
    names = sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*.csv"))
    assert len(names) == 15
    assert all((tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes() for name in names)
    assert all((tmp_path / "a" / name).read_bytes() != (tmp_path / "c" / name).read_bytes() for name in names)


def test_twelve_weekly_files_hold_their_own_weeks_reviews_in_order(written: Path) -> None:
    files = sorted((written / "landing").iterdir())
    assert [path.name for path in files] == [f"week=2026-W{week:02d}.csv" for week in range(5, 17)]
    for path in files:
        rows = _rows(path)
        stamps = [datetime.fromisoformat(row["written_at"]) for row in rows]
        assert stamps == sorted(stamps) and len(rows) == SIZES["reviews"] / 12
        for row, stamp in zip(rows, stamps, strict=True):
            assert row["week"] == "{}-W{:02d}".format(*stamp.isocalendar()[:2]) == path.stem.removeprefix("week=")


def test_the_inbox_is_named_by_mondays_and_knows_no_labels(tmp_path: Path) -> None:
    done = write_reviews(out=tmp_path.as_uri(), reviews=60, week_reviews=30, reviewed=5)
    assert done["days"] == ["2026-04-20", "2026-04-27"] and done["reviews"] == 125
    for day in done["days"]:
        assert date.fromisoformat(day).isoweekday() == 1
        rows = _rows(tmp_path / "inbox" / f"date={day}" / "reviews.csv")
        assert len(rows) == 30 and not {"stars", "sentiment"} & set(rows[0])
        assert all(config.checked_date(day) <= row["written_at"][:10] for row in rows)


def test_reviews_are_counted_through_and_some_customers_write_again(written: Path) -> None:
    rows = [*_history(written), *(row for week in _inbox(written) for row in week)]
    assert len({row["review_id"] for row in rows}) == len(rows)
    writers = Counter(row["customer_id"] for row in rows)
    assert 0.15 < 1 - len(writers) / len(rows) < 0.35
    assert len({(row["customer_id"], row["email"], row["customer_name"]) for row in rows}) == len(writers)


@pytest.mark.parametrize(
    ("said", "sentiment"),
    [
        ([("", 1, 1)], "pos"),
        ([("", -1, 1)], "neg"),
        ([("", 0, 1)], "mix"),  # faint praise alone
        ([("", 1, 1), ("", -1, 1)], "mix"),
        ([("", 1, 1), ("", -1, 2)], "neg"),  # good, but bad
        ([("", -1, 1), ("", 1, 2)], "pos"),
        ([("", 1, 1), ("", 0, 2)], "pos"),
        ([("", 1, 1), ("", -1, 2), ("", 1, 1)], "mix"),
    ],
)
def test_the_rule(said: list[tuple[str, int, int]], sentiment: str) -> None:
    assert reference_sentiment([Said(*one) for one in said]) == sentiment


def test_what_stands_behind_a_contrast_counts_double_and_only_that() -> None:
    rng = random.Random(1)
    signs = (", but ", " - ", ". However, ", ", yet ", "although ", "even though ")
    weights = Counter[int]()
    for _ in range(500):
        said, text = _opinion(rng, PRODUCTS["kettle"], 0.5)
        contrast = any(sign in text for sign in signs)
        assert [one.weight for one in said] == [1, 2 if contrast else 1, 1][: len(said)], text
        places = [text.index(one.words) for one in said]
        assert places == sorted(places)
        weights.update(one.weight for one in said)
    assert weights[2] > 50


def test_all_three_labels_come_often_and_stars_agree_mostly(written: Path) -> None:
    rows = _history(written)
    shares = {label: sum(row["sentiment"] == label for row in rows) / len(rows) for label in LABELS}
    assert all(0.1 < share < 0.6 for share in shares.values()), shares
    of_stars = {"1": "neg", "2": "neg", "3": "mix", "4": "pos", "5": "pos"}
    agree = sum(of_stars[row["stars"]] == row["sentiment"] for row in rows) / len(rows)
    assert 0.82 < agree < 0.97


def test_spans_point_exactly_at_planted_names_and_addresses(written: Path) -> None:
    rows = {row["review_id"]: row for row in _rows(written / "inbox" / "date=2026-04-20" / "reviews.csv")}
    columns, seen = {"name": "customer_name", "email": "email"}, Counter[str]()
    lines = (written / "truth" / "inbox_date=2026-04-20_reviews.jsonl").read_text(encoding="utf-8").splitlines()
    for truth in map(json.loads, lines):
        row = rows.pop(truth["review_id"])
        for span in truth["spans"]:
            assert row["review"][span["start"] : span["end"]] == row[columns[span["kind"]]]
            seen[span["kind"]] += 1
        left = row["review"].count(row["customer_name"]) + row["review"].count(row["email"])
        assert left == len(truth["spans"])
    assert not rows and set(seen) == set(columns)


def _accuracy(train: list[dict[str, str]], test: list[dict[str, str]], ngrams: tuple[int, int]) -> float:
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression

    words = TfidfVectorizer(ngram_range=ngrams, min_df=2, sublinear_tf=True)
    seen = words.fit_transform([row["review"] for row in train])
    model = LogisticRegression(max_iter=3000, C=10.0).fit(seen, [row["sentiment"] for row in train])
    found = model.predict(words.transform([row["review"] for row in test]))
    return float(sum(one == row["sentiment"] for one, row in zip(found, test, strict=True)) / len(test))


def test_the_sentiment_can_be_learned_but_single_words_are_not_enough(written: Path) -> None:
    rows = _history(written)
    train, test = rows[:2000], rows[2000:]
    commonest = max(Counter(row["sentiment"] for row in test).values()) / len(test)
    words, pairs = _accuracy(train, test, (1, 1)), _accuracy(train, test, (1, 2))
    assert commonest + 0.1 < words < 0.85, (commonest, words)
    assert words < pairs < 0.92, (words, pairs)  # room for a model that reads sentences


def test_no_single_word_decides(written: Path) -> None:
    rows = _history(written)
    by_word: dict[str, Counter[str]] = {}
    for row in rows:
        for word in set(row["review"].lower().split()):
            by_word.setdefault(word, Counter())[row["sentiment"]] += 1
    for word, counts in by_word.items():
        if counts.total() >= 60:
            assert max(counts.values()) / counts.total() < 0.95, word


def _texts(rows: list[dict[str, Any]]) -> Any:
    import pandas as pd

    return pd.DataFrame({"text": [row["review"] for row in rows], "group": [row["review_id"] for row in rows]})


def test_the_second_week_brings_a_new_line_of_products_and_the_first_does_not(written: Path) -> None:
    reference, values = _texts(_history(written)[2000:]), []
    for week in _inbox(written):
        both = cells.together(reference, _texts(week))
        counts = cells.words(both, drift.WORDS)
        values.append(permutation.test(counts, both.days, permutation.js, 0.01)[0])
    limit = config.load("reviews").monitoring.text_js
    assert values[0] < limit / 2 < limit < values[1], values
    known = {row["product"] for row in _history(written)}
    first, second = ({row["product"] for row in week} - known for week in _inbox(written))
    assert first == set() and second == {"cargo e-bike", "smart helmet"}


def test_the_new_line_is_less_liked(written: Path) -> None:
    shares = [
        sum(row["sentiment"] == "neg" for row in rows) / len(rows)
        for rows in (_history(written), _rows(written / "reviewed" / "week=2026-W18.csv"))
    ]
    assert shares[1] > shares[0] + 0.1, shares


@pytest.mark.parametrize("arguments", [{"out": "/folder"}, {"out": "s3://b/x"}, {"out": "file:///x", "reviews": 11}])
def test_what_cannot_be_written_is_refused(arguments: dict[str, object]) -> None:
    with pytest.raises(InputError, match="Allowed: a file:// folder"):
        write_reviews(**arguments)  # type: ignore[arg-type]


def test_the_metric_its_gate_asks_for_is_measured() -> None:
    case, measured = config.load("reviews"), set(METRICS)
    assert {case.gate.metric, *(limit.metric for limit in case.gate.limits)} <= measured


def test_from_weekly_files_to_a_dataset(written: Path, tmp_path: Path) -> None:
    import pandas as pd
    import yaml

    from llmops_tasks import chain
    from llmops_tasks.store import artifacts

    raw = yaml.safe_load(config.usecase_path("reviews").read_text(encoding="utf-8"))
    raw["data"]["source"]["uri"] = f"{written.as_uri()}/landing/*.csv"
    (tmp_path / "shop.yaml").write_text(yaml.safe_dump(raw), encoding="utf-8")
    done = chain.chain(usecase=str(tmp_path / "shop.yaml"), until="version")
    frame = pd.read_parquet(artifacts.fetch(done["version"]) / "data.parquet")
    assert done["version"]["rows"] == len(frame) > 2900
    assert set(frame["label"]) == {"negative", "mixed", "positive"}
    assert not {"stars", "email", "customer_name", "week"} & set(frame)
    assert not frame["text"].str.contains("@").any() and frame["text"].str.contains(r"\[name\]").any()
    assert frame.groupby("group")["split"].nunique().max() == 1
