# `make demo` and `make test` do all the set-up themselves: they need Python 3.10 or newer, make and a
# package index.

PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
READY := $(VENV)/.ready
LOWEST := .venv-lowest
SDK := .venv-sdk

.PHONY: demo test test-lowest soak bench lint types clean

# Without the SDK the demo sends spans that were captured.
demo: $(READY)
	-@$(MAKE) --no-print-directory $(SDK)/.ready
	$(RUN) -m scripts.demo

test: lint types $(SDK)/.ready
	$(RUN) -m pytest -n auto

# What depends most on other packages, on the lowest versions that pyproject.toml allows.
LOWEST_TESTS := $(patsubst %,tests/test_%.py,cli emulator_spans errors files hostile_answers models \
	program provider_process) tests/test_engine.py::test_run_error_in_an_apply \
	$(patsubst %,tests/test_scenarios.py::%,TestOneSetup::test_life_of_a_setup \
	TestGroup::test_life_of_a_group TestGroup::test_250_setups_of_which_2_are_refused)
test-lowest: $(LOWEST)/.ready
	$(LOWEST)/bin/python -m pytest -n auto -k "not ([cli or TestExport)" $(LOWEST_TESTS)

# Random programs and faults, many of them; SEQUENCES=50 for fewer.
SEQUENCES ?= 500
soak: $(READY)
	TRACELOOP_SOAK=$(SEQUENCES) $(RUN) -m pytest -n auto tests/model

# What a group costs next to one resource for each setup; an hour or two. ARGS="--help" tells more.
bench: $(READY)
	$(RUN) -m pip install --quiet --disable-pip-version-check -r benchmarks/requirements.txt
	$(RUN) -m benchmarks $(ARGS)

lint: $(READY)
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check

types: $(READY)
	$(VENV)/bin/mypy

$(READY): requirements-dev.txt
$(LOWEST)/.ready: requirements-lowest.txt

%/.ready: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
		{ echo "Python 3.10 or newer is needed: make PYTHON=/path/to/python3"; exit 1; }
	$(PYTHON) -m venv $*
	$*/bin/python -m pip install --quiet --disable-pip-version-check -r $(filter %.txt,$^)
	$*/bin/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps -e .
	@touch $@

# Traceloop's SDK and clients of models, for instrumented programs. pip can't resolve what the SDK
# requires, so all is pinned.
$(SDK)/.ready: requirements-sdk.txt
	$(PYTHON) -m venv $(SDK)
	$(SDK)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-compile -r $<
	@touch $@

clean:
	rm -rf $(VENV) $(LOWEST) $(SDK) .cache .hypothesis .mypy_cache .pytest_cache .ruff_cache
