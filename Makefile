# The two commands of the README, `make demo` and `make test`, and what they stand on.
# Everything is installed into .venv, from exact versions; nothing but package installation needs a network.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt

.PHONY: demo test lint types check fuzz clean

demo: .venv/runtime          ## start the daemon, send it mail, show what comes out
	$(BIN)/python benchmarks/demo.py

test: .venv/develop          ## all tests
	$(BIN)/python -m pytest -q

lint: .venv/develop          ## style and format
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: .venv/develop         ## static types, strict
	$(BIN)/mypy

check: lint types test       ## what a change must pass

.venv/python: constraints.txt
	@$(PYTHON) -c 'import sys, venv, ensurepip; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || \
	  { echo "spamd needs Python 3.11 to 3.13 with the venv module: apt-get install python3-venv, or set PYTHON=" >&2; exit 69; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip --disable-pip-version-check install --quiet --upgrade 'pip>=25.1'
	$(PIP) torch==2.13.0
	@touch $@

.venv/runtime: .venv/python pyproject.toml
	$(PIP) --editable .
	@touch $@

.venv/develop: .venv/runtime
	$(PIP) --group dev
	@touch $@

fuzz: .venv/develop          ## 100,000 new sessions with the proxy, against a model of it; a few belong to the tests
	FUZZ_EXAMPLES=25000 $(BIN)/python -m pytest -q --timeout=0 tests/smtp/test_fuzz.py

clean:
	rm -rf .venv
