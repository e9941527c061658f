"""A pipe that cannot encode a name does not break a preview, an update or a monitor.

On Windows a pipe has an encoding such as cp1252. An unprintable name once raised between a write
and its record, so that the state lost the monitor.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable

import pytest

from pulumi_traceloop._plan import Change, ResourcePlan, encoded
from pulumi_traceloop.emulator import Emulator
from tests.engine import Stack
from tests.support import API_KEY, REPOSITORY
from tests.support.world import World

CP1252 = {"PYTHONIOENCODING": "cp1252"}
NAMES = ["日本語", "größe", "a\u0142b", "😀"]


@pytest.fixture
def world(stack_of: Callable[[dict[str, str]], Stack], traceloop: Emulator) -> World:
    return World(stack_of(CP1252), traceloop)


def test_preview_and_update_print_unencodable_text(world: World) -> None:
    program = f"""
print({NAMES[0]!r})
group("g", {{i: setup(i) for i in {NAMES}}})
one("m", {NAMES[0]!r}, external_id="{NAMES[0]}-m")
"""
    preview = world.preview(program)
    up = world.up()
    for name in NAMES:
        assert f"+ {name}" in preview.output
        assert f"+ {name}" in up.output
    assert world.refresh(expect_no_changes=True).exit_code == 0
    assert "日本語" in world.destroy().output
    assert world.monitors == {}


def test_unencodable_failure_loses_no_monitor(world: World) -> None:
    world.traceloop.settle = 0
    world.traceloop.fail_evaluator("perplexity", "モデル")
    up = world.up(
        """
setups = {f"写-{n}": setup() for n in range(80)}
setups["失敗"] = setup("x", "無い")
setups["待"] = setup("x", "perplexity")
group("群", setups, wait_for_setup=True)
one("写", wait_for_setup=True)
""",
        fails=True,
    )
    assert '"失敗": unknown evaluator slug "無い"' in up.output
    assert "モデル" in up.output
    assert len(world.monitors) == 82
    world.destroy()
    assert world.monitors == {}


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_command_writes_utf8(form: list[str]) -> None:
    setup = json.dumps({"selector": [], "evaluators": ["見"]})
    plan = ResourcePlan("g", [Change("create", i, after=setup) for i in NAMES])
    preview = {
        "steps": [],
        "changeSummary": {},
        "diagnostics": [{"severity": "info", "message": encoded(plan)}],
    }
    done = _command("plan", *form, stdin=json.dumps(preview))
    assert done.returncode == 0
    assert NAMES[0] in (str(json.loads(done.stdout)) if form else done.stdout.decode())


def test_command_reports_errors_in_utf8() -> None:
    """Errors go to another pipe."""
    done = _command("plan", "日本語.json")
    assert done.returncode == 2
    assert "日本語.json" in done.stderr.decode()
    with Emulator(api_key=API_KEY) as traceloop:
        rule = {"key": "k", "source": "span_attributes", "operator": "exists"}
        traceloop.put("日本語", selector=[rule], evaluators=["faithfulness"])
        done = _command("status", "日本*", url=traceloop.url)
    assert done.returncode == 0
    assert "日本語" in done.stdout.decode()


def _command(*arguments: str, stdin: str = "", url: str = "") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "pulumi_traceloop.cli", *arguments],
        cwd=REPOSITORY,
        env={**os.environ, **CP1252, "TRACELOOP_API_KEY": API_KEY, "TRACELOOP_BASE_URL": url},
        input=stdin.encode(),
        capture_output=True,
        check=False,
    )
