# `make cluster`: a Kubernetes cluster on throw-away machines. `make test`: every test. `make` lists the targets.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.NOTPARALLEL:
MAKEFLAGS += --no-print-directory

# How many runs `make soak` kills.
KILLS ?= 50
# The name of the lab that `make cluster` makes.
LAB ?= demo
# The lab in which `make test` runs the recipe of `make cluster`.
RECIPE_LAB := test-recipe

# What this needs from Debian: building components, making machines, and (for tests) servers and shells to test with.
BUILD_PACKAGES := gcc libc6-dev libseccomp-dev pkg-config ca-certificates \
	iptables nftables conntrack kmod ipset haproxy keepalived
LAB_PACKAGES := podman runc conmon containernetworking-plugins fuse-overlayfs mmdebstrap debian-archive-keyring \
	iproute2 openssh-client procps
TEST_PACKAGES := openssh-server sudo tcsh openssl fish zsh busybox groff-base chromium-headless-shell softhsm2 \
	gcc-aarch64-linux-gnu libc6-dev-arm64-cross

PYTHON := .venv/bin/python
PYTEST := $(PYTHON) -m pytest -p tests.strict
KUBESTRAP := bin/kubestrap

.PHONY: help
help: ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | while IFS=$$'\t' read -r name what; do printf '%-12s %s\n' "$$name" "$$what"; done

.PHONY: setup
setup: ## install what is missing: Debian packages, Go, Python packages into .venv
	@tools/setup $(BUILD_PACKAGES) $(LAB_PACKAGES)

.PHONY: setup-test
setup-test:
	@tools/setup $(BUILD_PACKAGES) $(LAB_PACKAGES) $(TEST_PACKAGES)

.PHONY: lint
lint: ## check the style of the code
	$(PYTHON) -m ruff check .
	$(PYTHON) -m ruff format --check .

.PHONY: types
types: ## check the types of the code
	$(PYTHON) -m mypy

.PHONY: unit
unit: ## run the tests that need no machines
	$(PYTEST) tests --ignore tests/lab

.PHONY: packages
packages: ## build the wheel and the sdist into dist/
	$(PYTHON) -m hatchling build

.PHONY: zipapp
zipapp: ## make dist/kubestrap.pyz, the command as one file
	@$(PYTHON) -m tools.zipapp

.PHONY: bundle
bundle: ## build Kubernetes and all it needs (25 minutes the first time, then seconds)
	$(KUBESTRAP) bundle build

.PHONY: cluster
cluster: setup bundle ## make a cluster of one control-plane machine and two workers in the lab LAB
	@tools/cluster "$(LAB)"

.PHONY: cluster-test
cluster-test: bundle
	@$(KUBESTRAP) lab down --name $(RECIPE_LAB)
	@trap '$(KUBESTRAP) lab down --name $(RECIPE_LAB)' EXIT; tools/cluster $(RECIPE_LAB)

.PHONY: lab-test
lab-test: bundle ## run the tests on real machines
	@tools/lab-test $(PYTEST)

.PHONY: test
test: setup-test lint types unit bundle cluster-test lab-test ## run every test, and the recipe of `make cluster`

.PHONY: molecule
molecule: bundle ## run the molecule scenario on two throw-away machines (lab-test does that, too)
	PATH="$(CURDIR)/.venv/bin:$$PATH" molecule test

.PHONY: soak
soak: setup-test bundle ## kill runs at KILLS random instants (SEED=N repeats); not part of `make test`
	$(PYTHON) -m tests.lab.soak --kills $(KILLS) $(if $(SEED),--seed $(SEED))

.PHONY: clean-labs
clean-labs: ## take down every lab of this machine
	@$(KUBESTRAP) lab status | awk 'NR > 1 { print $$1 }' | sort -u | while read -r name; do \
		$(KUBESTRAP) lab down --name "$$name" </dev/null; done
