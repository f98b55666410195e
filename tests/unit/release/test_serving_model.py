"""A registered version opened by MLflow: it answers as batch does, from the release that it refers to, or not at all."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any

import pytest
import yaml

from llmops_tasks import config, tracking
from llmops_tasks.contracts import ArtifactRef
from llmops_tasks.errors import InputError, IntegrityError
from llmops_tasks.prompts import interface
from llmops_tasks.release import registry
from llmops_tasks.serving import predict_batch
from llmops_tasks.store import artifacts, objects
from tests.support import desk, tiny
from tests.support.stored import place

pytestmark = pytest.mark.usefixtures("mlflow")
TEXTS = [f"synthetic note {n} " + "pain " * (n % 5) for n in range(40)]


def _load(uri: str = "models:/tiny@challenger", **settings: Any) -> Any:
    tracking.client()
    from mlflow import pyfunc

    return pyfunc.load_model(uri, model_config=settings or None)


def _table(texts: list[Any] = TEXTS) -> Any:
    import pandas as pd

    return pd.DataFrame({"text": texts})


def _batch(usecase: str, release: ArtifactRef) -> Any:
    """What batch writes of a day with these texts, without what it adds of the day."""
    import pandas as pd

    def build(out: Path) -> dict[str, Any]:
        frame = _table().assign(record_id=[f"V{n}" for n in range(len(TEXTS))])
        frame.to_parquet(out / "data.parquet", index=False)
        asked = interface.of_release(release)
        return {"rows": len(TEXTS), "date": "2026-03-30", "text_sha256": asked.text_digest()}

    day = artifacts.publish(usecase="tiny", kind="day", inputs={}, build=build)
    champion = {"version": "1", "release": release, "seq": 1}
    (part,) = predict_batch(usecase=usecase, day=day, champion=champion)["parts"]
    frame = pd.read_parquet(artifacts.fetch(part) / "predictions.parquet")
    return frame.drop(columns=["record_id", "read_sha256", "release_version", "release_sha256"])


def _copied(release: ArtifactRef) -> ArtifactRef:
    """The release in this test's own store."""

    def build(out: Path) -> dict[str, Any]:
        shutil.copytree(artifacts.fetch(release), out, dirs_exist_ok=True, ignore=shutil.ignore_patterns("_manifest*"))
        return release["meta"]

    return artifacts.publish(usecase="tiny", kind="release", inputs={}, build=build)


def test_it_answers_exactly_as_batch_does(world: Any, released: ArtifactRef) -> None:
    registry.register_release(usecase=world.usecase, release=released)
    wanted = _batch(world.usecase, released)
    for uri in ("models:/tiny@challenger", "models:/tiny/1"):
        found = _load(uri).predict(_table())
        assert list(found) == list(wanted) and found.equals(wanted)


def test_an_ensemble_answers_exactly_as_batch_does(
    world: Any, released: ArtifactRef, tiny_model: Path, tmp_path: Path
) -> None:
    def build(out: Path) -> dict[str, Any]:
        for number, folder in enumerate(
            (artifacts.fetch(released), tiny_model, tiny.make_model(tmp_path / "b", seed=1))
        ):
            shutil.copytree(folder, out / "members" / str(number), ignore=shutil.ignore_patterns("_manifest*"))
        shutil.copyfile(artifacts.fetch(released) / "release.json", out / "release.json")
        (out / "README.md").write_text("card")
        return {**released["meta"], "members": 3}

    ensemble = artifacts.publish(usecase="tiny", kind="release", inputs={"ensemble": 3}, build=build)
    registry.register_release(usecase=world.usecase, release=ensemble)
    found = _load().predict(_table())
    assert found.equals(_batch(world.usecase, ensemble))
    assert not found.equals(_batch_of_one(released))


def _batch_of_one(release: ArtifactRef, *size: int) -> Any:
    from llmops_tasks.prompts import answering

    return answering.answer(interface.of_release(release), answering.open_release(release), TEXTS, *size)


def test_another_batch_size_can_be_asked_for_and_changes_last_digits_only(world: Any, released: ArtifactRef) -> None:
    registry.register_release(usecase=world.usecase, release=released)
    found, usual = _load(batch_size=4).predict(_table()), _load().predict(_table())
    assert found.equals(_batch_of_one(released, 4)) and found["label"].equals(usual["label"])
    assert (found.drop(columns="label") - usual.drop(columns="label")).abs().to_numpy().max() < 1e-6


def test_rows_keep_their_index_and_missing_texts_are_refused(world: Any, released: ArtifactRef) -> None:
    registry.register_release(usecase=world.usecase, release=released)
    model = _load()
    some = _table().iloc[[7, 3]]
    assert model.predict(some).index.tolist() == [7, 3]
    with pytest.raises(InputError, match="missing values"):
        model.predict(_table(["a note", None]))


def test_input_that_does_not_fit_is_refused_and_not_quoted(
    world: Any, released: ArtifactRef, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """MLflow checks it before the model sees it, and would put the rows into the error."""
    import numpy as np
    from mlflow.exceptions import MlflowException

    registry.register_release(usecase=world.usecase, release=released)
    model, secret = _load(), "crushing pain"
    unfit = [
        _table([secret]).rename(columns={"text": "note"}),
        {"note": [secret]},
        [secret],
        secret,
        np.array([secret]),
    ]
    for data in [*unfit, _table([424242]), _table([424242.5, None]), _table([secret, None]), _table([secret.encode()])]:
        with pytest.raises((MlflowException, InputError)) as caught:
            model.predict(data)
        told = "".join(traceback.format_exception(caught.value)) + caplog.text + "".join(capfd.readouterr())
        assert secret not in told and "424242" not in told


@pytest.mark.parametrize("name", ["model.safetensors", "release.json"])
def test_a_release_that_is_damaged_since_is_not_opened(world: Any, released: ArtifactRef, name: str) -> None:
    release = _copied(released)
    registry.register_release(usecase=world.usecase, release=release)
    path = objects.local_path(release["uri"]) / name
    path.write_bytes(path.read_bytes()[:-1] + b"\0")
    with pytest.raises(IntegrityError, match="damaged or absent"):
        _load()


def test_todays_yaml_has_no_say(world: Any, released: ArtifactRef, monkeypatch: pytest.MonkeyPatch) -> None:
    registry.register_release(usecase=world.usecase, release=released)
    monkeypatch.setattr(config, "load", lambda *_: pytest.fail("the use case was read"))
    assert len(_load().predict(_table())) == len(TEXTS)


def test_a_release_that_writes_text_answers_as_batch_does(tiny_model: Path, tmp_path: Path) -> None:
    def build(out: Path) -> dict[str, Any]:
        shutil.copytree(tiny_model, out, dirs_exist_ok=True)
        interface.of_usecase(config.load(usecase)).write(out)
        (out / "README.md").write_text("card")
        return {"dataset_sha256": "d" * 64, "smoke": False, "control": "none"}

    usecase = str(desk.usecase(tmp_path, tiny_model, tmp_path / "faq", name="tiny"))
    release = artifacts.publish(usecase="tiny", kind="release", inputs={}, build=build)
    registry.register_release(usecase=usecase, release=release)
    wanted, found = _batch(usecase, release), _load().predict(_table())
    assert list(found) == list(wanted) == ["answer", "tokens", "finish_reason", "error", "bits"]
    assert found.equals(wanted) and set(found["tokens"]) == {12}


def test_the_model_holds_code_and_a_reference_no_pickle_and_no_weights(world: Any, released: ArtifactRef) -> None:
    registry.register_release(usecase=world.usecase, release=released)
    from mlflow import artifacts as stored

    folder = Path(stored.download_artifacts("models:/tiny/1"))
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert {"MLmodel", "serving_model.py", "requirements.txt", "input_example.json"} <= names
    assert not [name for name in names if name.endswith((".pkl", ".pickle", ".safetensors", ".bin", ".pt"))]
    assert sum((folder / name).stat().st_size for name in names) < 20_000
    described = yaml.safe_load((folder / "MLmodel").read_text())
    flavor = described["flavors"]["python_function"]
    assert flavor["loader_module"] == "mlflow.pyfunc.loaders.code_model" and "python_model" not in flavor
    assert flavor["config"]["release"] == {"uri": released["uri"], "sha256": released["sha256"]}
    assert json.loads(described["signature"]["inputs"]) == [{"type": "string", "name": "text", "required": True}]
    pinned = (folder / "requirements.txt").read_text().split()
    assert {line.split("==")[0] for line in pinned} >= {"mlflow", "torch", "transformers"}
    assert all("==" in line and "+" not in line for line in pinned)


PLAIN = """
import json, sys
import mlflow, pandas
model = mlflow.pyfunc.load_model("models:/tiny@challenger")
found = model.predict(pandas.DataFrame({"text": json.loads(sys.argv[1])}))
found.to_json(sys.argv[2], orient="split", double_precision=15)
"""


def _environment(home: Path) -> dict[str, str]:
    there = {"PYTHONPATH": str(tiny.ROOT), "MLFLOW_TRACKING_URI": tracking.tracking_uri(), "LLMOPS_HOME": str(home)}
    return {**os.environ, **there}


def test_a_plain_process_opens_it(world: Any, released: ArtifactRef, home: Path, tmp_path: Path) -> None:
    import pandas as pd

    registry.register_release(usecase=world.usecase, release=released)
    command = [sys.executable, "-c", PLAIN, json.dumps(TEXTS), str(tmp_path / "out.json")]
    subprocess.run(command, check=True, cwd=tmp_path, env=_environment(home), capture_output=True)
    found = pd.read_json(tmp_path / "out.json", orient="split", precise_float=True)
    wanted = _batch(world.usecase, released)
    assert found["label"].tolist() == wanted["label"].tolist()
    assert (found.drop(columns="label") - wanted.drop(columns="label")).abs().to_numpy().max() < 1e-14


def test_mlflows_command_line_predicts(world: Any, released: ArtifactRef, home: Path, tmp_path: Path) -> None:
    registry.register_release(usecase=world.usecase, release=released)
    (tmp_path / "in.csv").write_text("text\n" + "\n".join(TEXTS))
    command = [sys.executable, "-m", "mlflow", "models", "predict", "-m", "models:/tiny/1", "-i", "in.csv", "-t", "csv"]
    command += ["-o", "out.json", "--env-manager", "local"]
    subprocess.run(command, check=True, cwd=tmp_path, env=_environment(home), capture_output=True)
    rows = json.loads((tmp_path / "out.json").read_text())["predictions"]
    assert len(rows) == len(TEXTS)
    assert set(rows[0]) == set(_batch(world.usecase, released))


def test_it_is_opened_from_s3(world: Any, released: ArtifactRef, s3: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = _batch_of_one(released)
    monkeypatch.setenv("LLMOPS_STORE", "s3://bucket/store")
    release = _copied(released)
    registry.register_release(usecase=world.usecase, release=release)
    assert release["uri"].startswith("s3://") and _load().predict(_table()).equals(wanted)
    s3.put_object(Bucket="bucket", Key=place(release["uri"], "release.json").removeprefix("s3://bucket/"), Body=b"{}")
    with pytest.raises(IntegrityError, match="damaged or absent"):
        _load()
