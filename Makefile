# Batch Normalization, by experiment. `make help` lists the commands.
# Needs git, GNU make and Python >= 3.11; everything else goes into .venv.

PYTHON ?= python3
PORT ?= 8000

VENV := .venv
BIN := $(VENV)/bin
PY := $(BIN)/python
INSTALLED := $(VENV)/installed
SITE := _build/html
BUILT := $(SITE)/.built

CHAPTERS := $(wildcard chapters/$(CHAPTER)*.ipynb)
SITE_SOURCES := $(wildcard *.md api/*.md *.yml *.bib _static/* _templates/* book/*.py book/*.js chapters/*.ipynb) \
	$(wildcard bn_core/*.py bn_core/*/*.py results/*)

# One thread to a process: the chapters' bits do not depend on the number of cores, and tests that
# run side by side do not get into each other's way.
export OMP_NUM_THREADS = 1
export MKL_NUM_THREADS = 1

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help install book serve pdf weigh links newest test test-fast lab execute paper bench lock clean

help: ## list the commands
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/make \1|\2/' | \
		while IFS='|' read -r name what; do printf '%-14s %s\n' "$$name" "$$what"; done

install: $(INSTALLED) ## make .venv with the locked versions and the package

$(INSTALLED): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "make: $(PYTHON) is $$($(PYTHON) --version 2>&1); Python 3.11 or newer is needed." \
			"Name one: make book PYTHON=python3.11" >&2; exit 1; }
	@test -x $(PY) || $(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); \
		echo "make: no virtual environment could be made; on Debian: apt-get install python3-venv" >&2; \
		exit 1; }
	$(PY) -m pip install --quiet --disable-pip-version-check -r requirements.lock
	$(PY) -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $@

book: $(BUILT) ## build the site, strictly
	@echo "The book is at $(SITE)/index.html. Open that file, or run 'make serve'."

# From nothing each time: a page that is not read again does not repeat its warnings, so an
# incremental build after a failed one would pass.
$(BUILT): $(INSTALLED) $(SITE_SOURCES)
	rm -rf _build
	$(BIN)/jupyter-book build . -W -n --keep-going
	$(PY) -m book.check_pages $(SITE)
	@touch $@

serve: $(BUILT) ## serve the site on localhost (PORT=8000)
	@echo "http://127.0.0.1:$(PORT)/  (Ctrl-C to stop)"
	@$(PY) -m http.server $(PORT) --bind 127.0.0.1 --directory $(SITE)

pdf: $(BUILT) ## print the book to _build/book.pdf (needs Chromium)
	@$(PY) -m book.printing $(SITE) _build/book.pdf

weigh: $(BUILT) ## bytes, times and axe's findings for each page, also in _build/weights.json (needs Chromium)
	@$(PY) -m book.weigh $(SITE) --out _build/weights.json

links: $(BUILT) ## ask every address outside the book that the site links to (needs the network)
	@$(PY) -m book.links $(SITE)

test: $(INSTALLED) ## everything: lint, types, units, notebooks, strict build, site in a browser
	@$(PY) -m book.test_run lint types unit notebooks build site

test-fast: $(INSTALLED) ## lint, types and units: no notebooks, no browser
	@$(PY) -m book.test_run lint types unit

lab: $(INSTALLED) ## JupyterLab with the book's kernel
	$(BIN)/jupyter lab chapters

execute: $(INSTALLED) ## re-execute the chapters and store their outputs (CHAPTER=09 for one)
	$(PY) -m book.execute $(CHAPTERS)
	@$(PY) -m book.picture

# Into a folder of their own, so that the records stay what they are compared with. To make them the
# book's: cp runs/paper/*.json results/
paper: $(INSTALLED) ## re-make the recorded paper-scale runs and compare verdicts (under 2 hours; full MNIST)
	@$(PY) -m bn_core.experiments all --out runs/paper

# On all cores: where OMP_NUM_THREADS is 1, a second thread that torch is given later does start, but
# waits so badly that everything takes tens of milliseconds.
bench: $(INSTALLED) ## the speed tables (full MNIST)
	env -u OMP_NUM_THREADS -u MKL_NUM_THREADS $(PY) -m book.bench

lock: ## re-make requirements.lock from pyproject.toml's ranges
	rm -rf .venv-lock && $(PYTHON) -m venv .venv-lock
	.venv-lock/bin/pip install --quiet torch==2.13.0
	.venv-lock/bin/pip install --quiet torch==2.13.0 --editable '.[lab,book,dev]'
	sed -n '/^#/p' requirements.lock > .venv-lock/lock
	.venv-lock/bin/pip freeze --exclude-editable | sed 's/^torch==.*/torch==2.13.0/' >> .venv-lock/lock
	mv .venv-lock/lock requirements.lock && rm -rf .venv-lock

newest: ## make .venv anew with the newest versions that pyproject.toml allows
	rm -rf $(VENV) && $(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --disable-pip-version-check --editable '.[lab,book,dev]'
	@touch $(INSTALLED)

clean: ## remove what was built, not .venv
	rm -rf _build runs .pytest_cache .mypy_cache .ruff_cache .hypothesis
