# Two commands matter: `make demo` and `make test`. Both make .venv and install first.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# What torch, its CUDA libraries and the others take up.
NEEDS_GB := 8

.PHONY: demo test check docs-tables install clean

install: $(VENV)/.installed

# The stamp depends on what decides the environment, so that a change installs again.
$(VENV)/.installed: pyproject.toml constraints.txt
	@test -d $(VENV) || test "$$(df -Pk . | awk 'NR == 2 {print int($$4 / 1048576)}')" -ge $(NEEDS_GB) || { \
		echo "make: less than $(NEEDS_GB) GB free in $(CURDIR); expected $(NEEDS_GB) for $(VENV), and 2 for temporary files;" \
		"free some, or unpack the project on another disk" >&2; exit 2; }
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
