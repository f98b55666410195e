"""A result's digest covers exactly what it follows from: found by imports, templates included."""

from __future__ import annotations

from pathlib import Path

import pytest

from llmops_tasks.store import sources

PACKAGE = Path(sources.__file__).parents[1]
FOLLOWS = {
    "data.ingestion": "data/arrivals data/columns data/folding data/formats data/ingestion data/json_records data/landing data/lines data/quoting data/tables models/chat prompts/conversations",
    "data.validation": "data/data_docs data/gx_report data/pages/data_docs.j2 data/row_checks data/schema data/tables data/validation models/chat prompts/conversations",
    "data.anonymization": "data/anonymization data/folding data/masking data/tables models/chat prompts/conversations",
    "evaluation.quality": "evaluation/exposure evaluation/generation evaluation/quality evaluation/text_metrics evaluation/texts metrics models/calibration models/chat models/decoding models/frozen_layers models/generator models/grammar models/hardware models/int8 models/label_tree models/layers models/loading models/local models/onednn models/scoring models/server models/states models/tokens models/tree_attention models/varlen prompts/answering prompts/conversations prompts/interface prompts/opening prompts/scoring prompts/shards prompts/templates prompts/writing",
    "serving.batch": "models/calibration models/chat models/decoding models/frozen_layers models/generator models/grammar models/hardware models/int8 models/label_tree models/layers models/loading models/local models/onednn models/scoring models/server models/states models/tokens models/tree_attention models/varlen prompts/answering prompts/conversations prompts/interface prompts/opening prompts/scoring prompts/shards prompts/templates prompts/writing serving/batch",
    "monitoring.drift": "models/chat models/decoding models/grammar models/hardware models/label_tree models/loading models/onednn models/states models/tokens monitoring/answers monitoring/cells monitoring/drift monitoring/pages monitoring/permutation prompts/conversations prompts/interface prompts/templates",
}


@pytest.mark.parametrize("module", FOLLOWS)
def test_what_a_result_follows_from(module: str) -> None:
    found = [str(path.relative_to(PACKAGE)).removesuffix(".py") for path in sources.sources(f"llmops_tasks.{module}")]
    assert " ".join(found) == FOLLOWS[module]


def test_ingest_and_anonymize_do_not_share_a_digest() -> None:
    digests = {sources.code_digest(f"llmops_tasks.data.{name}") for name in ("ingestion", "anonymization", "dataset")}
    assert len(digests) == 3


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package of its own under the same name."""
    room = tmp_path / "llmops_tasks" / "room"
    room.mkdir(parents=True)
    (tmp_path / "llmops_tasks" / "errors.py").write_text("x = 1\n")
    (room / "a.py").write_text(
        "from typing import TYPE_CHECKING\nfrom llmops_tasks.errors import x\n"
        "if TYPE_CHECKING:\n    from llmops_tasks.room import typed\n"
        "def f():\n    from llmops_tasks.room.b import y\n    return y, 'page.j2', 'other.py', 'llmops_tasks.room.c:z'\n"
    )
    for name in ("b", "c", "typed", "other"):
        (room / f"{name}.py").write_text("y = 1\n")
    (room / "page.j2").write_text("<p>")
    monkeypatch.setattr(sources, "_ROOT", tmp_path)
    return room


@pytest.mark.parametrize(
    ("name", "follows"),
    [
        ("a.py", True),
        ("b.py", True),
        ("c.py", True),
        ("page.j2", True),
        ("typed.py", False),
        ("other.py", False),
        ("../errors.py", False),
    ],
)
def test_a_change_counts_where_something_follows_from_it(package: Path, name: str, follows: bool) -> None:
    before = sources.code_digest("llmops_tasks.room.a")
    assert sources.code_digest("llmops_tasks.room.a") == before
    (package / name).write_text((package / name).read_text() + "\n")
    assert (sources.code_digest("llmops_tasks.room.a") != before) is follows


@pytest.mark.parametrize("silent", ["errors", "contracts", "config", "store", "tracking", "process"])
def test_what_decides_no_content_is_left_out(package: Path, silent: str) -> None:
    module = package.parent / f"{silent}.py"
    module.write_text("x = 1\n")
    (package / "a.py").write_text(f"from llmops_tasks.{silent} import x\n")
    before = sources.code_digest("llmops_tasks.room.a")
    module.write_text("x = 2\n")
    assert sources.code_digest("llmops_tasks.room.a") == before
