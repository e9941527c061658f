"""`pulumi-traceloop status`: `cli/status.py`."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from pulumi_traceloop._settings import Connection
from pulumi_traceloop.cli.app import cli
from pulumi_traceloop.cli.project import open_connection
from pulumi_traceloop.cli.stack import Part
from pulumi_traceloop.cli.status import STATUSES, age, unmanaged
from pulumi_traceloop.emulator import Emulator, Fault
from pulumi_traceloop.emulator.routes import LIST_ROUTE
from tests.engine import find_cli, make_stack
from tests.engine.cli import CliStack
from tests.support import API_KEY
from tests.support.clock import Clock
from tests.support.otlp import send, span
from tests.support.setups import STORED_RULE
from tests.support.terminal import Run, import_path
from tests.support.world import World


class TestStatus:
    def test_waiting_for_spans(self, run: Run, emulator: Emulator, clock: Clock) -> None:
        """The table says that it waits, and since when: its last write."""
        emulator.spans_needed = 1
        emulator.put("a", selector=[STORED_RULE], evaluators=["faithfulness"])
        clock.advance(7200)
        emulator.put("a", selector=[STORED_RULE], evaluators=["faithfulness"])
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

    def test_stale_setups(self, run: Run, emulator: Emulator, clock: Clock) -> None:
        """Only setups that waited longer are an error, and are named."""
        emulator.spans_needed = 1
        for external_id, key in (("old", "gen_ai.agent.name"), ("seen", STORED_RULE["key"])):
            rule = {**STORED_RULE, "key": key}
            emulator.put(external_id, selector=[rule], evaluators=["faithfulness"])
        send(emulator, span(values={STORED_RULE["key"]: STORED_RULE["value"]}))
        clock.advance(24 * 3600)
        assert run("status", "--stale", "24h").exit_code == 0
        emulator.put("new", selector=[STORED_RULE], evaluators=["faithfulness"])
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

    def test_table_of_setups(self, run: Run, emulator: Emulator, clock: Clock) -> None:
        emulator.put("b", selector=[STORED_RULE], evaluators=["faithfulness", "perplexity"])
        clock.advance(3 * 3600)
        configs = [{"slug": "faithfulness", "scope": "trace"}]
        emulator.put("a", selector=[STORED_RULE], evaluator_configs=configs)
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

    def test_healthy_project_exits_with_0(self, run: Run, emulator: Emulator) -> None:
        emulator.put("a", selector=[STORED_RULE], evaluators=["faithfulness"])
        assert run("status").exit_code == 0
        assert run("status", "a").exit_code == 0

    def test_missing_setup(self, run: Run, emulator: Emulator) -> None:
        emulator.put("a", selector=[STORED_RULE], evaluators=["faithfulness"])
        result = run("status", "a", "gone", "x-*")
        assert result.exit_code == 1
        assert [line.split()[:2] for line in result.stdout.splitlines()[1:]] == [
            ["gone", "missing"],
            ["x-*", "missing"],
            ["a", "completed"],
            ["3", "monitor"],
        ]

    def test_healthy_setup_has_one_line(self, run: Run, emulator: Emulator) -> None:
        emulator.put("a", selector=[STORED_RULE], evaluators=["faithfulness", "perplexity"])
        lines = run("status").stdout.splitlines()
        assert [line.split()[0] for line in lines] == ["SETUP", "a", "1"]
        assert lines[1].endswith("faithfulness, perplexity")

    def test_similar_names_are_displayed_differently(self, run: Run, emulator: Emulator) -> None:
        for external_id in ("a b", "a  b", "a\u00a0b", "a\u200bb"):
            emulator.put(external_id, selector=[STORED_RULE], evaluators=["faithfulness"])
        displayed = {
            line.partition(" completed")[0].rstrip() for line in run("status").stdout.splitlines()
        }
        assert {'"a b"', '"a \\u0020b"', '"a\\u00a0b"', '"a\\u200bb"'} <= displayed

    def test_setup_that_the_list_lacks_is_read_by_id(self, run: Run, emulator: Emulator) -> None:
        emulator.put("a", selector=[STORED_RULE], evaluators=["faithfulness"])
        emulator.inject(Fault(hide=["a"], times=None))
        assert run("status", "a").exit_code == 0

    def test_patterns_and_a_name_like_a_pattern(self, run: Run, emulator: Emulator) -> None:
        for external_id in ("shop-a", "shop-b", "cart", "shop-*"):
            emulator.put(external_id, selector=[STORED_RULE], evaluators=["faithfulness"])

        def displayed(*arguments: str) -> list[str]:
            document = json.loads(run("status", "--json", *arguments).stdout)
            return [setup["external_id"] for setup in document["setups"]]

        assert displayed("shop-?", "cart") == ["cart", "shop-*", "shop-a", "shop-b"]
        assert displayed("shop-*") == ["shop-*"]

    def test_filter_by_status(self, run: Run, emulator: Emulator) -> None:
        for external_id, status in (("a", "failed"), ("b", "completed"), ("c", "partial")):
            emulator.put(external_id, selector=[STORED_RULE], evaluators=["faithfulness"])
            emulator.force_status(external_id, status)
        found = json.loads(run("status", "--status", "failed", "--json").stdout)
        assert [setup["external_id"] for setup in found["setups"]] == ["a"]
        assert run("status", "--status", "completed").exit_code == 0
        assert run("status", "--status", "fialed").exit_code == 2

    def test_option_knows_all_statuses(self) -> None:
        (option,) = [p for p in cli.commands["status"].params if p.name == "statuses"]
        assert tuple(getattr(option.type, "choices", ())) == STATUSES

    def test_json(self, run: Run, emulator: Emulator) -> None:
        emulator.put("é\x7f\x9b", selector=[STORED_RULE], evaluators=["faithfulness"])
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
        emulator.put("\x1b[31mred", selector=[STORED_RULE], evaluators=["faithfulness"])
        emulator.fail_evaluator("faithfulness", "\x1b]0;title\x07 [bold]text[/bold] \x9b1m")
        emulator.force_status("\x1b[31mred", "\x1b[5mfailed")
        result = run("status", *arguments)
        assert all(char.isprintable() or char == "\n" for char in result.output)
        assert "[bold]text[/bold]" in result.output

    def test_other_projects_are_not_listed(self, run: Run, emulator: Emulator) -> None:
        emulator.put("mine", selector=[STORED_RULE], evaluators=["faithfulness"])
        emulator.add_project("other", same_project_as=emulator.api_key)
        emulator.put("theirs", selector=[STORED_RULE], evaluators=["faithfulness"], api_key="other")
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
    def test_age_of_a_setup(self, text: str | None, expected: str) -> None:
        assert age(text, datetime(2026, 1, 3, tzinfo=timezone.utc)) == expected


class TestStackStatus:
    """Needs the Pulumi CLI, which reads the state and the configuration."""

    @pytest.fixture
    def world(self, tmp_path: Path, emulator: Emulator) -> World:
        if find_cli() is None:
            pytest.skip("no Pulumi CLI on PATH")
        world = World(make_stack("cli", tmp_path, env={"PYTHONPATH": import_path()}), emulator)
        emulator.put("theirs", selector=[STORED_RULE], evaluators=["faithfulness"])
        emulator.force_status("theirs", "failed")
        world.up('group("g", {"a": setup(), "b*": setup()})\none("m", external_id="x y")')
        return world

    @pytest.fixture
    def status(self, world: World, monkeypatch: pytest.MonkeyPatch) -> Run:
        """Runs the command in the stack's folder, with only the key of its configuration."""
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

    def test_only_setups_of_the_stack_are_checked(
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

    def test_unmanaged_setups(self, status: Run, world: World, emulator: Emulator) -> None:
        assert self.names(status("--unmanaged")) == ["theirs"]
        # Pending deletes belong to the stack.
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

    def test_missing_stack(self, status: Run) -> None:
        result = status(stack="nowhere")
        assert result.exit_code == 2
        assert result.output.startswith("error: `pulumi config ")
        assert result.output.count("\n") == 1

    def test_unmanaged_option_needs_a_stack(self, run: Run) -> None:
        assert run("status", "--unmanaged").exit_code == 2

    def test_url_option_conflicts_with_a_stack(
        self, run: Run, emulator: Emulator, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        result = run("status", "--stack", "dev", "--base-url", emulator.url)
        assert result.exit_code == 2
        assert "--stack and --base-url do not go together" in result.stderr
        # `run` sets the environment variable, which does not conflict.
        monkeypatch.setenv("PATH", "")
        assert "pulumi is not on PATH" in run("status", "--stack", "dev").stderr


def test_unmanaged_setups_of_two_projects(emulator: Emulator) -> None:
    """Both may have a setup with the same external_id."""
    emulator.add_project("other", env_project_id="theirs")
    parts = []
    for namespace, key in (("one", emulator.api_key), ("two", "other")):
        emulator.put("x", selector=[STORED_RULE], evaluators=["faithfulness"], api_key=key)
        reach = Connection(namespace, key, emulator.url, 10)
        parts.append((Part(reach, None, set(), set()), open_connection(reach)))
    assert list(unmanaged(parts).setups) == ["x (one)", "x (two)"]
    assert list(unmanaged(parts[:1]).setups) == ["x"]


class TestWait:
    def test_ends_when_all_are_ready(self, run: Run, emulator: Emulator, clock: Clock) -> None:
        emulator.settle = 40
        emulator.put("a", selector=[STORED_RULE], evaluators=["faithfulness"])
        begun = clock()
        result = run("status", "--wait")
        assert result.exit_code == 0
        assert 40 <= clock() - begun < 56
        assert result.stderr.splitlines()[0] == "1 pending"
        assert result.stderr.splitlines()[-1] == "1 completed"
        # One line for each change; the polls become rarer.
        assert len(set(result.stderr.splitlines())) == len(result.stderr.splitlines())
        assert 5 < emulator.requests[LIST_ROUTE] < 12

    def test_failed_setup_exits_with_1_after_the_others(self, run: Run, emulator: Emulator) -> None:
        emulator.settle = 10
        emulator.put("a", selector=[STORED_RULE], evaluators=["perplexity"])
        emulator.put("b", selector=[STORED_RULE], evaluators=["faithfulness"])
        emulator.fail_evaluator("perplexity", "no model")
        result = run("status", "--wait")
        assert result.exit_code == 1
        assert "  a: failed\n" in result.stderr
        assert "perplexity: failed, no model" in result.stdout

    def test_time_limit(self, run: Run, emulator: Emulator, clock: Clock) -> None:
        emulator.settle = 1000
        emulator.put("a", selector=[STORED_RULE], evaluators=["faithfulness"])
        begun = clock()
        result = run("status", "--wait", "--timeout", "30", "--json")
        assert result.exit_code == 124
        assert clock() - begun == 30
        assert json.loads(result.stdout)["timed_out"] is True
        assert result.stderr.endswith("error: timed out: 1 pending\n")

    @pytest.mark.parametrize("arguments", [[], ["--wait-for", "accepted"]])
    def test_unknown_status_is_not_ready(
        self, run: Run, emulator: Emulator, arguments: list[str]
    ) -> None:
        emulator.put("a", selector=[STORED_RULE], evaluators=["faithfulness"])
        emulator.force_status("a", "queued")
        result = run("status", "--wait", "--timeout", "30", "--json", *arguments)
        assert result.exit_code == 124
        assert json.loads(result.stdout)["under_way"] == ["a"]

    @pytest.mark.parametrize(
        ("arguments", "exit_code"),
        [(["--wait"], 124), (["--wait-for", "spans"], 124), (["--wait-for", "accepted"], 0)],
    )
    def test_waiting_for_spans_counts_as_ready_on_request(
        self, run: Run, emulator: Emulator, arguments: list[str], exit_code: int
    ) -> None:
        emulator.settle = 10
        emulator.spans_needed = 1
        emulator.put("a", selector=[STORED_RULE], evaluators=["faithfulness"])
        result = run("status", "--timeout", "60", *arguments)
        assert result.exit_code == exit_code
        assert "a      waiting_for_spans for" in result.stdout

    def test_ends_when_spans_arrived(self, run: Run, emulator: Emulator, clock: Clock) -> None:
        emulator.spans_needed = 1
        emulator.put("a", selector=[STORED_RULE], evaluators=["faithfulness"])

        def sleep(seconds: float) -> None:
            clock.advance(seconds)
            if emulator.requests[LIST_ROUTE] == 3:
                send(emulator, span(values={STORED_RULE["key"]: STORED_RULE["value"]}))

        result = run("status", "--wait", sleep=sleep)
        assert result.exit_code == 0
        assert result.stderr.splitlines() == ["1 waiting_for_spans", "1 completed"]

    def test_outage_is_waited_out(self, run: Run, emulator: Emulator) -> None:
        emulator.settle = 5
        emulator.put("a", selector=[STORED_RULE], evaluators=["faithfulness"])
        emulator.inject(Fault(route=LIST_ROUTE, status=503, skip=1, times=2, retry_after=15))
        result = run("status", "--wait", TRACELOOP_DEADLINE="10")
        assert result.exit_code == 0
        assert result.stderr.count("trying again") == 2

    def test_failure_of_the_first_poll_ends_it(self, run: Run, emulator: Emulator) -> None:
        emulator.inject(Fault(status=503, times=None, retry_after=15))
        assert run("status", "--wait", TRACELOOP_DEADLINE="10").exit_code == 3

    def test_conflicts_with_a_status_filter(self, run: Run) -> None:
        assert run("status", "--wait", "--status", "failed").exit_code == 2


def test_age_beyond_a_day_is_in_days() -> None:
    now = datetime(2026, 1, 3, tzinfo=timezone.utc)
    assert age((now - timedelta(days=400)).isoformat(), now) == "400d"
