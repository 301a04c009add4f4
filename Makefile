# Each target sets up what it needs: a fresh clone wants only make and Python 3.11.

PYTHON ?= python3
VENV   ?= .venv
SMOKE  ?=
ARGS   ?=

BIN       := $(VENV)/bin
INSTALL   := $(BIN)/python -m pip install --constraint constraints.txt
# bench/nanogpt.py and bench/gpu.py need a checkout of nanoGPT and a text, and the
# latter a card: see their --help
BENCHES   := $(filter-out bench/meter.py bench/record.py bench/nanogpt.py bench/gpu.py, \
                          $(sort $(wildcard bench/*.py)))
INSTALLED_BY := pyproject.toml constraints.txt

.PHONY: help demo test lint experiments book bench reliability meter clean
.DEFAULT_GOAL := help

help:  ## print this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' Makefile
	@echo "  Variables: PYTHON=python3.12  VENV=.venv  SMOKE=1 (demo)  ARGS='-k name' (test)"

demo: $(VENV)/.demo-ready  ## the whole way, from no model to GRPO (SMOKE=1: half a minute)
	$(BIN)/folio demo $(if $(SMOKE),--smoke)

test: $(VENV)/.test-ready  ## run the tests: CPU only, offline
	$(BIN)/python -m pytest -n auto $(ARGS)

lint: $(VENV)/.test-ready  ## check style and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

experiments: $(VENV)/.demo-ready  ## run every experiment over its seeds, hours of one core (finished runs are kept)
	$(BIN)/folio compare experiments/*.toml
	@set -e; for script in book/experiments/*.py; do $(BIN)/python $$script; done

book: $(VENV)/.book-ready  ## build the book: site, PDF, notebooks (under build/book)
	@set -e; for form in html pdf notebooks; do $(BIN)/folio book $$form; done

bench: $(VENV)/.test-ready  ## run every benchmark in its quick form
	@set -e; for script in $(BENCHES); do \
	    echo "== $$script --quick"; $(BIN)/python $$script --quick; \
	done

reliability: $(VENV)/.test-ready  ## kill, cut, fill and damage at full size, hours (what is done is kept; ARGS='--only kills')
	OMP_NUM_THREADS=1 $(BIN)/python -m reliability $(ARGS)

meter: $(VENV)/.test-ready  ## print the largest files, classes and functions
	@$(BIN)/python bench/meter.py

clean:  ## remove caches and build leftovers (keeps .venv/ and runs/)
	rm -rf build dist .pytest_cache .ruff_cache .hypothesis src/*.egg-info
	find src tests bench reliability -name __pycache__ -prune -exec rm -rf {} +

# `python -m venv` installs pip last, so a half-made environment is made again.
$(BIN)/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	    echo "Folio needs Python 3.11 or newer, and '$(PYTHON)' is not:" \
	         "name another with PYTHON=python3.12" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

# A stamp is newer than what it was installed from, so a second run starts at once.
$(VENV)/.demo-ready: $(INSTALLED_BY) | $(BIN)/pip
	$(INSTALL) --editable '.[fast]'
	@touch $@

$(VENV)/.book-ready: $(INSTALLED_BY) | $(BIN)/pip
	$(INSTALL) --editable '.[fast,book]'
	@touch $@

$(VENV)/.test-ready: $(INSTALLED_BY) | $(BIN)/pip
	$(INSTALL) --editable '.[fast,parquet,hub,data,serve,studio,book,dev]'
	@touch $@
