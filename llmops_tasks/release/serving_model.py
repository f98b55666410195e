"""A registered version as `mlflow.pyfunc.load_model` opens it: a release of the verified store behind MLflow's `predict`.

MLflow copies this file into the model and runs it (models from code), so there is no pickle. The weights stay in the
store: the model's own settings say which release it is, by address and digest, and the use case's YAML of today has no
say. Loading it needs `llmops_tasks` on the path, and a way to the store. Nothing else imports this module.
"""

from __future__ import annotations

import os
from typing import Any

import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel, PythonModelContext

from llmops_tasks.errors import InputError
from llmops_tasks.prompts import answering

os.environ["MLFLOW_DISABLE_SCHEMA_DETAILS"] = "true"  # else MLflow quotes the rows that do not fit the signature


class ServingModel(PythonModel):  # type: ignore[misc]
    """Answers rendered texts as batch does."""

    def load_context(self, context: PythonModelContext) -> None:
        """Open the release; a damaged one raises IntegrityError."""
        release = context.model_config["release"]
        self._asked = answering.asked_as(release)
        self._generator = answering.open_release(release)

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Label, score and a `p_<label>` each, or an answer, for the column `text`: what the release's template made of
        a record."""
        texts = model_input["text"].tolist()
        if not all(isinstance(text, str) for text in texts):
            raise InputError("The column 'text' has missing values. Leave out the rows that have no text.")
        found = answering.answer(self._asked, self._generator, texts, context.model_config["batch_size"])
        return found.set_index(model_input.index)


set_model(ServingModel())
