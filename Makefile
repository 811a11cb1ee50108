# Everything here runs from a fresh checkout: a machine with Python 3.11 or newer and make is enough.

PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	command -v $$p >/dev/null 2>&1 && $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV ?= .venv
BIN := $(VENV)/bin
DONE := $(VENV)/.installed
# Compiled modules are kept whatever the shell says: tests start some hundred interpreters, and each would compile all.
# Where a test asks for two threads, they sleep while they wait, as in `drcli` itself.
PYTEST := PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 GOMP_SPINCOUNT=1000 $(BIN)/python -m pytest
WORKERS ?= 2
# Each worker begins with its part of the tests in their order, and takes half of what another has left when it is done:
# tests that share something, such as Ray or the runs of a method, mostly stay together, and no file keeps one waiting.
PARALLEL := -n $(WORKERS) --dist worksteal
INPUTS ?= 10000
DEMO := name=demo training.epochs=14 methods.diagnose_relearn.every=4
# make table1 DATASET=digits, or DATA=DIR where the prepared datasets are DIR/cremad and so on; ENGINE=ray spreads the
# runs, SET='monitor=test training.precision=fp32' changes values of the recipes
REPRODUCE := $(BIN)/drcli reproduce $(if $(DATASET),--dataset "$(DATASET)") $(if $(DATA),--data "$(DATA)") \
	$(if $(SEEDS),--seeds "$(SEEDS)") $(if $(OUT),--out "$(OUT)") $(if $(FIGURES),--figures "$(FIGURES)") \
	$(if $(ENGINE),--engine "$(ENGINE)") $(if $(DEVICES),--devices "$(DEVICES)")

# make gpu PYTHON=python3 measures in an interpreter that has torch, with wheels for what it lacks (docs/performance.md),
# and not in the virtual environment; PART=1 is one of three commands of at most nine minutes; DEVICE=cpu TINY=1 only
# shows that the chain holds.
GPU_OUT := $(or $(OUT),gpu-results)
GPU_WHEELS := $(or $(WHEELS),gpu-wheels)
GPU_OWN := $(filter command environment,$(firstword $(origin PYTHON)))
GPU_BIN := $(if $(GPU_OWN),$(PYTHON),$(BIN)/python)
GPU_RUN := $(GPU_BIN) -m benchmarks.gpu --out "$(GPU_OUT)"
GPU_PYTHON_VERSION ?= 3.12
GPU_PLATFORMS ?= $(foreach n,2_28 2_27 2_17,manylinux_$(n)_x86_64) manylinux2014_x86_64 manylinux1_x86_64

.DEFAULT_GOAL := help
.PHONY: help setup demo table1 table2 table3 table4 fig1 fig3 fig4 fig5 reproduce test test-slow test-gpu gpu gpu-wheels gpu-report fuzz coverage lint imports format type check clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(DONE) ## virtual environment in .venv with drcli and all it needs

$(DONE): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "drcli needs Python 3.11 or newer; install it, or name it: make PYTHON=/path/to/python3" >&2; exit 2; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@# uv installs the same packages several times faster than pip; pip does where uv cannot be had.
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv || true
	@if $(BIN)/python -m uv --version >/dev/null 2>&1; then \
		$(BIN)/python -m uv pip install --quiet --compile-bytecode --python $(BIN)/python --constraint constraints.txt --editable '.[dev,media,cluster,tune,wandb,mlflow]'; \
	else \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev,media,cluster,tune,wandb,mlflow]'; \
	fi
	@touch $@

demo: $(DONE) ## unimodal, joint training and D&R on the embedded dataset, one seed, 14 of the recipe's 60 epochs
	$(BIN)/drcli train digits $(DEMO) --method unimodal,joint,diagnose_relearn --seeds 0

table1: $(DONE) ## comparison of methods, CREMA-D and Kinetics-Sounds; DATASET=digits uses the embedded data
	$(REPRODUCE) $@ $(SET)

table2: $(DONE) ## the same on UCF-101, RGB and optical flow
	$(REPRODUCE) $@ $(SET)

table3: $(DONE) ## three modalities and transformers, CMU-MOSI
	$(REPRODUCE) $@ $(SET)

table4: $(DONE) ## one modality that carries little information
	$(REPRODUCE) $@ $(SET)

fig1: $(DONE) ## change from joint training, and probes; one noisy modality
	$(REPRODUCE) $@ $(SET)

fig3: $(DONE) ## t-SNE of the test representations
	$(REPRODUCE) $@ $(SET)

fig4: $(DONE) ## purity gap and accuracy over epochs
	$(REPRODUCE) $@ $(SET)

fig5: $(DONE) ## sensitivity to lambda and H
	$(REPRODUCE) $@ $(SET)

reproduce: $(DONE) ## all tables and figures
	$(REPRODUCE) all $(SET)

test: $(DONE) ## the tests
	$(PYTEST) $(PARALLEL)

test-slow: $(DONE) ## the tests that take minutes
	$(PYTEST) -m slow

test-gpu: $(DONE) ## the tests that need a CUDA device
	$(PYTEST) -m gpu

gpu: $(if $(GPU_OWN),,$(DONE)) ## all that is measured on a GPU, in steps; PART=1 to 3, STEPS=NAME,NAME, BUDGET=seconds, OUT=folder
	$(GPU_RUN) --wheels "$(GPU_WHEELS)" $(if $(PART),--part "$(PART)") $(if $(STEPS),--steps "$(STEPS)") \
		$(if $(BUDGET),--budget "$(BUDGET)") $(if $(DEVICE),--device "$(DEVICE)") $(if $(TINY),--tiny) \
		$(if $(SCRATCH),--scratch "$(SCRATCH)")

gpu-wheels: $(DONE) ## wheels for `make gpu` where an interpreter has torch alone; GPU_PACKAGES="NAME NAME" for fewer
	mkdir -p "$(GPU_WHEELS)"
	$(BIN)/python -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: \
		--python-version $(GPU_PYTHON_VERSION) --implementation cp $(addprefix --platform ,$(GPU_PLATFORMS)) \
		--dest "$(GPU_WHEELS)" --constraint constraints.txt \
		$(or $(GPU_PACKAGES),--requirement benchmarks/gpu/packages.txt)

gpu-report: $(if $(GPU_OWN),,$(DONE)) ## the tables of what `make gpu` has left in OUT=folder
	@$(GPU_RUN) --report

fuzz: $(DONE) ## damaged and random files for every reader, 10,000 of them; INPUTS=N
	PYTHONPATH=tests:. OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 $(BIN)/python -m fuzz.run $(INPUTS)

coverage: $(DONE) ## the tests; fails if they reach fewer lines and branches than before
	$(BIN)/coverage erase
	$(PYTEST) $(PARALLEL) --cov --cov-report=term-missing:skip-covered

lint: $(DONE) imports ## check style, formatting, and which package imports which
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

imports: $(DONE) ## check which package imports which
	$(BIN)/lint-imports --no-cache

format: $(DONE) ## write the formatting
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

type: $(DONE) ## check types
	$(BIN)/mypy

check: lint type test ## lint, types and tests

clean: ## remove what the targets made, except data/ and runs/
	rm -rf $(VENV) build dist htmlcov .coverage* .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
