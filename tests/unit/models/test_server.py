"""Answers of a server are those of the release in this process; what a server cannot do is refused with the reason."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from llmops_tasks.config.decoding import Decoding
from llmops_tasks.config.server import Server
from llmops_tasks.errors import ConfigError, InputError, ModelError, ServerError
from llmops_tasks.models import server as room
from llmops_tasks.models.label_tree import BRANCHING, Scoring
from llmops_tasks.models.local import LocalModel
from llmops_tasks.models.server import ServedModel

SHA256 = "ab" * 32
PROMPTS = ["Note: pain\nPriority:", "Note: crushing chest pain, sweating\nPriority:", "Note: refill\nPriority:"]
ANSWERS = [" resuscitation", " less urgent", " less"]


class Stub(ThreadingHTTPServer):
    """Speaks as vLLM does, over a model of this process; may be told to fail first."""

    daemon_threads = True
    fails: list[Any]
    seen: list[dict[str, Any]]
    model: Any
    tokenizer: Any
    gives_logs = True
    key = ""


class Handler(BaseHTTPRequestHandler):
    server: Stub

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.seen.append(body)
        fails = self.server.fails.pop(0) if self.server.fails else None
        if self.server.key and self.headers.get("Authorization") != f"Bearer {self.server.key}":
            fails = 401
        if isinstance(fails, float):
            time.sleep(fails)
        if isinstance(fails, int):
            self._send(fails, b"{}")
        elif isinstance(fails, bytes):
            self._send(200, fails)
        elif body["model"] != SHA256[:16]:
            self._send(404, b"{}")
        else:
            self._send(200, json.dumps(self._answer(body)).encode())

    def _answer(self, body: dict[str, Any]) -> dict[str, Any]:
        import torch

        model, tokenizer = self.server.model, self.server.tokenizer
        ids = tokenizer(body["prompt"])["input_ids"] if isinstance(body["prompt"], str) else body["prompt"]
        with torch.inference_mode():
            if "prompt_logprobs" in body:
                logs = torch.log_softmax(model(torch.tensor([ids])).logits[0].double(), -1)
                given = [None, *({str(token): {"logprob": float(logs[at, token])}} for at, token in enumerate(ids[1:]))]
                return {"choices": [{"text": "", "prompt_logprobs": given if self.server.gives_logs else None}]}
            written = model.generate(torch.tensor([ids]), max_new_tokens=body["max_tokens"], do_sample=False)[
                0, len(ids) :
            ]
        text = tokenizer.decode(written, skip_special_tokens=True)
        about = {"text": text, "finish_reason": "length", "logprobs": {"token_logprobs": [-1.0] * len(written)}}
        return {"choices": [about], "usage": {"completion_tokens": len(written)}}

    def _send(self, code: int, content: bytes) -> None:
        self.send_response(code)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Quiet."""


@pytest.fixture
def stub(tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stub]:
    made = Stub(("127.0.0.1", 0), Handler)
    local = LocalModel(tiny_model)
    made.model, made.tokenizer, made.fails, made.seen = local._model, local._tokenizer, [], []
    threading.Thread(target=made.serve_forever, args=(0.01,), daemon=True).start()
    monkeypatch.setattr(room, "PAUSE", 0.001)
    yield made
    made.shutdown()
    made.server_close()


def _client(stub: Stub, folder: Path, sha256: str = SHA256, **settings: Any) -> ServedModel:
    return ServedModel(folder, sha256, Server(url=f"http://127.0.0.1:{stub.server_port}/v1", **settings))


@pytest.mark.parametrize("rule", [Scoring(True), Scoring(True, True)])
def test_labels_are_weighed_as_in_this_process(stub: Stub, tiny_model: Path, rule: Scoring) -> None:
    local, served = LocalModel(tiny_model), _client(stub, tiny_model)
    for limit in (None, 8):
        found = served.scores(PROMPTS, ANSWERS, 2, limit, rule)
        assert found == [pytest.approx(row, abs=1e-5) for row in local.scores(PROMPTS, ANSWERS, 2, limit, rule)]
    assert served.cut == local.cut == 3


def test_bits_are_those_of_this_process(stub: Stub, tiny_model: Path) -> None:
    found = _client(stub, tiny_model).bits("Note:", PROMPTS)
    assert found == pytest.approx(LocalModel(tiny_model).bits("Note:", PROMPTS), rel=1e-4)


def test_texts_are_those_of_this_process_also_of_prompts_that_are_cut(stub: Stub, tiny_model: Path) -> None:
    local, served, wanted = LocalModel(tiny_model), _client(stub, tiny_model), Decoding(max_new_tokens=6)
    for limit in (None, 12):
        found = served.generate(PROMPTS, wanted, 2, limit)
        assert [one.text for one in found] == [one.text for one in local.generate(PROMPTS, wanted, 2, limit)]
    assert (found[0].tokens, found[0].finish_reason) == (6, "length")
    assert found[0].bits == pytest.approx(6 / math.log(2))
    assert served.cut == local.cut > 0


@pytest.mark.parametrize("fails", [[429, 500], [503], [b"not json"], [b"{}"], [b'{"choices": []}'], [0.5]], ids=str)
def test_a_server_that_is_busy_slow_or_talks_nonsense_is_asked_again(
    stub: Stub, tiny_model: Path, fails: list[Any]
) -> None:
    count = len(fails)
    stub.fails = list(fails)
    served = _client(stub, tiny_model, timeout_seconds=0.3 if fails == [0.5] else 20, concurrency=1)
    (answer,) = served.generate(PROMPTS[:1], Decoding(max_new_tokens=2), 1)
    assert answer.finish_reason == "length" and len(stub.seen) == count + 1


def test_stop_texts_that_are_special_tokens_are_sent_as_tokens(stub: Stub, tiny_model: Path) -> None:
    served = _client(stub, tiny_model)
    for stop in (["<|im_end|>", "\n"], ["\n"]):
        served.generate(PROMPTS[:1], Decoding(max_new_tokens=1, stop=stop), 1)
    sent = [(body["stop"], body.get("stop_token_ids")) for body in stub.seen if "stop" in body]
    assert sent[0] == (["<|im_end|>", "\n"], [served._tokenizer.convert_tokens_to_ids("<|im_end|>")])
    assert sent[1] == (["\n"], None)


def test_it_is_given_up_after_so_many_attempts_without_a_word_of_the_record(stub: Stub, tiny_model: Path) -> None:
    stub.fails = [500] * 9
    with pytest.raises(ServerError, match=r"in 3 attempts: status 500") as refusal:
        _client(stub, tiny_model, retries=2).generate(PROMPTS[:1], Decoding(), 1)
    assert "pain" not in str(refusal.value) and len(stub.seen) == 3


def test_a_prompt_that_is_refused_costs_itself(stub: Stub, tiny_model: Path) -> None:
    stub.fails = [400]
    found = _client(stub, tiny_model, concurrency=1).generate(PROMPTS, Decoding(max_new_tokens=2), 1)
    assert [one.finish_reason for one in found] == ["error", "length", "length"] and found[0].error == "Status400"


def test_a_server_that_has_another_release_is_refused(stub: Stub, tiny_model: Path) -> None:
    with pytest.raises(ModelError, match=r"does not serve 'cdcdcdcdcdcdcdcd'.*--served-model-name"):
        _client(stub, tiny_model, sha256="cd" * 32).generate(PROMPTS[:1], Decoding(), 1)


def test_what_a_server_cannot_do_is_refused_with_the_reason(stub: Stub, tiny_model: Path) -> None:
    served = _client(stub, tiny_model)
    with pytest.raises(ModelError, match="whole texts only"):
        served.scores(PROMPTS, ANSWERS, 1, None, BRANCHING)
    with pytest.raises(InputError, match="json_schema is not sent"):
        served.generate(PROMPTS, Decoding(json_schema={"type": "object"}), 1)
    stub.gives_logs = False
    with pytest.raises(ModelError, match="no log-probabilities of a prompt"):
        served.scores(PROMPTS, ANSWERS, 1, None, Scoring(True))


def test_the_key_comes_from_the_environment(stub: Stub, tiny_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stub.key = "secret"
    served = _client(stub, tiny_model, key_variable="LLMOPS_SERVER_KEY")
    with pytest.raises(ConfigError, match="LLMOPS_SERVER_KEY, which is not set"):
        served.generate(PROMPTS[:1], Decoding(max_new_tokens=1), 1)
    monkeypatch.setenv("LLMOPS_SERVER_KEY", "secret")
    assert served.generate(PROMPTS[:1], Decoding(max_new_tokens=1), 1)[0].finish_reason == "length"


# ---------------------------------------------------------------- a real server


@pytest.fixture
def transformers_serve(tiny_model: Path, tmp_path: Path) -> Iterator[str]:
    """`transformers serve` with the tiny model, under the name that is asked for; its address."""
    shutil.copytree(tiny_model, tmp_path / SHA256[:16])
    port = 8390
    command = [
        f"{Path(sys.executable).parent}/transformers",
        "serve",
        SHA256[:16],
        "--device",
        "cpu",
        "--port",
        str(port),
        "--dtype",
        "float32",
    ]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            command,
            cwd=tmp_path,
            stdout=log,
            stderr=log,
            start_new_session=True,
            env={**os.environ, "HF_HUB_OFFLINE": "1"},
        )
    try:
        _wait(f"http://127.0.0.1:{port}/health", process, tmp_path / "log")
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _wait(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + 120
    while time.monotonic() < end and process.poll() is None:
        try:
            urllib.request.urlopen(address, timeout=2)
            return
        except OSError:
            time.sleep(0.3)
    raise AssertionError(log.read_text(encoding="utf-8")[-3000:])


def test_transformers_serve_writes_the_same_texts_and_is_refused_for_labels(
    transformers_serve: str, tiny_model: Path
) -> None:
    served = ServedModel(tiny_model, SHA256, Server(url=transformers_serve, concurrency=1))
    wanted = Decoding(max_new_tokens=6)
    found = served.generate(PROMPTS, wanted, 1)
    assert [one.text for one in found] == [one.text for one in LocalModel(tiny_model).generate(PROMPTS, wanted, 1)]
    assert {one.tokens for one in found} == {6} and {one.finish_reason for one in found} == {"length"}
    with pytest.raises((ModelError, ServerError)):
        served.scores(PROMPTS[:1], ANSWERS, 1, None, Scoring(True))
