# make rank: the router that comes with satjax.  make demo: the whole path on a synthetic zoo.  make test: everything that CI checks.
# make api: the API reference, from docstrings, into build/api.  make slow: what the demo learns, and all figures of the shipped router's card.
# make clean: removes .venv, the demo's run and build.  Variables: PYTHON=python3.12, EXTRAS=dev (extras of the environment), JAX_PLATFORMS=cpu.
PYTHON ?= python3
EXTRAS ?= dev
VENV := .venv
BIN := $(VENV)/bin
comma := ,
STAMP := $(VENV)/.installed-$(subst $(comma),-,$(EXTRAS))
PLAIN := $(VENV)/.installed
ANY := $(firstword $(wildcard $(STAMP)) $(PLAIN))
DEMO := runs/demo

export JAX_PLATFORMS ?= cpu

.PHONY: rank demo test lint format slow api clean

# A Python that is too old makes nothing: `venv` would keep it in an environment that is there, whatever PYTHON says the next time.
define new_environment
@$(PYTHON) -c 'import sys; v = sys.version_info; v >= (3, 11) or sys.exit("$(PYTHON) is Python %d.%d, and satjax needs 3.11 or newer: name one, such as PYTHON=python3.12" % v[:2])'
$(PYTHON) -m venv $(VENV)
endef

$(STAMP): setup.py pyproject.toml
	$(new_environment)
	$(BIN)/python -m pip install --quiet --upgrade pip setuptools wheel
	$(BIN)/python -m pip install --quiet --editable ".[$(EXTRAS)]"
	touch $@

$(PLAIN): setup.py pyproject.toml
	$(new_environment)
	$(BIN)/python -m pip install --quiet --upgrade pip setuptools wheel
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

rank: $(ANY)
	$(BIN)/satjax rank --top 5 \
		"Find all c such that Z_3[x]/(x^2 + c) is a field." \
		"Which amendment to the constitution of the United States gave women the vote?"

demo: $(ANY)
	$(BIN)/satjax train --config configs/smoke.py --workdir $(DEMO)
	$(BIN)/satjax evaluate --router $(DEMO)/router --outcomes synthetic --out $(DEMO)/report
	$(BIN)/satjax rank --router $(DEMO)/router --top 5 \
		"What is 17 percent of 240?" "Reverse the word 'lantern'." "Write 2024 as a Roman numeral."
	@echo "training curve: $(DEMO)/training_curve.png"

test: lint
	$(BIN)/python -m pytest -n 2 --dist loadgroup

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(STAMP)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

slow: $(STAMP)
	$(BIN)/python -m pytest -m slow

MODULES = $(subst /,.,$(basename $(filter-out %/__init__.py,$(shell find satjax -name '*.py' | sort))))
api: $(STAMP)
	$(BIN)/pdoc --docformat google --output-directory build/api $(MODULES)

# Only what is made here: `runs` is where people train.
clean:
	rm -rf $(VENV) $(DEMO) build
