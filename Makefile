# `make` lists the targets. A machine needs Python >= 3.11, make and git; everything else is fetched or built once.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

# uv: the machine's own, else one in .uv/ by pip. (`uv` may be a shim that names a missing version: ask it.)
UV := $(shell if uv --version >/dev/null 2>&1; then command -v uv; else echo $(CURDIR)/.uv/bin/uv; fi)

# Where the machine's Python is new enough, no other one is downloaded.
PYTHON ?= python3
ifeq ($(shell $(PYTHON) -c 'import sys; print(sys.version_info >= (3, 11))' 2>/dev/null),True)
export UV_PYTHON_DOWNLOADS ?= never
endif

# WORKERS=2 is a third faster where nothing else runs: most tests wait for other processes most of the time.
WORKERS ?= 0

RUN := $(UV) run --no-sync
SYNCED := .venv/.synced

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  \033[1m%-18s\033[0m %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: setup
setup: $(SYNCED) ## Install everything Python into .venv, from the lock file

$(SYNCED): pyproject.toml uv.lock | $(UV)
	$(UV) sync --locked
	@touch $@

# `python -m venv` needs ensurepip, which Debian ships apart; plain pip is the other way in.
$(CURDIR)/.uv/bin/uv:
	@echo "uv is not installed; fetching it into .uv/"
	@rm -rf .uv
	@if $(PYTHON) -m venv .uv >/dev/null 2>&1 && .uv/bin/python -m pip --version >/dev/null 2>&1; then \
	  .uv/bin/python -m pip install --quiet --disable-pip-version-check uv; \
	elif rm -rf .uv; $(PYTHON) -m pip --version >/dev/null 2>&1; then \
	  $(PYTHON) -m pip install --quiet --disable-pip-version-check --target .uv uv; \
	else \
	  echo "Neither $(PYTHON) -m venv nor $(PYTHON) -m pip works: install python3-venv or python3-pip, or uv itself." >&2; \
	  exit 1; \
	fi
	@test -x $@

.PHONY: build
build: $(SYNCED) ## Build the local control plane once (minutes, then cached per user)
	$(RUN) python -m devkit build

.PHONY: lint
lint: $(SYNCED) ## Format, lint, types, import contracts, generated files
	$(RUN) ruff format --check .
	$(RUN) ruff check .
	$(RUN) mypy
	$(RUN) lint-imports
	$(RUN) python -m controller.api.crdgen --check
	$(RUN) python -m controller.api.chartgen --check
	$(RUN) python -m controller.api.docgen --check

.PHONY: check
check: lint ## lint, and the tests that need nothing running; under a minute
	$(RUN) pytest -m "unit or property"

.PHONY: test
test: lint build ## Everything, on a real API server, Envoy and Prometheus, with branch coverage
	$(RUN) pytest -m "not bench and not e2e" -n $(WORKERS) --dist worksteal --durations 20 --cov --cov-branch --cov-report=term
	@echo "controller/core must be covered completely:"
	$(RUN) coverage report --include='controller/core/*' --fail-under=100

.PHONY: test-malformed
test-malformed: build ## A thousand objects stored before a stricter schema among a thousand good ones
	MALFORMED_COUNT=1000 $(RUN) pytest --timeout=1800 tests/integration/test_malformed.py

.PHONY: crds
crds: $(SYNCED) ## Generate crds/ and docs/reference from the models
	$(RUN) python -m controller.api.crdgen
	$(RUN) python -m controller.api.chartgen
	$(RUN) python -m controller.api.docgen

IMAGE ?= agentrollout:dev
PYTHON_IMAGE ?=
CONTAINER_TOOL ?= docker

.PHONY: image
image: ## Build the container image; IMAGE=name:tag, PYTHON_IMAGE=python:3.12-slim@sha256:… pins its base
	@command -v $(CONTAINER_TOOL) >/dev/null || { \
	  echo "There is no $(CONTAINER_TOOL) here: install Docker, or name another builder with CONTAINER_TOOL=podman." >&2; exit 1; }
	$(CONTAINER_TOOL) build $(if $(PYTHON_IMAGE),--build-arg PYTHON_IMAGE=$(PYTHON_IMAGE)) --tag $(IMAGE) .

KIND_CLUSTER ?= agentrollout

.PHONY: kind
kind: ## A kind cluster with the image, a Prometheus, the chart and the example of docs/quickstart.md
	@for tool in docker kind helm kubectl; do command -v $$tool >/dev/null || { \
	  echo "make kind needs $$tool, which is not here; without Docker, make demo shows it all, and docs/quickstart.md how to go on." >&2; exit 1; }; done
	$(MAKE) image
	kind get clusters | grep -qx $(KIND_CLUSTER) || kind create cluster --name $(KIND_CLUSTER) --config kind-config.yaml --wait 120s
	kind load docker-image $(IMAGE) --name $(KIND_CLUSTER)
	helm --kube-context kind-$(KIND_CLUSTER) upgrade --install prometheus prometheus --namespace monitoring --create-namespace \
	  --repo https://prometheus-community.github.io/helm-charts --set alertmanager.enabled=false --set server.global.scrape_interval=5s
	helm --kube-context kind-$(KIND_CLUSTER) upgrade --install agentrollout charts/agentrollout --namespace agentrollout --create-namespace \
	  --set image.repository=$(firstword $(subst :, ,$(IMAGE))) --set image.tag=$(lastword $(subst :, ,$(IMAGE))) \
	  --set 'prometheus.urls={http://prometheus-server.monitoring}' --wait
	kubectl --context kind-$(KIND_CLUSTER) apply -f examples/quickstart/cluster.yaml

.PHONY: demo
demo: $(SYNCED) ## Good and bad versions of an agent, rolled out live; KEEP=1 leaves it running
	$(RUN) python -m examples.demo $(if $(filter-out 0,$(KEEP)),--keep)

.PHONY: bench-rollback
bench-rollback: build ## Time from sufficient evidence to weight 0 acknowledged by Envoy
	$(RUN) python -m tests.bench.rollback

.PHONY: bench-abort
bench-abort: build ## Time from a person's abort to the last request that the candidate gets
	$(RUN) python -m tests.bench.abort

.PHONY: bench-kill
bench-kill: build ## Time from the flip of a kill switch to the candidate's last request and last byte; KILLS=50 of each kind
	$(RUN) python -m tests.bench.kill $(if $(KILLS),--kills $(KILLS))

.PHONY: bench-throughput
bench-throughput: build ## Requests per second and p99 through the split, against direct
	$(RUN) python -m tests.bench.throughput

.PHONY: bench-shadow
bench-shadow: build ## Do users feel shadow mode? Five states, MINUTES=10 each, with the recorder and the candidate stopped and killed
	$(RUN) python -m tests.bench.shadow $(if $(MINUTES),--minutes $(MINUTES))

.PHONY: bench-scale
bench-scale: build ## Thousands of rollouts in one operator: memory, processor, requests, 100 changed or failing at once
	$(RUN) python -m tests.bench.scale

.PHONY: bench-api-faults
bench-api-faults: $(SYNCED) ## Our informer and the official client's under each fault of an API server
	$(RUN) python -m tests.bench.api_faults

.PHONY: bench-recorder
bench-recorder: $(SYNCED) ## Shadow pairs per second and core, and memory at a full queue
	$(RUN) python -m tests.bench.recorder

.PHONY: bench-decisions
bench-decisions: $(SYNCED) ## Simulated rollouts: false rollbacks, good deliveries, delays, of ours and of other rules
	$(RUN) python -m tests.bench.decisions

.PHONY: bench-shadow-decisions
bench-shadow-decisions: $(SYNCED) ## Simulated shadows with a judge that errs: false alarms, and how many comparisons it takes; INTERVALS=240 of 15 s
	$(RUN) python -m tests.bench.shadow_decisions $(if $(INTERVALS),--intervals $(INTERVALS))

.PHONY: bench-evaluation
bench-evaluation: $(SYNCED) ## Processor time of one evaluation: reading Prometheus' answer, counting, five metrics' tests
	$(RUN) python -m tests.bench.evaluation

.PHONY: e2e
e2e: build ## Deliveries to real pods: E2E_KUBECONFIG=PATH names a cluster whose pod addresses can be reached from here
	$(RUN) pytest -m e2e

.PHONY: soak
soak: build ## An hour of churn: does the operator grow? MINUTES=5 is a short one
	$(RUN) python -m tests.bench.soak --minutes $(or $(MINUTES),60)

.PHONY: chaos
chaos: build ## Deliveries under load while everything breaks: MINUTES=30 at random with SEED=, MINUTES=0 each at every stage
	$(RUN) python -m tests.bench.chaos $(if $(MINUTES),--minutes $(MINUTES)) $(if $(SEED),--seed $(SEED))

.PHONY: fmt
fmt: $(SYNCED) ## Format, and fix what can be fixed
	$(RUN) ruff check --fix .
	$(RUN) ruff format .

.PHONY: clean
clean: ## Remove what the targets above left in this folder (the per-user build cache stays)
	rm -rf .venv .uv .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis .coverage .coverage.* htmlcov dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
