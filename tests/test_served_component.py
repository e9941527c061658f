"""Setups in a component that is a plugin of other programs and returns no outputs.

An exception in an Output that nothing reads is lost there: the update would succeed.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import yaml

from tests.support.world import World

PLUGIN = """\
from typing import TypedDict

import pulumi
from pulumi.provider.experimental import component_provider_host
from pulumi_traceloop import AutoMonitorSetup, AutoMonitorSetupGroup, span


class Args(TypedDict):
    kind: pulumi.Input[str]


class Monitoring(pulumi.ComponentResource):
    def __init__(
        self, name: str, args: Args, opts: pulumi.ResourceOptions | None = None
    ) -> None:
        super().__init__("served:index:Monitoring", name, {}, opts)
        child = pulumi.ResourceOptions(parent=self)
        rules = [span("gen_ai.provider.name").equals("openai")]
        {declaration}
        self.register_outputs({})


if __name__ == "__main__":
    component_provider_host(name="served", components=[Monitoring])
"""

PROGRAM = """
class Monitoring(pulumi.ComponentResource):
    def __init__(self, name):
        super().__init__("served:index:Monitoring", name, {"kind": "all"}, None, remote=True)

Monitoring("c")
"""

GROUP = (
    'AutoMonitorSetupGroup("g", {"a": {"selector": rules, "evaluators": ["faithfulness"]}, "b":'
    ' {"selector": rules, "evaluators": ["no-such"]}}, child)'
)
ONE = (
    'AutoMonitorSetup("a", selector=rules, evaluators=["faithfulness"], wait_for_setup=True,'
    " opts=child)"
)


def serve(world: World, declaration: str) -> None:
    """Give the project a plugin that serves the component."""
    folder = world.stack.project_dir / "served"
    folder.mkdir()
    options = {"virtualenv": sys.prefix}
    runtime = {"runtime": {"name": "python", "options": options}}
    (folder / "PulumiPlugin.yaml").write_text(yaml.safe_dump(runtime))
    (folder / "__main__.py").write_text(PLUGIN.replace("{declaration}", declaration))
    file = Path(world.stack.project_dir / "Pulumi.yaml")
    project = yaml.safe_load(file.read_text())
    project["plugins"] = {"providers": [{"name": "served", "path": "./served"}]}
    file.write_text(yaml.safe_dump(project))


@pytest.mark.parametrize("declaration", [GROUP, ONE], ids=["group", "one"])
def test_failure_ends_the_update(world: World, declaration: str) -> None:
    world.needs_cli("plugins")
    world.traceloop.fail_evaluator("faithfulness", "the judge is down")
    serve(world, declaration)
    up = world.up(PROGRAM, fails=True)
    assert ("no-such" if declaration is GROUP else "the judge is down") in up.output
    assert set(world.monitors) == {"a"}
