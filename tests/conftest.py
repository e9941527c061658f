"""The fixtures that several test files share, and the choice of what runs on the Pulumi CLI."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from pulumi.runtime.settings import SETTINGS

from pulumi_traceloop._client import TraceloopClient
from pulumi_traceloop._project import Project
from pulumi_traceloop.cli.app import Runtime, cli
from pulumi_traceloop.emulator import Emulator, Fault
from tests.engine import KINDS, Stack, find_cli, make_stack
from tests.engine.cli import CliStack
from tests.support import API_KEY, previews
from tests.support.api import Api
from tests.support.bench import Bench
from tests.support.client import Clients, Serve
from tests.support.clock import Clock
from tests.support.programs import Program
from tests.support.project import QuickProject
from tests.support.provider import Host
from tests.support.service import Reply, Service
from tests.support.terminal import Run, import_path
from tests.support.world import World


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--cli",
        choices=("sample", "all", "none"),
        default="sample",
        help="which scenarios run on the Pulumi CLI that is on PATH, beside the test engine: "
        "a sample (the default), all or none",
    )


def pytest_report_header(config: pytest.Config) -> str:
    path = find_cli()
    which = config.getoption("--cli")
    return f"Pulumi CLI: {path} ({which} of the scenarios)" if path else "Pulumi CLI: none on PATH"


@pytest.hookimpl(tryfirst=True)  # before -m selects by the marks
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
            and item.get_closest_marker("not_sampled") is None
        )
        sampled.add(name)
        (kept if wanted else dropped).append(item)
    if dropped:
        config.hook.pytest_deselected(items=dropped)
    # The longest tests start first, so that no worker is left alone at the end.
    items[:] = sorted(kept, key=lambda item: "model" not in item.path.parts)


#: Tests with one of these start an engine.
_ENGINE_FIXTURES = {
    "stack_of",
    "stack",
    "cli_stack",
    "world",
    "bench",
    "local",
    "tally",
    "runner",
    "previews",
}
#: Tests with one of these need the CLI itself.
_CLI_FIXTURES = {"runner", "previews", "cli_stack"}


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
    """Open the test's stack; the program and the provider get these environment variables."""
    if request.param == "cli" and find_cli() is None:
        pytest.skip("no Pulumi CLI on PATH")
    return lambda environment: make_stack(
        request.param, tmp_path, env={"PYTHONPATH": import_path(), **environment}
    )


@pytest.fixture
def stack(stack_of: Callable[[dict[str, str]], Stack]) -> Stack:
    return stack_of({})


@pytest.fixture
def world(stack: Stack, traceloop: Emulator) -> World:
    return World(stack, traceloop)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def emulator(clock: Clock) -> Iterator[Emulator]:
    """An emulator in the time of the test's clock; `traceloop` is one in real time."""
    with Emulator(api_key=API_KEY, clock=clock) as running:
        yield running


@pytest.fixture
def api(emulator: Emulator) -> Api:
    return Api(emulator.url, emulator.api_key)


@pytest.fixture
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No proxy and no certificates of this machine, for a client that connects to loopback."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def serve(plain_environment: None) -> Iterator[Serve]:
    """Open services, which the fixture closes."""
    with ExitStack() as services:

        def make(*replies: Reply, **options: Any) -> Service:
            return services.enter_context(Service(*replies, **options))

        yield make


@pytest.fixture
def client_of(plain_environment: None, clock: Clock) -> Iterator[Clients]:
    """Open clients of a URL, whose waits take no time; the fixture closes them."""
    with ExitStack() as clients:

        def make(base_url: str, **options: Any) -> TraceloopClient:
            options = {"clock": clock, "sleep": clock.sleep, "read_timeout": 5.0, **options}
            api_key = options.pop("api_key", API_KEY)
            return clients.enter_context(TraceloopClient(api_key, base_url, **options))

        yield make


@pytest.fixture(scope="module")
def cli_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CliStack]:
    """A stack on the CLI with a delete to be repeated, and with a program that changes more."""
    if find_cli() is None:
        pytest.skip("no Pulumi CLI on PATH")
    with Emulator(api_key=API_KEY) as traceloop:
        stack = previews.open_stack(tmp_path_factory.mktemp("stack"), traceloop)
        previews.write(
            stack, 'group("g", {i: setup() for i in "abc"})\none("m", external_id="old")'
        )
        assert stack.up().exit_code == 0
        traceloop.inject(Fault(method="DELETE", status=500, times=None))
        previews.write(stack, 'group("g", {i: setup() for i in "ab"})\none("m", external_id="new")')
        assert stack.up().exit_code != 0
        previews.write(
            stack, 'group("g", {"a": setup("x"), "d": setup()})\none("m", external_id="new")'
        )
        yield stack


@pytest.fixture
def program() -> Iterator[Program]:
    """Runs programs on a mocked engine."""
    loop = asyncio.new_event_loop()
    # A program that ends early leaves futures behind, which no user sees.
    loop.set_exception_handler(lambda *_: None)
    asyncio.set_event_loop(loop)
    before = (SETTINGS.monitor, SETTINGS.engine)
    yield Program()
    SETTINGS.monitor, SETTINGS.engine = before
    loop.run_until_complete(loop.shutdown_default_executor())
    asyncio.set_event_loop(None)
    loop.close()


@pytest.fixture
def host(traceloop: Emulator, tmp_path: Path) -> Iterator[Host]:
    """A process for one deployment, configured for the emulator."""
    host = Host(tmp_path, {"traceloop:baseUrl": traceloop.url, "traceloop:apiKey": API_KEY})
    yield host
    assert API_KEY not in host.printed()


@pytest.fixture
def other_host(traceloop: Emulator, tmp_path: Path) -> Iterator[Host]:
    """The next deployment's process."""
    host = Host(tmp_path, {"traceloop:baseUrl": traceloop.url, "traceloop:apiKey": API_KEY})
    yield host
    assert API_KEY not in host.printed()


@pytest.fixture(scope="module")
def offline(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """A process without an API key or a service, for calls that send no request."""
    host = Host(tmp_path_factory.mktemp("offline"), {"traceloop:baseUrl": "http://127.0.0.1:1"})
    yield host
    host.printed()


@pytest.fixture
def run(emulator: Emulator, clock: Clock) -> Run:
    """Runs the command against the emulator; time passes only where it waits."""

    def invoke(
        *arguments: str, sleep: Callable[[float], None] = clock.sleep, **env: str | None
    ) -> Result:
        runtime = Runtime(
            clock=clock,
            sleep=sleep,
            now=lambda: datetime.fromtimestamp(clock(), timezone.utc),
        )
        given = {"TRACELOOP_API_KEY": API_KEY, "TRACELOOP_BASE_URL": emulator.url}
        result = CliRunner().invoke(cli, arguments, env={**given, **env}, obj=runtime)
        assert API_KEY not in result.output
        # Only errors of the command itself, no traceback.
        assert result.exception is None or isinstance(result.exception, SystemExit)
        return result

    return invoke


@pytest.fixture(params=KINDS)
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Bench:
    if request.param == "cli" and find_cli() is None:
        pytest.skip("no Pulumi CLI with its Python language host on PATH")
    return Bench(request.param, tmp_path)


@pytest.fixture
def local(tmp_path: Path) -> Bench:
    return Bench("test-engine", tmp_path)


@pytest.fixture
def project(traceloop: Emulator) -> Project:
    return QuickProject(traceloop.url, API_KEY)
