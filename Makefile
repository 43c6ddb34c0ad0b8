SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
UV := $(BIN)/uv --no-python-downloads --system-certs
STAMP := $(VENV)/.stamp

# A program whose compiled form is kept starts in half the time.
unexport PYTHONDONTWRITEBYTECODE
export UV_COMPILE_BYTECODE := 1

.PHONY: help env native dev-env package test-package run test test-fast lint types imports unit faults fast soak bench clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*?## ' $(MAKEFILE_LIST) | awk -F':.*?## ' '{printf "  %-10s %s\n", $$1, $$2}'

$(STAMP)-uv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "error: $(PYTHON) is older than Python 3.11; set PYTHON=/path/to/python3.11" >&2; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/uv.txt
	@touch $@

$(STAMP)-run: $(STAMP)-uv requirements/run.txt pyproject.toml
	@$(UV) pip install --quiet --python $(BIN)/python --require-hashes -r requirements/run.txt
	@$(UV) pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation --editable .
	@touch $@

$(STAMP)-dev: $(STAMP)-run requirements/dev.txt
	@$(UV) pip install --quiet --python $(BIN)/python --require-hashes -r requirements/dev.txt
	@touch $@

# Left without a stamp when there is no cargo, so that a later one is found.
$(STAMP)-native: $(STAMP)-run rust/build.sh $(shell find rust/native -path rust/native/target -prune -o -type f -print)
	@rust/build.sh $(VENV)

env: $(STAMP)-run $(STAMP)-native ## create .venv with the command uid2 in it

native: $(STAMP)-run ## build the native module again
	@rust/build.sh $(VENV)

dev-env: env $(STAMP)-dev

$(STAMP)-package: $(STAMP)-run requirements/package.txt
	@$(UV) pip install --quiet --python $(BIN)/python --require-hashes -r requirements/package.txt
	@touch $@

package: env $(STAMP)-package ## PROFILE=azure: the parts of the enclave image, for scripts/azure/build.sh
	@test "$(PROFILE)" = azure || { echo "error: make package needs PROFILE=azure" >&2; exit 2; }
	@rust/build.sh $(VENV) enclave dist/azure/native
	@$(BIN)/uid2 enclave parts --folder dist/azure

run: env ## start the whole stack on loopback
	@exec $(BIN)/uid2 up

lint: dev-env ## formatting and lint rules
	@$(BIN)/ruff format --check src tests bench && $(BIN)/ruff check src tests bench && $(BIN)/deptry src && rust/build.sh $(VENV) lint

types: dev-env ## strict types
	@$(BIN)/mypy

imports: dev-env ## import direction
	@$(BIN)/lint-imports --no-cache

unit: dev-env
	@$(BIN)/pytest -n 2 --dist worksteal --ignore tests/faults tests

# By itself: its processes keep both cores busy, and its four minutes are not for other tests.
faults: dev-env
	@$(BIN)/pytest tests/faults

test: dev-env ## lint, types, import rules and every test, with the time of each part
	@$(BIN)/python tests/run_parts.py lint types imports unit faults

test-fast: dev-env ## the same without the slow tests: about half the time
	@$(BIN)/python tests/run_parts.py lint types imports fast

fast: dev-env
	@$(BIN)/pytest -n 2 --dist worksteal -m "not slow" tests

test-package: dev-env ## build the sim enclave, run it in the sandbox beside Core, drive it with the SDK
	@$(MAKE) --no-print-directory package PROFILE=azure
	@scripts/azure/build.sh sim
	@UID2_BUILD=$(CURDIR)/scripts/azure/build $(BIN)/pytest -s tests/package

FIRST ?= 0
SEEDS ?= 200
LOGOUTS ?= 20000
ROUND ?= 4000

soak: dev-env ## hours of faults and of generated documents (FIRST=0 SEEDS=200 LOGOUTS=20000 ROUND=4000)
	@UID2_FUZZ_EXAMPLES=500 $(BIN)/pytest -s tests/fuzz
	@UID2_FAULT_FIRST=$(FIRST) UID2_FAULT_SEEDS=$(SEEDS) UID2_FAULT_LOGOUTS=$(LOGOUTS) UID2_FAULT_ROUND=$(ROUND) $(BIN)/pytest -s tests/faults

bench: dev-env ## measurements into bench/results/latest.json (QUICK=1: smaller tables)
	@$(BIN)/python -m bench $(if $(QUICK),--quick)

clean:
	@rm -rf $(VENV) dist rust/target
