"""Options that the test engine lacks: they need the Pulumi CLI itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from pulumi_traceloop.emulator import Emulator
from tests.engine import Result, find_cli, make_stack
from tests.engine.cli import CliStack
from tests.support.terminal import import_path
from tests.support.world import World

BATCH = "pulumi-python:dynamic/traceloop:AutoMonitorSetupBatch"


class CliWorld(World):
    """A world on the CLI, with any option."""

    def cli(self, *args: str, fails: bool = False) -> Result:
        stack = self.stack
        assert isinstance(stack, CliStack)
        command = stack.command(args[0])
        return self._checked(lambda: stack._start(command, *args[1:]).wait(), fails)

    def declare(self, program: str) -> None:
        self._write(program)


@pytest.fixture
def world(tmp_path: Path, traceloop: Emulator) -> CliWorld:
    if find_cli() is None:
        pytest.skip("no Pulumi CLI on PATH")
    env = {"PYTHONPATH": import_path()}
    return CliWorld(make_stack("cli", tmp_path, env=env), traceloop)


def test_targeted_update_deletes_a_removed_setup(world: CliWorld) -> None:
    """A known limitation: the engine does not check untargeted resources."""
    world.up('one("r", external_id="x")\ngroup("g", {"a": setup()})')
    urn = world.urn("AutoMonitorSetup")
    world.declare('group("g", {"a": setup(), "x": setup()})')
    world.cli("up", "--target", urn)
    assert set(world.monitors) == {"a"}
    world.up()
    assert set(world.monitors) == {"a", "x"}


def test_targeted_update_changes_nothing_else(world: CliWorld) -> None:
    world.up('one("r")\none("s")\ngroup("g", {"a": setup(), "b": setup()})')
    (urn,) = [r.urn for r in world.stack.state() if r.name == "r"]
    world.declare('one("r", "azure")\none("s", "azure")\ngroup("g", {"a": setup("azure")})')
    world.cli("up", "--target", urn)
    assert world.monitors == {"r": "azure", "s": "openai", "a": "openai", "b": "openai"}


@pytest.mark.not_sampled
def test_state_delete_leaves_the_monitor(world: CliWorld) -> None:
    """A forgotten setup is adopted if it is declared again, and untouched if not."""
    world.up('one("r")\none("s")')
    for resource in [r for r in world.stack.state() if r.name in ("r", "s")]:
        assert isinstance(world.stack, CliStack)
        world.stack._run("state", "delete", "-y", "-s", "dev", resource.urn)
    world.up('one("r")')
    assert world.traceloop.writes == {}
    world.destroy()
    assert set(world.monitors) == {"s"}


def test_continue_on_error_finishes_the_rest(world: CliWorld) -> None:
    world.declare('group("g", {"a": setup("x", "nope"), "b": setup()})\none("r")')
    up = world.cli("up", "--continue-on-error", fails=True)
    assert set(world.monitors) == {"b", "r"}
    assert '"a": unknown evaluator slug "nope"' in up.output


@pytest.mark.not_sampled
def test_continue_on_error_after_a_failed_single_setup(world: CliWorld) -> None:
    world.declare('one("bad", "x", "nope")\none("r")\ngroup("g", {"a": setup()})')
    up = world.cli("up", "--continue-on-error", fails=True)
    assert set(world.monitors) == {"r", "a"}
    assert 'setup "bad": unknown evaluator slug "nope"' in up.output


def test_rotated_key_reaches_a_refresh_after_an_update(world: CliWorld) -> None:
    """A refresh uses the configuration that the engine keeps in the state."""
    world.up('one("m")')
    world.traceloop.add_project(
        "rotated", env_project_id=world.traceloop.setups["m"]["env_project_id"]
    )
    world.stack.set_config("traceloop:apiKey", "rotated", secret=True)
    world.up()
    world.traceloop.revoke_key(world.traceloop.api_key)
    assert world.refresh(expect_no_changes=True).exit_code == 0


def test_depends_on_a_group_waits_for_its_writes_and_its_setup_ids_for_success(
    world: CliWorld,
) -> None:
    """The engine has created the batch even if some of its setups failed."""
    group = 'g = group("g", {"a": setup(), "bad": setup("x", "nope")})\n'
    world.up(group + 'one("early", opts=pulumi.ResourceOptions(depends_on=[g]))', fails=True)
    late = 'one("late", opts=pulumi.ResourceOptions(depends_on=g.setup_ids.apply(lambda _: [g])))'
    world.up(group + late, fails=True)
    assert "late" not in world.monitors
    world.up(group.replace("nope", "perplexity") + late)
    assert {"a", "bad", "late"} <= set(world.monitors)


def test_ignored_changes_of_one_setup_are_not_written(world: CliWorld) -> None:
    world.up('one("m")')
    ignoring = 'opts=pulumi.ResourceOptions(ignore_changes=["evaluators"])'
    world.up(f'one("m", "azure", "perplexity", {ignoring})')
    setup = world.traceloop.setups["m"]
    assert [e["evaluator_type"] for e in setup["evaluators"]] == ["faithfulness"]
    assert world.monitors == {"m": "azure"}


def test_hooks_and_secret_outputs_of_a_group(world: CliWorld) -> None:
    program = """
hook = pulumi.ResourceHook("written", lambda args: print("HOOK", args.type, flush=True))
g = group("g", {"a": setup()}, opts=pulumi.ResourceOptions(
    additional_secret_outputs=["setup_ids"],
    hooks=pulumi.ResourceHookBinding(after_create=[hook], after_update=[hook]),
))
pulumi.export("ids", g.setup_ids)
"""
    first = world.up(program)
    assert first.output.count("HOOK ") == first.output.count(f"HOOK {BATCH}") > 0
    assert f'"{world.traceloop.setups["a"]["id"]}"' not in first.output
    changed = world.up(program.replace("setup()", 'setup("azure")'))
    assert f"HOOK {BATCH}" in changed.output


@pytest.mark.not_sampled
def test_deleted_with_leaves_the_setups_of_a_group(world: CliWorld) -> None:
    """As for every resource, the engine does not call delete, as documented."""
    world.up(
        'o = one("o")\ngroup("g", {"a": setup()}, opts=pulumi.ResourceOptions(deleted_with=o))'
    )
    world.destroy()
    assert set(world.monitors) == {"a"}


@pytest.mark.not_sampled
def test_delete_hooks_of_one_setup_run_with_the_program(world: CliWorld) -> None:
    program = """
hook = pulumi.ResourceHook("gone", lambda args: print("HOOK", args.name, flush=True))
binding = pulumi.ResourceHookBinding(before_delete=[hook], after_delete=[hook])
for name in names:
    one(name, opts=pulumi.ResourceOptions(hooks=binding))
"""
    world.up(f'names = ["a", "b"]{program}')
    removed = world.up(f'names = ["a"]{program}')
    assert "HOOK b" in removed.output
    assert set(world.monitors) == {"a"}
    # The engine, not the provider: as for every resource.
    refused = world.cli("destroy", fails=True)
    assert "--run-program" in refused.output
    assert set(world.monitors) == {"a"}
    assert "HOOK a" in world.cli("destroy", "--run-program").output
    assert world.monitors == {}
