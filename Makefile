# Everything here runs from a fresh checkout: a machine with Python 3.11 or newer and make is enough.

PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	command -v $$p >/dev/null 2>&1 && $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV ?= .venv
BIN := $(VENV)/bin
DONE := $(VENV)/.installed
PYTEST := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 $(BIN)/python -m pytest
WORKERS ?= 2

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-slow test-gpu coverage lint format type check clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(DONE) ## virtual environment in .venv with drcli and all it needs

$(DONE): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "drcli needs Python 3.11 or newer; install it, or name it: make PYTHON=/path/to/python3" >&2; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@# uv installs the same packages several times faster than pip; pip does where uv cannot be had.
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv || true
	@if $(BIN)/python -m uv --version >/dev/null 2>&1; then \
		$(BIN)/python -m uv pip install --quiet --compile-bytecode --python $(BIN)/python --constraint constraints.txt --editable '.[dev,media]'; \
	else \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev,media]'; \
	fi
	@touch $@

demo: $(DONE) ## unimodal, joint training and D&R on the embedded dataset, one seed, and the table
	$(BIN)/drcli train digits --method unimodal,joint,diagnose_relearn --seeds 0

test: $(DONE) ## the tests
	$(PYTEST) -n $(WORKERS)

test-slow: $(DONE) ## the tests that take minutes
	$(PYTEST) -m slow

test-gpu: $(DONE) ## the tests that need a CUDA device
	$(PYTEST) -m gpu

coverage: $(DONE) ## the tests, with the share of lines and branches they reach
	$(BIN)/coverage erase
	$(PYTEST) -n $(WORKERS) --cov --cov-report=term-missing:skip-covered

lint: $(DONE) ## style and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(DONE) ## write the formatting
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

type: $(DONE) ## types
	$(BIN)/mypy

check: lint type test ## lint, types and tests

clean: ## remove what the targets made; data/ and runs/ stay
	rm -rf $(VENV) build dist htmlcov .coverage* .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
