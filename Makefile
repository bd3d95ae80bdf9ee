# Everything that people type. `make` lists it. ROS_DISTRO selects another ROS 2 than Jazzy: `ROS_DISTRO=kilted make test`.

.DEFAULT_GOAL := help
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
ENV := source tools/env.sh

.PHONY: help setup build demo test test-slow coverage lint train repair-demo planted-fault mutations bench bench-gpu fuzz soak clean distclean

help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: ## create the virtual environment and build the package, unless they are up to date
	@tools/setup.sh

build: ## the same as setup, but always build the package
	@tools/setup.sh --build

demo: setup ## run the node on the sample recording; pictures are in demo_output/ (DEMO_ARGS=...)
	@$(ENV) && python tools/demo.py $(DEMO_ARGS)

test: setup ## run the tests, except slow ones (PYTEST_ARGS="-k name" for some of all tests)
	@$(ENV) && tools/test.sh $(PYTEST_ARGS)

test-slow: setup ## run the slow tests: whole commands and experiments, Ray, interrupted trainings, leaks
	@$(ENV) && tools/test.sh --slow $(PYTEST_ARGS)

coverage: setup ## run all tests and print the line coverage of the package
	@rm -f .coverage .coverage.*
	@$(ENV) && tools/test.sh --all --cov --cov-append --cov-report= --cov-fail-under=0 $(PYTEST_ARGS)
	@$(ENV) && python -m coverage report

lint: setup ## run ruff and mypy
	@$(ENV) && python -m ruff check && python -m ruff format --check && python -m mypy

train: setup ## train a classifier (TRAIN_ARGS="--help" explains the options)
	@$(ENV) && train $(TRAIN_ARGS)

repair-demo: setup ## wrong decisions on the street video, their causes, repair and proof (REPAIR_ARGS="--help")
	@$(ENV) && python tools/repair_demo.py $(REPAIR_ARGS)

planted-fault: setup ## a network that knows persons by a mark: its causes, its repair, the proof (PLANTED_ARGS="--help")
	@$(ENV) && python tools/planted_fault.py $(PLANTED_ARGS)

mutations: setup ## break the explainer in many small ways, and check that the tests fail each time
	@$(ENV) && python tools/mutate.py

fuzz: setup ## feed malformed input to the package: a million messages, recordings, weights, tables (FUZZ_ARGS=...)
	@$(ENV) && python -m tools.fuzz $(FUZZ_ARGS)

soak: setup ## run the node for an hour and watch what it needs (SOAK_ARGS=...); a day's frames; life cycles; killed analyses
	@$(ENV) && LIFECYCLE_CYCLES=50 ANALYSIS_KILLS=10 ROS_PYTHON_CHECK_FIELDS=1 \
		ROS_AUTOMATIC_DISCOVERY_RANGE=LOCALHOST \
		python -m pytest -s test/ros/test_lifecycle.py test/analysis/test_resume.py -k "cycles or killed"
	@$(ENV) && python tools/soak.py --day && python tools/soak.py $(SOAK_ARGS)

bench: setup ## measure the cost of explanations, and the stability of rankings; figures are in bench_output/
	@$(ENV) && python bench/explain.py $(BENCH_ARGS) && python bench/precision.py && python bench/stability.py && \
		python bench/scan.py && python bench/node.py && python bench/analysis.py && python bench/decoding.py

bench-gpu: ## measure decisions and explanations on a GPU, within four minutes and without ROS (GPU_ARGS=...)
	@$(if $(wildcard .venv/bin/python),.venv/bin/python,python3) bench/gpu.py $(GPU_ARGS)

clean: ## remove what was built and cached for all distributions, but not .venv
	rm -rf build build-* install install-* log .hypothesis .mypy_cache .pytest_cache .ruff_cache .coverage .coverage.*
	find . -name __pycache__ -not -path './.venv*' -prune -exec rm -rf {} +

distclean: clean ## remove .venv and results as well
	rm -rf .venv .venv-* demo_output fuzz_output bench_output
