# make quickstart   from a fresh clone to a report: venv, install, run, report; needs no hub and no data
# make test         the tests; those that need real data run if ABLATE_TEST_ASSETS points to it
# make coverage     the tests, with the lines that none of them reaches; takes twice as long
# make lint         style, types, import contracts, dead code, the documentation and its links
# make docs         the documentation as a site in build/site, with the pages that come from the code
# make constraints the newest versions that agree with each other, into constraints.txt; then run all tests
# make test-slow    the long tests: thousands of kills, fuzzed parsers, simulated error rates
# make bench        the benchmarks, written to docs/benchmarks.md; takes about an hour

PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/pip --disable-pip-version-check install --quiet --constraint constraints.txt

.PHONY: quickstart test coverage lint docs constraints test-slow bench clean

quickstart: .venv/installed
	$(BIN)/ablate run studies/quickstart.yaml --workers 2
	$(BIN)/ablate report quickstart

# The variable silences an advertisement.
MKDOCS := NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

# On two cores the suite took 1,090 s in three processes and 1,182 s in two. Computed only where it is used.
JOBS = $(shell $(PYTHON) -c 'import os; print(max(2, min(6, (os.cpu_count() or 2) * 3 // 2)))')
TEST = $(BIN)/pytest --numprocesses $(JOBS) --dist worksteal

test: .venv/installed-dev
	$(TEST)

coverage: .venv/installed-dev
	$(TEST) --cov=ablate --cov-report=term-missing:skip-covered

lint: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/vulture
	$(MKDOCS)

docs: .venv/installed-dev
	$(BIN)/python docs/reference.py
	$(MKDOCS)

constraints:
	$(PYTHON) .ci/constraints.py

test-slow: .venv/installed-dev
	$(BIN)/pytest -m slow --timeout 7200

bench: .venv/installed-dev
	$(PIP) --editable '.[bench]'
	$(BIN)/python tests/benchmarks --write docs

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(PIP) --editable .
	touch $@

# Not after .venv/installed: resolving the packages once is a minute faster than twice.
.venv/installed-dev: pyproject.toml constraints.txt
	test -d .venv || $(PYTHON) -m venv .venv
	$(PIP) --editable '.[dev]'
	touch .venv/installed $@

clean:
	rm -rf .venv build *.egg-info
