# Two commands matter: `make quickstart` and `make test`. Both make the virtual environment they need.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
RUN ?= runs/quickstart
T5X_LIKE := $(BIN)/t5x-like
# pytest-xdist workers: each compiles its own programs, so as many as there are cores.
WORKERS ?= 2
TALLY ?= $(abspath $(VENV))/reliability.jsonl
# Named apart, so that a CPU build can be asked for; the parity fixtures were written with it.
TORCH ?= torch==2.13.0

# Tests start many processes: each would compile our modules anew where bytecode is not kept.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: quickstart test test-slow test-optimized test-beam test-all reliability lint types docs install install-test install-interop clean help

help:
	@sed -n 's/^## //p' Makefile

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and f"Python {sys.version.split()[0]} found, 3.11 or newer wanted: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: setup.py pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/.installed-test: setup.py pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test]'
	@touch $@ $(VENV)/.installed

$(VENV)/.installed-interop: $(VENV)/.installed-test
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(TORCH)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[interop,ray]'
	@touch $@

$(VENV)/.installed-beam: setup.py pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test,beam]'
	@touch $@

$(VENV)/.installed-docs: setup.py pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[docs]'
	@touch $@ $(VENV)/.installed

install: $(VENV)/.installed
install-test: $(VENV)/.installed-test
install-interop: $(VENV)/.installed-interop

## make quickstart   install, cache the standard library, train a T5 and a decoder, evaluate, generate
quickstart: $(VENV)/.installed
	@echo "== 1/5 the running interpreter's standard library, tokenized once"
	$(T5X_LIKE) cache --gin_file=tasks/stdlib_text.gin --gin.CACHE_DIR=$(RUN)/cache
	@echo "== 2/5 a T5 that fills in corrupted spans"
	$(T5X_LIKE) train --gin_file=examples/quickstart_t5.gin --gin.MODEL_DIR=$(RUN)/t5 --gin.CACHE_DIR=$(RUN)/cache
	@echo "== 3/5 a decoder-only language model"
	$(T5X_LIKE) train --gin_file=examples/quickstart_lm.gin --gin.MODEL_DIR=$(RUN)/lm --gin.CACHE_DIR=$(RUN)/cache
	@echo "== 4/5 both on the test split, which neither has seen"
	$(T5X_LIKE) eval --gin_file=$(RUN)/t5/config.gin --gin_file=runs/eval.gin --gin.SPLIT=test --gin.evaluate.evaluate.max_batches=20
	$(T5X_LIKE) eval --gin_file=$(RUN)/lm/config.gin --gin_file=runs/eval.gin --gin.SPLIT=test --gin.evaluate.evaluate.max_batches=20
	@echo "== 5/5 the decoder continues three prompts"
	printf 'def __init__(self\nimport \nclass Test\n' | $(T5X_LIKE) infer --gin_file=$(RUN)/lm/config.gin --gin_file=runs/infer.gin --gin.TEMPERATURE=0.6 --gin.MAX_NEW_TOKENS=120
	@echo "Everything is under $(RUN):"
	@echo "  cache/       the tokenized corpus, which seqio reads too (use_cached=True)"
	@echo "  t5/, lm/     config.gin, model-info.txt, metrics.jsonl, tensorboard/, checkpoints/"
	@echo "Next: 'Your own data in five lines' in README.md."

## make test         the fast test suite, on two workers
test: $(VENV)/.installed-test
	$(BIN)/python -m pytest -q -n $(WORKERS) --dist loadfile -m 'not slow and not interop and not release'

## make test-slow    the slow tests, and those against torch and transformers
test-slow: $(VENV)/.installed-interop
	$(BIN)/python -m pytest -q -n $(WORKERS) --dist loadfile -m '(slow or interop) and not release'

# Exact values and tolerances, where the optimizer of XLA may reorder: layers, losses, steps, parity.
# Of layers one of each kind: all of them took ten minutes.
LAYERS := tests/models/layers
OPTIMIZED_TESTS ?= $(LAYERS)/test_linear.py $(LAYERS)/test_block.py $(LAYERS)/test_adaptive_softmax.py \
	$(LAYERS)/test_quantization.py $(LAYERS)/experts $(LAYERS)/recurrent \
	$(LAYERS)/attention/test_softmax_attention.py $(LAYERS)/attention/test_kernels.py \
	$(LAYERS)/attention/test_positions.py tests/models/test_losses.py tests/models/hf/test_parity.py \
	tests/t5x_like/training/test_step.py tests/t5x_like/training/test_loss.py \
	tests/t5x_like/decoding/test_with_models.py tests/t5x_like/decoding/test_beam.py \
	tests/reliability/test_anomalies.py::test_a_policy_that_meets_no_anomaly_changes_no_bit

## make test-optimized  numerical tests as users' programs are compiled: by XLA's default optimizations
test-optimized: $(VENV)/.installed-test
	TEST_XLA=default $(BIN)/python -m pytest -q -n $(WORKERS) --dist loadfile -m 'not slow and not interop and not release' $(OPTIMIZED_TESTS)

## make test-all     every test, with those that only a release needs
test-all: $(VENV)/.installed-interop
	$(BIN)/python -m pytest -q -n $(WORKERS) --dist loadfile

## make test-beam    what runs on Apache Beam, in .venv-beam: Beam wants older packages than the rest
test-beam:
	$(MAKE) VENV=.venv-beam .venv-beam/.installed-beam
	.venv-beam/bin/python -m pytest -q tests/t5x_like/near_duplicates/test_on_beam.py

## make reliability  inject faults, count them, and write docs/reliability.md
reliability: $(VENV)/.installed-interop
	@rm -f $(TALLY)
	RELIABILITY_TALLY=$(TALLY) $(BIN)/python -m pytest -q -n $(WORKERS) --dist loadfile tests/reliability
	@$(BIN)/python tests/reliability/table.py $(TALLY) --write docs/reliability.md

## make lint         ruff, and its format
lint: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

## make types        mypy
types: $(VENV)/.installed-test
	$(BIN)/mypy

## make docs         the documentation as a site, in site/; open site/index.html
docs: $(VENV)/.installed-docs
	$(BIN)/python -m mkdocs build --quiet --strict

clean:
	rm -rf $(VENV) runs build site *.egg-info
