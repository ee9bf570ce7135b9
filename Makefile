# The commands of the project. `make help` tells what each does.

PYTHON ?= python3
ROOMS := core services/api services/worker cli
VENV := .venv
BIN := $(VENV)/bin
SETUP := $(VENV)/.up-to-date

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.SUFFIXES:
MAKEFLAGS += --no-builtin-rules

# --- environment ------------------------------------------------------------------------------------------------------

.PHONY: setup
setup: $(SETUP)

# uv does not read pip's configuration: where pip is pointed at a mirror, point uv at it too (an empty value means the default).
UV := UV_DEFAULT_INDEX="$${PIP_INDEX_URL:-$$($(BIN)/pip config get global.index-url 2>/dev/null)}" $(BIN)/uv

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Python 3.11 or newer is needed and '$(PYTHON)' is older: name another one with make PYTHON=..."; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null \
		|| { echo "'$(PYTHON)' cannot make virtual environments: on Debian and Ubuntu, apt-get install python3-venv"; exit 1; }
	@$(PYTHON) -m venv $(VENV)

$(SETUP): $(BIN)/python requirements/uv.txt requirements/run.txt requirements/dev.txt $(ROOMS:%=%/pyproject.toml)
	@echo "Installing what the locks in requirements/ say ..."
	@$(BIN)/python -m pip install --quiet --require-hashes -r requirements/uv.txt
	@$(UV) pip sync --quiet --python $(BIN)/python --require-hashes requirements/run.txt requirements/dev.txt
	@$(UV) pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation $(ROOMS:%=-e ./%)
	@touch $@

# --universal: one lock for every platform and Python from 3.11 on. No index address is written into a lock.
LOCK = UV_CUSTOM_COMPILE_COMMAND="make lock" $(UV) pip compile --quiet --universal --python-version 3.11 \
	--fork-strategy fewest --generate-hashes --no-emit-index-url --annotation-style line

.PHONY: lock upgrade
upgrade: LOCK += --upgrade
lock upgrade: $(BIN)/uv
	@$(LOCK) requirements/uv.in -o requirements/uv.txt
	@$(LOCK) --no-emit-package anb-core $(ROOMS:%=%/pyproject.toml) requirements/build.in -o requirements/run.txt
	@$(LOCK) -c requirements/run.txt requirements/dev.in -o requirements/dev.txt
	@$(LOCK) requirements/ministack.in -o cli/src/anb_cli/ministack-requirements.txt
	@$(LOCK) --no-deps requirements/footage.in -o requirements/footage.txt

# A lock that pyproject.toml has outrun must not keep `make lock` from mending it: only uv is needed here.
$(BIN)/uv: | $(BIN)/python
	@$(BIN)/python -m pip install --quiet --require-hashes -r requirements/uv.txt
