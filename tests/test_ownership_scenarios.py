"""Renames and moves of projects, groups and resources lose no declared setup."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

import pytest

from pulumi_traceloop.emulator import Emulator, Fault
from pulumi_traceloop.emulator.routes import BULK_ROUTE, UPSERT_ROUTE
from tests.support import API_KEY
from tests.support.world import World

SECOND_KEY = "tl-key-the-second-of-the-project-4712"

#: Two more configuration namespaces of the stack's project.
NAMESPACES = ["renamed", "second-key"]


@pytest.fixture
def named(world: World) -> World:
    """A world with two more namespaces of the project, with the same key and another one."""
    stack, traceloop = world.stack, world.traceloop
    rules = [{"key": "k", "source": "span_attributes", "value": "v"}]
    env = traceloop.put("probe", rules, ["faithfulness"])["env_project_id"]
    traceloop.delete("probe")
    traceloop.add_project(SECOND_KEY, env_project_id=str(env))
    for namespace, key in zip(NAMESPACES, (API_KEY, SECOND_KEY), strict=True):
        stack.set_config(f"{namespace}:baseUrl", traceloop.url)
        stack.set_config(f"{namespace}:apiKey", key, secret=True)
    return world


def settled(world: World, monitors: set[str]) -> None:
    """Assert that the monitors exist and nothing is pending."""
    assert set(world.monitors) == monitors
    assert set(world.preview().changes) == {"same"}


class TestNamespaces:
    """Several namespaces of one project."""

    @pytest.mark.parametrize("namespace", NAMESPACES)
    @pytest.mark.parametrize("kind", ["one", "group"])
    def test_a_resource_changes_its_namespace(
        self, named: World, kind: str, namespace: str
    ) -> None:
        programs = {"one": 'one("a"{})', "group": 'group("g", {{"a": setup(), "b": setup()}}{})'}
        monitors = {"one": {"a"}, "group": {"a", "b"}}[kind]
        named.up(programs[kind].format(""))
        named.up(programs[kind].format(f', config_namespace="{namespace}"'))
        assert named.traceloop.writes == {}
        settled(named, monitors)
        named.up(programs[kind].format(""))
        settled(named, monitors)
        named.destroy()
        assert named.monitors == {}

    @pytest.mark.not_sampled
    @pytest.mark.parametrize("kind", ["one", "group"])
    def test_key_of_the_old_namespace_may_be_gone(self, named: World, kind: str) -> None:
        """The state has the project, so equal setups are not written to the service again."""
        named.traceloop.normalize = lambda rule: rule | {"value": rule["value"].upper()}
        programs = {"one": 'one("a"{})', "group": 'group("g", {{"a": setup()}}{})'}
        named.up(programs[kind].format(', config_namespace="second-key"'))
        for key in ("apiKey", "baseUrl"):
            named.stack.remove_config(f"second-key:{key}")
        named.up(programs[kind].format(""))
        assert named.traceloop.writes == {}
        settled(named, {"a"})

    @pytest.mark.not_sampled
    @pytest.mark.parametrize("kind", ["one", "group"])
    def test_unreadable_project_of_a_new_namespace_stops_the_update(
        self, named: World, kind: str
    ) -> None:
        programs = {"one": 'one("a"{})', "group": 'group("g", {{"a": setup()}}{})'}
        named.up(programs[kind].format(""))
        program = programs[kind].format(', config_namespace="second-key"')
        named.traceloop.inject(Fault(method="GET", status=401, times=None))
        for operation in (named.preview, named.up):
            assert "second-key:apiKey" in operation(program, fails=True).output
        assert named.traceloop.writes == {}
        named.traceloop.clear_faults()
        named.up()
        assert named.traceloop.writes == {}
        settled(named, {"a"})

    @pytest.mark.parametrize("kind", ["one", "group"])
    def test_naming_the_default_namespace_changes_nothing(self, world: World, kind: str) -> None:
        programs = {"one": 'one("a"{})', "group": 'group("g", {{"a": setup()}}{})'}
        world.up(programs[kind].format(""))
        named = programs[kind].format(', config_namespace="traceloop"')
        assert set(world.preview(named).changes) == {"same"}
        world.up()
        settled(world, {"a"})

    @pytest.mark.not_sampled
    @pytest.mark.parametrize("namespace", NAMESPACES)
    @pytest.mark.parametrize("first", ["origin", "target"])
    def test_a_setup_moves_to_another_namespace(
        self, named: World, namespace: str, first: str
    ) -> None:
        named.up('group("g", {"a": setup(), "b": setup()})')
        origin = 'group("g", {"b": setup()})'
        target = f'one("a", config_namespace="{namespace}")'
        named.up("\n".join([origin, target] if first == "origin" else [target, origin]))
        assert named.traceloop.writes == {}
        settled(named, {"a", "b"})

    @pytest.mark.parametrize("namespace", NAMESPACES)
    def test_one_external_id_in_two_namespaces_is_refused(
        self, named: World, namespace: str
    ) -> None:
        named.up('one("a")')
        other = f'group("g", {{"a": setup("azure")}}, config_namespace="{namespace}")'
        up = named.up(f'one("a")\n{other}', fails=True)
        assert "is declared twice" in up.output
        assert named.traceloop.writes == {}
        assert named.monitors == {"a": "openai"}

    def test_the_same_external_ids_in_two_projects_are_two_monitors(self, world: World) -> None:
        world.traceloop.add_project("tl-key-of-staging-4713")
        world.stack.set_config("staging:baseUrl", world.traceloop.url)
        world.stack.set_config("staging:apiKey", "tl-key-of-staging-4713", secret=True)
        program = """
group("production", {"a": setup(), "b": setup()})
group("staging", {"a": setup(), "b": setup()}, config_namespace="staging")
"""
        world.up(program)
        assert set(world.monitors) == {"a", "b"}
        assert set(world.traceloop.setups_of("tl-key-of-staging-4713")) == {"a", "b"}
        world.up(program.splitlines()[1])
        assert world.traceloop.setups_of("tl-key-of-staging-4713") == {}
        settled(world, {"a", "b"})


COMPONENT = """
class Platform(pulumi.ComponentResource):
    def __init__(self, name, opts=None):
        super().__init__("my:index:Platform", name, None, opts)

def below(name, alias=None):
    aliases = [alias] if alias else None
    return pulumi.ResourceOptions(parent=Platform(name), aliases=aliases)
"""


class TestRenamedGroups:
    """A group that is renamed by alias keeps its old outputs, with the old name, in the state."""

    RENAMES = {  # noqa: RUF012 - a table
        "name": 'group("new", {}, opts=pulumi.ResourceOptions(aliases=[pulumi.Alias(name="g")]))',
        "parent": (
            'group("g", {}, opts=below("p", pulumi.Alias(parent=pulumi.ROOT_STACK_RESOURCE)))'
        ),
    }

    @pytest.mark.parametrize("rename", RENAMES)
    @pytest.mark.parametrize("then", ["update", "destroy"])
    def test_what_is_removed_later_is_deleted(
        self, world: World, request: pytest.FixtureRequest, rename: str, then: str
    ) -> None:
        world.needs_cli("inherited aliases")
        setups = '{"a": setup(), "b": setup()}'
        world.up(f'group("g", {setups})')
        renamed = COMPONENT + self.RENAMES[rename]
        world.up(renamed.replace("{}", setups))
        assert world.traceloop.writes == {}
        world.up(renamed.replace("{}", '{"b": setup()}'))
        settled(world, {"b"})
        if then == "destroy":
            world.destroy()
            assert world.monitors == {}

    @pytest.mark.parametrize("then", ["update", "destroy"])
    def test_after_a_rename_in_the_state(self, world: World, then: str) -> None:
        """`pulumi state rename` renames one resource; a group has three."""
        world.needs_cli("pulumi state rename")
        setups = '{"a": setup(), "b": setup()}'
        world.up(f'group("g", {setups})')
        for each in sorted(world.stack.state(), key=lambda each: each.urn, reverse=True):
            if each.urn.endswith("::g"):
                world.stack.edit_state("rename", each.urn, "new")
        world.up(f'group("new", {setups})')
        assert world.traceloop.writes == {}
        settled(world, {"a", "b"})
        if then == "update":
            world.up('group("new", {"b": setup()})')
            settled(world, {"b"})
        world.destroy()
        assert world.monitors == {}


class TestNames:
    """Resources with the same name and different parents are different declarers."""

    PROGRAM = COMPONENT + 'group("g", {"a": setup()}, opts=below("one"))\n'

    @pytest.mark.parametrize(
        "other",
        [
            'AutoMonitorSetupGroup("g", {"a": setup()}, pulumi.ResourceOptions(parent=Team("t")))',
            'one("m", external_id="a", opts=pulumi.ResourceOptions(parent=Team("t")))',
        ],
    )
    def test_one_external_id_below_two_parents_is_refused(self, world: World, other: str) -> None:
        team = COMPONENT.replace("Platform", "Team").replace("def below", "def below_team")
        for operation in (world.preview, world.up):
            output = operation(f"{self.PROGRAM}{team}{other}", fails=True).output
            assert "is declared twice" in output
            assert 'in my:index:Platform "one"' in output
        assert len(world.traceloop.writes) <= 1


@pytest.mark.not_sampled
class TestLostRecords:
    def test_a_single_setup_of_unknown_outcome_is_in_the_state(self, world: World) -> None:
        """The write was applied, but its response was lost and the read after it failed."""
        world.stack.set_config("traceloop:deadline", "1")
        world.traceloop.inject(Fault(method="PUT", drop="after", times=1))
        world.traceloop.inject(Fault(method="GET", status=403, skip=1, times=None))
        up = world.up('one("a", if_exists="fail")', fails=True)
        assert "the outcome of the write is unknown" in up.output
        assert set(world.monitors) == {"a"}
        world.traceloop.clear_faults()
        preview = world.preview()
        assert "update" in preview.ops()["a"]
        assert "equal: nothing is sent" in preview.output
        world.up()
        assert world.traceloop.writes == {}
        settled(world, {"a"})

    def test_a_single_setup_of_unknown_outcome_can_be_removed(self, world: World) -> None:
        world.stack.set_config("traceloop:deadline", "1")
        world.traceloop.inject(Fault(method="PUT", drop="after", times=1))
        world.traceloop.inject(Fault(method="GET", status=403, skip=1, times=None))
        world.up('one("a")', fails=True)
        world.traceloop.clear_faults()
        world.up("")
        assert world.monitors == {}

    def test_what_a_list_lacks_is_not_dropped(self, world: World) -> None:
        """A setup was removed, and the update failed before it recorded the new membership."""
        many = ", ".join(f'"m-{n:02}": setup()' for n in range(30))
        world.up(f'group("g", {{"a": setup(), {many}}})')
        failing = f'one("bad", "x", "no-such")\ngroup("g", {{{many}}})'
        world.up(failing, fails=True)
        world.traceloop.inject(Fault(method="GET", hide=["a"], times=None))
        changed = many.replace("setup()", 'setup("azure")')
        world.up(f'group("g", {{{changed}}})')
        world.traceloop.clear_faults()
        world.up()
        assert "a" not in world.monitors


@pytest.mark.not_sampled
class TestNeedlessWrites:
    @pytest.mark.parametrize("shown", [0, 5])
    def test_a_list_that_is_cut_off_sends_nothing_again(self, world: World, shown: int) -> None:
        """For example after the loss of the state, or in a second stack."""
        ids = [f"m-{n:02}" for n in range(40)]
        program = 'group("g", {f"m-{n:02}": setup() for n in range(40)})'
        world.up(program)
        world.stack.lose_state()
        world.configure()
        rules = [{"key": "k", "source": "span_attributes", "value": "v"}]
        world.traceloop.put("theirs", rules, ["faithfulness"])
        world.traceloop.inject(Fault(method="GET", hide=ids[shown:], times=None))
        world.up(program)
        assert world.traceloop.writes == {}
        settled(world, {*ids, "theirs"})

    def test_what_the_service_spells_differently_is_no_drift(
        self, world: World, traceloop: Emulator
    ) -> None:
        traceloop.normalize = lambda rule: rule | {"value": rule["value"].lower()}
        output = 'pulumi.Output.from_input("OpenAI")'  # no secret
        up = world.up(
            f'group("g", {{"a": setup({output}), "b": setup("azure")}})\none("m", "Cohere")'
        )
        assert up.diagnostics.count("Traceloop stores it as") == 2
        assert world.refresh(expect_no_changes=True).exit_code == 0
        assert "Traceloop stores it as" not in world.up(refresh=True).output
        assert world.traceloop.writes == {}
        settled(world, {"a", "b", "m"})
        traceloop.normalize = None
        world.traceloop.put("a", **_content("by-hand"))
        world.refresh()
        assert "update" in world.preview().ops()["g"]


def _content(value: str) -> dict[str, Any]:
    rule = {"key": "gen_ai.system", "source": "span_attributes", "value": value}
    return {"selector": [rule], "evaluators": ["faithfulness"]}


class TestPlans:
    """An update that a saved plan constrains."""

    STEPS = [  # noqa: RUF012 - a table
        'group("g", {"a": setup(), "b": setup(), "c": setup()})',
        'group("g", {"a": setup("azure"), "b": setup(), "c": setup()})',
        'group("g", {"b": setup(), "c": setup()})',
        'group("g", {"b": setup()})\ngroup("h", {"c": setup()})\none("d")',
        'group("g", {})\ngroup("h", {"c": setup(), "b": setup()})',
    ]

    def test_new_change_removal_and_move(self, world: World, tmp_path: Path) -> None:
        world.needs_cli("update plans")
        for number, program in enumerate(self.STEPS):
            plan = tmp_path / f"plan-{number}.json"
            world.planned(program, plan)
            assert set(world.preview().changes) == {"same"}
            assert json.loads(plan.read_text())
        assert set(world.monitors) == {"b", "c"}

    @pytest.mark.not_sampled
    def test_strict_updates(self, world: World) -> None:
        world.needs_cli("update plans")
        for program in self.STEPS:
            world.strict(program)
            assert set(world.preview().changes) == {"same"}
        assert set(world.monitors) == {"b", "c"}


class TestTransforms:
    """A stack's transform that adds a setup to a group, or removes one."""

    PROGRAM = """
import json

def transform(args):
    if args.type_.endswith("AutoMonitorSetupBatch"):
        setups = dict(args.props["setups"])
        {change}
        return pulumi.ResourceTransformResult(dict(args.props, setups=setups), args.opts)
    return None

pulumi.runtime.register_resource_transform(transform)
group("g", {{"a": setup(), "b": setup()}})
"""

    @pytest.mark.parametrize(
        ("change", "monitors"),
        [
            ('setups["c"] = json.dumps(json.loads(setups["a"]))', {"a", "b", "c"}),
            ('del setups["a"]', {"b"}),
        ],
    )
    def test_needs_no_replacement(self, world: World, change: str, monitors: set[str]) -> None:
        world.needs_cli("transforms")
        world.up(self.PROGRAM.format(change=change))
        settled(world, monitors)
        world.up()
        assert world.traceloop.writes == {}
        world.up('group("g", {"a": setup(), "b": setup()})')
        settled(world, {"a", "b"})
        world.destroy()
        assert world.monitors == {}


class TestGet:
    def test_of_what_is_not_there_is_an_error(self, world: World) -> None:
        up = world.up('AutoMonitorSetup.get("m", "no-such")', fails=True)
        assert 'Traceloop has no monitor setup "no-such"' in up.output


class TestOwnProvider:
    @pytest.mark.parametrize(
        "declaration",
        [
            'one("a", opts=pulumi.ResourceOptions(provider=own))',
            'group("g", {"a": setup()}, opts=pulumi.ResourceOptions(providers=[own]))',
        ],
    )
    def test_is_refused(self, world: World, declaration: str) -> None:
        world.needs_cli("provider resources")
        own = (
            'class Own(pulumi.ProviderResource):\n    pass\nown = Own("pulumi-python", "own", {})\n'
        )
        output = world.preview(own + declaration, fails=True).output
        assert "Remove the options `provider` and `providers`" in output


@pytest.mark.not_sampled
class TestGateway:
    """A gateway's 404 is no evidence about a setup."""

    @pytest.mark.parametrize("body_kind", ["kong", "text", "html", "empty"])
    def test_a_setup_is_neither_written_nor_forgotten(
        self, world: World, body_kind: Literal["kong", "text", "html", "empty"]
    ) -> None:
        world.up('group("g", {"a": setup(), "b": setup()})\none("m")')
        world.traceloop.inject(Fault(status=404, body_kind=body_kind, times=None))
        world.refresh(fails=True)
        world.up('group("g", {"a": setup("azure")})', fails=True)
        world.up("", fails=True)
        assert set(world.monitors) == {"a", "b", "m"}
        world.traceloop.clear_faults()
        world.up('group("g", {"a": setup()})')
        assert world.traceloop.writes == {}
        # A delete of the group was pending; its new membership deletes the setups removed before.
        world.up()
        assert world.traceloop.writes == {}
        settled(world, {"a"})

    @pytest.mark.parametrize("missing", ["by-external-id", "bulk"])
    def test_writes_take_the_route_that_there_is(self, world: World, missing: str) -> None:
        route = {"by-external-id": UPSERT_ROUTE, "bulk": BULK_ROUTE}[missing]
        world.traceloop.inject(Fault(route=route, status=404, body_kind="text", times=None))
        program = 'group("g", {"a": setup(), "b": setup("x", "no-such")})\none("m")'
        assert 'unknown evaluator slug "no-such"' in world.up(program, fails=True).output
        world.up(program.replace(', "no-such"', ""))
        settled(world, {"a", "b", "m"})


class TestOutage:
    @pytest.mark.parametrize("trouble", ["refused", "500"])
    def test_is_short_and_reported_once(self, world: World, trouble: str) -> None:
        """Resources share one deadline; each alone would make six attempts."""
        world.up('for n in range(20):\n    one(f"m-{n:02}")')
        deadline = 3
        world.stack.set_config("traceloop:deadline", str(deadline))
        if trouble == "refused":
            world.traceloop.stop()
        else:
            world.traceloop.inject(Fault(status=500, times=None))
        preview = world.preview('for n in range(30):\n    one(f"m-{n:02}")')
        assert preview.diagnostics.count("The plan is not compared with what Traceloop has") == 1
        world.refresh(fails=True)
        if trouble == "500":
            # The host serves four calls at once. Once one has exhausted its attempts, each of the
            # others makes one or none.
            assert world.requests["get"] <= 4 * 6 + 16
        else:
            world.traceloop.start()
