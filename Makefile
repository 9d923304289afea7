# Two commands matter: `make demo` and `make test`. Both make .venv and install first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test check docs-tables install clean

install: $(VENV)/.installed

# The stamp depends on what decides the environment, so that a change installs again.
$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@

demo: install
	$(BIN)/personsearch demo --out demo

# Two processes of one thread each: torch's threads would spin against each other on two cores. A process that dies ends the run:
# pytest-xdist would start another and then wait for ever.
test: install
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --max-worker-restart 0

check: install
	$(BIN)/ruff check --no-cache .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

# Tables of the README and of docs, from benchmarks/results; a test fails where they are stale.
docs-tables: install
	$(BIN)/personsearch bench tables

clean:
	rm -rf $(VENV) build dist runs demo *.egg-info
