# Blockvault: everything a developer runs. `make help` lists it.
SHELL := /bin/bash
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PYTEST := $(BIN)/python -m pytest

.PHONY: help
help: ## this list
	@grep -hE '^[a-z][a-z-]*:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

# The virtual environment is made anew when the lock changes. Locked with hashes, without index addresses.
$(STAMP): requirements-dev.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Blockvault needs Python 3.11 or newer; set PYTHON=")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

.PHONY: setup
setup: $(STAMP) ## virtual environment with everything; blockvault is at .venv/bin/blockvault

.PHONY: demo
demo: setup ## the whole way in under a minute: backup, change, incremental, restore, compare
	$(BIN)/python -m tests.embedded.demo

.PHONY: test
test: setup lint ## all that needs Python only (at most 18 minutes)
	@hack/timed test $(PYTEST) -n 3 --dist loadfile -m "not cluster and not soak" --ignore=tests/cluster tests

.PHONY: test-cluster
test-cluster: setup ## the operator in a real Kubernetes with a real S3, built on first use (at most 50 minutes)
	@hack/timed cluster-setup $(BIN)/python -m tests.cluster.lab.setup
	@hack/timed test-cluster $(PYTEST) -m "cluster and not soak" tests/cluster

.PHONY: cluster
cluster: setup ## that cluster for a person: prints the KUBECONFIG, gives a shell, tears down at its end
	$(BIN)/python -m tests.cluster.lab $(ARGS)

.PHONY: soak
soak: setup ## what is exhaustive; hours
	@hack/timed soak $(PYTEST) -m soak tests

# The plots need what nothing else needs.
$(VENV)/.bench: $(STAMP) requirements-bench.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-bench.lock
	@touch $@

.PHONY: bench
bench: $(VENV)/.bench ## beside restic, kopia and the machine's limits; ARGS="--small" to try, "--record docs/performance.md" to keep
	$(BIN)/python -m tests.bench $(ARGS)

.PHONY: bench-cluster
bench-cluster: $(VENV)/.bench ## in a real Kubernetes, beside Velero: each about half an hour; ARGS as for bench
	$(BIN)/python -m tests.bench.cluster $(ARGS)

.PHONY: bench-scale
bench-scale: setup ## the operator beside 10,000 Backups in a real API server (20 minutes; builds it at first); ARGS="--small" for 1,000
	$(BIN)/python -m tests.bench --rows scale $(ARGS)

# A Python of its own, and only what the plugin needs.
$(VENV)/.plugin: $(STAMP) requirements-plugin.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-plugin.lock
	@touch $@

.PHONY: plugin
plugin: $(VENV)/.plugin ## kubectl-blockvault for this platform, with its own Python, and the krew manifest: dist/
	$(BIN)/python hack/build_plugin.py $(ARGS)

.PHONY: lint
lint: setup ## ruff, mypy --strict, import contracts, generated files
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/python hack/gen_crds.py --check
	$(BIN)/python hack/gen_docs.py --check
	$(BIN)/python hack/gen_metrics_doc.py --check
	$(BIN)/python hack/gen_cli_doc.py --check
	$(BIN)/python hack/gen_dashboards.py --check

.PHONY: crds
crds: setup ## generate crds/ and what follows from them
	$(BIN)/python hack/gen_crds.py
	$(BIN)/python hack/gen_docs.py
	$(BIN)/python hack/sync_chart_crds.py

.PHONY: lock
lock: ## lock the requirements anew (needs uv)
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header pyproject.toml -o requirements.lock
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header --extra test --extra lint pyproject.toml -o requirements-dev.lock
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header --constraint requirements-dev.lock --extra bench pyproject.toml -o requirements-bench.lock
	uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-annotate --no-header --constraint requirements-dev.lock --extra plugin pyproject.toml -o requirements-plugin.lock

.PHONY: clean
clean: ## remove what was made in the tree
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis dist build
