"""Real previews of the CLI: `cli/preview.py`.

The samples in `data/` are shortened output of the CLI. They are compared with its output now;
`UPDATE_SAMPLES=1` writes them anew.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from click.testing import CliRunner

from pulumi_traceloop._plan import ASKED, decoded
from pulumi_traceloop.cli.app import cli
from pulumi_traceloop.emulator import Emulator, Fault
from tests.engine import find_cli
from tests.engine.cli import CliStack
from tests.support import API_KEY, DATA
from tests.support.previews import (
    BEFORE,
    FLAGS,
    PROGRAMS,
    SECRET,
    diagnostics,
    open_stack,
    plan,
    rows,
    run_preview,
    run_pulumi,
    sample,
    write,
)


def trimmed(preview: dict[str, Any]) -> dict[str, Any]:
    """Return the parts that the plan is made of, in a fixed order."""
    kept_of_a_state = ("type", "parent", "id", "inputs", "outputs", "retainOnDelete", "delete")
    steps = []
    for each in preview.get("steps", []):
        kept = {"op": each["op"], "urn": each["urn"]}
        for side in ("oldState", "newState"):
            if side in each:
                kept[side] = {k: each[side][k] for k in kept_of_a_state if k in each[side]}
                for values in ("inputs", "outputs"):
                    kept[side].get(values, {}).pop("__provider", None)
                kept[side].get("outputs", {}).pop("setup_id", None)
                kept[side].get("outputs", {}).pop("setup_ids", None)
        steps.append(kept)
    found: dict[str, Any] = {"steps": sorted(steps, key=lambda step: (step["urn"], step["op"]))}
    plans = [d for d in diagnostics(preview) if d["severity"] == "info" and decoded(d["message"])]
    # Frames of a traceback name this machine's folders.
    errors = [
        {**d, "message": "\n".join(x for x in d["message"].split("\n") if x[:1] != " ")}
        for d in diagnostics(preview)
        if d["severity"] == "error"
    ]
    found["diagnostics"] = [*sorted(plans, key=lambda d: str(decoded(d["message"]))), *errors]
    return found | {"changeSummary": preview["changeSummary"]}


@pytest.fixture(scope="module")
def previews(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The CLI's output now, for each program."""
    if find_cli() is None:
        pytest.skip("no Pulumi CLI on PATH")
    with Emulator(api_key=API_KEY, settle=0) as traceloop:
        traceloop.fail_evaluator("perplexity", "no model")
        stacks: dict[tuple[str, ...], CliStack] = {}
        found = {}
        for name, program in PROGRAMS.items():
            if (stack := stacks.get(BEFORE[name])) is None:
                directory = tmp_path_factory.mktemp("stack")
                stack = stacks[BEFORE[name]] = open_stack(directory, traceloop)
                for before in BEFORE[name]:
                    write(stack, before)
                    stack.up()  # fails if something is refused
            if name == "pending":
                traceloop.inject(Fault(method="DELETE", status=500, times=None))
                write(stack, program)
                stack.up()
            write(stack, program)
            found[name] = run_preview(stack, *FLAGS).stdout
        yield found


@pytest.mark.parametrize("more", [[], ["--refresh"], ["--replace"]])
def test_preview_flags_do_not_change_the_plan(cli_stack: CliStack, more: list[str]) -> None:
    """Not even a replacement of everything deletes a declared setup."""
    if more == ["--replace"]:
        more = [part for r in cli_stack.state() if "traceloop" in r.urn for part in (*more, r.urn)]
    expected = {"a": "change", "b": "delete", "c": "delete", "d": "create", "old": "delete"}
    if "--replace" in more:
        # A replaced resource adopts its setups, which exist.
        expected |= {"new": "adopt"}
    for flags in (FLAGS, ["--json", "--show-replacement-steps"]):
        found = rows(plan(stdin=run_preview(cli_stack, *flags, *more).stdout).stdout)
        assert {i: cells[0] for i, cells in found.items()} == expected


@pytest.mark.not_sampled
@pytest.mark.parametrize(
    ("flags", "env", "why"),
    [
        (FLAGS, {ASKED[0]: ""}, "does not have the plan"),
        (["--output", "json"], {}, "summary of `--output json`"),
        (FLAGS, {"PULUMI_ENABLE_STREAMING_JSON_PREVIEW": "true"}, "stream of events"),
        ([], {}, "not what `pulumi preview --json` writes"),
    ],
)
def test_other_output_is_rejected(
    cli_stack: CliStack, flags: list[str], env: dict[str, str], why: str
) -> None:
    result = plan(stdin=run_preview(cli_stack, *flags, **env).stdout)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert why in result.stderr


def test_refresh_is_not_a_preview(cli_stack: CliStack) -> None:
    done = run_pulumi(cli_stack, "refresh", "--preview-only", "--json")
    result = plan(stdin=done.stdout)
    assert result.exit_code == 2
    assert "is a refresh" in result.stderr


@pytest.mark.parametrize("more", [[], ["--run-program"]])
def test_preview_of_a_destroy_names_each_setup(cli_stack: CliStack, more: list[str]) -> None:
    """The engine calls no provider for it, so the terminal names no setup."""
    flags = ["--preview-only", "--json", "--show-replacement-steps"]
    done = run_pulumi(cli_stack, "destroy", *flags, *more, **{ASKED[0]: ""})
    found = rows(plan(stdin=done.stdout).stdout)
    assert {i: cells[0] for i, cells in found.items()} == dict.fromkeys(
        ("a", "b", "c", "new", "old"), "delete"
    )
    assert found["c"][-1] == found["old"][-1] == "(the last update did not get to delete it)"


class TestPreviewCommand:
    def run(self, cli_stack: CliStack, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "pulumi_traceloop.cli", "preview", *arguments],
            cwd=cli_stack.project_dir,
            env=cli_stack._env,
            capture_output=True,
            text=True,
            check=False,
        )

    def test_runs_the_preview_and_prints_the_comment(self, cli_stack: CliStack) -> None:
        done = self.run(cli_stack, "--stack", "dev")
        assert done.returncode == 0, done.stderr
        expected = plan(stdin=run_preview(cli_stack, *FLAGS).stdout).stdout
        # Two resources may print their warnings in either order.
        assert sorted(done.stdout.splitlines()) == sorted(expected.splitlines())

    def test_failing_program(self, cli_stack: CliStack) -> None:
        program = (cli_stack.project_dir / "__main__.py").read_text()
        cli_stack.write_program(f"{program}\nraise ValueError('broken')")
        done = self.run(cli_stack, "--stack", "dev")
        cli_stack.write_program(program)
        assert done.returncode == 1
        assert "**The preview failed**" in done.stdout

    def test_preview_without_output(self, cli_stack: CliStack) -> None:
        done = self.run(cli_stack, "--stack", "nowhere")
        assert done.returncode == 2
        assert done.stdout == ""
        assert "no stack named 'nowhere' found" in done.stderr


def test_preview_command_needs_the_cli() -> None:
    result = CliRunner().invoke(cli, ["preview"], env={"PATH": ""})
    assert result.exit_code == 2
    assert result.stderr.startswith("error: pulumi is not on PATH")


@pytest.mark.not_sampled
@pytest.mark.parametrize("name", PROGRAMS)
def test_samples_equal_the_output_of_the_cli(previews: dict[str, str], name: str) -> None:
    now = trimmed(json.loads(previews[name]))
    if os.environ.get("UPDATE_SAMPLES"):
        text = json.dumps(now, indent=1, ensure_ascii=False)
        (DATA / f"preview-{name}.json").write_text(f"{text}\n", "utf-8")
    assert plan(stdin=json.dumps(now)).stdout == plan(stdin=json.dumps(sample(name))).stdout


@pytest.mark.not_sampled
def test_full_output_of_the_cli_has_no_secret(previews: dict[str, str]) -> None:
    for name, text in previews.items():
        for form in ([], ["--json"]):
            result = plan(*form, stdin=text)
            assert result.exit_code == (1 if name == "broken" else 0)
            assert SECRET not in result.output
            assert API_KEY not in result.output
            assert "04da6b54" not in result.output
