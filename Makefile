# Two commands are all a newcomer needs: `make demo` and `make test`.
# Everything is installed into the checkout (.venv) or the cache; system packages come through the package manager, as root.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

export MLOPS_CACHE ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/airflow-mlops-provider
PYTHON ?= python3
export UV := $(or $(shell command -v uv),$(MLOPS_CACHE)/uv/bin/uv)
BIN := .venv/bin

.PHONY: help demo test lint unit integration cluster cluster-down image bench hostile clean

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

$(MLOPS_CACHE)/uv/bin/uv:
	@echo "Installing uv into $(MLOPS_CACHE)/uv" >&2
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.12")'
	@$(PYTHON) -m venv "$(MLOPS_CACHE)/uv"
	@"$(MLOPS_CACHE)/uv/bin/pip" install --quiet --disable-pip-version-check uv

.venv/.synced: pyproject.toml model_runtime/pyproject.toml uv.lock | $(UV)
	@echo "Installing Airflow, MLflow and what else is locked into .venv (a minute or two the first time)" >&2
	@"$(UV)" sync --frozen --quiet
	@touch $@

demo: .venv/.synced ## Train, tag, declare, run: the main job on this machine (ONCE=1 ends after the result, CLUSTER=1 uses pods)
	@$(BIN)/airflow-mlops demo $(if $(ONCE),--once) $(if $(CLUSTER),--cluster)

test: .venv/.synced ## Run all tests that this machine allows (CI=true: all of them)
	@tests/run.sh

lint: .venv/.synced ## Style, types and import contracts
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

unit: .venv/.synced ## Unit tests only
	@$(BIN)/pytest tests/unit

integration: .venv/.synced ## Tests with real MLflow, Git and Airflow
	@$(BIN)/pytest tests/integration

cluster: .venv/.synced ## Bring up the development cluster with KServe, or adopt the one that is up
	@$(BIN)/python -m devcluster up

cluster-down: .venv/.synced ## Take it down and leave nothing behind
	@$(BIN)/python -m devcluster down

image: .venv/.synced ## Build the standard runtime image into the development cluster
	@$(BIN)/python -m devcluster image

bench: .venv/.synced ## Ratios measured side by side
	@for name in parse resolve score; do $(BIN)/python "benchmarks/$$name.py"; done

hostile: .venv/.synced ## 20,000 hostile declarations: what became of each, worst time and memory
	@$(BIN)/python benchmarks/hostile.py

clean: ## Remove what was installed into the checkout
	@rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis dist
