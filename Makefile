# driftloop: `make demo` on a fresh Debian or Ubuntu machine with Python 3.11, 3.12 or 3.13.
# Choose another interpreter with `make PYTHON=/path/to/python3.12 …`.

SHELL := /bin/bash
.DEFAULT_GOAL := help
.SUFFIXES:
MAKEFLAGS += --no-print-directory
# Where the caller keeps Python from writing bytecode, each of the many processes would compile all sources anew
export PYTHONDONTWRITEBYTECODE :=

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PYTEST := $(BIN)/python -m pytest -q --durations 30 --durations-min 1
LINT := $(BIN)/ruff check --quiet . && $(BIN)/ruff format --check --quiet . && $(BIN)/mypy --no-error-summary \
	&& { $(BIN)/lint-imports --no-cache > $(VENV)/lint-imports.log || { cat $(VENV)/lint-imports.log; false; }; }
# Tests wait for servers half of their time, so four processes keep two cores busy; `worksteal` keeps neighbours
# together, so that few servers start twice, and all processes busy to the end
SIDE_BY_SIDE := --numprocesses 4 --dist worksteal

METHOD ?= full
TRAINER ?= driftloop
MINUTES ?= 30
SEED ?= 1

.PHONY: help demo pipelines up down status test test-chain test-all docs reference bench chaos lint lock clean venv

help: ## Show these targets
	@grep -E '^[a-z-]+:.*## ' $(firstword $(MAKEFILE_LIST)) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

demo: $(STAMP) ## Show the whole loop closing on real text (first run: some minutes of installing); METHOD=lora TRAINER=trl
	@$(BIN)/driftloop demo --method "$(METHOD)" --trainer "$(TRAINER)"

pipelines: $(STAMP) ## Show the pipelines beside the loop on the demo's stack, on real texts; ONLY=generate_texts
	@$(BIN)/driftloop pipelines --only "$(ONLY)"

up: $(STAMP) ## Start the local stack for the models in models/
	@$(BIN)/driftloop up

down: ## Stop the local stack; the data stay
	@if [ -x $(BIN)/driftloop ]; then $(BIN)/driftloop down; else echo "Nothing is installed, so nothing runs."; fi

status: $(STAMP) ## Show components, models, incidents and unsent messages
	@$(BIN)/driftloop status

test: $(STAMP) ## Run every test that takes seconds, and beside them check style, types and layers
	@{ $(LINT); } > $(VENV)/lint.log 2>&1 & lint=$$!; failed=0; \
	$(PYTEST) -m "not slow and not chain" $(SIDE_BY_SIDE) || failed=1; \
	wait $$lint || { failed=1; echo "make lint failed:"; cat $(VENV)/lint.log; }; exit $$failed

test-chain: $(STAMP) ## Run the whole loop under a real scheduler, with its trainer killed on the way; minutes
	@$(PYTEST) -m "chain and not slow" tests/integration

test-all: lint ## Run every test, with those that take minutes: real kills, a real loop
	@$(PYTEST) --numprocesses 2 --dist loadfile --no-loadscope-reorder

reference: $(STAMP) ## Write docs/reference and models/schema.json anew from the code
	@$(BIN)/python -m ops.reference

docs: $(STAMP) ## Build the documents as a site in .state/site, strictly
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet && echo "The site is in .state/site; open index.html."

bench: $(STAMP) ## Measure against the gates, a line of JSON per figure; ONLY=drift.hour chooses by name
	@$(BIN)/python -m tests.benchmarks --only "$(ONLY)"

chaos: $(STAMP) ## Kill and stop parts of a stack while three models drift, then check what must hold; MINUTES=30 SEED=1
	@$(BIN)/python -m tests.chaos --minutes "$(MINUTES)" --seed "$(SEED)"

lint: $(STAMP) ## Check style, types and layers
	@$(LINT)

lock: $(STAMP) ## Resolve the dependencies anew, for every supported Python
	@$(BIN)/uv pip compile --universal --python-version 3.11 --group dev --no-annotate --no-header --upgrade \
		pyproject.toml -o requirements.lock

clean: down ## Remove the environment, caches and the stack's data
	@rm -rf $(VENV) .state .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis build *.egg-info

venv: $(STAMP)

# The environment: pinned by requirements.lock, remade when the lock or pyproject.toml changes.
$(STAMP): pyproject.toml requirements.lock
	@python="$(PYTHON)"; \
	if [ -z "$$python" ]; then for name in python3 python3.13 python3.12 python3.11; do \
		if command -v $$name > /dev/null && $$name -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2> /dev/null; \
		then python=$$name; break; fi; done; fi; \
	if [ -z "$$python" ]; then \
		echo "driftloop needs Python 3.11, 3.12 or 3.13, and none was found. Install one (sudo apt-get install python3 python3-venv), or name it: make PYTHON=/path/to/python3.12" >&2; exit 1; fi; \
	if ! "$$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))'; then \
		echo "$$python is not Python 3.11, 3.12 or 3.13; name one that is: make PYTHON=/path/to/python3.12" >&2; exit 1; fi; \
	if ! "$$python" -c 'import ensurepip, venv' 2> /dev/null; then \
		echo "$$python comes without its venv module; install it: sudo apt-get install python3-venv" >&2; exit 1; fi; \
	echo "Installing into $(VENV) with $$("$$python" --version) (about 3 GB; the first time takes some minutes)"; \
	if [ -x $(BIN)/python ] && ! $(BIN)/python -m pip --version > /dev/null 2>&1; then rm -rf $(VENV); fi; \
	[ -x $(BIN)/python ] || "$$python" -m venv $(VENV)
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --upgrade "pip>=25.1"
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --constraint requirements.lock --editable . --group dev
	@touch $@
