# Every target sets up what it needs; `make help` lists them from the comments behind their names.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.PHONY: help setup demo test lint type docs certify zoo scenes bench bench-gpu mutation clean

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# The first interpreter that is new enough; `make PYTHON=/path/to/python3.12 demo` chooses another.
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do \
	command -v $$p >/dev/null && $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' && echo $$p && break; done)

help: ## list the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-9s %s\n", $$1, $$2}'

setup: $(STAMP) ## install everything into .venv, which all other targets do when they need it

demo: $(STAMP) ## generate, score and compare the tiny models' images under every decoder, then write the reports
	$(BIN)/vvsbench run study=demo
	$(BIN)/vvsbench run study=demo_continuous
	$(BIN)/vvsbench run study=demo_speed
	$(BIN)/vvsbench report study=demo
	$(BIN)/vvsbench report study=demo_speed
	$(BIN)/vvsbench report study=demo_continuous

test: lint type ## everything that must pass: ruff, mypy, pytest
	$(BIN)/python -m pytest --numprocesses auto --dist loadfile

lint: $(STAMP) ## style and likely bugs (ruff)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

type: $(STAMP) ## types (mypy)
	$(BIN)/mypy

docs: $(STAMP) ## the pages as HTML in outputs/docs, and a check of their links
	$(BIN)/python docs/build.py

certify: $(STAMP) ## exact decoders against the toy's enumerated law, wrong ones caught, the others' distance measured
	$(BIN)/python -m vvsbench.certify

zoo: $(STAMP) ## train the tiny zoo's weights again, into outputs/zoo
	for part in tokenizer autoencoder classifier clip target drafter small_ar mar mar_draft causal causal_draft card; do \
		$(BIN)/vvsbench train $$part || exit 1; done

scenes: $(STAMP) ## train the second zoo, in the regime of real models, into outputs/scenes; hours
	for part in tokenizer classifier target drafter small_ar autoencoder mar mar_draft gates card; do \
		[ -e outputs/scenes/$$part.safetensors ] || $(BIN)/vvsbench train scenes/$$part || exit 1; done

bench: $(STAMP) ## this machine's ceiling, ar against the loop of published code, where time goes; 8 minutes
	$(BIN)/python -m vvsbench.measure.bench cpu

bench-gpu: $(STAMP) ## on one large GPU: cost of every kind of step at the real sizes, and gain by acceptance; 8 minutes
	$(BIN)/python -m vvsbench.measure.bench gpu --keep

mutation: $(STAMP) ## would a test notice? one-line changes of the code that makes numbers; hours, or ONLY='vvsbench.noise*'
	mkdir -p mutants
	PYTHONPATH=$(CURDIR)/mutants:$(CURDIR)/mutants/vvsbench/plugins OMP_NUM_THREADS=1 \
		$(BIN)/mutmut run --max-children 1 $(if $(ONLY),'$(ONLY)')

clean: ## delete caches and build products (outputs and .venv stay)
	rm -rf build dist mutants .pytest_cache .mypy_cache .ruff_cache .hypothesis *.egg-info
	find vvsbench tests -type d -name __pycache__ -prune -exec rm -rf {} +

$(STAMP): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed, and none was found on the PATH."; exit 1; }
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@
