# Two commands are enough: `make run` (builds the finished book) and `make test`.
# Both start with `make setup`. Variables: PYTHON (3.11 or newer), PROFILE (smoke, laptop, large, paper),
# TORCH_INDEX (a package index to take torch alone from, when the usual one would bring a build for
# another machine), REPOSITORY (the address that the book links to; without it, no links).

PYTHON ?= python3
PROFILE ?= smoke
TORCH_INDEX ?=
REPOSITORY ?=
JOBS ?= 2

BIN := .venv/bin
STAMP := .venv/.installed

# One thread per process: the tests run $(JOBS) processes at once.
THREADS := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1

# A file's tests run in one process, in order: what they share is calculated once.
PYTEST := -m pytest -n $(JOBS) --dist loadfile --no-loadscope-reorder

# The most conservative instruction set of each numerical library, which rounds sums differently from
# the processor's own. A kernel of OpenBLAS that the environment already selects is kept.
PORTABLE := MKL_CBWR=COMPATIBLE ATEN_CPU_CAPABILITY=default ONEDNN_MAX_CPU_ISA=SSE41 \
  NUMBA_CPU_NAME=generic NUMBA_CPU_FEATURES= NUMBA_CACHE_DIR=$(CURDIR)/build/numba-generic \
  NPY_DISABLE_CPU_FEATURES="X86_V3 X86_V4 AVX512_ICL AVX512_SPR" \
  OPENBLAS_CORETYPE=$${OPENBLAS_CORETYPE:-Nehalem}
NUMERICAL := tests/radar tests/fitting tests/training tests/faces

# uv does not read pip's settings, so the folder of extra wheels is handed over.
UV := $(shell command -v uv 2>/dev/null)
ifdef UV
VENV := uv venv --quiet --python $(PYTHON) .venv
INSTALL := uv pip install --quiet --python $(BIN)/python $(if $(PIP_FIND_LINKS),--find-links "$(PIP_FIND_LINKS)")
else
VENV := $(PYTHON) -m venv .venv
INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check
endif

.DEFAULT_GOAL := help
.PHONY: help setup run book browse test test-portable lint format pairing sync clean

help: ## print this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 22

setup: $(STAMP) ## create .venv with pinned packages and the radarbook command

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "radarbook needs Python 3.11 or newer: make PYTHON=/path/to/python3" >&2; exit 2; }
	@echo "Setting up .venv (a few minutes the first time)"
	rm -f $@
	test -x $(BIN)/python || $(VENV)
	$(INSTALL) -c constraints.txt $(if $(TORCH_INDEX),--no-deps --index-url $(TORCH_INDEX)) torch
	$(INSTALL) -c constraints.txt -e '.[dev]'
	touch $@

run: setup ## execute the notebooks in order, then build the book (PROFILE=smoke, laptop, large or paper)
	$(BIN)/radarbook run --profile $(PROFILE)
	$(BIN)/radarbook book build --profile $(PROFILE) $(if $(REPOSITORY),--repository $(REPOSITORY))

book: setup ## build the book from the notebooks as last executed
	$(BIN)/radarbook book build --profile $(PROFILE) $(if $(REPOSITORY),--repository $(REPOSITORY))

browse: setup ## check every page of the built book in Chromium, at the widths of a phone and a desk
	@if command -v chromium || command -v chromium-browser || command -v google-chrome; \
	  then $(MAKE) --no-print-directory .venv/.browser; else echo "no Chromium: pages are not checked"; fi
	$(THREADS) RADARBOOK_BOOK=build/$(PROFILE)/book/html $(BIN)/python -m pytest -n $(JOBS) -rs \
	  -m browser tests/test_browser.py tests/test_pages.py

.venv/.browser: pyproject.toml constraints.txt
	$(INSTALL) -c constraints.txt -e '.[dev,browser]'
	touch $@

test: setup ## run all tests
	@$(THREADS) $(BIN)/python -m tests.rounding
	$(THREADS) $(BIN)/python $(PYTEST)

test-portable: setup ## run the quicker numerical tests with the most conservative instruction sets
	@$(THREADS) $(PORTABLE) $(BIN)/python -m tests.rounding --portable
	$(THREADS) $(PORTABLE) $(BIN)/python $(PYTEST) -m 'not slow' $(NUMERICAL)

lint: setup ## check style, format and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: setup ## format the sources
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

pairing: setup ## check that each notebook's .ipynb and .md agree
	$(BIN)/python -m pytest -q tests/test_project.py -k pair

sync: setup ## update each notebook's .md or .ipynb from the other, whichever was edited
	$(BIN)/radarbook book sync

clean: ## remove what was built or computed (not .venv)
	rm -rf build .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +
