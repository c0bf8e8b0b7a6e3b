# Targets for people and for CI. `make help` lists them.
#
#   TORCH        which torch to install                  make setup TORCH='torch==2.12.0'
#   TORCH_INDEX  package index to take torch from.       make setup TORCH_INDEX=https://download.pytorch.org/whl/cpu
#                Machines without a GPU should set it as shown: the wheel is ten times smaller.
#                Machines with a GPU leave it empty.
#   PYTHON       interpreter that makes the environment  make setup PYTHON=python3.12

PYTHON ?= python3
TORCH ?= torch==2.13.0
TORCH_INDEX ?=
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
INTEROP := $(VENV)/.installed-interop
JOBS ?= 2

.DEFAULT_GOAL := help
.PHONY: help setup lint test demo interop benchmark clean

help: ## show this list
	@echo "usage: make TARGET"
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  \1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{printf "%-12s %s\n", $$1, $$2}'

setup: $(STAMP) ## install the project into .venv (again when pyproject.toml changed)

# The stamp is written last, so an interrupted installation is repeated.
$(STAMP): pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "dpa-zoo needs Python 3.11 or newer; say where: make setup PYTHON=python3.12" >&2; exit 1; }
	@test -x $(BIN)/pip || { rm -rf $(VENV) && $(PYTHON) -m venv $(VENV); }
	$(BIN)/pip install --quiet $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) '$(TORCH)'
	$(BIN)/pip install --quiet --editable '.[dev]'
	@touch $@

lint: setup ## style, types and import contracts
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

test: lint ## lint and the test suite, with what it covers
	$(BIN)/python -m pytest -q -n $(JOBS) --cov --cov-report=term

demo: setup ## validate, train, freeze and test a small model on water
	PATH="$(CURDIR)/$(BIN):$$PATH" bash examples/demo.sh

# TensorFlow writes SavedModel; it is large, and needed for nothing else.
$(INTEROP): $(STAMP)
	$(BIN)/pip install --quiet --editable '.[dev,tensorflow]'
	@touch $@

interop: $(INTEROP) ## compare with deepmd-kit 3.2.0, LAMMPS, torch-sim, i-PI (builds their environments once, 10 GB)
	bash tests/interop/setup_peer.sh
	bash tests/interop/setup_runtimes.sh
	$(BIN)/python -m pytest -q -m interop tests/interop

benchmark: setup ## all figures of speed and memory, against deepmd-kit 3.2.0 in one run
	bash tests/interop/setup_peer.sh
	$(BIN)/python benchmarks/speed.py $(BENCHMARK)

clean: ## remove the environment and everything generated
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache demo-run
	find . -name __pycache__ -type d -not -path './.git/*' -prune -exec rm -rf {} +
