"""A record is answered once, by one release, and the answer stands; late ones are answered beside it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from llmops_tasks import config
from llmops_tasks.contracts import ABSTAINED, ArtifactRef
from llmops_tasks.errors import ConflictError, EvidenceError
from llmops_tasks.prompts import interface, shards
from llmops_tasks.serving.batch import find_predictions, predict_batch
from llmops_tasks.store import artifacts, objects
from tests.support import desk

DATE = "2026-03-30"
TEXT = interface.of_usecase(config.load("triage")).text_digest()
NAMES = ["resuscitation", "emergent", "urgent", "less-urgent", "non-urgent"]


def _day(rows: int = 12, date: str = DATE, text: str | None = None, word: str = "pain") -> ArtifactRef:
    """A day as `render_day` makes it for the released model, or for one that reads another text."""
    import pandas as pd

    def build(out: Path) -> dict[str, Any]:
        texts = [f"note {n} " + f"{word} " * (n % 5) for n in range(rows)]
        frame = pd.DataFrame({"record_id": [f"V{n}" for n in range(rows)], "text": texts})
        frame.to_parquet(out / "data.parquet", index=False)
        return {"rows": rows, "date": date, "text_sha256": text or TEXT}

    inputs = {"rows": rows, "date": date, "text": text, "word": word}
    return artifacts.publish(usecase="tiny", kind="day", inputs=inputs, build=build)


def _champion(released: ArtifactRef, version: str = "1") -> dict[str, Any]:
    return {"version": version, "release": released, "seq": 7}


def _frame(answers: Any) -> Any:
    """Readers see one table, whatever its parts."""
    import pandas as pd

    parts = [pd.read_parquet(artifacts.fetch(part) / "predictions.parquet") for part in answers["parts"]]
    return pd.concat(parts, ignore_index=True)


def test_every_record_is_answered_with_its_release(world: Any, released: ArtifactRef) -> None:
    answers = predict_batch(usecase=world.usecase, day=_day(), champion=_champion(released))
    (ref,) = answers["parts"]
    assert ref["uri"] == f"{objects.store_uri()}/tiny/predictions/date={DATE}/part-0001"
    frame = _frame(answers)
    assert frame["record_id"].tolist() == [f"V{n}" for n in range(12)]
    parts = frame[[f"p_{name}" for name in NAMES]]
    assert parts.sum(axis=1).to_numpy() == pytest.approx(1)
    assert (parts.idxmax(axis=1).str.removeprefix("p_") == frame["label"]).all()
    assert (parts.max(axis=1) == frame["score"]).all()
    assert set(frame["release_version"]) == {"1"}
    assert set(frame["release_sha256"]) == {released["sha256"]}
    assert ref["meta"]["labels"] == {name: int((frame["label"] == name).sum()) for name in NAMES}
    assert (answers["rows"], answers["added"], answers["release_version"]) == (12, 12, "1")
    assert (ref["meta"]["ledger_seq"], ref["meta"]["cut_prompts"]) == (7, 0)


def test_a_record_below_the_releases_limit_is_answered_abstained(world: Any, released: ArtifactRef) -> None:
    """And counted; its probabilities stand beside it, calibrated."""
    asked = interface.of_release(released)
    plain = _frame(predict_batch(usecase=world.usecase, day=_day(), champion=_champion(released)))
    least = float(plain["score"].median())
    task = asked.task.model_copy(update={"abstain_below": least})

    def build(out: Path) -> dict[str, Any]:
        shutil.copytree(artifacts.fetch(released), out, dirs_exist_ok=True, ignore=shutil.ignore_patterns("_manifest*"))
        asked.model_copy(update={"task": task}).write(out)
        return {}

    careful = artifacts.publish(usecase="tiny", kind="release", inputs={"least": least}, build=build)
    answers = predict_batch(usecase=world.usecase, day=_day(date="2026-04-01"), champion=_champion(careful))
    frame, low = _frame(answers), plain["score"] < least
    assert 0 < low.sum() < 12
    assert frame["label"].tolist() == plain["label"].mask(low, ABSTAINED).tolist()
    assert frame["score"].equals(plain["score"])
    mix = answers["parts"][0]["meta"]["labels"]
    assert (mix[ABSTAINED], sum(mix.values())) == (low.sum(), 12)


def test_the_partition_is_read_by_its_folder_name(world: Any, released: ArtifactRef) -> None:
    import pandas as pd

    for date, rows in ((DATE, 12), ("2026-03-31", 12), (DATE, 15)):
        predict_batch(usecase=world.usecase, day=_day(rows, date), champion=_champion(released))
    frame = pd.read_parquet(objects.local_path(f"{objects.store_uri()}/tiny/predictions"))
    assert frame["date"].astype(str).value_counts().to_dict() == {DATE: 15, "2026-03-31": 12}


def test_a_day_answered_is_kept_even_if_another_release_serves_now(world: Any, released: ArtifactRef) -> None:
    first = predict_batch(usecase=world.usecase, day=_day(), champion=_champion(released))
    newer = _champion(released, "2")
    for requested in (None, "1"):
        again = predict_batch(usecase=world.usecase, day=_day(), champion=newer, requested=requested)
        assert again == {**first, "added": 0}
    with pytest.raises(ConflictError, match="was scored by version 1; version 2 must not replace its predictions"):
        predict_batch(usecase=world.usecase, day=_day(), champion=newer, requested="2")


def test_late_records_are_answered_beside_the_others(world: Any, released: ArtifactRef) -> None:
    first = predict_batch(usecase=world.usecase, day=_day(), champion=_champion(released))
    late = predict_batch(usecase=world.usecase, day=_day(rows=15), champion=_champion(released, "2"))
    assert late["parts"][0] == first["parts"][0] and len(late["parts"]) == 2
    assert (late["rows"], late["added"], late["release_version"]) == (15, 3, "2")
    frame = _frame(late)
    assert frame["record_id"].tolist() == [f"V{n}" for n in range(15)]
    assert frame["release_version"].tolist() == ["1"] * 12 + ["2"] * 3
    assert frame[:12].equals(_frame(first))
    assert find_predictions(usecase=world.usecase, date=DATE) == late["parts"]
    assert predict_batch(usecase=world.usecase, day=_day(rows=12), champion=_champion(released)) == {**late, "added": 0}


def test_a_record_that_comes_again_with_another_text_keeps_its_answer_and_is_counted(
    world: Any, released: ArtifactRef, caplog: pytest.LogCaptureFixture
) -> None:
    first = predict_batch(usecase=world.usecase, day=_day(), champion=_champion(released))
    again = predict_batch(usecase=world.usecase, day=_day(word="rash"), champion=_champion(released))
    assert again["parts"] == first["parts"]
    assert (first["changed"], again["added"], again["changed"]) == (0, 0, 9)  # every fifth note has neither word
    assert "9 scored records arrived again with another text" in caplog.text


def test_a_part_of_a_time_that_did_not_keep_what_it_read_counts_nothing_as_changed(
    world: Any, released: ArtifactRef
) -> None:
    import pandas as pd

    def build(out: Path) -> dict[str, Any]:
        pd.DataFrame({"record_id": ["V0", "V1"], "label": "urgent"}).to_parquet(out / "predictions.parquet")
        return {"rows": 2, "date": DATE, "release_version": "1"}

    at = f"{objects.store_uri()}/tiny/predictions/date={DATE}/part-0001"
    artifacts.publish(usecase="tiny", kind="predictions", inputs={"older": True}, build=build, at=at)
    found = predict_batch(usecase=world.usecase, day=_day(), champion=_champion(released))
    assert (found["rows"], found["added"], found["changed"]) == (12, 10, 0)


def test_a_text_that_another_template_made_is_no_changed_one(world: Any, released: ArtifactRef) -> None:
    import pandas as pd

    def build(out: Path) -> dict[str, Any]:
        frame = pd.DataFrame({"record_id": ["V0"], "label": "urgent", "read_sha256": "0" * 32})
        frame.to_parquet(out / "predictions.parquet")
        return {"rows": 1, "date": DATE, "release_version": "1", "text_sha256": "of another"}

    at = f"{objects.store_uri()}/tiny/predictions/date={DATE}/part-0001"
    artifacts.publish(usecase="tiny", kind="predictions", inputs={"other": True}, build=build, at=at)
    found = predict_batch(usecase=world.usecase, day=_day(), champion=_champion(released))
    assert (found["added"], found["changed"]) == (11, 0)


def test_of_two_runs_at_once_each_record_is_answered_once(
    world: Any, released: ArtifactRef, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other one is done just before ours is published."""
    publish, waiting = artifacts.publish, [15]

    def late(**given: Any) -> ArtifactRef:
        if given["kind"] == "predictions" and waiting:
            day = _day(waiting.pop())
            predict_batch(usecase=world.usecase, day=day, champion=_champion(released, "2"))
        return publish(**given)

    monkeypatch.setattr(artifacts, "publish", late)
    answers = predict_batch(usecase=world.usecase, day=_day(20), champion=_champion(released))
    frame = _frame(answers)
    assert sorted(frame["record_id"]) == sorted(f"V{n}" for n in range(20))
    assert frame["release_version"].tolist() == ["2"] * 15 + ["1"] * 5


def test_an_empty_day_leaves_an_empty_answer(world: Any, released: ArtifactRef) -> None:
    import pandas as pd

    answers = predict_batch(usecase=world.usecase, day=_day(rows=0), champion=_champion(released))
    assert (answers["rows"], len(answers["parts"])) == (0, 1)
    predict_batch(usecase=world.usecase, day=_day(), champion=_champion(released))
    frame = pd.read_parquet(objects.local_path(f"{objects.store_uri()}/tiny/predictions"))
    assert len(frame) == 12 and frame["record_id"].tolist() == [f"V{n}" for n in range(12)]  # one table still


def test_a_release_is_asked_as_it_says_whatever_the_use_case_says_today(
    world: Any, released: ArtifactRef, tmp_path: Path
) -> None:
    """Prompt and labels are edited after the promotion: the champion answers as it was judged."""
    before = predict_batch(usecase=world.usecase, day=_day(), champion=_champion(released))
    raw = yaml.safe_load(Path(world.usecase).read_text(encoding="utf-8"))
    raw["prompt"]["template"] = "Ignore the note. {{ text }}\nSay:"
    raw["task"]["labels"][0] |= {"name": "now", "text": " now"}
    raw["task"]["severe"] = ["now"]
    raw["gate"]["limits"] = raw["gate"]["limits"][:1]
    raw["finetune"]["max_length"] = 12
    edited = tmp_path / "other.yaml"
    edited.write_text(yaml.safe_dump(raw, sort_keys=False), encoding="utf-8")
    after = predict_batch(usecase=str(edited), day=_day(), champion=_champion(released))
    assert _frame(after).equals(_frame(before))


def test_a_day_rendered_for_a_release_that_reads_another_text_is_refused(world: Any, released: ArtifactRef) -> None:
    with pytest.raises(EvidenceError, match="was rendered for a release with another text template"):
        predict_batch(usecase=world.usecase, day=_day(text="f" * 64), champion=_champion(released))


def test_nobody_answers_before_the_first_promotion(world: Any) -> None:
    with pytest.raises(EvidenceError, match="No version was promoted yet"):
        predict_batch(usecase=world.usecase, day=_day(), champion={"version": None, "release": None})
    assert objects.find(f"{objects.store_uri()}/tiny/predictions/*/*") == []


def test_a_day_asks_the_model_what_training_asked_it(world: Any, released: ArtifactRef) -> None:
    """The very tokens: prompt, opening and cut are those of the examples that it was trained on."""
    import pandas as pd
    from transformers import AutoTokenizer

    from llmops_tasks.models import local, tokens
    from llmops_tasks.training.examples import encode

    asked, folder = interface.of_release(released), artifacts.fetch(released)
    short = asked.model_copy(update={"max_length": 9})
    day = _day(rows=6)
    texts = pd.read_parquet(artifacts.fetch(day) / "data.parquet")["text"].tolist()
    rows = [{"text": text, "completion": asked.answers[2]} for text in texts]
    for one in (asked, short):
        plan = encode(one, AutoTokenizer.from_pretrained(folder), rows)
        model = local.LocalModel(folder)
        longest = max(map(len, tokens.closed_set(model._tokenizer, one.answers)))
        given = model._fitted([one.render_prompt(text) for text in texts], longest, one.max_length)
        answer = len(plan[0].labels) - [label != -100 for label in plan[0].labels].index(True)
        assert [example.tokens[: len(example.tokens) - answer + 1] for example in plan] == given
        assert model.cut == (0 if one is asked else 6)
    found = _frame(predict_batch(usecase=world.usecase, day=day, champion=_champion(released)))
    prompts = [asked.render_prompt(text) for text in texts]
    wanted = local.LocalModel(folder).scores(prompts, asked.answers, 1, asked.max_length)
    assert found[[f"p_{name}" for name in NAMES]].to_numpy().tolist() == [
        pytest.approx(row, abs=1e-5) for row in wanted
    ]


@pytest.fixture
def writer(tiny_model: Path, tmp_path: Path) -> tuple[str, ArtifactRef]:
    """A generation use case, and the tiny model as its release; prompts of more than 20 tokens are too long for it."""

    def build(out: Path) -> dict[str, Any]:
        shutil.copytree(tiny_model, out, dirs_exist_ok=True)
        settings = json.loads((out / "config.json").read_bytes())
        (out / "config.json").write_text(json.dumps({**settings, "max_position_embeddings": 32}))
        interface.of_usecase(config.load(usecase)).write(out)
        return {}

    usecase = str(desk.usecase(tmp_path, tiny_model, tmp_path / "faq"))
    return usecase, artifacts.publish(usecase="desk", kind="release", inputs={}, build=build)


def _questions(length: int = 3) -> ArtifactRef:
    text = interface.of_usecase(config.load("faq")).text_digest()
    return _day(rows=12, text=text, word="pain " * length)


def test_a_generation_writes_answers_and_a_record_that_cannot_be_answered_costs_itself(writer: Any) -> None:
    usecase, release = writer
    answers = predict_batch(usecase=usecase, day=_questions(), champion=_champion(release))
    frame = _frame(answers)
    assert list(frame) == [
        "record_id", "answer", "tokens", "read_sha256", "finish_reason", "error", "bits", "release_version", "release_sha256"
    ]  # fmt: skip
    long = frame["record_id"].isin(["V3", "V4", "V8", "V9"])  # nine words and more
    assert (frame.loc[long, "finish_reason"] == "error").all() and (frame.loc[long, "error"] == "ContextError").all()
    assert (frame.loc[long, "answer"] == "").all() and (frame.loc[~long, "finish_reason"] == "length").all()
    assert frame.loc[~long, "error"].isna().all() and (frame.loc[~long, "tokens"] == 12).all()
    assert (set(frame["release_version"]), set(frame["release_sha256"])) == ({"1"}, {release["sha256"]})
    meta = answers["parts"][0]["meta"]
    assert meta["finish_reasons"] == {"stop": 0, "length": 8, "error": 4} and meta["cut_prompts"] == 0


def test_a_day_whose_run_was_killed_goes_on_after_the_last_whole_shard(
    writer: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from llmops_tasks.models import decoding

    usecase, release = writer
    monkeypatch.setattr(shards, "SIZE", 4)
    asked: list[int] = []
    write = decoding.write

    def killed(*given: Any) -> Any:
        asked.append(len(given[2]))
        if len(asked) == 2:
            raise KeyboardInterrupt
        return write(*given)

    monkeypatch.setattr(decoding, "write", killed)
    with pytest.raises(KeyboardInterrupt):
        predict_batch(usecase=usecase, day=_questions(1), champion=_champion(release))
    answers = predict_batch(usecase=usecase, day=_questions(1), champion=_champion(release))
    assert (answers["rows"], asked) == (12, [4, 4, 4, 4])  # the first, the one that was killed, and the other two
