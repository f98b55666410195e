"""Labels in many words that begin alike, beside labels whose first tokens differ: seconds for the same 64 prompts.

SmolLM2-135M-Instruct in fp32. Peer `first_tokens`: the five labels of triage, one position a prompt. Ours, against it:
the 77 names of `banking` in their own words, by the nodes where they branch (the default), and `whole_text`, by all of
their tokens. The ratio is the peer's seconds over ours: 0.5 is twice as slow. Each line says how many tokens are run
after each prompt, at how many nodes the model is asked, and the mean tokens of a prompt.
"""

from __future__ import annotations

import time
from typing import Any

from benchmarks.banking import INTENTS
from benchmarks.harness import paired, report
from llmops_tasks import config
from llmops_tasks.models import label_tree, tokens
from llmops_tasks.models.label_tree import BRANCHING, Scoring
from llmops_tasks.models.local import LocalModel
from llmops_tasks.prompts.interface import of_usecase
from llmops_tasks.store import artifacts
from llmops_tasks.training.base_model import fetch_base_model

PROMPTS, BATCH, N = 64, 16, 7
OWN_WORDS = [f" {name.replace('_', ' ')}" for name in INTENTS]
WORDS = ("my", "card", "was", "charged", "twice", "and", "the", "transfer", "has", "not", "come", "yet", "please")


class World:
    """The model, and prompts of about 42 tokens."""

    def __init__(self) -> None:
        asked = of_usecase(config.load("triage"))
        self.first = asked.answers
        texts = [" ".join(WORDS[(n + at) % len(WORDS)] for at in range(26 + n % 17)) for n in range(PROMPTS)]
        self.prompts = [asked.render_prompt(text) for text in texts]
        self.model = LocalModel(artifacts.fetch(fetch_base_model(usecase="triage")))

    def seconds(self, labels: list[str], rule: Scoring) -> float:
        """Of one pass over all prompts."""
        started = time.perf_counter()
        scores = self.model.scores(self.prompts, labels, BATCH, rule=rule)
        spent = time.perf_counter() - started
        assert all(abs(sum(row) - 1) < 1e-6 and len(row) == len(labels) for row in scores)
        return spent

    def about(self, rule: Scoring) -> dict[str, Any]:
        """The size of what is run."""
        tokenizer = self.model._tokenizer
        tree = label_tree.build(tokens.closed_set(tokenizer, OWN_WORDS), rule.whole_text)
        mean = sum(map(len, tokens.encode_with_bos(tokenizer, self.prompts))) / PROMPTS
        return {"tree_tokens": len(tree.tokens), "asked": len(tree.asked), "prompt_tokens": round(mean, 1)}


def main() -> None:
    """Both ways of scoring, beside first tokens that differ."""
    world = World()
    world.seconds(world.first, BRANCHING)  # warm up
    for name, rule, goal in (("branching", BRANCHING, 0.5), ("whole_text", Scoring(whole_text=True), 0.0)):
        figures = paired(
            lambda _, rule=rule: world.seconds(OWN_WORDS, rule),  # type: ignore[misc]
            lambda _: world.seconds(world.first, BRANCHING),
            N if name == "branching" else 3,
        )
        report("labels", f"first_tokens_{name}", "s for 64 prompts", goal, figures | world.about(rule))
