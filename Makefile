# Each target sets up what it needs: a virtual environment in .venv with the locked packages.
.PHONY: help repro experiments leaderboard sweep submission pr-comment test test-fast lint wheels hooks demo bench ablation setup
.DEFAULT_GOAL := help

# Not make's own shell: with that one, make 3.81 of macOS looks commands up before the PATH below holds.
SHELL := /bin/bash
PYTHON ?= $(shell command -v python3.11 || command -v python3)
SETUP := .venv/.installed
BASE ?= main
TOGETHER := --numprocesses 2 --dist loadfile --no-loadscope-reorder
# Stages are run as `python -m stages.NAME`: the environment's python has to be the first one found.
export PATH := $(CURDIR)/.venv/bin:$(PATH)

help: ## what there is to make
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

repro: $(SETUP) ## run what changed of the pipeline, and show the scores
	dvc repro
	@python -m stages.show

# Names of experiments, parameters that differ, and as many scores as a terminal of 120 columns has room for: without
# hashes of dependencies, dates, and the scores that say least in addition.
experiments: $(SETUP) ## experiments beside one another: parameters that differ, and scores
	@dvc exp show --only-changed --drop '.*/|Created$$|Executor$$|State$$|.*\.word\.|.*\.clipped$$|.*\.length_ratio$$|train\.loss$$|best\.step$$|test\.repeats$$'

leaderboard: $(SETUP) ## the same as a page to sort, with intervals, loss curves and times
	@python -m stages.leaderboard

sweep: $(SETUP) ## try the lists of sweep.yaml: half of dev chooses, half tells the gain; writes a table and a recipe
	@python -m stages.sweep

submission: $(SETUP) ## run what is left, and keep the submission with a record; RECIPE=NAME writes a recipe before
	@$(if $(RECIPE),python -m stages.recipe $(RECIPE))
	@python -m stages.submit

pr-comment: $(SETUP) ## what this run changes beside BASE (main), as text and plots in pull_request/
	@ci/comment.sh $(BASE)

test: $(SETUP) ## all tests
	pytest $(TOGETHER)

test-fast: $(SETUP) ## the tests that train nothing
	pytest $(TOGETHER) -m "not slow"

lint: $(SETUP) ## ruff, mypy, and the contracts of who may import whom
	ruff check .
	ruff format --check .
	mypy
	lint-imports --no-cache

wheels: $(SETUP) ## whether the lock installs on macOS, on Arm and on Python 3.11 to 3.13, by the package index
	@python -m ci.check_wheels

hooks: $(SETUP) ## Git's hooks: ruff and `dvc status` before a commit, `dvc push` before a push
	pre-commit install

demo: $(SETUP) ## summaries in a browser, beside the base model's
	python -m stages.demo

bench: $(SETUP) ## our training step and generation beside plain TRL and plain generate
	python -m benchmarks.train_step
	python -m benchmarks.infer

ablation: $(SETUP) ## what each kind of augmentation brings
	python -m benchmarks.ablation

setup: $(SETUP) ## only .venv, with the locked packages

$(SETUP): requirements.lock
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --requirement requirements.lock
	touch $@
