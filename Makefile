# Every target prepares .venv by itself; python3 (3.11 or newer, with venv) and make are all it needs.
#
#   make test PYTHON=python3.12       another interpreter (after `make clean`, if .venv exists)
#   make soak ARGS="--seeds 300"      fewer worlds
#   make test ARGS="-k lease -x"      more arguments for pytest; likewise for demo and bench

PYTHON ?= python3
ARGS ?=
VENV := .venv
BIN := $(VENV)/bin

# uv knows SSL_CERT_FILE, but by itself no authority that was added to the machine's own store.
ifneq ($(wildcard /etc/ssl/certs/ca-certificates.crt /etc/pki/tls/certs/ca-bundle.crt),)
export UV_SYSTEM_CERTS ?= true
endif
export PYRIGHT_PYTHON_IGNORE_WARNINGS ?= 1
# Jobs, actors and commands are interpreters of their own: none is to compile all libraries anew.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help demo test test-ray backends soak check bench bench-scheduler bench-data clean
.DELETE_ON_ERROR:

help:  ## what there is
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-16s %s\n", $$1, $$2 }' Makefile

demo: $(VENV)/.has-examples  ## reinforcement learning on a local cluster, in a minute
	@$(BIN)/python -m examples.rl $(ARGS)

test: $(VENV)/.has-test,examples,ray  ## all tests: unit, simulation, integration
	@$(BIN)/python -m pytest -n logical --maxprocesses 4 --dist worksteal $(ARGS)

test-ray: $(VENV)/.has-test,examples,ray  ## those alone that run on a real Ray, which they start
	@$(BIN)/python -m pytest -m ray $(ARGS)

backends: $(VENV)/.has-test,examples,ray  ## what each cluster and job context does, into docs/backends.md
	@$(BIN)/python -m pytest tests/cluster/test_cluster_conformance.py tests/job/test_conformance.py \
		--backends docs/backends.md $(ARGS)

soak: $(VENV)/.has-test,examples  ## ten thousand random worlds of each kind
	@$(BIN)/python -m tests.sim.soak $(ARGS)

CHECKS := "ruff check ." "ruff format --check ." pyright lint-imports

check: $(VENV)/.has-test,examples  ## style, types, layers
	@failed=; for tool in $(CHECKS); do \
		echo "$$tool"; $(BIN)/$$tool || failed="$$failed [$$tool]"; \
	done; \
	test -z "$$failed" || { echo "failed:$$failed" >&2; exit 1; }

bench: $(VENV)/.has-test,examples  ## fray beside ray, xoscar and dask, into benchmarks/RESULTS.md
	@$(BIN)/python -m benchmarks calls --json .bench/calls.json $(ARGS)
	@$(BIN)/python -m benchmarks startup --json .bench/startup.json $(ARGS)
	@$(BIN)/python -m benchmarks tasks --json .bench/tasks.json $(ARGS)
	@$(BIN)/python -m benchmarks table .bench/calls.json .bench/startup.json .bench/tasks.json \
		> benchmarks/RESULTS.md
	@$(BIN)/python -m benchmarks.start >> benchmarks/RESULTS.md

bench-scheduler: $(VENV)/.has-test,examples  ## how far the controller goes, into benchmarks/SCHEDULER.md
	@$(BIN)/python -m benchmarks.scheduler --json .bench/scheduler.json \
		--markdown benchmarks/SCHEDULER.md --picture docs/images/scheduler.png $(ARGS)

bench-data: $(VENV)/.has-test,examples  ## zephyr beside Ray Data, Dask and multiprocessing, into benchmarks/DATA.md
	@$(BIN)/python -m benchmarks.data --json .bench/data.json --markdown benchmarks/DATA.md $(ARGS)

clean:  ## remove what these targets made
	rm -rf $(VENV) .bench build dist .pytest_cache .ruff_cache .mypy_cache .hypothesis
	rm -rf .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/uv:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "fray needs Python 3.11 or newer: make PYTHON=python3.12 …" >&2; exit 1; }
	@echo "fray: making $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv $(VENV) || { \
		echo "$(PYTHON) cannot make an environment; on Debian: apt install python3-venv" >&2; \
		exit 1; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv

# The name of a stamp says which extras of pyproject.toml are installed. A bar is shown where one can
# be; pip is there for machines where only pip is told where to find packages.
$(VENV)/.has-%: pyproject.toml $(BIN)/uv
	@echo "fray: installing fray[$*] …"
	@test -t 2 || quiet=--quiet; \
	$(BIN)/uv pip install $$quiet --python $(BIN)/python -e '.[$*]' || { \
		echo "fray: uv could not; trying pip …" >&2; \
		$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[$*]'; }
	@touch $@
