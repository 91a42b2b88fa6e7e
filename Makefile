# Every target that needs an environment makes it: .venv here, by the Python named below.
PYTHON ?= python3
# The folder of test.csv, vocals/ and backing/ that `make table` measures on.
DATA ?= data
# What of it: test.csv, or aligned.csv for whole songs.
LIST ?= test.csv

VENV := .venv
RUN := $(VENV)/bin/python
INSTALL := $(RUN) -m pip install --quiet --disable-pip-version-check

.DEFAULT_GOAL := help
.PHONY: help demo song table docs bench lint test test-slow clean

help:  ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-10s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

demo: $(VENV)/.core  ## extract the voice of the bundled song (small install, no TensorFlow)
	$(RUN) examples/demo.py

song: $(VENV)/.core  ## make the bundled song again
	$(RUN) examples/make_song.py

table: $(VENV)/.all  ## measure the systems on DATA/LIST: make table DATA=folder [LIST=aligned.csv]
	$(RUN) -m sep_tf.evaluate --manifest=$(DATA)/$(LIST) --systems=sin,sdn,ss,unet,mixture,world --singer=pjs --output_dir=runs/table$(if $(filter-out test.csv,$(LIST)),-$(basename $(LIST)))

docs: $(VENV)/.all  ## build the documents into build/site; any warning fails
	$(RUN) -m docs.figures
	NO_MKDOCS_2_WARNING=1 $(RUN) -m mkdocs build --strict

bench: $(VENV)/.all  ## time extraction beside other separators (minutes; wants an idle machine)
	$(RUN) -m benchmarks.compare

lint: $(VENV)/.all  ## check style, and the types of the public API
	$(RUN) -m ruff check .
	$(RUN) -m mypy

test: $(VENV)/.all  ## run the tests (installs every extra)
	$(RUN) -m pytest -n 2 --dist loadfile

test-slow: $(VENV)/.all  ## run the slow tests only
	$(RUN) -m pytest -m slow

clean:  ## remove what builds and tests leave behind; .venv stays
	rm -rf build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name $(VENV) -prune -o -name __pycache__ -type d -exec rm -rf {} +

# The Python is new enough, what pyworld is compiled with is there, and so is the environment.
# Debian keeps headers and venv in packages of their own: root gets them, others are told the line.
define environment
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "Python 3.11 or later is needed, and '$(PYTHON)' is not: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	@ready() { command -v c++ >/dev/null 2>&1 && $(PYTHON) -c 'import ensurepip, os, sys, sysconfig; \
	    sys.exit(not os.path.exists(sysconfig.get_path("include") + "/Python.h"))' 2>/dev/null; }; \
	if ! $(RUN) -c 'import pyworld' 2>/dev/null && ! ready; then \
	  python=$$($(PYTHON) -c 'import sys; print("python%d.%d" % sys.version_info[:2])'); \
	  packages="g++ $$python-dev $$python-venv"; \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    echo "Installing $$packages"; \
	    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$packages; \
	  fi; \
	  ready || { echo "A C++ compiler, and Python's headers and venv module, are needed:" \
	    "sudo apt-get install $$packages" >&2; exit 1; }; \
	fi
	@test -x $(VENV)/bin/pip || $(PYTHON) -m venv $(VENV)
endef

$(VENV)/.core: setup.py pyproject.toml
	$(environment)
	@echo "Installing the core into $(VENV)"
	@$(INSTALL) -e '.[plot]'
	@touch $@

$(VENV)/.all: setup.py pyproject.toml
	$(environment)
	@echo "Installing the core and every extra into $(VENV); TensorFlow is large, this takes minutes"
	@$(INSTALL) -e '.[dev]'
	@touch $@ $(VENV)/.core
