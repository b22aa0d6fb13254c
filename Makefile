# Everything a developer or a first visitor runs. `make install` needs Python 3.11+ and no compiler.
PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
MERGEKIT_VENV := .mergekit-venv
PIP_FLAGS := --disable-pip-version-check --quiet

# A stamp's name carries what the installation follows from; a .venv that is stale or was moved is made anew, so that
# one kept from an earlier run never hides a dependency that is no longer declared.
KEY := $(shell { echo "$(CURDIR)"; sed '/^\[tool/,$$d' pyproject.toml; cat constraints.txt; } | cksum | cut -d ' ' -f 1)
NODE_KEY := $(shell cksum < docs/examples/node/package.json | cut -d ' ' -f 1)
MERGEKIT_KEY := $(shell { echo "$(CURDIR)"; cat tests/parity/mergekit-constraints.txt; } | cksum | cut -d ' ' -f 1)

# The tests start thousands of processes; without kept bytecode a daemon takes twice as long to start.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help install install-gguf gguf dev mergekit node demo docs test check bench soak format clean

help:
	@echo "make install   .venv with alloy and alloyd in its bin"
	@echo "make install-gguf  llama-cpp-python too, for GGUF: built once and kept; NATIVE=1 for this processor"
	@echo "make demo      merge two small models and score the result"
	@echo "make test      every test but the soak"
	@echo "make check     ruff, mypy, the house tests"
	@echo "make mergekit  the real mergekit 0.1.5 in a venv of its own, for tests/parity and the benchmarks"
	@echo "make node      the npm package of the example client in JavaScript, in a folder of its own, for its tests"
	@echo "make docs      the pages that follow from the code: API, errors, manual page, sizes of 70B"
	@echo "make bench     measure merges against the floor and mergekit"
	@echo "make soak      long kills, fuzz, big shapes, hundreds of jobs at a daemon that is killed"

install: $(VENV)/.installed-$(KEY)
dev: $(VENV)/.dev-$(KEY)
mergekit: $(MERGEKIT_VENV)/.installed-$(MERGEKIT_KEY)

$(VENV)/.installed-$(KEY):
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("alloyd needs Python 3.11 or newer; try: make install PYTHON=python3.12")'
	@$(PYTHON) -m venv --clear $(VENV)
	@echo "installing alloyd into $(VENV) (torch is the large part)"
# torch first and alone: a CPU build that pip is configured to find is taken, and nothing later replaces it.
	@$(PY) -m pip install $(PIP_FLAGS) -c constraints.txt torch
	@$(PY) -m pip install $(PIP_FLAGS) -c constraints.txt hatchling
	@$(PY) -m pip install $(PIP_FLAGS) -c constraints.txt --no-build-isolation -e '.[daemon,page,score,search]'
	@touch $@
	@echo "ready: $(VENV)/bin/alloy --help"

$(VENV)/.dev-$(KEY): $(VENV)/.installed-$(KEY)
	@echo "installing the development tools into $(VENV)"
	@$(PY) -m pip install $(PIP_FLAGS) -c constraints.txt --no-build-isolation -e '.[dev]'
	@touch $@

$(MERGEKIT_VENV)/.installed-$(MERGEKIT_KEY):
	@$(PYTHON) -m venv --clear $(MERGEKIT_VENV)
	@echo "installing mergekit 0.1.5 into $(MERGEKIT_VENV)"
	@$(MERGEKIT_VENV)/bin/python -m pip install $(PIP_FLAGS) -c tests/parity/mergekit-constraints.txt torch
	@$(MERGEKIT_VENV)/bin/python -m pip install $(PIP_FLAGS) -c tests/parity/mergekit-constraints.txt mergekit
	@touch $@

node: .node/.installed-$(NODE_KEY)

.node/.installed-$(NODE_KEY):
	@rm -rf .node && mkdir .node && cp docs/examples/node/package.json docs/examples/node/.npmrc .node
	@npm install --prefix .node --no-audit --no-fund
	@touch $@

install-gguf: install
	@bash configs/gguf/install $(PY)

# What the tests want of it; where it cannot be built they say so and skip, unless ALLOYD_REQUIRE names gguf.
gguf: dev
	@bash configs/gguf/install $(PY) || { \
	echo '!!! no llama-cpp-python: every test that needs it will be skipped; `make install-gguf` says why' >&2; \
	case "$$ALLOYD_REQUIRE" in *gguf*) exit 1;; esac; }

demo: install
	@PATH="$(CURDIR)/$(VENV)/bin:$$PATH" bash configs/demo/run

# Tests run in WORKERS processes, neighbours in the same; WORKERS=0 is one. PYTEST_FLAGS='tests/search -x' runs some.
WORKERS ?= 2
test: dev gguf
	$(PY) -m pytest --numprocesses $(WORKERS) --dist worksteal $(PYTEST_FLAGS)

soak: dev gguf
	$(PY) -m pytest -m soak --timeout 7200 --hypothesis-profile soak

check: dev gguf
	$(PY) -m ruff check
	$(PY) -m ruff format --check
	$(PY) -m mypy
	$(PY) -m pytest tests/house

docs: dev
	$(PY) -m docs.generate

bench: dev
	$(PY) benchmarks/startup.py
	$(PY) benchmarks/merge.py

format: dev
	$(PY) -m ruff check --fix
	$(PY) -m ruff format

clean:
	rm -rf build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
