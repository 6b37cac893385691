# Each target sets up what it needs: a virtual environment in .venv with the locked packages.
.PHONY: repro experiments demo test test-fast lint bench ablation setup
.DEFAULT_GOAL := repro

PYTHON ?= $(shell command -v python3.11 || command -v python3)
SETUP := .venv/.installed
TOGETHER := --numprocesses 2 --dist loadfile --no-loadscope-reorder
# Stages are run as `python -m stages.NAME`: the environment's python has to be the first one found.
export PATH := $(CURDIR)/.venv/bin:$(PATH)

repro: $(SETUP)
	dvc repro
	@python -m stages.show

# Names of experiments, parameters that differ, and as many scores as a terminal of 120 columns has room for: without
# hashes of dependencies, dates, and the scores that say least in addition.
experiments: $(SETUP)
	@dvc exp show --only-changed --drop '.*/|Created$$|Executor$$|.*\.word\.|.*\.clipped$$|.*\.length_ratio$$|train\.loss$$|best\.step$$|test\.repeats$$'

test: $(SETUP)
	pytest $(TOGETHER)

test-fast: $(SETUP)
	pytest $(TOGETHER) -m "not slow"

lint: $(SETUP)
	ruff check .
	ruff format --check .
	mypy
	lint-imports --no-cache

demo: $(SETUP)
	python -m stages.demo

bench: $(SETUP)
	python -m benchmarks.train_step
	python -m benchmarks.infer

ablation: $(SETUP)
	python -m benchmarks.ablation

setup: $(SETUP)

$(SETUP): requirements.lock
	$(PYTHON) -m venv .venv
	.venv/bin/python -m pip install --quiet --requirement requirements.lock
	touch $@
