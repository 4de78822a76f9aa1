# make repro   set up and run the pipeline      make test   install what the tests need and pass them
# Both can be run at any time. PIP_ARGS goes to pip; a torch that is in .venv already is kept if it fits constraints.txt.

PYTHON ?= python3
BIN := .venv/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)
export MLFLOW_DISABLE_TELEMETRY := true
export DVC_NO_ANALYTICS := true

.PHONY: repro test check install install-dev

repro: install
	@dvc repro $(DVC_ARGS)

test: install-dev check
	@pytest

check: install-dev
	@ruff check .
	@ruff format --check .
	@mypy
	@lint-imports --no-cache

install: .venv/installed
install-dev: .venv/installed-dev

# An install that was interrupted leaves its mark, and the next one starts afresh.
.venv/installed: pyproject.toml constraints.txt
	@if [ -e .venv/installing ] || ! $(BIN)/python -m pip --version >/dev/null 2>&1; then \
		echo "making .venv"; $(PYTHON) -m venv --clear .venv; fi
	@touch .venv/installing
	@echo "installing charlm (some minutes the first time)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt $(PIP_ARGS) -e .
	@rm -f .venv/installing .venv/installed-dev
	@$(BIN)/python -c "from pathlib import Path; from pipeline.reporting import plots_page; plots_page.install_plots_page(Path('.dvc'))"
	@touch $@

.venv/installed-dev: .venv/installed
	@touch .venv/installing
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt $(PIP_ARGS) -e ".[dev]"
	@rm -f .venv/installing
	@touch $@
