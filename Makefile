PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin

.PHONY: demo test reasoner clean

demo: .venv/.installed
	$(BIN)/prunebench demo

test: .venv/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest

# Weights, labels and learned pruners of the embedded reasoner; resumes where it was interrupted.
reasoner: .venv/.installed
	$(BIN)/prunebench reasoner

.venv/.installed: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "Python 3.11 or newer is needed: make PYTHON=...")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -c constraints.txt -e ".[dev]"
	touch $@

# Keeps runs/ and everything that is committed.
clean:
	rm -rf .venv build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find bench methods tasks figures tests -name __pycache__ -type d -prune -exec rm -rf {} +
