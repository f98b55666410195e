"""Synthetic customer reviews, week by week, for the demo and the tests. No real shop, no real customer.

A review speaks of one to three parts of a product. Its sentiment follows from a written rule
(`reference_sentiment`) over what is said, not over single words: adjectives are turned round ("anything but
great"), faint praise counts for nothing, and what stands behind a "but" counts double. The stars beside it agree
with it most of the time only. The true places of planted names and addresses are written beside the reviews.
"""

from __future__ import annotations

import random
from datetime import UTC, date, datetime, timedelta
from typing import Any, NamedTuple

from llmops_tasks.data.synthetic_files import folder, planted, write_csv, write_spans
from llmops_tasks.data.synthetic_reviews_words import (
    BAD,
    CONTRASTS,
    COUNTRIES,
    FAINT,
    FIRST_WORDS,
    GOOD,
    MAIL_HOSTS,
    NEW_PRODUCTS,
    PAIRS,
    PLAIN,
    PRODUCTS,
    TURNED,
    VOICES,
    Part,
)
from llmops_tasks.data.synthetic_words import FIRST_NAMES, LAST_NAMES
from llmops_tasks.data.typos import doubled, dropped, swapped

WEEKS = 12  # of history
FIRST_MONDAY = date(2026, 1, 26)  # week 2026-W05
PRAISE = {"old": 0.58, "new": 0.33}  # share of parts that are praised
NEW_SHARE = 0.8  # of the second new week's reviews are about the new line
STARS = {"neg": (1, 2), "mix": (3, 3), "pos": (4, 5)}
LABELLED_ONLY = ("stars", "sentiment")
COLUMNS = (
    "review_id", "customer_id", "written_at", "week", "country", "customer_name", "email", "product", "days_owned",
    "review", *LABELLED_ONLY,
)  # fmt: skip

Case = dict[str, Any]


class Said(NamedTuple):
    """One thing said of one part."""

    words: str
    value: int  # 1 praise, -1 complaint, 0 faint praise
    weight: int  # 2 behind a "but"


def write_reviews(
    *, out: str, reviews: int = 1440, week_reviews: int = 120, reviewed: int = 160, seed: int = 5
) -> dict[str, Any]:
    """Write synthetic product reviews below a file:// folder; deterministic.

    `landing/week=2026-W05.csv` and on: twelve weeks of labelled reviews. `inbox/date=<Monday>/reviews.csv`: two
    weeks without labels, the second mostly about a new line of products. `reviewed/`: labelled reviews of the
    second week that land later. `truth/*.jsonl`: the identifier spans.

    Args:
        out: file:// folder.
        reviews: in the history, spread evenly over the weeks.
        week_reviews: in each of the two new weeks.
        reviewed: of the second new week, labelled.
        seed: of the random numbers.

    Example:
        >>> write_reviews(out="file:///var/inbox")
    """
    root, rng = folder(out, reviews // WEEKS, week_reviews, reviewed), random.Random(seed)
    mondays = [FIRST_MONDAY + timedelta(weeks=number) for number in range(WEEKS + 2)]
    plan = [(f"landing/week={_week(monday)}.csv", monday, "old", True) for monday in mondays[:WEEKS]]
    counts = [reviews // WEEKS + (number < reviews % WEEKS) for number in range(WEEKS)]
    plan += [(f"inbox/date={mondays[-2]}/reviews.csv", mondays[-2], "old", False)]
    plan += [(f"inbox/date={mondays[-1]}/reviews.csv", mondays[-1], "new", False)]
    plan += [(f"reviewed/week={_week(mondays[-1])}.csv", mondays[-1], "new", True)]
    counts += [week_reviews, week_reviews, reviewed]
    customers: list[Case] = []
    total = 0
    for (name, monday, line, labelled), count in zip(plan, counts, strict=True):
        cases = _reviews(rng, line, count, monday, total, customers)
        total += count
        columns = [column for column in COLUMNS if labelled or column not in LABELLED_ONLY]
        write_csv(root / name, columns, [[case[column] for column in columns] for case in cases])
        write_spans(root, name, cases, key="review_id", column="review")
    days = [monday.isoformat() for monday in mondays[-2:]]
    return {"uri": out, "days": days, "reviews": total, "synthetic": True}


def reference_sentiment(said: list[Said]) -> str:
    """The written rule: "pos", "neg", or "mix" where praise and complaints balance or nothing is really said."""
    total = sum(one.value * one.weight for one in said)
    return "pos" if total > 0 else "neg" if total < 0 else "mix"


def _week(monday: date) -> str:
    year, week, _ = monday.isocalendar()
    return f"{year}-W{week:02d}"


def _reviews(rng: random.Random, line: str, count: int, monday: date, base: int, customers: list[Case]) -> list[Case]:
    """`count` reviews of a week in order of time; about a quarter are of customers who wrote before."""
    start = datetime(monday.year, monday.month, monday.day, tzinfo=UTC)
    cases = []
    for index, minute in enumerate(sorted(rng.choices(range(7 * 1440), k=count))):
        if not customers or rng.random() >= 0.25:
            customers.append(_customer(rng, base + index))
            writer = customers[-1]
        else:
            writer = rng.choice(customers[-200:])
        case = writer | {"review_id": f"R{base + index:06d}", "week": _week(monday)}
        case["written_at"] = (start + timedelta(minutes=minute)).isoformat()
        cases.append(case | _review(rng, line, writer))
    return cases


def _customer(rng: random.Random, number: int) -> Case:
    first, last = rng.choice(FIRST_NAMES), rng.choice(LAST_NAMES)
    email = f"{first.lower()}.{last.lower()}{rng.randint(1, 99)}@{rng.choice(MAIL_HOSTS)}"
    named = {"customer_id": f"C{number:06d}", "customer_name": f"{first} {last}", "email": email}
    return named | {"country": rng.choices(COUNTRIES, (6, 1, 4, 1, 1))[0]}


def _review(rng: random.Random, line: str, writer: Case) -> Case:
    """A product, what is said of it, and the labels that follow."""
    products = NEW_PRODUCTS if line == "new" and rng.random() < NEW_SHARE else PRODUCTS
    product = rng.choice(sorted(products))
    said, body = _opinion(rng, products[product], PRAISE["new" if products is NEW_PRODUCTS else "old"])
    days = rng.randint(1, 25 if products is NEW_PRODUCTS else 400)
    voice = rng.choice(VOICES).format(said=_typos(rng, rng.choice(FIRST_WORDS) + body), product=product, days=days)
    text, spans = planted(voice, {"name": writer["customer_name"], "email": writer["email"]})
    sentiment = reference_sentiment(said)
    stars = rng.choice(STARS[sentiment]) if rng.random() > 0.15 else rng.randint(1, 5)
    labels = {"sentiment": sentiment, "stars": stars}
    return {"product": product, "days_owned": days, "review": text, "spans": spans, **labels}


def _opinion(rng: random.Random, parts: tuple[Part, ...], praise: float) -> tuple[list[Said], str]:
    """What is said of one to three parts, and the sentence it makes."""
    count = rng.choices((1, 2, 3), (35, 50, 15))[0]
    said = [_said(rng, part, praise) for part in rng.sample(parts, count)]
    if count == 1:
        return said, said[0].words
    contrast = rng.random() < 0.6 and said[0].value != said[1].value
    if contrast:
        said[1] = said[1]._replace(weight=2)
    frame = rng.choice(CONTRASTS if contrast else PAIRS)
    return said, ". ".join([frame.format(first=said[0].words, last=said[1].words), *(one.words for one in said[2:])])


def _said(rng: random.Random, part: Part, praise: float) -> Said:
    """One thing said of a part: a fact, an adjective, an adjective turned round, or faint praise."""
    name, good_facts, bad_facts = part
    if rng.random() < 0.12:
        return Said(rng.choice(FAINT).format(part=name), 0, 1)
    good = rng.random() < praise
    form = rng.random()
    if form < 0.45:
        return Said(rng.choice(good_facts if good else bad_facts), 1 if good else -1, 1)
    turned = form > 0.8
    word = rng.choice(GOOD if good != turned else BAD)
    return Said(rng.choice(TURNED if turned else PLAIN).format(part=name, word=word), 1 if good else -1, 1)


def _typos(rng: random.Random, words: str) -> str:
    """One slip in about one review of four."""
    if rng.random() < 0.25:
        words = rng.choice((swapped, dropped, doubled))(words, rng.randrange(1, len(words) - 2))
    return words
