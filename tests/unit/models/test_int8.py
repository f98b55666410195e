"""A model in int8 behaves as one of transformers does: batches, caches, masks; and it is checked when it is opened."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from llmops_tasks.config.decoding import Decoding
from llmops_tasks.errors import ModelError
from llmops_tasks.models import int8
from llmops_tasks.models.frozen_layers import Shared
from llmops_tasks.models.generator import MEMBERS, Generator, open_generator
from llmops_tasks.models.label_tree import Scoring

LABELS = [" urgent", " less urgent", " less bad", " emergent"]
PROMPTS = [f"Note {n}: " + "pain " * (7 * n % 11) + "\nPriority:" for n in range(9)]


@pytest.fixture(scope="module")
def model(int8_model: Path) -> Any:
    return int8.Int8Model(int8_model)


@pytest.fixture(scope="module")
def small(int8_model: Path) -> Generator:
    """The same, as a generator."""
    return open_generator("transformers", int8_model, number_format="int8")


@pytest.fixture(scope="module")
def plain(tiny_model: Path) -> Generator:
    """What it was quantised from."""
    return open_generator("transformers", tiny_model)


@pytest.fixture(scope="module")
def tokens() -> Any:
    import torch

    return torch.arange(24).view(2, 12) * 31 % 4000


def _alike(found: list[list[float]], wanted: list[list[float]], within: float) -> bool:
    return all(row == pytest.approx(other, abs=within) for row, other in zip(found, wanted, strict=True))


def test_logits_are_near_those_in_fp32(tiny_model: Path, model: Any, tokens: Any) -> None:
    import torch
    from transformers import AutoModelForCausalLM

    with torch.inference_mode():
        wanted = AutoModelForCausalLM.from_pretrained(tiny_model)(tokens).logits
    assert int8.distance(model(tokens).logits, wanted) < 0.05


def test_cached_tokens_are_not_read_again(model: Any, tokens: Any) -> None:
    import torch

    whole = model(tokens).logits
    cache = model(tokens[:, :7], use_cache=True).past_key_values
    rest = model(tokens[:, 7:], past_key_values=cache, use_cache=True, logits_to_keep=torch.tensor([1, 4]))
    assert cache.get_seq_length() == 12
    assert torch.allclose(rest.logits, whole[:, [8, 11]], atol=2e-3)
    assert torch.allclose(model(tokens, logits_to_keep=1).logits, whole[:, -1:], atol=1e-6)


def test_padding_on_the_left_is_not_seen(model: Any, tokens: Any) -> None:
    import torch

    seen = torch.tensor([[0] * 3 + [1] * 9, [1] * 12])
    positions = (seen.cumsum(1) - 1).clamp(min=0)
    found = model(tokens, attention_mask=seen, position_ids=positions, logits_to_keep=1).logits
    assert torch.allclose(found[0], model(tokens[:1, 3:], logits_to_keep=1).logits[0], atol=2e-3)


@pytest.mark.parametrize(
    "rule", [Scoring(), Scoring(whole_text=True), Scoring(whole_text=True, length_normalised=True)]
)
@pytest.mark.parametrize("beginning", ["", "Levels follow the guideline of the house. " * 8], ids=["short", "long"])
def test_labels_are_scored_as_in_fp32(small: Generator, plain: Generator, rule: Scoring, beginning: str) -> None:
    prompts = [beginning + prompt for prompt in PROMPTS]
    wanted, found = (one.scores(prompts, LABELS, 4, rule=rule) for one in (plain, small))
    assert _alike(found, wanted, 0.01)
    assert found != wanted
    assert _alike([small.scores([prompt], LABELS, 1, rule=rule)[0] for prompt in prompts[:3]], found[:3], 1e-3)


def test_it_writes_and_measures_texts(small: Generator, plain: Generator) -> None:
    settings = Decoding(max_new_tokens=5)
    one, many = small.generate(PROMPTS[:3], settings, 1), small.generate(PROMPTS[:3], settings, 3)
    assert [answer.tokens for answer in many] == [5, 5, 5]
    assert [answer.text for answer in one] == [answer.text for answer in many]
    texts = [" chest pain", " less"]
    assert small.bits("Note:", texts) == pytest.approx(plain.bits("Note:", texts), rel=0.01)


def test_members_of_an_ensemble_are_quantised_each(int8_model: Path, small: Generator, tmp_path: Path) -> None:
    """And frozen layers, which are run one by one, are not asked for."""
    for number in "01":
        shutil.copytree(int8_model, tmp_path / MEMBERS / number)
    both = open_generator("transformers", tmp_path, Shared("tiny", 1), "int8")
    assert _alike(both.scores(PROMPTS[:2], LABELS, 2), small.scores(PROMPTS[:2], LABELS, 2), 1e-6)


def test_a_row_beyond_the_window_is_refused(model: Any, tokens: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model, "_longest", 11)
    with pytest.raises(ModelError, match="A row has 12 tokens; in int8 this model takes 11"):
        model(tokens)


def test_a_model_without_its_files_is_refused(tiny_model: Path) -> None:
    with pytest.raises(ModelError, match="has no int8 files"):
        int8.load(tiny_model)


def test_without_openvino_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)  # not there, for `import`
    with pytest.raises(ModelError, match=r"pip install -r requirements-int8\.txt"):
        int8.library()


def test_openvino_sends_nothing_anywhere() -> None:
    """The guard against the network fails a test whose child tried to reach another machine."""
    code = "from llmops_tasks.models import int8; int8.library(); from openvino.tools import ovc; print(ovc.telemetry)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "telemetry_stub" in done.stdout


@pytest.fixture
def described(int8_model: Path, tmp_path: Path) -> tuple[Path, dict[str, Any]]:
    """A copy, and what its files say of themselves: written by another version."""
    folder = Path(shutil.copytree(int8_model, tmp_path / "model"))
    about = json.loads((folder / int8.FOLDER / int8.ABOUT).read_text(encoding="utf-8"))
    about["libraries"]["openvino"] = "2025.1.0"
    return folder, about


def _describe(folder: Path, about: dict[str, Any]) -> None:
    (folder / int8.FOLDER / int8.ABOUT).write_text(json.dumps(about), encoding="utf-8")


def test_files_of_another_version_that_give_the_same_are_run(described: tuple[Path, dict[str, Any]]) -> None:
    _describe(*described)
    int8.load(described[0])


@pytest.mark.parametrize("factor", [-1.0, 1.3, float("nan")])
def test_files_that_give_other_logits_here_are_refused(described: tuple[Path, dict[str, Any]], factor: float) -> None:
    folder, about = described
    about["logits"] = [[factor * value for value in row] for row in about["logits"]]
    _describe(folder, about)
    with pytest.raises(
        ModelError, match=r"by OpenVINO 2025.1.0. .* Install openvino==2025.1.0, or package the release"
    ):
        int8.load(folder)


def test_files_that_cannot_be_run_here_are_refused(described: tuple[Path, dict[str, Any]]) -> None:
    folder, about = described
    _describe(folder, about)
    graph = folder / int8.FOLDER / int8.GRAPH
    graph.write_text(graph.read_text(encoding="utf-8").replace('type="MatMul"', 'type="OfTomorrow"'), encoding="utf-8")
    with pytest.raises(ModelError, match=r"cannot run the int8 files of OpenVINO 2025.1.0. Install openvino==2025.1.0"):
        int8.load(folder)
