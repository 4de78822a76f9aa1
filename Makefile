# make repro       set up and run the pipeline
# make test        checks, unit tests and one end-to-end test for each promise
# make test-unit   the unit tests: about a minute
# make test-all    also the slow tests: repeated kills, browsers, PostgreSQL, sweeps
# make sbom        writes sbom.cdx.json: the name, version and license of every installed package (CycloneDX)
# All can be run at any time. PIP_ARGS goes to pip, PYTEST_ARGS to pytest. A torch that is already in .venv stays if its
# version is the one in constraints.txt.

PYTHON ?= python3
BIN := .venv/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)
export MLFLOW_DISABLE_TELEMETRY := true
export DVC_NO_ANALYTICS := true

# Two processes; the tests of a file share a process, and with it the project that they run in. tests/conftest.py orders the files.
PYTEST := pytest -n 2 --dist loadfile --no-loadscope-reorder

.PHONY: repro test test-unit test-slow test-all check install install-dev sbom

repro: install
	@dvc repro $(DVC_ARGS)

test: check
	@$(PYTEST) -m "not slow" $(PYTEST_ARGS)

test-unit: install-dev
	@$(PYTEST) -m "not slow and not end_to_end" $(PYTEST_ARGS)

# What `make test` leaves out.
test-slow: install-dev
	@$(PYTEST) -m slow $(PYTEST_ARGS)

test-all: check
	@$(PYTEST) $(PYTEST_ARGS)

check: install-dev
	@ruff check .
	@ruff format --check .
	@mypy
	@lint-imports --no-cache

install: .venv/installed
install-dev: .venv/installed-dev

# An interrupted installation leaves .venv/installing behind, and the next one starts from an empty .venv.
.venv/installed: pyproject.toml constraints.txt
	@if [ -e .venv/installing ] || ! $(BIN)/python -m pip --version >/dev/null 2>&1; then \
		echo "creating .venv"; $(PYTHON) -m venv --clear .venv; fi
	@touch .venv/installing
	@echo "installing charlm (some minutes the first time)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt $(PIP_ARGS) -e ".[all]"
	@rm -f .venv/installing .venv/installed-dev
	@$(BIN)/python -c "from pathlib import Path; from pipeline.reporting import plots_page; plots_page.install_plots_page(Path('.dvc'))"
	@touch $@

.venv/installed-dev: .venv/installed
	@touch .venv/installing
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt $(PIP_ARGS) -e ".[dev]"
	@rm -f .venv/installing
	@touch $@

# The tool has its own environment, so that the bill lists charlm's packages and not the tool's.
sbom: .venv/sbom/installed
	@.venv/sbom/bin/cyclonedx-py environment --output-reproducible --pyproject pyproject.toml -o sbom.cdx.json .venv
	@echo "sbom.cdx.json"

.venv/sbom/installed: .venv/installed
	@echo "installing cyclonedx-bom into .venv/sbom"
	@$(PYTHON) -m venv --clear .venv/sbom
	@.venv/sbom/bin/python -m pip install --quiet --disable-pip-version-check $(PIP_ARGS) cyclonedx-bom==7.5.0
	@touch $@
