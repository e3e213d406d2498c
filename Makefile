# Thin: every verb is one command that also works without make (see README).
PROFILE ?= quick
PYTHON ?= python3
VENV ?= .venv
PY = $(VENV)/bin/python
# A file's tests, and a notebook's cells, stay together; in the order of the files, for the longest are not the last.
PARALLEL = -n logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder

.DEFAULT_GOAL := help
.PHONY: help book html pdf pairs test lint unit mutants clean

help:  ## list the verbs
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## */|/' | awk -F'|' '{printf "  make %-8s %s\n", $$1, $$2}'

elsewhere:
# Again where this folder was moved or copied since, or Python is gone: what is installed is then another folder's.
HERE = import os, meirl_book as book; print("yes" * os.path.samefile(book.__path__[0], "book"))
$(VENV)/installed: pyproject.toml constraints.txt $(if $(shell $(PY) -c '$(HERE)' 2>/dev/null),,elsewhere)
	@echo "installing into $(VENV) (about 1.5 GB, a few minutes the first time)"
	@# One that has no pip, or an older Python, is made anew.
	@$(PY) -c 'import sys, pip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || $(PYTHON) -m venv --clear $(VENV)
	@$(PY) -m pip install -qq --disable-pip-version-check --no-compile -c constraints.txt -e ".[book,test]"
	@# Compiled on all cores, where pip uses one; some packages hold files that are not for this Python.
	@$(PY) -m compileall -qq -j 0 -x '/tests?/' $(VENV)/lib || true
	@touch $@

book: $(VENV)/installed  ## execute the notebooks and build the book (PROFILE=quick, or full: what is published)
	@$(PY) -m meirl book --profile $(PROFILE)

html: $(VENV)/installed  ## build what is committed under book/, execute nothing
	@$(PY) -m meirl book --html

pdf: $(VENV)/installed  ## print what is committed under book/ as one PDF (needs Chromium, Chrome or Edge)
	@$(PY) -m meirl book --pdf

pairs: $(VENV)/installed  ## execute notebooks/*.md into their .ipynb twins, the reference of the tests
	@$(PY) -m meirl book --pairs

lint: $(VENV)/installed  ## style and types
	$(PY) -m ruff check
	$(PY) -m ruff format --check
	$(PY) -m mypy

unit: $(VENV)/installed  ## unit tests, doctests and recorded traces only
	$(PY) -m pytest -rs $(PARALLEL) tests meirl notebooks/meirl_study

test: $(VENV)/installed  ## lint, both books with warnings as errors, every notebook, tests, doctests, coverage
	@$(MAKE) --no-print-directory -j2 lint html   # either keeps one core busy
	@# Two sessions: with coverage nbval loses its kernels. The first notebook, 00, trains for the others.
	$(PY) -m pytest -rs $(PARALLEL) --nbval --nbval-current-env --ignore=notebooks/meirl_study tests/book notebooks
	$(PY) -m pytest -rs $(PARALLEL) --cov --cov-report= tests/meirl tests/study tests/test_*.py meirl notebooks/meirl_study
	@$(PY) -m coverage report --include="*/meirl/*" --fail-under=95 --skip-covered
	@$(PY) -m coverage report --include="*/meirl_study/*" --fail-under=90 --skip-covered

mutants: $(VENV)/installed  ## break the code in a hundred ways, one at a time: does a test notice? (weekly in CI)
	$(PY) tests/mutants/run.py

clean:  ## delete what was built (not the environment, not the runs)
	rm -rf _build build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage .coverage.*
