# `make demo` and `make test` do all the set-up themselves: they need Python 3.10 or newer, make and a
# package index.

PYTHON ?= python3
VENV := .venv
RUN := $(VENV)/bin/python
READY := $(VENV)/.ready
LOWEST := .venv-lowest
SDK := .venv-sdk

# It requires protobuf 5, which pip cannot install beside what pulumi requires, and works with 6.
POLICY_SDK := pulumi-policy==1.21.0

# Files: in a folder, zizmor finds only what is below a .github/workflows.
WORKFLOWS := $(wildcard .github/workflows/*.yml examples/github-actions/*.yml)

.PHONY: help demo check test test-cli timed coverage docs dist test-lowest test-wheel soak bench lint types clean

help: ## list these targets
	@sed -nE 's/^([a-z-]+):[^#]*## (.*)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 14

# Without the SDK the demo sends spans that were captured.
demo: $(READY) ## the example project's life on an emulated Traceloop
	-@$(MAKE) --no-print-directory $(SDK)/.ready
	$(RUN) -m scripts.demo

check: lint types ## lint, types and the fast tests: within a minute
	$(RUN) -m pytest -n auto -m "not (engine or timed)"

test: lint types docs $(SDK)/.ready ## everything but the timed tests; of the scenarios, a sample runs on the Pulumi CLI that is on PATH
	$(RUN) -m pytest -n auto

test-cli: $(READY) ## all scenarios on the Pulumi CLI that is on PATH
	$(RUN) -m pytest -n auto -m cli --cli all

timed: $(READY) ## what asserts how long something takes; nothing else should run beside it
	$(RUN) -m pytest -m timed

coverage: $(READY) ## the fast tests under coverage, in their own process; pyproject.toml has the floor
	$(RUN) -m pytest -n auto --cli none -m "not (engine or timed)" --cov --cov-report term

docs: $(READY) ## build the site in .cache/site; a warning is an error
	NO_MKDOCS_2_WARNING=1 $(RUN) -m mkdocs build --strict  # not --quiet: it hides warnings, also from --strict

# What depends most on other packages, on the lowest versions that pyproject.toml allows. Mocks of the
# lowest SDK know no hooks.
LOWEST_TESTS := $(patsubst %,tests/test_%.py,args cli cli_status client_hostile_responses emulator_spans errors files \
	group models package providers providers_batch providers_host providers_membership providers_setup \
	resources) tests/test_engine.py::test_run_error_in_an_apply \
	$(patsubst %,tests/test_scenarios.py::%,TestOneSetup::test_life_of_a_setup \
	TestGroup::test_life_of_a_group TestGroup::test_250_setups_of_which_2_are_refused)
test-lowest: $(LOWEST)/.ready ## a part of the tests on the lowest versions that pyproject.toml allows
	$(LOWEST)/bin/python -m pytest -n auto -k "not ([cli or TestExport or test_hooks_and)" $(LOWEST_TESTS)

dist: $(READY) ## build the wheel and the source distribution
	rm -rf dist
	$(RUN) -m hatchling build

# The tests in a folder that has all but the package, which is installed from the wheel.
WHEEL := .cache/wheel
test-wheel: ## the tests on the wheel in dist/, without the source
	rm -rf $(WHEEL)
	mkdir -p $(WHEEL)/src
	$(PYTHON) -m venv $(WHEEL)/venv
	$(WHEEL)/venv/bin/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	$(WHEEL)/venv/bin/python -m pip install --quiet --disable-pip-version-check --no-deps dist/*.whl $(POLICY_SDK)
	cp -R $(filter-out pulumi_traceloop dist,$(wildcard *)) .github $(WHEEL)/src
	cd $(WHEEL)/src && ../venv/bin/python -m pytest -n auto --cli none $(ARGS)

# Random programs and faults, many of them; SEQUENCES=50 for fewer.
SEQUENCES ?= 500
soak: $(READY) ## the model-based test at length
	TRACELOOP_SOAK=$(SEQUENCES) $(RUN) -m pytest -n auto tests/model

# What a group costs next to one resource for each setup; an hour or two. ARGS="--help" tells more.
bench: $(READY) ## measure what a group costs
	$(RUN) -m pip install --quiet --disable-pip-version-check -r benchmarks/requirements.txt
	$(RUN) -m benchmarks $(ARGS)

lint: $(READY) ## code and workflows
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/lint-imports --no-cache --no-logo
	$(VENV)/bin/zizmor --offline --quiet $(WORKFLOWS)
	@if command -v actionlint > /dev/null; then actionlint $(WORKFLOWS); \
	else echo "actionlint is not on PATH: only CI runs it"; fi

types: $(READY) ## mypy
	$(VENV)/bin/mypy

$(READY): requirements-dev.txt
$(READY): NO_DEPS := $(POLICY_SDK)
$(LOWEST)/.ready: requirements-lowest.txt
# The lowest Python too, where it is installed.
$(LOWEST)/.ready: PYTHON = $(or $(shell python3.10 -c "print('python3.10')" 2>/dev/null),python3)

%/.ready: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || \
		{ echo "Python 3.10 or newer is needed: make PYTHON=/path/to/python3"; exit 1; }
	$(PYTHON) -m venv $*
	$*/bin/python -m pip install --quiet --disable-pip-version-check -r $(filter %.txt,$^)
	$*/bin/python -m pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps -e . $(NO_DEPS)
	@touch $@

# Traceloop's SDK and clients of models, for instrumented programs. pip can't resolve what the SDK
# requires, so all is pinned.
$(SDK)/.ready: requirements-sdk.txt
	$(PYTHON) -m venv $(SDK)
	$(SDK)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --no-compile -r $<
	@touch $@

clean: ## remove environments and caches
	rm -rf $(VENV) $(LOWEST) $(SDK) .cache .hypothesis .mypy_cache .pytest_cache .ruff_cache
