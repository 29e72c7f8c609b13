# Everything from a fresh checkout: `make run`, `make test`.

VENV   ?= .venv
PYTHON ?= python3
BIN    := $(VENV)/bin

.PHONY: run test test-long formal lint lint-types docs setup check clean

run: $(VENV)/.run
	$(BIN)/tritstream demo $(ARGS)

test: $(VENV)/.test
	$(BIN)/python -m pytest -n auto --dist worksteal $(ARGS)

# Synthesis and proofs as well; their tools compile themselves for a minute the first time.
test-long: $(VENV)/.fpga
	$(BIN)/python -m pytest -m long $(ARGS)

# Proofs alone, and a table of them.
formal: $(VENV)/.fpga
	$(BIN)/python -m pytest -m long tests/formal $(ARGS)

# Style and spelling, then import contracts and types.
lint: $(VENV)/.test lint-types
	$(BIN)/ruff check
	$(BIN)/codespell

# Import contracts and types, on a copy of the packages in the layout in which they are installed.
lint-types: $(VENV)/.test
	rm -rf build/lint && mkdir -p build/lint/tritstream
	cp -R tritstream/. golden hw sim host scripts build/lint/tritstream
	cd build/lint && $(abspath $(BIN))/lint-imports ../../pyproject.toml
	cd build/lint && $(abspath $(BIN))/mypy --config-file ../../pyproject.toml

# The pages as a site, in build/docs.
docs: $(VENV)/.test
	$(BIN)/python docs/build.py

setup: $(VENV)/.test

check:
	@missing=; \
	for tool in $(PYTHON) g++ make perl; do \
	  command -v $$tool >/dev/null || missing="$$missing $$tool"; done; \
	if [ -n "$$missing" ]; then \
	  echo "missing:$$missing (Debian, Ubuntu: apt install python3-venv make g++ perl)"; exit 1; fi; \
	$(PYTHON) -c 'import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "$(PYTHON) must be Python 3.11 or newer with venv (Debian, Ubuntu: apt install python3-venv)"; \
	  exit 1; }

$(VENV)/bin/python:
	@$(MAKE) --no-print-directory check
	$(PYTHON) -m venv $(VENV)

$(VENV)/.run: pyproject.toml | $(VENV)/bin/python
	$(BIN)/pip install --quiet --editable .
	touch $@

$(VENV)/.test: pyproject.toml | $(VENV)/bin/python
	$(BIN)/pip install --quiet --editable '.[dev]'
	touch $@ $(VENV)/.run

$(VENV)/.fpga: pyproject.toml | $(VENV)/bin/python
	$(BIN)/pip install --quiet --editable '.[dev,fpga,formal]'
	touch $@ $(VENV)/.test $(VENV)/.run

clean:
	rm -rf build $(VENV)
