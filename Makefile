# genfam: `make help` lists what there is.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
SUITE ?= quick
STAMP := $(VENV)/.installed
# A file's tests share what they set up; each worker takes a gigabyte.
PARALLEL := --numprocesses=logical --maxprocesses=4 --dist=loadfile --no-loadscope-reorder

.PHONY: help install benchmark report dashboard wandb-sync compare publish docs test test-all \
  lint format types lock clean

help:  ## Show this help
	@awk 'BEGIN {FS = ":.*## "; print "make <target> [SUITE=smoke|quick|standard|images|...]\n"} \
	  /^[a-z-]+:.*## / {printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(STAMP): requirements.lock pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "genfam needs Python 3.11 as '$(PYTHON)'; or: make PYTHON=/path/to/python3.11"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --no-compile --require-hashes -r requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	$(BIN)/python -m compileall -qq -j 0 -x '/tests?/' $(VENV)/lib || true  # once here, or at every start where PYTHONDONTWRITEBYTECODE is set
	@touch $@

install: $(STAMP)  ## Set up .venv from the lock file (done by the others when needed)

benchmark: $(STAMP)  ## Train and compare all families: SUITE=quick (default) or a file of conf/suite; ARGS="key=value ..."
	@$(BIN)/genfam-benchmark --suite $(SUITE) $(ARGS)

report: $(STAMP)  ## Scorecard, figures and page (report.html) again, from what was run (or published)
	@$(BIN)/genfam-report --suite $(SUITE)

dashboard: $(STAMP)  ## Compare families in wandb's terminal viewer, offline: SUITE, and SOURCE=grid if you like (q quits)
	@$(BIN)/genfam-dashboard --suite $(SUITE) --view $(if $(SOURCE),--source $(SOURCE))

wandb-sync: $(STAMP)  ## Send a suite's finished offline runs to wandb (needs an account: wandb login)
	@$(BIN)/genfam-dashboard --suite $(SUITE) --sync

compare: $(STAMP)  ## Published numbers beside ours, with what differs in protocol (also into docs)
	@$(BIN)/python benchmarks/compare.py

publish: $(STAMP)  ## Copy a finished suite's records, scorecard and figures to results/
	@$(BIN)/genfam-publish --suite $(SUITE)

docs: $(STAMP)  ## The documentation as a site in site/ (opens by double click); a broken link or name fails it
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "Open in a browser: site/index.html"

test: $(STAMP)  ## Tests, without those marked slow, on up to four cores
	$(BIN)/pytest -m "not slow" $(PARALLEL)

test-all: $(STAMP)  ## All tests
	$(BIN)/pytest $(PARALLEL)

lint: $(STAMP)  ## Style, formatting, and the floors of the house
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

format: $(STAMP)  ## Put the code in order
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

types: $(STAMP)  ## Strict type check of src
	$(BIN)/mypy

lock:  ## Make requirements.lock again (needs uv)
	uv pip compile --quiet --generate-hashes --python-version 3.11 --python-platform x86_64-unknown-linux-gnu \
	  --constraints constraints.txt --all-extras --no-emit-index-url pyproject.toml --output-file requirements.lock

clean:  ## Remove caches and build output; runs in outputs/ and results/ stay
	rm -rf build dist site .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
	find . -name __pycache__ -not -path './$(VENV)/*' -prune -exec rm -rf {} +
