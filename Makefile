# voicemesh: `make up` brings the whole mesh up on this machine, `make test` proves it.

PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help setup up down test mutations lint

help: ## What can be done
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 14

setup: $(READY) ## Make .venv with the locked packages
	@:

# Written last: an interrupted setup is done again.
$(READY): requirements.lock pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "error: $(PYTHON) is not on PATH (or: make setup PYTHON=...)" >&2; exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "error: $(PYTHON) is older than Python 3.11" >&2; exit 2; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV) || { echo "error: $(PYTHON) -m venv failed; on Debian install python3.11-venv" >&2; rm -rf $(VENV); exit 2; }
	@echo "installing the packages of requirements.lock into $(VENV)"
	@$(BIN)/python -m pip install --disable-pip-version-check --require-hashes --requirement requirements.lock
	@$(BIN)/python -m pip check --disable-pip-version-check
	@$(BIN)/python -m pip install --disable-pip-version-check --quiet --no-deps --no-build-isolation --editable .
	@touch $@

up: setup ## Start the lab and deploy stack dev to it
	@$(BIN)/voicemesh lab start

down: setup ## Stop everything that `make up` started
	@$(BIN)/voicemesh lab stop

test: lint ## Prove types, units, policies, deployment, and every promise with real traffic
	$(BIN)/python -m pytest -m "not mutations"

mutations: setup ## Prove that each contract can fail (about two and a half hours)
	$(BIN)/python -m pytest -m mutations

lint: setup ## Format, style and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
