"""States of earlier versions work with this one, and nothing is sent again.

Each release adds one: run this file with ``STORE_STATE=1`` and a Pulumi CLI on PATH.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from pulumi_traceloop.emulator import Emulator
from tests.engine import Stack, find_cli, make_stack
from tests.engine.cli import CliStack
from tests.support import API_KEY
from tests.support.terminal import import_path
from tests.support.world import PREAMBLE, World

DATA = Path(__file__).parent / "data"
STATES = sorted(DATA.glob("state-*.json"))

#: The program of each stored state; "b" was refused.
PROGRAM = """
one("single")
one("renamed-id", "azure", external_id="other/id", triggers=["2026-01"])
group("g", {
    "a": setup(),
    "b": setup("x", "not-there"),
    "scoped": {
        "selector": [resource("service.name").is_in("cart", "checkout"), span("k").exists()],
        "evaluator_configs": [{"slug": "pii-detector", "scope": "trace"}],
        "triggers": [1],
    },
})
"""

#: Fields of a state that name a machine or a time.
_NOISE = {"sourcePosition", "stackTrace", "created", "modified"}


def environment(traceloop: Emulator) -> dict[str, str]:
    # Not the stack's configuration, which the engine would keep in the state, with its secret.
    return {"TRACELOOP_API_KEY": traceloop.api_key, "TRACELOOP_BASE_URL": traceloop.url}


@pytest.mark.skipif("STORE_STATE" not in os.environ, reason="STORE_STATE=1 stores a new state")
def test_store_the_state_of_this_version(tmp_path: Path) -> None:
    name = f"state-{version('pulumi-traceloop')}"
    if find_cli() is None:
        pytest.fail("a state is stored by the Pulumi CLI, and none is on PATH")
    with Emulator(api_key=API_KEY, data=str(tmp_path / "emulator.db")) as traceloop:
        env = {"PYTHONPATH": import_path(), **environment(traceloop)}
        stack = make_stack("cli", tmp_path, env=env)
        assert isinstance(stack, CliStack)
        stack.write_program(PREAMBLE + PROGRAM)
        assert stack.up().exit_code != 0
        deployment = json.loads(stack._run("stack", "export", "-s", "dev"))
    deployment["deployment"]["manifest"] = {
        "time": "2026-01-01T00:00:00Z",
        "magic": "",
        "version": "",
    }
    deployment["deployment"].pop("secrets_providers", None)
    for resource in deployment["deployment"]["resources"]:
        for key in _NOISE & resource.keys():
            del resource[key]
    (DATA / f"{name}.json").write_text(json.dumps(deployment, indent=1) + "\n")
    shutil.copy(tmp_path / "emulator.db", DATA / f"{name}.db")


def test_this_version_has_stored_its_state() -> None:
    assert f"state-{version('pulumi-traceloop')}.json" in [path.name for path in STATES]


@pytest.mark.parametrize("stored", STATES, ids=lambda path: path.stem)
class TestStoredState:
    @pytest.fixture
    def world(
        self, stored: Path, tmp_path: Path, stack_of: Callable[[dict[str, str]], Stack]
    ) -> Any:
        data = shutil.copy(stored.with_suffix(".db"), tmp_path / "emulator.db")
        with Emulator(api_key=API_KEY, data=str(data)) as traceloop:
            stack = stack_of(environment(traceloop))
            stack.import_state(json.loads(stored.read_text()))
            yield World(stack, traceloop, configure=False)

    def test_preview_has_only_unfinished_changes(self, world: World) -> None:
        preview = world.preview(PROGRAM)
        assert "g: 1 to send again, 2 unchanged" in preview.output
        assert preview.ops()["single"] == preview.ops()["renamed-id"] == ("same",)

    def test_update_sends_only_unfinished_changes(self, world: World) -> None:
        world.traceloop.add_evaluator("not-there")
        world.up(PROGRAM)
        assert world.traceloop.writes == {"b": 1}
        assert set(world.up().changes) == {"same"}
        assert world.requests == {}

    def test_refresh_finds_no_drift(self, world: World) -> None:
        world.stack.write_program(PREAMBLE + PROGRAM)
        assert world.refresh(expect_no_changes=True).exit_code == 0

    def test_destroy_deletes_owned_setups(self, world: World) -> None:
        world.stack.write_program(PREAMBLE + PROGRAM)
        assert set(world.monitors) == {"single", "other/id", "a", "scoped"}
        world.destroy()
        assert world.monitors == {}
