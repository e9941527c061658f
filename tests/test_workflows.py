"""The example workflows: their commands run unchanged, against the emulator."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from pulumi_traceloop.emulator import Emulator
from tests.engine import find_cli, make_stack
from tests.engine.cli import CliStack
from tests.support import REPOSITORY
from tests.support.terminal import import_path
from tests.support.world import PREAMBLE

WORKFLOWS = REPOSITORY / "examples" / "github-actions"

#: A placeholder of GitHub's `gh`: logs its arguments, and lists one old comment.
GH = """\
#!/bin/sh
echo "$@" >> "$GH_LOG"
case "$*" in *--paginate*) cat "$GH_COMMENTS";; esac
"""


def workflow(name: str) -> dict[str, Any]:
    loaded = yaml.safe_load((WORKFLOWS / name).read_text())
    assert isinstance(loaded, dict)
    return loaded


def commands(name: str) -> dict[str, str]:
    """Return the commands by the names of the steps."""
    (job,) = workflow(name)["jobs"].values()
    return {step["name"]: step["run"] for step in job["steps"] if "run" in step}


class Runner:
    """Runs a workflow's steps as GitHub does: each in a shell, in the checked-out folder."""

    def __init__(self, stack: CliStack, traceloop: Emulator, folder: Path) -> None:
        self.stack = stack
        self.folder = folder
        bin_folder = folder / "bin"
        bin_folder.mkdir()
        (bin_folder / "gh").write_text(GH)
        (bin_folder / "gh").chmod(0o755)
        self.comments = folder / "comments"
        self.comments.touch()
        path = [str(bin_folder), str(Path(sys.executable).parent), os.environ["PATH"]]
        self._env = {
            **stack._env,
            "PATH": os.pathsep.join(path),
            "TRACELOOP_API_KEY": traceloop.api_key,
            "TRACELOOP_BASE_URL": traceloop.url,
            "GITHUB_STEP_SUMMARY": str(folder / "summary"),
            "GITHUB_REPOSITORY": "acme/shop",
            "PULL_REQUEST": "7",
            "GH_LOG": str(folder / "gh.log"),
            "GH_COMMENTS": str(self.comments),
        }

    def run(self, name: str, step: str) -> subprocess.CompletedProcess[str]:
        env = {k: v for k, v in workflow(name)["env"].items() if "${{" not in v}
        return subprocess.run(
            ["bash", "-e", "-c", commands(name)[step]],
            cwd=self.stack.project_dir,
            env={**self._env, **env},
            capture_output=True,
            text=True,
            check=False,
        )

    def gh(self) -> str:
        return (self.folder / "gh.log").read_text()


@pytest.fixture
def runner(tmp_path: Path, traceloop: Emulator) -> Runner:
    if find_cli() is None:
        pytest.skip("no Pulumi CLI on PATH")
    stack = make_stack("cli", tmp_path, env={"PYTHONPATH": import_path()})
    assert isinstance(stack, CliStack)
    stack.write_program(PREAMBLE + 'group("g", {"a": setup(), "b": setup()})')
    return Runner(stack, traceloop, tmp_path)


@pytest.mark.parametrize("name", ["preview.yml", "update.yml", "drift.yml"])
def test_each_workflow_is_complete(name: str) -> None:
    (job,) = workflow(name)["jobs"].values()
    assert job["runs-on"]
    assert all("run" in step or "uses" in step for step in job["steps"])
    assert workflow(name)["permissions"] == {}
    assert job["permissions"]["contents"] == "read"
    assert job["timeout-minutes"]
    assert workflow(name)["concurrency"]["group"]
    used = [step["uses"] for step in job["steps"] if "uses" in step]
    assert all(re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}", each) for each in used)


@pytest.fixture
def foreign(traceloop: Emulator) -> None:
    """A monitor of the same project that no workflow of this stack has to judge."""
    traceloop.fail_evaluator("perplexity", "no model configured")
    rule = {"key": "k", "source": "span_attributes", "operator": "exists"}
    traceloop.put("foreign", selector=[rule], evaluators=["perplexity"])
    traceloop.force_status("foreign", "failed")


def test_preview_becomes_a_comment(runner: Runner) -> None:
    done = runner.run("preview.yml", "Preview")
    assert done.returncode == 0, done.stderr
    comment = (runner.stack.project_dir / "comment.md").read_text()
    assert "2 to create" in comment
    assert (runner.folder / "summary").read_text() == comment
    runner.run("preview.yml", "Comment")
    assert "--method POST repos/acme/shop/issues/7/comments" in runner.gh()


def test_next_preview_updates_its_comment(runner: Runner) -> None:
    runner.run("preview.yml", "Preview")
    runner.comments.write_text("4711\n")
    runner.run("preview.yml", "Comment")
    assert "--method PATCH repos/acme/shop/issues/comments/4711" in runner.gh()
    assert "POST" not in runner.gh()


def test_failed_preview_fails_the_job_and_has_a_comment(runner: Runner) -> None:
    runner.stack.write_program(PREAMBLE + 'group("g", {"a": {"selector": []}})')
    assert runner.run("preview.yml", "Preview").returncode != 0
    assert "needs at least one rule" in (runner.stack.project_dir / "comment.md").read_text()


@pytest.mark.usefixtures("foreign")
def test_update_ends_when_the_monitors_are_ready(runner: Runner, traceloop: Emulator) -> None:
    traceloop.settle = 1
    assert runner.run("update.yml", "Update").returncode == 0
    done = runner.run("update.yml", "Wait")
    assert done.returncode == 0, done.stdout
    assert [traceloop.setups[i]["status"] for i in "ab"] == ["completed"] * 2


def test_failed_monitor_fails_the_update(runner: Runner, traceloop: Emulator) -> None:
    traceloop.fail_evaluator("faithfulness", "no model configured")
    assert runner.run("update.yml", "Update").returncode == 0
    done = runner.run("update.yml", "Wait")
    assert done.returncode == 1
    assert "no model configured" in done.stdout


@pytest.mark.usefixtures("foreign")
def test_drift_fails_the_nightly_job(runner: Runner, traceloop: Emulator) -> None:
    runner.run("update.yml", "Update")
    assert runner.run("drift.yml", "Check for drift").returncode == 0
    assert (
        runner.run(
            "drift.yml", "Check for monitors that failed, or that no span has matched for a day"
        ).returncode
        == 0
    )
    traceloop.delete("a")
    before = runner.stack.state()
    assert runner.run("drift.yml", "Check for drift").returncode != 0
    assert runner.stack.state() == before
