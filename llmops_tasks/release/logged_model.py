"""A release as MLflow's LoggedModel: what its pages show of it, and what `mlflow.pyfunc.load_model` opens.

It holds `serving_model.py` and a reference to the release; the weights stay in the store. Found again by the release's
digest, so that a process that was killed on the way is continued: it is READY when it is whole.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any

from llmops_tasks.contracts import ArtifactRef
from llmops_tasks.prompts import answering, interface, templates
from llmops_tasks.prompts.interface import Interface
from llmops_tasks.store import artifacts

RELEASE = "release_sha256"  # tag: which bytes it is
PROMPT = "prompt"  # tag of a version, and parameter of its model: its prompt's name and version
NOTE = "mlflow.note.content"  # tag: what MLflow's pages show as its description
EVALUATED = "evaluated_sha256"  # tag of the run: the dataset that its figures are of
CODE = Path(__file__).with_name("serving_model.py")
EXAMPLE = "a synthetic note, of no patient"
SCHEME = "models:/"  # of the source of a version that is backed by such a model
_VERSIONS = "mlflow.modelVersions"  # tag by which MLflow's pages lead from a model to its registered versions
_TYPES = dict.fromkeys(("label", "answer", "finish_reason", "error"), "string") | {"tokens": "long"}
_NEEDED = ("mlflow", "torch", "transformers", "safetensors", "pandas", "numpy", "pyarrow", "pydantic", "jinja2", "PyYAML", "boto3")  # fmt: skip


def ensure(api: Any, usecase: str, body: dict[str, Any], run: Any, tags: dict[str, str]) -> tuple[str, str]:
    """Make a registration's model, or go on where a killed process stopped.

    Args:
        api: MLflow's client.
        usecase: its name.
        body: of the ledger's entry.
        run: of the release, where the model comes from.
        tags: of the model.

    Returns:
        Its id, and its prompt as name and version.

    Raises:
        IntegrityError: if the release is gone or damaged.
    """
    release: ArtifactRef = body["release"]
    asked = interface.of_release(release)
    prompt, version = templates.registered_name(usecase), _prompt_version(api, usecase, asked)
    model = _found(api, run.info.experiment_id, release) or api.create_logged_model(
        run.info.experiment_id,
        name=f"{usecase}-{release['sha256'][:8]}",
        source_run_id=run.info.run_id,
        tags=tags,
        params=_params(release, asked) | {PROMPT: f"{prompt}/{version}"},
        model_type=asked.task.type,
    )
    if model.status != "READY":
        with _files(release, asked, model, run) as folder:
            api.log_model_artifacts(model.model_id, str(folder))
        api.link_prompt_version_to_model(prompt, version, model.model_id)
        api.link_prompt_version_to_run(run.info.run_id, f"prompts:/{prompt}/{version}")
        _name_output(api, run, model.model_id)
        api.finalize_logged_model(model.model_id, "READY")
    of_version = [{"name": usecase, "version": int(body["version"])}]  # as MLflow's server writes it, too
    api.set_logged_model_tags(model.model_id, {_VERSIONS: json.dumps(of_version)})
    return str(model.model_id), f"{prompt}/{version}"


def _found(api: Any, experiment: str, release: ArtifactRef) -> Any:
    """The first, should two machines have made one each."""
    first = [{"field_name": "creation_time", "ascending": True}]
    return next(iter(api.search_logged_models([experiment], f"tags.{RELEASE} = '{release['sha256']}'", order_by=first)), None)  # fmt: skip


def _params(release: ArtifactRef, asked: Interface) -> dict[str, str]:
    meta = release["meta"]
    params = {"members": meta.get("members", 1), "max_length": asked.max_length, "text_sha256": asked.text_digest()}
    params |= {name: meta[name] for name in ("base_sha256", "dataset_sha256") if name in meta}
    return {name: str(value) for name, value in params.items()}


def _name_output(api: Any, run: Any, model: str) -> None:
    """Name the model as what the run made, once: MLflow would note it twice."""
    from mlflow.entities import LoggedModelOutput

    known = api.get_run(run.info.run_id).outputs
    if model not in {output.model_id for output in known.model_outputs}:
        api.log_outputs(run.info.run_id, [LoggedModelOutput(model, 0)])


# ---------------------------------------------------------------- what it consists of


@contextmanager
def _files(release: ArtifactRef, asked: Interface, model: Any, run: Any) -> Iterator[Path]:
    """The model's folder; nothing is loaded, inferred or asked of a network to write it."""
    import pandas as pd
    from mlflow import pyfunc
    from mlflow.models import Model

    with artifacts.scratch() as out:
        pyfunc.save_model(
            str(out / "model"),
            python_model=str(CODE),
            mlflow_model=Model(model_id=model.model_id, run_id=run.info.run_id),
            model_config={
                "release": {"uri": release["uri"], "sha256": release["sha256"]},
                "batch_size": answering.BATCH_SIZE,
            },
            signature=signature(asked),
            input_example=pd.DataFrame({"text": [EXAMPLE]}),
            pip_requirements=_requirements(asked.number_format),
        )
        yield out / "model"


def signature(asked: Interface) -> Any:
    """The rendered text in; label, score and a `p_<label>` each out, or the columns of an answer."""
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, Schema

    def column(name: str) -> Any:
        return ColSpec(_TYPES.get(name, "double"), name, required=name != "error")

    answers = Schema([column(name) for name in answering.columns(asked)])
    return ModelSignature(inputs=Schema([ColSpec("string", "text")]), outputs=answers)


def _requirements(number_format: str) -> list[str]:
    """The packages behind an answer, pinned to what is installed here; a build's local mark (+cpu) no index knows."""
    needed = (*_NEEDED, "openvino") if number_format == "int8" else _NEEDED
    versions = ((name, _installed(name)) for name in needed)
    return [f"{name}=={version.split('+')[0]}" for name, version in versions if version]


def _installed(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:  # rebuilding the registry needs no torch
        return None


# ---------------------------------------------------------------- what it is linked to


def _prompt_version(api: Any, usecase: str, asked: Interface) -> str:
    """The version of the release's own prompt, by its digest; registered if MLflow does not know it."""
    from mlflow import genai

    name, sha256 = templates.registered_name(usecase), templates.prompt_digest(asked.text, asked.prompt)
    known = f"name = '{name}' AND tags.`mlflow.prompt.is_prompt` = 'true' AND tags.sha256 = '{sha256}'"
    if found := api.search_model_versions(known):
        return str(min(int(version.version) for version in found))
    made = genai.register_prompt(name=name, template=asked.prompt.template, tags={"sha256": sha256})
    return str(made.version)


def link(api: Any, version: Any, alias: str) -> None:
    """Give a version's prompt its alias, and its model the figures of its run: they come after it, and may have waited."""
    prompt, _, number = version.tags.get(PROMPT, "").partition("/")
    if number:
        api.set_prompt_alias(prompt, alias, int(number))
    link_figures(api, version)


def link_figures(api: Any, version: Any) -> None:
    """Log the run's figures to the model, with the dataset that they are of; those that it has already, no more."""
    if not version.source.startswith(SCHEME):
        return  # of an earlier layout: manifest and card alone
    model, run = api.get_logged_model(version.source.removeprefix(SCHEME)), api.get_run(version.run_id)
    known = {(metric.key, metric.value) for metric in model.metrics or []}
    missing = [name for name, value in run.data.metrics.items() if (name, value) not in known]
    of = {"model_id": model.model_id, "run_id": version.run_id}
    if digest := run.data.tags.get(EVALUATED):
        of |= {"dataset_name": version.name, "dataset_digest": digest[:36]}
    api.log_batch(version.run_id, metrics=[_newest(api, version.run_id, name, of) for name in missing])


def _newest(api: Any, run: str, name: str, of: dict[str, str]) -> Any:
    """A run's figure as one of a model; of the same time, so that the run does not get it twice."""
    from mlflow.entities import Metric

    last = max(api.get_metric_history(run, name), key=lambda metric: metric.timestamp)
    return Metric(name, last.value, last.timestamp, last.step, **of)
