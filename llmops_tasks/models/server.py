"""A release behind a server of one's own that speaks OpenAI's completions over HTTP, such as vLLM, SGLang or `transformers serve`.

The server loads the release's verified folder and serves it under the first 16 digits of its SHA-256, so an answer can come
from no other weights by mistake: a name that the server does not know is an error. Prompts are cut here, by the release's own
tokenizer, as everywhere. Labels need the log-probabilities of a prompt's tokens (vLLM's `prompt_logprobs`): a server that does
not give them is refused. What this does not do: start a server, or check which bytes it has loaded.
"""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from llmops_tasks.config.decoding import Decoding
from llmops_tasks.config.server import Server
from llmops_tasks.errors import ConfigError, InputError, ModelError, ServerError
from llmops_tasks.models import tokens
from llmops_tasks.models.chat import Prompt
from llmops_tasks.models.decoding import ERROR, Answer, stop_tokens
from llmops_tasks.models.label_tree import BRANCHING, Scoring

log = logging.getLogger(__name__)
NAME = 16  # digits of the SHA-256
PAUSE = 0.5  # seconds before the second attempt, doubled before each further one
_AGAIN = (408, 409, 425, 429, 500, 502, 503, 504)


class ServedModel:
    """A model that another process serves."""

    def __init__(self, folder: Path, sha256: str, server: Server) -> None:
        from transformers import AutoTokenizer

        self._tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        self._name, self._server, self.cut = sha256[:NAME], server, 0

    def generate(
        self, prompts: Sequence[Prompt], settings: Decoding, batch_size: int, max_length: int | None = None
    ) -> list[Answer]:
        """See Generator; a prompt that the server refuses costs itself."""
        if settings.json_schema:
            raise InputError(
                "task.decoding.json_schema is not sent to servers, which differ in it. Remove inference.server."
            )
        asked = self._texts(prompts, settings.max_new_tokens, max_length)
        about: dict[str, Any] = {
            "max_tokens": settings.max_new_tokens,
            "temperature": settings.temperature,
            "top_p": settings.top_p,
        }
        about |= {"seed": settings.seed, "stop": settings.stop or None, "logprobs": 0}
        if special := stop_tokens(self._tokenizer, settings.stop):
            about["stop_token_ids"] = special  # as vLLM calls them
        return self._all([{"prompt": prompt, **about} for prompt in asked], _answer)

    def scores(
        self,
        prompts: Sequence[Prompt],
        answers: list[str],
        batch_size: int,
        max_length: int | None = None,
        rule: Scoring = BRANCHING,
    ) -> list[list[float]]:
        """See Generator: by whole texts.

        Raises:
            ModelError: if answers are weighed where they part, which no server does, or the server gives no
                log-probabilities of a prompt.
        """
        if not rule.whole_text:
            raise ModelError(
                "A server weighs whole texts only. Set task.scoring to 'whole_text', or remove inference.server."
            )
        labels = tokens.closed_set(self._tokenizer, answers)
        whole = self._fitted(prompts, max(map(len, labels)), max_length)
        bodies = [
            {"prompt": prompt + label, "max_tokens": 1, "prompt_logprobs": 0} for prompt in whole for label in labels
        ]
        found = self._all(bodies, lambda body, answer: _log_probabilities(body["prompt"], answer))
        sums = [_weight(logs, len(labels[at % len(labels)]), rule) for at, logs in enumerate(found)]
        return [_shares(sums[at : at + len(labels)]) for at in range(0, len(sums), len(labels))]

    def bits(self, start: Prompt | list[Prompt], texts: list[str], max_length: int | None = None) -> list[float]:
        """See Generator."""
        starts = tokens.encode_with_bos(self._tokenizer, start if isinstance(start, list) else [start] * len(texts))
        found = []
        for before, text in zip(starts, tokens.encode(self._tokenizer, texts), strict=True):
            if max_length is not None:
                before = tokens.truncate_left(before, max_length - len(text), tokens.bos(self._tokenizer))
            found.append((before, text))
        bodies = [{"prompt": before + text, "max_tokens": 1, "prompt_logprobs": 0} for before, text in found]
        logs = self._all(bodies, lambda body, answer: _log_probabilities(body["prompt"], answer))
        return [-sum(row[len(before) :]) / math.log(2) for row, (before, _) in zip(logs, found, strict=True)]

    def _fitted(self, prompts: Sequence[Prompt], reserve: int, max_length: int | None) -> list[list[int]]:
        """Prompts as tokens, cut as they were in training."""
        whole = tokens.encode_with_bos(self._tokenizer, prompts)
        if max_length is None:
            return whole
        fitted = tokens.fit(self._tokenizer, prompts, max_length, reserve)
        self.cut += sum(len(short) < len(long) for short, long in zip(fitted, whole, strict=True))
        return fitted

    def _texts(self, prompts: Sequence[Prompt], reserve: int, max_length: int | None) -> list[str]:
        """The same as texts, as not all servers take tokens; what a tokenizer puts before every text, the server's does."""
        start, whole = tokens.bos(self._tokenizer), tokens.encode_with_bos(self._tokenizer, prompts)
        fitted = self._fitted(prompts, reserve, max_length)
        return [
            prompt
            if isinstance(prompt, str) and len(short) == len(long)
            else self._tokenizer.decode(short[len(start) :])
            for prompt, long, short in zip(prompts, whole, fitted, strict=True)
        ]

    def _all(self, bodies: list[dict[str, Any]], read: Any) -> list[Any]:
        """What is read of the answers to all requests, several at a time."""
        with ThreadPoolExecutor(self._server.concurrency) as threads:
            return list(threads.map(lambda body: read(body, self._ask(body)), bodies))

    def _ask(self, body: dict[str, Any]) -> dict[str, Any]:
        """One answer; where the server is busy, away or incomprehensible, it is asked again.

        Raises:
            ServerError: after the last attempt.
            ModelError: if the server does not know the release.
        """
        problem = ""
        for attempt in range(self._server.retries + 1):
            if attempt:
                time.sleep(PAUSE * 2 ** (attempt - 1))
            problem, answer = self._attempt({"model": self._name, **body})
            if answer is not None:
                return answer
            log.warning("the inference server: %s (attempt %d)", problem, attempt + 1)
        raise ServerError(
            f"The inference server at '{self._server.url}' gave no usable answer in {self._server.retries + 1} attempts: {problem}. "
            "Check that it runs, or raise inference.server.retries or timeout_seconds."
        )

    def _attempt(self, body: dict[str, Any]) -> tuple[str, dict[str, Any] | None]:
        """What went wrong, or the answer."""
        import requests

        try:
            found = requests.post(
                f"{self._server.url.rstrip('/')}/completions", json=body, headers=self._headers(), timeout=self._server.timeout_seconds,
                allow_redirects=False,
            )  # fmt: skip
        except requests.RequestException as exc:
            return type(exc).__name__, None
        if found.status_code == 404:
            raise ModelError(
                f"The inference server does not serve '{self._name}'. Load the release's folder under this name "
                f"(vLLM: --served-model-name {self._name})."
            )
        if found.status_code in _AGAIN:
            return f"status {found.status_code}", None
        if found.status_code != 200:
            return "", {"refused": found.status_code}
        try:
            choice = found.json()["choices"][0]
        except (ValueError, LookupError, TypeError):
            return "an answer that is no completion", None
        return "", {"usage": {}, **found.json(), "choice": choice}

    def _headers(self) -> dict[str, str]:
        variable = self._server.key_variable
        if variable is None:
            return {}
        if not os.environ.get(variable):
            raise ConfigError(f"inference.server.key_variable names {variable}, which is not set.")
        return {"Authorization": f"Bearer {os.environ[variable]}"}


def _answer(body: dict[str, Any], answer: dict[str, Any]) -> Answer:
    if "refused" in answer:
        return Answer("", 0, ERROR, 0.0, f"Status{answer['refused']}")
    choice, used = answer["choice"], answer["usage"] or {}
    logs = ((choice.get("logprobs") or {}).get("token_logprobs")) or []
    bits = -sum(logs) / math.log(2) if logs else math.nan
    reason = "length" if choice.get("finish_reason") == "length" else "stop"
    return Answer(str(choice.get("text") or ""), int(used.get("completion_tokens") or len(logs)), reason, bits)


def _log_probabilities(prompt: list[int], answer: dict[str, Any]) -> list[float]:
    """Of each of the prompt's tokens, the first as 0."""
    if "refused" in answer:
        raise ServerError(f"The inference server refused a request with status {answer['refused']}. See its log.")
    found = answer["choice"].get("prompt_logprobs")
    if not isinstance(found, list) or len(found) != len(prompt):
        raise ModelError(
            "The inference server gives no log-probabilities of a prompt (prompt_logprobs), so labels cannot be weighed. Use vLLM, "
            "or remove inference.server."
        )
    return [0.0, *(float(at[str(token)]["logprob"]) for at, token in zip(found[1:], prompt[1:], strict=True))]


def _weight(logs: list[float], length: int, rule: Scoring) -> float:
    total = sum(logs[-length:])
    return total / length if rule.length_normalised else total


def _shares(logs: list[float]) -> list[float]:
    most = max(logs)
    parts = [math.exp(value - most) for value in logs]
    return [part / sum(parts) for part in parts]
