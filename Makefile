# Every target sets up what it needs first, once; afterwards all of it runs offline.
SHELL := bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

# The first of these that exists and is new enough; or `make PYTHON=/path/to/python3.12 ...`.
PYTHON ?= $(shell for p in python3.12 python3.11 python3; do $$p -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 13))' 2>/dev/null && echo $$p && break; done)
BIN := .venv/bin
JOBS ?= 2
# The other folders hold tests of servers only: not even their modules are imported.
FAST_TESTS := tests/contract tests/docs tests/unit
# Tests of real servers wait for a part of their time, so three keep two cores busy; a fourth only
# costs a tenth more CPU. Each has servers of its own: about 2 GB.
TEST_JOBS = $(if $(filter file,$(origin JOBS)),3,$(JOBS))
# How long `make explore` searches; it finishes a property that it has begun.
MINUTES ?= 10
# Without bytecode on disk every Airflow process starts at more than twice the cost.
unexport PYTHONDONTWRITEBYTECODE
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: help setup lock check fix test-fast test test-nightly explore mutate demo up down status clean bench
help: ## show this page
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  \033[1m%-10s\033[0m %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: .venv/.ready .tools/.ready ## create the environment in .venv and .tools (once)

# The jars of Kafka and the sources of the recordings: packages too, fetched and verified once.
.tools/.ready: .venv/.ready infra/local_stack/services/kafka_env/jgo.lock.toml infra/local_stack/services/kafka_classes.py features/replay/recordings.py $(wildcard features/catalog/*/recording.py)
	@echo "== the jars of Kafka"
	@$(BIN)/python -m infra.local_stack.services.kafka_jars
	@$(BIN)/python -m infra.local_stack.services.kafka_classes
	@echo "== the recordings: real events of the past"
	@$(BIN)/eventide recording
	@touch $@

.venv/.ready: requirements.lock pyproject.toml
	@test -n "$(PYTHON)" || { echo "Eventide needs Python 3.11 or 3.12: make PYTHON=/path/to/python3.12"; exit 1; }
	@echo "== environment: $$($(PYTHON) --version) in .venv, packages from requirements.lock"
	@# uv too comes from the lock, by its hash: pip checks the hashes of a file only.
	@test -x $(BIN)/uv || { $(PYTHON) -m venv .venv && awk '/^[^ ]/ { keep = /^uv==/ } keep' requirements.lock > .venv/uv.txt \
	  && $(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes --no-deps -r .venv/uv.txt; }
	@$(BIN)/uv pip sync -q --python $(BIN)/python --require-hashes --compile-bytecode requirements.lock
	@$(BIN)/uv pip install -q --python $(BIN)/python --no-deps --no-build-isolation -e .
	@touch $@

lock: setup ## resolve requirements.lock from pyproject.toml
	@$(BIN)/uv pip compile --universal --generate-hashes --python-version 3.11 --all-extras --group dev --no-header -q -o requirements.lock pyproject.toml

check: setup ## format, lint, types, import contracts
	@$(BIN)/ruff format --check -q .
	@$(BIN)/ruff check -q .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache
	@echo "== clean"

fix: setup ## format, and fix what can be fixed automatically
	@$(BIN)/ruff check -q --fix . ; $(BIN)/ruff format -q .

test-fast: setup ## without servers and kills: units, contracts on memory and files (a minute)
	@$(BIN)/pytest -n $(JOBS) --dist loadfile -m "not servers and not fault and not slow" --hypothesis-profile=fast $(FAST_TESTS)

test: setup ## every test, on real servers, JOBS files at a time (3)
	@$(BIN)/pytest -n $(TEST_JOBS) --dist loadfile --no-loadscope-reorder

test-nightly: setup ## every test with many more kills, then an hour of `make explore`, then `make mutate PART=all`
	@$(BIN)/pytest -n $(TEST_JOBS) --dist loadfile --no-loadscope-reorder --faults=long
	@$(MAKE) explore MINUTES=60
	@$(MAKE) mutate PART=all

explore: setup ## look for new counterexamples to the properties of the features (MINUTES=10)
	@$(BIN)/pytest -n $(JOBS) --dist load -m "not servers" --hypothesis-profile=explore --explore-minutes=$(MINUTES) tests/unit/features

mutate: setup ## do the fast tests notice a change? the files changed since main (PART=metrics, all, known)
	@$(BIN)/python -m tests.mutation --jobs $(JOBS) $(if $(PART),--part $(PART)) $(MUTATE)

demo: setup ## the whole loop on real flights; the servers stay up
	@$(BIN)/eventide demo

up: setup ## start every server, ingest and serving
	@$(BIN)/eventide up

down: setup ## stop all of them
	@$(BIN)/eventide down

status: setup ## what runs, and where
	@$(BIN)/eventide status

clean: setup ## delete the data of the local stack (after a confirmation)
	@$(BIN)/eventide clean

bench: setup ## the benchmarks, ours beside peers: tables and JSON (BENCH=--quick, BENCH="--only history")
	@$(BIN)/python -m tests.benchmarks $(BENCH)
