"""The `pulumi-traceloop` command: `status`, `export`, `emulator` and what all have in common."""

from __future__ import annotations

import ast
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest
from click.testing import CliRunner, Result
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pulumi_traceloop import args
from pulumi_traceloop._models import Setup, SetupSpec
from pulumi_traceloop._naming import external_id_problem
from pulumi_traceloop.cli.app import Runtime, cli
from pulumi_traceloop.cli.export import as_python, as_yaml, exportable, literal
from pulumi_traceloop.cli.status import STATUSES, age
from pulumi_traceloop.emulator import Emulator, Fault, ManualClock
from pulumi_traceloop.emulator.routes import LIST_ROUTE
from pulumi_traceloop.files import load_setups
from tests.conftest import API_KEY, REPOSITORY, World
from tests.engine import find_cli, make_stack
from tests.engine.cli import CliStack
from tests.test_emulator_spans import export, span

LIST = "GET /v2/auto-monitor-setups"

RULE = {
    "key": "gen_ai.system",
    "source": "span_attributes",
    "operator": "equals",
    "value": "openai",
}

#: What an external_id or a value may be, and what it may do to a program or a file.
NASTY = [
    "plain",
    "it's \"quoted\" '''",
    "two\nlines\r\n.",
    "back\\slash \\n",
    "ünïcödé 日本語 😀",
    "{braces} %s ${HOME} {{x}}",
    "null",
    "yes",
    "1.10",
    "<<",
    "# no comment: - x",
    "two  spaces",
    "\x1b[31mred\x07\x7f\x9b",
    "\u202eright to left\u2028\u200b\ufeff",
    "a/../b?c=d&e#f%20",
    "*",
    "[a-z]?",
    "x" * 200,
]


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def emulator(clock: ManualClock) -> Iterator[Emulator]:
    with Emulator(api_key=API_KEY, clock=clock) as traceloop:
        yield traceloop


Run = Callable[..., Result]


@pytest.fixture
def run(emulator: Emulator, clock: ManualClock) -> Run:
    """Runs the command against the emulator; time passes only where it waits."""

    def invoke(
        *arguments: str, sleep: Callable[[float], None] = clock.advance, **env: str | None
    ) -> Result:
        runtime = Runtime(
            clock=clock,
            sleep=sleep,
            now=lambda: datetime.fromtimestamp(clock(), timezone.utc),
        )
        given = {"TRACELOOP_API_KEY": API_KEY, "TRACELOOP_BASE_URL": emulator.url}
        result = CliRunner().invoke(cli, arguments, env={**given, **env}, obj=runtime)
        assert API_KEY not in result.output
        # Nothing but its own errors: a traceback is none.
        assert result.exception is None or isinstance(result.exception, SystemExit)
        return result

    return invoke


class TestErrors:
    def test_no_key(self, run: Run) -> None:
        result = run("status", TRACELOOP_API_KEY=None)
        assert result.exit_code == 2
        assert result.output == (
            "error: no Traceloop API key: set the environment variable TRACELOOP_API_KEY\n"
        )

    def test_a_key_that_is_not_accepted(self, run: Run) -> None:
        result = run("status", TRACELOOP_API_KEY="other")
        assert result.exit_code == 2
        assert result.output.startswith("error: ")
        assert result.output.count("\n") == 1

    @pytest.mark.parametrize("command", ["status", "export"])
    def test_an_unusable_url(self, run: Run, command: str) -> None:
        assert run(command, "--base-url", "nonsense").exit_code == 2

    @pytest.mark.parametrize(
        ("given", "variable"),
        [
            ({"TRACELOOP_API_KEY": "other"}, "TRACELOOP_API_KEY"),
            ({"TRACELOOP_API_KEY": "a b"}, "TRACELOOP_API_KEY"),
            ({"TRACELOOP_BASE_URL": "nonsense"}, "TRACELOOP_BASE_URL"),
            ({"TRACELOOP_BASE_URL": "http://elsewhere.example"}, "TRACELOOP_ALLOW_HTTP"),
        ],
    )
    def test_only_settings_that_it_reads_are_advised(
        self, run: Run, given: dict[str, str], variable: str
    ) -> None:
        """A stack's configuration has none for it."""
        output = run("status", **given).output
        assert variable in output
        assert "traceloop:" not in output
        assert "pulumi config" not in output

    def test_a_wrong_path_names_the_variable_of_the_url(self, run: Run, emulator: Emulator) -> None:
        output = run("status", TRACELOOP_BASE_URL=f"{emulator.url}/wrong").output
        assert "check the base URL (TRACELOOP_BASE_URL)" in output

    @pytest.mark.parametrize("command", ["status", "export"])
    def test_a_service_that_is_not_there(self, run: Run, command: str, unused_tcp_url: str) -> None:
        result = run(command, TRACELOOP_BASE_URL=unused_tcp_url, TRACELOOP_DEADLINE="0.1")
        assert result.exit_code == 3
        assert result.stdout == ""
        assert result.stderr.count("\n") == 1

    def test_an_answer_that_is_none(self, run: Run, emulator: Emulator) -> None:
        emulator.inject(Fault(body="<html>\x1b[31m"))
        result = run("status")
        assert result.exit_code == 3
        assert "\x1b" not in result.output

    @pytest.mark.parametrize("command", ["status", "export", "plan", None])
    def test_the_key_is_no_option(self, run: Run, command: str | None) -> None:
        arguments = [command] if command else []
        assert run(*arguments, "--api-key", "k").exit_code == 2
        text = run(*arguments, "--help").output
        assert "--api-key" not in text
        assert "TRACELOOP_API_KEY" in text
        assert "124  the time limit of --wait expired" in text

    def test_help_loads_no_more_than_it_needs(self) -> None:
        program = (
            "import sys\n"
            "from pulumi_traceloop.cli import main\n"
            "try:\n    main(['--help'])\nexcept SystemExit as end:\n    assert end.code == 0\n"
            "slow = {'rich', 'pulumi', 'requests', 'pydantic', 'aiohttp', 'yaml'}\n"
            "assert not slow & sys.modules.keys(), slow & sys.modules.keys()\n"
        )
        assert _python("-c", program).returncode == 0

    @pytest.mark.parametrize("missing", ["click", "rich"])
    def test_without_the_extra_one_line_says_how_to_get_it(self, missing: str) -> None:
        program = (
            "import importlib.util, sys\n"
            "find = importlib.util.find_spec\n"
            f"importlib.util.find_spec = lambda name: None if name == {missing!r} else find(name)\n"
            "from pulumi_traceloop.cli import main\nmain([])\n"
        )
        done = _python("-c", program)
        assert done.returncode == 2
        assert done.stderr == (
            'pulumi-traceloop: its libraries are missing: pip install "pulumi-traceloop[cli]"\n'
        )


def _python(*arguments: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    return subprocess.run(
        [sys.executable, *arguments], env=env, capture_output=True, text=True, check=False
    )


@pytest.fixture
def unused_tcp_url() -> str:
    with Emulator() as gone:
        return gone.url


def send_spans(emulator: Emulator) -> None:
    """Send what matches RULE."""
    document = json.dumps(export(span(values={RULE["key"]: RULE["value"]})))
    request = Request(
        f"{emulator.url}/v1/traces",
        document.encode(),
        {"Authorization": f"Bearer {emulator.api_key}", "Content-Type": "application/json"},
    )
    with urlopen(request) as answer:
        assert answer.status == 200


class TestUnreadable:
    """A setup that somebody wrote in a way that the API does not document."""

    def odd(self, emulator: Emulator, **changes: object) -> None:
        own = emulator.put("a", selector=[RULE], evaluators=["faithfulness"])
        rule = {**RULE, "value": 7}
        odd = {**own, "external_id": "odd", "init_rules": [rule], **changes}
        emulator.put("odd", selector=[RULE], evaluators=["faithfulness"])
        emulator.inject(Fault(route=LIST_ROUTE, body=json.dumps([own, odd]), times=None))
        emulator.inject(Fault(external_id="odd", method="GET", body=json.dumps(odd), times=None))

    @pytest.mark.parametrize("command", ["status", "export"])
    def test_of_the_project_is_named_once_and_stops_nothing(
        self, run: Run, emulator: Emulator, command: str
    ) -> None:
        self.odd(emulator)
        result = run(command)
        assert "a" in result.stdout
        assert result.stderr.count('left out "odd": ') == 1
        assert "init_rules[0].value should be a string, but is a number" in result.stderr

    def test_of_another_project_is_nobodys_business(self, run: Run, emulator: Emulator) -> None:
        self.odd(emulator, env_project_id="theirs")
        assert "odd" not in run("status").output


class TestStatus:
    def test_waiting_for_spans(self, run: Run, emulator: Emulator, clock: ManualClock) -> None:
        """It is shown as waiting, and since its last write."""
        emulator.spans_needed = 1
        emulator.put("a", selector=[RULE], evaluators=["faithfulness"])
        clock.advance(7200)
        emulator.put("a", selector=[RULE], evaluators=["faithfulness"])
        clock.advance(60)
        result = run("status")
        assert result.stdout == (
            "SETUP  STATUS                    AGE  EVALUATORS\n"
            "a      waiting_for_spans for 1m  2h   faithfulness: pending\n"
            "1 monitor setup: 1 waiting_for_spans\n"
        )
        assert result.exit_code == 0
        document = json.loads(run("status", "--json").stdout)
        assert document["setups"][0]["status"] == "waiting_for_spans"
        assert (document["waiting"], document["stale"]) == (["a"], [])
        assert document["under_way"] == document["failed"] == []

    def test_stale(self, run: Run, emulator: Emulator, clock: ManualClock) -> None:
        """Only what has waited for longer than that is an error, and is named."""
        emulator.spans_needed = 1
        for external_id, key in (("old", "gen_ai.agent.name"), ("seen", RULE["key"])):
            rule = {**RULE, "key": key}
            emulator.put(external_id, selector=[rule], evaluators=["faithfulness"])
        send_spans(emulator)
        clock.advance(24 * 3600)
        assert run("status", "--stale", "24h").exit_code == 0
        emulator.put("new", selector=[RULE], evaluators=["faithfulness"])
        clock.advance(1)
        result = run("status", "--stale", "24h")
        assert result.exit_code == 1
        assert result.stderr == (
            'error: waiting for spans for too long, so no monitor exists: "old";'
            " pulumi-traceloop match shows why\n"
        )
        assert json.loads(run("status", "--stale", "1d", "--json").stdout)["stale"] == ["old"]
        assert run("status", "--stale", "2d").exit_code == 0
        assert run("status", "--stale", "soon").exit_code == 2

    def test_table(self, run: Run, emulator: Emulator, clock: ManualClock) -> None:
        emulator.put("b", selector=[RULE], evaluators=["faithfulness", "perplexity"])
        clock.advance(3 * 3600)
        configs = [{"slug": "faithfulness", "scope": "trace"}]
        emulator.put("a", selector=[RULE], evaluator_configs=configs)
        emulator.fail_evaluator("perplexity", "no model\nis configured")
        clock.advance(60)
        result = run("status")
        assert result.stdout == (
            "SETUP  STATUS     AGE  EVALUATORS\n"
            "b      partial    3h   faithfulness: completed\n"
            "                       perplexity: failed, no model is configured\n"
            "a      completed  1m   faithfulness (trace)\n"
            "2 monitor setups: 1 completed, 1 partial\n"
        )
        assert result.exit_code == 1

    def test_all_is_well(self, run: Run, emulator: Emulator) -> None:
        emulator.put("a", selector=[RULE], evaluators=["faithfulness"])
        assert run("status").exit_code == 0
        assert run("status", "a").exit_code == 0

    def test_what_was_asked_for_and_is_missing(self, run: Run, emulator: Emulator) -> None:
        emulator.put("a", selector=[RULE], evaluators=["faithfulness"])
        result = run("status", "a", "gone", "x-*")
        assert result.exit_code == 1
        assert [line.split()[:2] for line in result.stdout.splitlines()[1:]] == [
            ["gone", "missing"],
            ["x-*", "missing"],
            ["a", "completed"],
            ["3", "monitor"],
        ]

    def test_a_healthy_setup_has_one_line(self, run: Run, emulator: Emulator) -> None:
        emulator.put("a", selector=[RULE], evaluators=["faithfulness", "perplexity"])
        lines = run("status").stdout.splitlines()
        assert [line.split()[0] for line in lines] == ["SETUP", "a", "1"]
        assert lines[1].endswith("faithfulness, perplexity")

    def test_names_that_look_alike_are_told_apart(self, run: Run, emulator: Emulator) -> None:
        for external_id in ("a b", "a  b", "a\u00a0b", "a\u200bb"):
            emulator.put(external_id, selector=[RULE], evaluators=["faithfulness"])
        shown = {
            line.partition(" completed")[0].rstrip() for line in run("status").stdout.splitlines()
        }
        assert {'"a b"', '"a \\u0020b"', '"a\\u00a0b"', '"a\\u200bb"'} <= shown

    def test_a_list_that_lacks_a_setup_is_not_believed(self, run: Run, emulator: Emulator) -> None:
        emulator.put("a", selector=[RULE], evaluators=["faithfulness"])
        emulator.inject(Fault(hide=["a"], times=None))
        assert run("status", "a").exit_code == 0

    def test_patterns_and_a_name_that_looks_like_one(self, run: Run, emulator: Emulator) -> None:
        for external_id in ("shop-a", "shop-b", "cart", "shop-*"):
            emulator.put(external_id, selector=[RULE], evaluators=["faithfulness"])

        def shown(*arguments: str) -> list[str]:
            document = json.loads(run("status", "--json", *arguments).stdout)
            return [setup["external_id"] for setup in document["setups"]]

        assert shown("shop-?", "cart") == ["cart", "shop-*", "shop-a", "shop-b"]
        assert shown("shop-*") == ["shop-*"]

    def test_only_some_statuses(self, run: Run, emulator: Emulator) -> None:
        for external_id, status in (("a", "failed"), ("b", "completed"), ("c", "partial")):
            emulator.put(external_id, selector=[RULE], evaluators=["faithfulness"])
            emulator.force_status(external_id, status)
        found = json.loads(run("status", "--status", "failed", "--json").stdout)
        assert [setup["external_id"] for setup in found["setups"]] == ["a"]
        assert run("status", "--status", "completed").exit_code == 0
        assert run("status", "--status", "fialed").exit_code == 2

    def test_the_options_know_all_statuses(self) -> None:
        (option,) = [p for p in cli.commands["status"].params if p.name == "statuses"]
        assert tuple(getattr(option.type, "choices", ())) == STATUSES

    def test_json(self, run: Run, emulator: Emulator) -> None:
        emulator.put("é\x7f\x9b", selector=[RULE], evaluators=["faithfulness"])
        result = run("status", "--json")
        assert result.stdout.isascii()
        assert "\x7f" not in result.stdout
        document = json.loads(result.stdout)
        (setup,) = document["setups"]
        assert setup["external_id"] == "é\x7f\x9b"
        assert setup["status"] == "completed"
        assert setup["evaluators"][0]["evaluator_type"] == "faithfulness"
        assert document["failed"] == document["missing"] == document["under_way"] == []

    @pytest.mark.parametrize("arguments", [[], ["--wait"]])
    def test_control_characters_do_not_reach_the_terminal(
        self, run: Run, emulator: Emulator, arguments: list[str]
    ) -> None:
        emulator.put("\x1b[31mred", selector=[RULE], evaluators=["faithfulness"])
        emulator.fail_evaluator("faithfulness", "\x1b]0;title\x07 [bold]text[/bold] \x9b1m")
        emulator.force_status("\x1b[31mred", "\x1b[5mfailed")
        result = run("status", *arguments)
        assert all(char.isprintable() or char == "\n" for char in result.output)
        assert "[bold]text[/bold]" in result.output

    def test_the_organizations_other_projects_are_not_shown(
        self, run: Run, emulator: Emulator
    ) -> None:
        emulator.put("mine", selector=[RULE], evaluators=["faithfulness"])
        emulator.add_project("other", same_project_as=emulator.api_key)
        emulator.put("theirs", selector=[RULE], evaluators=["faithfulness"], api_key="other")
        assert "theirs" not in run("status").stdout

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("2026-01-02T00:00:00Z", "1d"),
            ("2026-01-02T23:59:00.123456789Z", "59s"),
            ("2026-01-02T22:00:00.5+00:00", "1h"),
            ("2026-01-02T23:00:00", "1h"),
            ("2027-01-01T00:00:00Z", "0s"),
            ("yesterday", ""),
            (None, ""),
        ],
    )
    def test_age(self, text: str | None, expected: str) -> None:
        assert age(text, datetime(2026, 1, 3, tzinfo=timezone.utc)) == expected


class TestStatusOfAStack:
    """Needs the Pulumi CLI: the state and the configuration are read with it."""

    @pytest.fixture
    def world(self, tmp_path: Path, emulator: Emulator) -> World:
        if find_cli() is None:
            pytest.skip("no Pulumi CLI on PATH")
        world = World(make_stack("cli", tmp_path, env={"PYTHONPATH": str(REPOSITORY)}), emulator)
        emulator.put("theirs", selector=[RULE], evaluators=["faithfulness"])
        emulator.force_status("theirs", "failed")
        world.up('group("g", {"a": setup(), "b*": setup()})\none("m", external_id="x y")')
        return world

    @pytest.fixture
    def status(self, world: World, monkeypatch: pytest.MonkeyPatch) -> Run:
        """Runs the command in the stack's folder; no key but that of the stack's configuration."""
        assert isinstance(world.stack, CliStack)
        monkeypatch.chdir(world.stack.project_dir)

        def invoke(*arguments: str, stack: str = "dev") -> Result:
            assert isinstance(world.stack, CliStack)
            env = {**world.stack._env, "TRACELOOP_API_KEY": None, "TRACELOOP_BASE_URL": None}
            result = CliRunner().invoke(cli, ["status", "--stack", stack, *arguments], env=env)
            assert API_KEY not in result.output
            assert result.exception is None or isinstance(result.exception, SystemExit)
            return result

        return invoke

    def names(self, result: Result) -> list[str]:
        return [line.partition("  ")[0] for line in result.stdout.splitlines()[1:-1]]

    def test_only_its_own_setups_are_judged(
        self, status: Run, world: World, emulator: Emulator
    ) -> None:
        result = status()
        assert result.exit_code == 0
        assert self.names(result) == ["a", "b*", '"x y"']
        assert result.stdout.endswith("3 monitor setups: 3 completed\n")
        emulator.force_status("b*", "failed")
        emulator.delete("x y")
        result = status()
        assert result.exit_code == 1
        assert self.names(result) == ["b*", '"x y"', "a"]
        assert status("a").exit_code == 0
        assert status("b*").exit_code == 1
        assert status("--wait").exit_code == 1

    def test_what_is_in_no_resource_of_the_stack(
        self, status: Run, world: World, emulator: Emulator
    ) -> None:
        assert self.names(status("--unmanaged")) == ["theirs"]
        # What is still to be deleted is the stack's.
        emulator.inject(Fault(method="DELETE", status=500, times=None))
        world.up('group("g", {"a": setup()})\none("m", external_id="x y")', fails=True)
        assert self.names(status()) == ["a", '"x y"']
        assert self.names(status("--unmanaged")) == ["theirs"]

    def test_each_namespace_has_its_own_key(
        self, status: Run, world: World, emulator: Emulator
    ) -> None:
        emulator.add_project("staging-key", env_project_id="staging")
        world.stack.set_config("staging:apiKey", "staging-key", secret=True)
        world.stack.set_config("staging:baseUrl", emulator.url)
        world.up(
            'group("g", {"a": setup()})\none("m", external_id="a", config_namespace="staging")'
        )
        result = status()
        assert self.names(result) == ['"a (staging)"', '"a (traceloop)"']
        assert result.exit_code == 0
        world.stack.remove_config("staging:apiKey")
        assert "staging:apiKey is not set" in status().output
        assert status().exit_code == 2

    def test_a_stack_that_is_not_there(self, status: Run) -> None:
        result = status(stack="nowhere")
        assert result.exit_code == 2
        assert result.output.startswith("error: `pulumi config ")
        assert result.output.count("\n") == 1

    def test_unmanaged_needs_a_stack(self, run: Run) -> None:
        assert run("status", "--unmanaged").exit_code == 2


class TestWait:
    def test_it_ends_when_all_are_ready(
        self, run: Run, emulator: Emulator, clock: ManualClock
    ) -> None:
        emulator.settle = 40
        emulator.put("a", selector=[RULE], evaluators=["faithfulness"])
        begun = clock()
        result = run("status", "--wait")
        assert result.exit_code == 0
        assert 40 <= clock() - begun < 56
        assert result.stderr.splitlines()[0] == "1 pending"
        assert result.stderr.splitlines()[-1] == "1 completed"
        # A line when something changes, and no others; the looks become rarer.
        assert len(set(result.stderr.splitlines())) == len(result.stderr.splitlines())
        assert 5 < emulator.requests[LIST] < 12

    def test_a_failed_one_ends_with_1_after_the_others(self, run: Run, emulator: Emulator) -> None:
        emulator.settle = 10
        emulator.put("a", selector=[RULE], evaluators=["perplexity"])
        emulator.put("b", selector=[RULE], evaluators=["faithfulness"])
        emulator.fail_evaluator("perplexity", "no model")
        result = run("status", "--wait")
        assert result.exit_code == 1
        assert "  a: failed\n" in result.stderr
        assert "perplexity: failed, no model" in result.stdout

    def test_time_is_up(self, run: Run, emulator: Emulator, clock: ManualClock) -> None:
        emulator.settle = 1000
        emulator.put("a", selector=[RULE], evaluators=["faithfulness"])
        begun = clock()
        result = run("status", "--wait", "--timeout", "30", "--json")
        assert result.exit_code == 124
        assert clock() - begun == 30
        assert json.loads(result.stdout)["timed_out"] is True
        assert result.stderr.endswith("error: timed out: 1 pending\n")

    @pytest.mark.parametrize(
        ("arguments", "exit_code"),
        [(["--wait"], 124), (["--wait-for", "spans"], 124), (["--wait-for", "accepted"], 0)],
    )
    def test_waiting_for_spans_is_enough_by_choice(
        self, run: Run, emulator: Emulator, arguments: list[str], exit_code: int
    ) -> None:
        emulator.settle = 10
        emulator.spans_needed = 1
        emulator.put("a", selector=[RULE], evaluators=["faithfulness"])
        result = run("status", "--timeout", "60", *arguments)
        assert result.exit_code == exit_code
        assert "a      waiting_for_spans for" in result.stdout

    def test_it_ends_when_spans_have_come(
        self, run: Run, emulator: Emulator, clock: ManualClock
    ) -> None:
        emulator.spans_needed = 1
        emulator.put("a", selector=[RULE], evaluators=["faithfulness"])

        def sleep(seconds: float) -> None:
            clock.advance(seconds)
            if emulator.requests[LIST] == 3:
                send_spans(emulator)

        result = run("status", "--wait", sleep=sleep)
        assert result.exit_code == 0
        assert result.stderr.splitlines() == ["1 waiting_for_spans", "1 completed"]

    def test_an_outage_is_waited_out(self, run: Run, emulator: Emulator) -> None:
        emulator.settle = 5
        emulator.put("a", selector=[RULE], evaluators=["faithfulness"])
        emulator.inject(Fault(route=LIST, status=503, skip=1, times=2, retry_after=15))
        result = run("status", "--wait", TRACELOOP_DEADLINE="10")
        assert result.exit_code == 0
        assert result.stderr.count("trying again") == 2

    def test_a_first_look_that_fails_ends_it(self, run: Run, emulator: Emulator) -> None:
        emulator.inject(Fault(status=503, times=None, retry_after=15))
        assert run("status", "--wait", TRACELOOP_DEADLINE="10").exit_code == 3

    def test_it_does_not_go_with_a_status(self, run: Run) -> None:
        assert run("status", "--wait", "--status", "failed").exit_code == 2


def setup_of(value: str, *evaluators: dict[str, str] | str) -> dict[str, Any]:
    """Return a setup's content with every operator."""
    selector: list[dict[str, Any]] = [
        {"key": f"k {value}", "source": "resource_attributes", "operator": operator}
        | ({"value": value} if operator in ("equals", "not_equals", "contains") else {})
        | ({"values": [value, "c", "b" * 60]} if operator in ("in", "not_in") else {})
        for operator in ("equals", "not_equals", "contains", "in", "not_in", "exists", "not_exists")
    ]
    selector.append(RULE | {"operator": "not_contains", "value": "x"})
    if evaluators and isinstance(evaluators[0], dict):
        return {"selector": selector, "evaluator_configs": list(evaluators)}
    return {"selector": selector, "evaluators": list(evaluators or ["faithfulness"])}


def fill(emulator: Emulator) -> None:
    for number, text in enumerate(NASTY):
        configs = [{"slug": "faithfulness", "scope": "trace"}, {"slug": "perplexity"}]
        content = setup_of(text, *(configs if number % 2 else []))
        emulator.put(text, **content)


class TestExport:
    @pytest.mark.parametrize("form", ["python", "yaml"])
    def test_what_was_exported_is_adopted_without_a_write(
        self, world: World, form: str, tmp_path: Path
    ) -> None:
        fill(world.traceloop)
        file = tmp_path / f"exported.{form}"
        done = CliRunner().invoke(
            cli,
            ["export", "--format", form, "--output", str(file)],
            env={"TRACELOOP_API_KEY": API_KEY, "TRACELOOP_BASE_URL": world.traceloop.url},
        )
        assert done.exit_code == 0, done.output
        assert done.stderr == f"{len(NASTY)} setups written to {file}\n"
        if form == "python":
            program = file.read_text("utf-8")
        else:
            program = (
                "from pulumi_traceloop import AutoMonitorSetupGroup\n"
                "from pulumi_traceloop.files import load_setups\n"
                f"AutoMonitorSetupGroup('monitors', load_setups({str(file)!r}))\n"
            )
        world.stack.write_program(program)
        before = world.traceloop.setups
        up = world.up()
        assert up.ops()["monitors"] == ("create", "create", "create")[: len(up.ops()["monitors"])]
        assert world.requests.keys() <= {"list", "get"}
        assert world.traceloop.writes == {}
        assert world.traceloop.setups == before
        assert world.up().changes.keys() == {"same"}
        world.refresh(expect_no_changes=True)
        assert world.traceloop.writes == {}

    def test_a_program_that_a_person_would_write(self, run: Run, emulator: Emulator) -> None:
        emulator.put("openai", selector=[RULE], evaluators=["faithfulness", "pii-detector"])
        rules: list[dict[str, Any]] = [
            {"key": "service.name", "source": "resource_attributes", "operator": "in"}
            | {"values": ["checkout", "cart"]},
            {"key": "gen_ai.request.model", "source": "span_attributes", "operator": "exists"},
        ]
        configs = [{"slug": "faithfulness", "scope": "trace"}, {"slug": "perplexity"}]
        emulator.put("cart-agent", selector=rules, evaluator_configs=configs)
        result = run("export")
        assert result.exit_code == 0
        assert (
            result.stdout
            == '''\
"""Monitor setups that Traceloop already had, written by `pulumi-traceloop export`.

The first `pulumi up` adopts them and sends nothing.
"""

import pulumi_traceloop as traceloop
from pulumi_traceloop import resource, span

traceloop.AutoMonitorSetupGroup(
    "monitors",
    setups={
        "cart-agent": {
            "selector": [
                resource("service.name").is_in("checkout", "cart"),
                span("gen_ai.request.model").exists(),
            ],
            "evaluator_configs": [
                {"slug": "faithfulness", "scope": "trace"},
                {"slug": "perplexity"},
            ],
        },
        "openai": {
            "selector": [span("gen_ai.system").equals("openai")],
            "evaluators": ["faithfulness", "pii-detector"],
        },
    },
)
'''
        )

    def test_the_program_is_formatted_as_ruff_does(self, run: Run, emulator: Emulator) -> None:
        fill(emulator)
        _assert_ruff(run("export").stdout_bytes)

    def test_a_line_is_broken_where_it_gets_too_long(self) -> None:
        frame = len('            "selector": [span("").exists()],')
        for length, lines in ((88 - frame, 1), (89 - frame, 3)):
            rules = [{"key": "k" * length, "source": "span_attributes", "operator": "exists"}]
            program = as_python(exportable([stored("a", rules)]).setups, "g")
            _assert_ruff(program.encode())
            assert (
                len(program.split('"evaluators"')[0].split('"a": {')[1].splitlines()) == lines + 2
            )

    def test_nothing_there(self, run: Run) -> None:
        result = run("export", "--name", "it's")
        assert result.exit_code == 0
        assert "    setups={},\n" in result.stdout
        _assert_ruff(result.stdout_bytes)

    def test_only_some(self, run: Run, emulator: Emulator) -> None:
        for external_id in ("shop-a", "shop-b", "cart"):
            emulator.put(external_id, selector=[RULE], evaluators=["faithfulness"])
        assert run("export", "shop-*", "--format", "yaml").stdout.count("selector:") == 2
        result = run("export", "cart", "nowhere")
        assert result.exit_code == 1
        assert result.stderr == 'no setup "nowhere"\n'
        assert '"cart": {' in result.stdout
        nothing = run("export", "nowhere")
        assert (nothing.exit_code, nothing.stdout) == (1, "")

    def test_a_file_is_not_overwritten_unless_told(self, run: Run, tmp_path: Path) -> None:
        file = tmp_path / "monitors.py"
        file.write_text("mine")
        result = run("export", "--output", str(file))
        assert result.exit_code == 2
        assert result.stderr == f"error: {file} exists: --force overwrites it\n"
        assert file.read_text() == "mine"
        assert run("export", "--output", str(file), "--force").exit_code == 0
        assert file.read_text().startswith('"""Monitor setups')

    def test_a_file_that_cannot_be_written(self, run: Run, tmp_path: Path) -> None:
        result = run("export", "--output", str(tmp_path / "no" / "folder.py"))
        assert result.exit_code == 2
        assert result.stderr.endswith("No such file or directory\n")

    def test_what_a_program_cannot_say_is_left_out_and_told(self) -> None:
        setups = [
            stored("fine", [RULE]),
            stored("empty", []),
            stored("new-operator", [RULE | {"operator": "sounds_like"}]),
            stored("no-source", [{"key": "k", "operator": "exists"}]),
            stored("no-evaluator", [RULE], evaluators=()),
            stored("..", [RULE]),
        ]
        found = exportable(setups)
        assert found.setups.keys() == {"fine"}
        assert found.refused.keys() == {s.external_id for s in setups[1:]}
        assert "needs at least one rule" in found.refused["empty"]

    def test_a_left_out_setup_ends_with_1(self, run: Run, emulator: Emulator) -> None:
        emulator.put("a", selector=[RULE], evaluators=["faithfulness"])
        own = emulator.setups["a"]
        odd = own | {"id": "1", "external_id": "odd\x1b", "init_rules": []}
        emulator.inject(Fault(route=LIST_ROUTE, body=json.dumps([own, odd])))
        result = run("export")
        assert result.exit_code == 1
        assert result.stderr.startswith('left out "odd": selector needs at least one rule')

    def test_what_the_service_repeats_or_adds_is_left_away(self) -> None:
        rule: dict[str, Any] = {**RULE, "values": []}
        setup = stored("a", [rule, rule], evaluators=("faithfulness", "faithfulness"))
        assert exportable([setup]).setups["a"]["evaluators"] == ["faithfulness"]

    _text = st.text(min_size=1, max_size=90).filter(
        lambda text: text.strip() and not any("\ud800" <= c <= "\udfff" for c in text)
    )

    @given(st.dictionaries(_text.filter(lambda i: not external_id_problem(i)), _text, max_size=6))
    @settings(max_examples=40, deadline=None)
    def test_any_text_comes_back_as_it_was(self, texts: dict[str, str]) -> None:
        setups = {
            i: Setup.model_validate(
                {"id": "1", "external_id": i, "evaluators": [{"evaluator_type": value}]}
                | {"init_rules": setup_of(value)["selector"]}
            )
            for i, value in texts.items()
        }
        found = exportable(setups.values())
        assert found.refused == {}
        program = as_python(found.setups, "monitors")
        declared = declared_by(program)
        assert declared.keys() == texts.keys()
        for external_id, setup in setups.items():
            spec = SetupSpec.model_validate(args.plain(declared[external_id]))
            assert spec.definition == setup.definition
        _assert_ruff(program.encode())

    @given(st.dictionaries(_text.filter(lambda i: not external_id_problem(i)), _text, max_size=6))
    @settings(max_examples=40, deadline=None)
    @example({"0": "0E0", "0\x85\u20280": "~", "null": "on", "a: b": "1e3", "=": "0o7", "y": "N"})
    def test_any_text_comes_back_from_yaml(
        self, tmp_path_factory: pytest.TempPathFactory, texts: dict[str, str]
    ) -> None:
        setups = {i: setup_of(value, value) for i, value in texts.items()}
        file = tmp_path_factory.mktemp("yaml") / "monitors.yaml"
        file.write_bytes(as_yaml(setups).encode())
        assert load_setups(file) == setups

    @given(st.text(max_size=40))
    def test_literals(self, text: str) -> None:
        assert ast.literal_eval(literal(text)) == text
        assert literal(text).isprintable()


def stored(
    external_id: str, rules: list[dict[str, Any]], evaluators: tuple[str, ...] = ("faithfulness",)
) -> Setup:
    return Setup.model_validate(
        {"id": "1", "external_id": external_id, "init_rules": rules}
        | {"evaluators": [{"evaluator_type": slug} for slug in evaluators]}
    )


def declared_by(program: str) -> dict[str, Any]:
    """Run an exported program, and return the setups that it declares."""
    found: dict[str, Any] = {}

    class Package:
        span = staticmethod(args.span)
        resource = staticmethod(args.resource)

        @staticmethod
        def AutoMonitorSetupGroup(name: str, setups: dict[str, Any]) -> None:  # noqa: N802
            found.update(setups)

    builtins = {"__import__": lambda *_: Package}
    exec(compile(program, "exported", "exec"), {"__builtins__": builtins})
    return found


def _assert_ruff(program: bytes) -> None:
    for command in (["format", "--check", "--diff"], ["check", "--select", "E4,E7,E9,F,I"]):
        done = subprocess.run(
            [sys.executable, "-m", "ruff", *command, "--isolated", "--no-cache", "-"],
            input=program,
            capture_output=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout.decode() + done.stderr.decode()


class TestEmulator:
    def test_its_options_are_the_emulators_own(self) -> None:
        done = _python("-m", "pulumi_traceloop.cli", "emulator", "--help")
        assert done.returncode == 0
        assert "--rate-limit" in done.stdout
        assert done.stdout.startswith("usage: pulumi-traceloop emulator [-h]")

    def test_it_serves_until_it_is_told_to_end(self) -> None:
        with subprocess.Popen(
            [sys.executable, "-m", "pulumi_traceloop.cli", "emulator", "--port", "0"],
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
            stdout=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stdout is not None
            first = process.stdout.readline()
            url = first.split(" on ")[1].split(",")[0]
            env = {"TRACELOOP_API_KEY": "emulator-key", "TRACELOOP_BASE_URL": url}
            assert CliRunner().invoke(cli, ["status"], env=env).exit_code == 0
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0

    def test_wrong_usage(self) -> None:
        assert _python("-m", "pulumi_traceloop.cli", "emulator", "--port", "x").returncode == 2

    def test_without_its_extra_one_line_says_how_to_get_it(self) -> None:
        program = (
            "import importlib.util\n"
            "find = importlib.util.find_spec\n"
            "importlib.util.find_spec = lambda name: None if name == 'aiohttp' else find(name)\n"
            "from pulumi_traceloop.cli import main\nmain(['emulator'])\n"
        )
        done = _python("-c", program)
        assert done.returncode == 2
        assert done.stderr == (
            "error: the emulator's libraries are missing:"
            ' pip install "pulumi-traceloop[emulator]"\n'
        )


def test_a_day_is_told_in_days() -> None:
    now = datetime(2026, 1, 3, tzinfo=timezone.utc)
    assert age((now - timedelta(days=400)).isoformat(), now) == "400d"
