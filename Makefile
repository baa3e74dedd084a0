# Two commands: `make demo` shows what atm-search does, `make test` checks that it does it.

PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
DEMO ?= demo

.PHONY: demo test check install clean

demo: $(VENV)/.installed
	mkdir -p $(DEMO)
	$(BIN)/atm-search start --model demo --trials 40 --seed 1 --storage $(DEMO)/atm-search.db
	$(BIN)/atm-search export --storage $(DEMO)/atm-search.db -o $(DEMO)/frontier

test: $(VENV)/.installed-dev check
	$(BIN)/python -m pytest

check: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

install: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --editable '.[dev,postgres,mysql,onnx]'
	touch $@

clean:
	rm -rf $(VENV) $(DEMO) build *.egg-info
