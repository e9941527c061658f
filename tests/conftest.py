"""What the tests share: an emulator, a stack on either engine, and both together."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pulumi_traceloop.emulator import Emulator
from tests.engine import KINDS, ResourceState, Result, Stack, find_cli, make_stack

REPOSITORY = Path(__file__).parent.parent

#: An API key that can be told from everything else in what is printed or stored.
API_KEY = "tl-key-that-must-not-be-seen-4711"

_ROUTES = {
    "GET /v2/auto-monitor-setups": "list",
    "GET /v2/auto-monitor-setups/{external_id}": "get",
    "PUT /v2/auto-monitor-setups/by-external-id/{external_id}": "put",
    "POST /v2/auto-monitor-setups/bulk": "bulk",
    "DELETE /v2/auto-monitor-setups/{external_id}": "delete",
}

#: What every program of the scenarios begins with.
PREAMBLE = """\
import pulumi
import pulumi_traceloop as traceloop
from pulumi_traceloop import AutoMonitorSetup, AutoMonitorSetupGroup, resource, span

config = pulumi.Config()

def setup(value="openai", *evaluators):
    return {
        "selector": [span("gen_ai.system").equals(value)],
        "evaluators": list(evaluators or ["faithfulness"]),
    }

def one(name, value="openai", *evaluators, **kwargs):
    return AutoMonitorSetup(name, **setup(value, *evaluators), **kwargs)

def group(name, setups, **kwargs):
    return AutoMonitorSetupGroup(name, setups, **kwargs)
"""


class World:
    """A stack and the emulated Traceloop project that it is for."""

    def __init__(self, stack: Stack, emulator: Emulator, *, configure: bool = True) -> None:
        self.stack = stack
        self.traceloop = emulator
        #: What the last operation asked of Traceloop, such as ``{"list": 1, "bulk": 10}``.
        self.requests: dict[str, int] = {}
        if configure:
            self.configure()

    def configure(self) -> None:
        """Give the stack the emulator's URL and key."""
        self.stack.set_config("traceloop:baseUrl", self.traceloop.url)
        self.stack.set_config("traceloop:apiKey", self.traceloop.api_key, secret=True)

    def needs_cli(self, feature: str) -> None:
        """Skip the test on the test engine, which does not know this feature."""
        if self.stack.kind == "test-engine":
            pytest.skip(f"the test engine knows no {feature}")

    def planned(self, program: str, plan: Path) -> Result:
        """Save a preview's plan and run the update that it constrains."""
        self._write(program)
        self._checked(lambda: self.stack.operate("preview", "--save-plan", str(plan)), fails=False)
        return self._checked(lambda: self.stack.operate("up", "--plan", str(plan)), fails=False)

    def strict(self, program: str) -> Result:
        """Run an update that is constrained by its own preview."""
        self._write(program)
        options = ("--skip-preview=false", "--strict")
        return self._checked(lambda: self.stack.operate("up", *options), fails=False)

    def preview(self, program: str | None = None, *, fails: bool = False) -> Result:
        self._write(program)
        return self._checked(self.stack.preview, fails)

    def up(
        self,
        program: str | None = None,
        *,
        fails: bool = False,
        replace: tuple[str, ...] = (),
        refresh: bool = False,
    ) -> Result:
        self._write(program)
        return self._checked(lambda: self.stack.up(replace=replace, refresh=refresh), fails)

    def refresh(self, *, expect_no_changes: bool = False, fails: bool = False) -> Result:
        return self._checked(lambda: self.stack.refresh(expect_no_changes=expect_no_changes), fails)

    def destroy(self, *, fails: bool = False) -> Result:
        return self._checked(self.stack.destroy, fails)

    def resource(self, kind: str) -> ResourceState:
        """Return the only resource in the state whose type ends with *kind*."""
        (found,) = [r for r in self.stack.state() if r.type.endswith(f":{kind}") and not r.delete]
        return found

    def urn(self, kind: str) -> str:
        """Return the URN of the only resource whose type ends with *kind*."""
        return self.resource(kind).urn

    @property
    def monitors(self) -> dict[str, str]:
        """What Traceloop has: the value of each setup's first rule by external_id."""
        return {i: s["init_rules"][0].get("value", "") for i, s in self.traceloop.setups.items()}

    def _write(self, program: str | None) -> None:
        if program is not None:
            self.stack.write_program(PREAMBLE + program)

    def _checked(self, operation: Callable[[], Result], fails: bool) -> Result:
        self.traceloop.reset_counts()
        result = operation()
        counted = Counter(self.traceloop.requests)
        self.requests = {_ROUTES.get(route, route): n for route, n in counted.items()}
        assert (result.exit_code != 0) is fails, result.output
        assert self.traceloop.api_key not in result.output
        assert self.traceloop.api_key not in self.stack.state_text()
        return result


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--cli",
        choices=("sample", "all", "none"),
        default="sample",
        help="which scenarios run on the Pulumi CLI that is on PATH, beside the test engine: "
        "a sample (the default), all or none",
    )


def pytest_report_header(config: pytest.Config) -> str:
    cli = find_cli()
    which = config.getoption("--cli")
    return f"Pulumi CLI: {cli} ({which} of the scenarios)" if cli else "Pulumi CLI: none on PATH"


@pytest.hookimpl(tryfirst=True)  # before -m looks at the marks
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark what needs an engine, and choose what runs on the CLI."""
    which = config.getoption("--cli") if find_cli() else "none"
    sampled: set[str] = set()
    kept: list[pytest.Item] = []
    dropped: list[pytest.Item] = []
    for item in items:
        assert isinstance(item, pytest.Function)
        if _ENGINE_FIXTURES & {*item.fixturenames}:
            item.add_marker("engine")
        if not _on_the_cli(item):
            kept.append(item)
            continue
        item.add_marker("cli")
        name = item.nodeid.partition("[")[0]
        wanted = which == "all" or (
            which == "sample"
            and name not in sampled
            and item.get_closest_marker("provider_only") is None
        )
        sampled.add(name)
        (kept if wanted else dropped).append(item)
    if dropped:
        config.hook.pytest_deselected(items=dropped)
    # What takes longest begins first, so that no process waits for another at the end.
    items[:] = sorted(kept, key=lambda item: "model" not in item.path.parts)


#: Tests with one of these start an engine.
_ENGINE_FIXTURES = {"stack_of", "stack", "world", "bench", "local", "tally", "runner", "previews"}
#: Tests with one of these need the CLI itself.
_CLI_FIXTURES = {"runner", "previews"}


def _on_the_cli(item: pytest.Function) -> bool:
    parameters = item.callspec.params.values() if hasattr(item, "callspec") else ()
    module = item.path.stem
    return (
        "cli" in parameters
        or bool(_CLI_FIXTURES & {*item.fixturenames})
        or module == "test_pulumi_options"
        or item.originalname == "test_on_the_cli"
    )


@pytest.fixture
def traceloop() -> Iterator[Emulator]:
    with Emulator(api_key=API_KEY) as emulator:
        yield emulator


@pytest.fixture(params=KINDS)
def stack_of(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[dict[str, str]], Stack]:
    """Open the test's stack with these environment variables for its program and provider."""
    if request.param == "cli" and find_cli() is None:
        pytest.skip("no Pulumi CLI on PATH")
    path = os.pathsep.join([str(REPOSITORY), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    return lambda environment: make_stack(
        request.param, tmp_path, env={"PYTHONPATH": path, **environment}
    )


@pytest.fixture
def stack(stack_of: Callable[[dict[str, str]], Stack]) -> Stack:
    return stack_of({})


@pytest.fixture
def world(stack: Stack, traceloop: Emulator) -> World:
    return World(stack, traceloop)
