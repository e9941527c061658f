"""The `pulumi-traceloop` command as a whole: options, errors, `emulator`: `cli/app.py`."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from pulumi_traceloop._project import Project
from pulumi_traceloop._settings import Connection
from pulumi_traceloop.cli.app import cli
from pulumi_traceloop.cli.project import open_connection
from pulumi_traceloop.cli.stack import Part
from pulumi_traceloop.cli.status import read_stack, unmanaged
from pulumi_traceloop.emulator import Emulator, Fault
from pulumi_traceloop.emulator.routes import LIST_ROUTE
from tests.support.setups import STORED_RULE
from tests.support.terminal import Run, environment, python


class TestErrors:
    def test_missing_key(self, run: Run) -> None:
        result = run("status", TRACELOOP_API_KEY=None)
        assert result.exit_code == 2
        assert result.output == (
            "error: no Traceloop API key: set the environment variable TRACELOOP_API_KEY\n"
        )

    def test_rejected_key(self, run: Run) -> None:
        result = run("status", TRACELOOP_API_KEY="other")
        assert result.exit_code == 2
        assert result.output.startswith("error: ")
        assert result.output.count("\n") == 1

    @pytest.mark.parametrize("command", ["status", "export"])
    def test_invalid_url(self, run: Run, command: str) -> None:
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
    def test_errors_name_only_settings_that_the_command_reads(
        self, run: Run, given: dict[str, str], variable: str
    ) -> None:
        """The command reads no stack configuration."""
        output = run("status", **given).output
        assert variable in output
        assert "traceloop:" not in output
        assert "pulumi config" not in output

    def test_wrong_path_names_the_variable_of_the_url(self, run: Run, emulator: Emulator) -> None:
        output = run("status", TRACELOOP_BASE_URL=f"{emulator.url}/wrong").output
        assert "check the base URL (TRACELOOP_BASE_URL)" in output

    @pytest.mark.parametrize("command", ["status", "export"])
    def test_unreachable_service(self, run: Run, command: str, unused_tcp_url: str) -> None:
        result = run(command, TRACELOOP_BASE_URL=unused_tcp_url, TRACELOOP_DEADLINE="0.1")
        assert result.exit_code == 3
        assert result.stdout == ""
        assert result.stderr.count("\n") == 1

    def test_malformed_response(self, run: Run, emulator: Emulator) -> None:
        emulator.inject(Fault(body="<html>\x1b[31m"))
        result = run("status")
        assert result.exit_code == 3
        assert "\x1b" not in result.output

    @pytest.mark.parametrize("command", ["status", "export", "plan", None])
    def test_key_is_not_an_option(self, run: Run, command: str | None) -> None:
        arguments = [command] if command else []
        assert run(*arguments, "--api-key", "k").exit_code == 2
        text = run(*arguments, "--help").output
        assert "--api-key" not in text
        assert "TRACELOOP_API_KEY" in text
        assert "124  the time limit of --wait expired" in text

    def test_help_imports_only_what_it_needs(self) -> None:
        program = (
            "import sys\n"
            "from pulumi_traceloop.cli import main\n"
            "try:\n    main(['--help'])\nexcept SystemExit as end:\n    assert end.code == 0\n"
            "slow = {'rich', 'pulumi', 'requests', 'pydantic', 'aiohttp', 'yaml'}\n"
            "assert not slow & sys.modules.keys(), slow & sys.modules.keys()\n"
        )
        assert python("-c", program).returncode == 0

    @pytest.mark.parametrize("missing", ["click", "rich"])
    def test_missing_extra_is_one_line(self, missing: str) -> None:
        program = (
            "import importlib.util, sys\n"
            "find = importlib.util.find_spec\n"
            f"importlib.util.find_spec = lambda name: None if name == {missing!r} else find(name)\n"
            "from pulumi_traceloop.cli import main\nmain([])\n"
        )
        done = python("-c", program)
        assert done.returncode == 2
        assert done.stderr == (
            'pulumi-traceloop: its libraries are missing: pip install "pulumi-traceloop[cli]"\n'
        )


@pytest.fixture
def unused_tcp_url() -> str:
    with Emulator() as gone:
        return gone.url


class TestUnreadable:
    """A setup in a form that the API does not document."""

    def odd(self, emulator: Emulator, **changes: object) -> None:
        own = emulator.put("a", selector=[STORED_RULE], evaluators=["faithfulness"])
        rule = {**STORED_RULE, "value": 7}
        odd = {**own, "external_id": "odd", "init_rules": [rule], **changes}
        emulator.put("odd", selector=[STORED_RULE], evaluators=["faithfulness"])
        emulator.inject(Fault(route=LIST_ROUTE, body=json.dumps([own, odd]), times=None))
        emulator.inject(Fault(external_id="odd", method="GET", body=json.dumps(odd), times=None))

    @pytest.mark.parametrize("names", [[], ["a", "odd"], ["*"]])
    @pytest.mark.parametrize("command", ["status", "export", "match"])
    def test_of_this_project_is_reported_once_and_blocks_no_other(
        self, run: Run, emulator: Emulator, command: str, names: list[str], tmp_path: Path
    ) -> None:
        self.odd(emulator)
        result = run(command, *names, *self.spans(command, tmp_path))
        assert "a" in result.stdout
        assert result.stderr.count('cannot read "odd": ') == 1
        assert "init_rules[0].value should be a string, but is a number" in result.stderr
        assert result.exit_code == 1

    def spans(self, command: str, folder: Path) -> list[str]:
        if command != "match":
            return []
        file = folder / "spans.json"
        attributes = {STORED_RULE["key"]: STORED_RULE["value"]}
        file.write_text(json.dumps({"data": [{"span_attributes": attributes}]}))
        return ["--spans", str(file)]

    @pytest.mark.parametrize("command", ["status", "match"])
    def test_is_in_the_json(
        self, run: Run, emulator: Emulator, command: str, tmp_path: Path
    ) -> None:
        self.odd(emulator)
        document = json.loads(run(command, "--json", *self.spans(command, tmp_path)).stdout)
        assert list(document["unreadable"]) == ["odd"]
        assert [setup["external_id"] for setup in document["setups"]] == ["a"]

    def test_is_counted(self, run: Run, emulator: Emulator, tmp_path: Path) -> None:
        self.odd(emulator)
        assert run("status", "--wait").stdout.splitlines()[1:] == [
            "odd    unreadable",
            "a      completed   0s   faithfulness",
            "2 monitor setups: 1 completed, 1 unreadable",
        ]
        assert run("match", *self.spans("match", tmp_path)).stderr.endswith(
            "every one of 1 monitors matches some of 1 spans, 1 cannot be read\n"
        )

    @pytest.mark.parametrize("command", ["status", "export", "match"])
    def test_unnamed_one_does_not_matter(
        self, run: Run, emulator: Emulator, command: str, tmp_path: Path
    ) -> None:
        self.odd(emulator)
        result = run(command, "a", *self.spans(command, tmp_path))
        assert "odd" not in result.output
        assert result.exit_code == 0

    def test_of_a_stack(self, emulator: Emulator) -> None:
        self.odd(emulator)
        reach = Connection("traceloop", emulator.api_key, emulator.url, 10)

        def part(ids: set[str]) -> list[tuple[Part, Project]]:
            return [(Part(reach, None, ids, ids), open_connection(reach))]

        report = read_stack(part({"a", "odd", "gone"}), [])
        assert (list(report.setups), list(report.unreadable)) == (["a"], ["odd"])
        assert report.missing == ["gone"]
        assert list(unmanaged(part({"a"})).unreadable) == ["odd"]

    def test_of_another_project_is_ignored(self, run: Run, emulator: Emulator) -> None:
        self.odd(emulator, env_project_id="theirs")
        assert "odd" not in run("status").output


class TestEmulator:
    def test_options_are_those_of_the_emulator(self) -> None:
        done = python("-m", "pulumi_traceloop.cli", "emulator", "--help")
        assert done.returncode == 0
        assert "--rate-limit" in done.stdout
        assert done.stdout.startswith("usage: pulumi-traceloop emulator [-h]")

    def test_serves_until_it_is_terminated(self) -> None:
        with subprocess.Popen(
            [sys.executable, "-m", "pulumi_traceloop.cli", "emulator", "--port", "0"],
            env=environment(),
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
        assert python("-m", "pulumi_traceloop.cli", "emulator", "--port", "x").returncode == 2

    def test_missing_emulator_extra_is_one_line(self) -> None:
        program = (
            "import importlib.util\n"
            "find = importlib.util.find_spec\n"
            "importlib.util.find_spec = lambda name: None if name == 'aiohttp' else find(name)\n"
            "from pulumi_traceloop.cli import main\nmain(['emulator'])\n"
        )
        done = python("-c", program)
        assert done.returncode == 2
        assert done.stderr == (
            "error: the emulator's libraries are missing:"
            ' pip install "pulumi-traceloop[emulator]"\n'
        )
