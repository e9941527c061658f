# `make demo` and `make test` do all the set-up themselves: they need Python 3.10 or newer, make and a
# package index.

PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
READY := $(VENV)/.ready

.PHONY: demo test soak bench lint types clean

demo: $(READY)
	$(RUN) -m scripts.demo

test: lint types
	$(RUN) -m pytest -n auto

# Random programs and faults, many of them; SEQUENCES=50 for fewer.
SEQUENCES ?= 500
soak: $(READY)
	TRACELOOP_SOAK=$(SEQUENCES) $(RUN) -m pytest -n auto tests/model

# What a group costs next to one resource for each setup; about an hour. ARGS="--help" tells more.
bench: $(READY)
	$(RUN) -m pip install --quiet --disable-pip-version-check -r benchmarks/requirements.txt
	$(RUN) -m benchmarks $(ARGS)

lint: $(READY)
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check

types: $(READY)
	$(VENV)/bin/mypy

$(READY): pyproject.toml requirements-dev.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
		{ echo "Python 3.10 or newer is needed: make PYTHON=/path/to/python3"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(RUN) -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	$(RUN) -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps -e .
	@touch $@

clean:
	rm -rf $(VENV) .cache .hypothesis .mypy_cache .pytest_cache .ruff_cache
