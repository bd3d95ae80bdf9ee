# Everything that people type. `make` lists it.

.DEFAULT_GOAL := help
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
ENV := source tools/env.sh

.PHONY: help setup build demo test lint train mutations bench soak clean distclean

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## the virtual environment and the built package, as far as they are missing or out of date
	@tools/setup.sh

build: ## the same, and builds the package in any case
	@tools/setup.sh --build

demo: setup ## the real node on a sample bag; leaves pictures in demo_output/ (DEMO_ARGS=...)
	@$(ENV) && python tools/demo.py $(DEMO_ARGS)

test: setup ## all tests (PYTEST_ARGS="-k name" for some)
	@$(ENV) && tools/test.sh $(PYTEST_ARGS)

lint: setup ## ruff and mypy
	@$(ENV) && python -m ruff check && python -m ruff format --check && python -m mypy

train: setup ## trains a classifier (TRAIN_ARGS="--help" says how)
	@$(ENV) && train $(TRAIN_ARGS)

mutations: setup ## does the test suite notice when the explainer is wrong?
	@$(ENV) && python tools/mutate.py

soak: setup ## 50 life cycles of a node: does its memory grow? And an analysis that is killed ten times
	@$(ENV) && LIFECYCLE_CYCLES=50 ANALYSIS_KILLS=10 ROS_PYTHON_CHECK_FIELDS=1 \
		ROS_AUTOMATIC_DISCOVERY_RANGE=LOCALHOST \
		python -m pytest -s test/ros/test_lifecycle.py test/analysis/test_run.py -k "cycles or killed"

bench: setup ## what explanations cost, and which noise gives stable rankings; figures in bench_output/
	@$(ENV) && python bench/explain.py $(BENCH_ARGS) && python bench/precision.py && python bench/stability.py && \
		python bench/node.py && python bench/analysis.py

clean: ## removes what was built and cached, but not .venv
	rm -rf build install log .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +

distclean: clean ## removes .venv and results as well
	rm -rf .venv demo_output bench_output
