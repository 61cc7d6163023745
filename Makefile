# Development and the quick start; `make help` lists the targets.
.DEFAULT_GOAL := help
.PHONY: help venv quickstart quickstart-clean lint docs-lint unit choice browser parser prometheus molecule long fleet test \
	locks locks-check accuracy regret bench gpu-lab gpu-node gpu-node-lab bench-fleet sizing troubleshooting dashboard build \
	clean

PYTHON ?= python3
MODEL ?=
INVENTORY ?=
LAB_PYTHON ?= $(PYTHON)
LAB_ARGS ?=
NODE_ARGS ?= up
RELEASES ?=
# Left out of `make test`: each takes many minutes.
LONG := boot bundle cuda_release doctor driver_sources engine faults gateway hosts hub monitoring rocm
SCENARIOS ?= $(filter-out $(LONG) rollout drivers,$(notdir $(patsubst %/molecule.yml,%,$(wildcard molecule/*/molecule.yml))))
VENV := .venv/bin
# Only the tools of .venv, and the collection of this checkout, whatever the caller has installed.
export PATH := $(CURDIR)/$(VENV):$(PATH)
export ANSIBLE_COLLECTIONS_PATH := $(CURDIR)/.collections
export MOLECULE_GLOB := molecule/*/molecule.yml
export LC_ALL := C.UTF-8

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | sort | expand -t 20

venv: ## Make .venv with the development tools
	@$(PYTHON) tools/venv.py requirements-dev.txt

quickstart: ## Make a node, deploy a small model, ask it (MODEL=folder or hub id, INVENTORY=path)
	@$(PYTHON) tools/quickstart.py --model '$(MODEL)' --inventory '$(INVENTORY)'

quickstart-clean: ## Remove the quick start's node, bridge and rules
	@$(PYTHON) tools/node.py down --fleet quickstart --all
	@echo "Kept for the next time: .venv, and the base image and wheels in $${XDG_CACHE_HOME:-~/.cache}/gpufleet.vllm"

lint: venv ## ansible-lint, yamllint, ruff, mypy
	yamllint --strict .
	ansible-lint --strict
	ruff check
	ruff format --check
	mypy plugins tools tests

docs-lint: venv ## Documentation of modules, filters and roles
	antsibull-docs lint-collection-docs --plugin-docs --skip-rstcheck .

unit: venv ## Unit tests (with a real HAProxy, Debian's, kept in the cache folder)
	@$(PYTHON) tools/debian_programs.py haproxy
	pytest -n auto --dist loadfile tests/unit

choice: venv ## The choice over 500 open and written plans and 2,000 random ones (minutes)
	pytest tests/choice

browser: venv ## The plan's page in a headless Chromium (SCREENSHOTS=folder keeps pictures)
	@$(PYTHON) tools/browser.py
	pytest tests/browser

parser: venv ## vLLM's own parser takes the options that are written (CPU build of vLLM, kept in the cache folder)
	pytest tests/vllm_parser

prometheus: venv ## The rules and the dashboard with Prometheus' own programs (Debian's, kept in the cache folder)
	@$(PYTHON) tools/debian_programs.py prometheus
	pytest tests/prometheus

molecule: venv ## Scenarios on nodes made here (SCENARIOS="one two" for some; needs root)
	@for scenario in $(SCENARIOS); do molecule test --scenario-name $$scenario || exit; done

long: venv ## The scenarios that `make molecule` leaves out, but for roll-outs
	@$(MAKE) molecule SCENARIOS='$(LONG)'

fleet: venv ## Roll-outs and changes of drivers over three nodes under load (an hour or more; needs root)
	molecule test --scenario-name rollout
	molecule test --scenario-name drivers

test: lint docs-lint unit browser parser prometheus molecule ## All of the above

locks: venv ## The lists with hashes that releases of vLLM are installed from, from PyPI (RELEASES="cuda=0.33.0")
	python tools/locks.py $(RELEASES)

locks-check: venv ## That each of these lists is there, whole, hashed and unchanged, and no file of it is of two packages
	python tools/locks.py --check

accuracy: venv ## How far predictions are off from what real vLLM runs reported (TRUTH=FILE CONFIGS=DIR)
	python tests/accuracy/score.py $(if $(TRUTH),--truth '$(TRUTH)') $(if $(CONFIGS),--configs '$(CONFIGS)')

regret: venv ## How good the choice among measured layouts is, and how far speeds are off (TRUTH=FILE CONFIGS=DIR)
	python tests/accuracy/regret.py $(if $(TRUTH),--truth '$(TRUTH)') $(if $(CONFIGS),--configs '$(CONFIGS)')

bench: venv ## Time that reading a 16-GPU host and planning 1,000 hosts take
	python tests/bench/bench_observe.py
	python tests/bench/bench_plan.py

# Not venv: on a GPU machine it is the Python that has torch, and perhaps no network.
gpu-lab: ## On a GPU machine: facts, links, predicted against actual (LAB_PYTHON=Python with torch, LAB_ARGS=options)
	$(LAB_PYTHON) tools/gpu_lab.py $(LAB_ARGS)

gpu-node: ## On a GPU machine: a systemd node of its own root (NODE_ARGS="up --packages DIR", run, down; needs root)
	@$(LAB_PYTHON) tools/gpu_node.py $(NODE_ARGS)

gpu-node-lab: ## Deploy to such a node: plan, deploy, kill, settings, two, doctor (LAB_ARGS="--wheels DIR"; needs root)
	$(LAB_PYTHON) tools/gpu_node_lab.py $(LAB_ARGS)

bench-fleet: venv ## What an unchanged deploy costs on 1, 4 and 8 nodes (NODES="1 4"; needs root, 12 GiB, 32 GiB of disk)
	python tests/bench/bench_fleet.py --nodes $(or $(NODES),1 4 8)

sizing: venv ## docs/sizing.md from the planner
	python tools/sizing.py

troubleshooting: venv ## docs/troubleshooting.md from the tables of the doctor
	python tools/troubleshooting.py

dashboard: venv ## roles/monitoring/files/dashboard.json from tools/dashboard.py
	python tools/dashboard.py

build: venv ## The collection as a tar file, in build/
	ansible-galaxy collection build --force --output-path build

clean: ## Remove what the other targets made in this folder, but for nodes
	rm -rf .venv build .mypy_cache .ruff_cache .pytest_cache .hypothesis .ansible
