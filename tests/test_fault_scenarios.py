"""Programs against a service that fails, on either engine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import pytest

from pulumi_traceloop.emulator import Emulator, Fault
from pulumi_traceloop.emulator.routes import (
    BULK_ROUTE,
    DELETE_ROUTE,
    GET_ROUTE,
    LIST_ROUTE,
    UPSERT_ROUTE,
)
from tests.engine import Result, Stack
from tests.support import API_KEY
from tests.support.world import World

When = Literal["before_write", "after_write"]
Drop = Literal["before", "after"]


@pytest.mark.not_sampled
class TestFaults:
    @pytest.fixture
    def reopened(
        self, stack_of: Callable[[dict[str, str]], Stack], traceloop: Emulator
    ) -> Callable[[str], World]:
        """The same stack with an API key from the environment.

        A refresh and a destroy use the configuration that the engine keeps in the state; the
        environment applies at once.
        """

        def reopen(api_key: str) -> World:
            environment = {"TRACELOOP_API_KEY": api_key, "TRACELOOP_BASE_URL": traceloop.url}
            return World(stack_of(environment), traceloop, configure=False)

        return reopen

    def test_missing_key(self, world: World) -> None:
        """A preview works without a key; an update says how to set one."""
        world.stack.remove_config("traceloop:apiKey")
        world.preview('group("g", {"a": setup()})\none("m")')
        for program in ('group("g", {"a": setup()})', 'one("m")'):
            up = world.up(program, fails=True)
            assert "pulumi config set --secret traceloop:apiKey" in up.output

    def test_wrong_key(self, world: World) -> None:
        world.stack.set_config("traceloop:apiKey", "wrong-key-0815", secret=True)
        for program in ('group("g", {"a": setup()})', 'one("m")'):
            up = world.up(program, fails=True)
            assert "401" in up.output
            assert "traceloop:apiKey" in up.output
            assert "wrong-key-0815" not in up.output

    def test_key_of_another_project(self, reopened: Callable[[str], World]) -> None:
        """Nothing is read, written or deleted there, although it has the same external_ids."""
        world = reopened(API_KEY)
        program = 'one("m")\ngroup("g", {"a": setup(), "b": setup()})'
        world.up(program)
        world.traceloop.add_project("other-key", env_project_id="other-project")
        rule = {"key": "k", "value": "other", "source": "span_attributes"}
        for external_id in ("m", "a", "b"):
            world.traceloop.put(
                external_id, selector=[rule], evaluators=["faithfulness"], api_key="other-key"
            )
        theirs = world.traceloop.setups_of("other-key")
        operations: list[Callable[[World], Result]] = [
            lambda world: world.refresh(fails=True),
            lambda world: world.up(program.replace("setup()", 'setup("azure")'), fails=True),
            lambda world: world.up('one("m", "azure")', fails=True),
            lambda world: world.up('group("g", {"a": setup()})', fails=True),
            lambda world: world.destroy(fails=True),
        ]
        for operation in operations:
            assert "other-project" in operation(reopened("other-key")).output
        assert world.traceloop.setups_of("other-key") == theirs
        world = reopened(API_KEY)
        world.up(program)
        world.destroy()
        assert world.monitors == {}

    def test_list_that_lacks_a_setup(self, world: World) -> None:
        """A setup that a GET by id finds is neither missing nor written again."""
        world.up('one("m")\ngroup("g", {"a": setup(), "b": setup()})')
        world.traceloop.inject(Fault(route=LIST_ROUTE, hide=["m", "a"], times=None))
        assert world.refresh(expect_no_changes=True).exit_code == 0
        world.up('one("m")\ngroup("g", {"a": setup(), "b": setup("azure")})')
        assert world.traceloop.writes == {"b": 1}

    @pytest.mark.parametrize("status", [500, 502])
    @pytest.mark.parametrize("when", ["before_write", "after_write"])
    def test_failed_write_is_read_back(self, world: World, status: int, when: When) -> None:
        program = 'one("m")\ngroup("g", {"a": setup(), "b": setup()})'
        for route in (UPSERT_ROUTE, BULK_ROUTE):
            world.traceloop.inject(Fault(route=route, status=status, when=when, body_kind="html"))
        world.up(program)
        assert world.traceloop.writes == {"m": 1, "a": 1, "b": 1}
        assert set(world.up().changes) == {"same"}

    @pytest.mark.parametrize("drop", ["before", "after"])
    def test_dropped_connection_is_read_back(self, world: World, drop: Drop) -> None:
        for route in (UPSERT_ROUTE, BULK_ROUTE):
            world.traceloop.inject(Fault(route=route, drop=drop))
        world.up('one("m")\ngroup("g", {"a": setup(), "b": setup()})')
        assert world.traceloop.writes == {"m": 1, "a": 1, "b": 1}

    @pytest.mark.parametrize("fault", [{"shorten": 2}, {"reorder": True}, {"truncate": "json"}])
    def test_odd_bulk_response(self, world: World, fault: dict[str, object]) -> None:
        world.traceloop.inject(Fault(route=BULK_ROUTE, **fault))  # type: ignore[arg-type]
        world.up('group("g", {"a": setup("1"), "b": setup("2"), "c": setup("3")})')
        assert world.monitors == {"a": "1", "b": "2", "c": "3"}
        assert world.traceloop.writes == {"a": 1, "b": 1, "c": 1}

    def test_internal_error_of_one_setup(self, world: World) -> None:
        """A failure before the write is sent again; after the write, the setup is adopted."""
        error = {"a": "internal error"}
        world.traceloop.inject(Fault(route=BULK_ROUTE, item_error=error))
        world.up('group("g", {"a": setup(), "b": setup()})')
        world.traceloop.inject(Fault(route=BULK_ROUTE, item_error=error, when="after_write"))
        world.up('group("g", {"a": setup("azure"), "b": setup("azure")})')
        assert world.traceloop.writes == {"a": 1, "b": 1}
        assert world.monitors == {"a": "azure", "b": "azure"}

    def test_rate_limits_are_waited_out(self, world: World) -> None:
        for route in (LIST_ROUTE, BULK_ROUTE, GET_ROUTE, UPSERT_ROUTE):
            world.traceloop.inject(Fault(route=route, status=429, retry_after=0, times=2))
        world.up('one("m")\ngroup("g", {"a": setup()})')
        world.traceloop.inject(Fault(route=DELETE_ROUTE, status=429, retry_after=0, times=2))
        world.destroy()
        assert world.monitors == {}

    def test_plan_says_what_it_could_not_read(self, world: World) -> None:
        world.stack.set_config("traceloop:deadline", "2")
        world.traceloop.inject(Fault(method="GET", external_id="x", status=500, times=None))
        program = 'group("g", {"x": setup(), "y": setup()}, if_exists="fail")'
        output = world.preview(program).output
        assert "The plan is not compared with what Traceloop has for x: internal" in output

    def test_setup_that_was_never_owned_stays_guarded_where_it_moves(self, world: World) -> None:
        world.stack.set_config("traceloop:deadline", "2")
        rule = {"key": "k", "source": "span_attributes", "value": "y"}
        world.traceloop.put("x", [rule], ["faithfulness"])
        theirs = world.traceloop.setups["x"]
        fault = Fault(method="GET", external_id="x", status=500, times=None)
        world.traceloop.inject(fault)
        world.up('group("g", {"a": setup(), "x": setup()}, if_exists="fail")', fails=True)
        world.traceloop.remove(fault)
        moved = (
            'g = group("g", {"a": setup()}, if_exists="fail")\n'
            'one("x", if_exists="fail", opts=pulumi.ResourceOptions(depends_on=g))'
        )
        assert "already has another setup" in world.preview(moved, fails=True).output
        world.up(fails=True)
        assert world.traceloop.setups["x"] == theirs

    def test_delete_needs_no_readable_setup(self, world: World) -> None:
        world.stack.set_config("traceloop:deadline", "2")
        world.up('group("g", {"a": setup(), "b": setup(), "c": setup()})')
        world.traceloop.inject(Fault(method="GET", external_id="a", status=500, times=None))
        world.destroy()
        assert world.monitors == {}

    def test_responses_with_unknown_fields_and_statuses(self, world: World) -> None:
        world.traceloop.force_status("m", "hibernating")
        world.traceloop.force_status("a", "hibernating")
        world.up('one("m")\ngroup("g", {"a": setup()})')
        assert world.refresh(expect_no_changes=True).exit_code == 0

    def test_failed_delete_of_one_setup(self, world: World) -> None:
        """The error names it, and the next run deletes it."""
        world.up('group("g", {"a": setup(), "b": setup(), "c": setup()})')
        fault = world.traceloop.inject(
            Fault(route=DELETE_ROUTE, external_id="b", status=400, message="in use", times=None)
        )
        up = world.up('group("g", {"c": setup()})', fails=True)
        assert '"b": in use' in up.output
        assert set(world.monitors) == {"b", "c"}
        world.traceloop.remove(fault)
        world.up()
        assert set(world.monitors) == {"c"}


@pytest.mark.not_sampled
class TestOutage:
    """The error names the unfinished work, and nothing is lost."""

    @pytest.fixture(autouse=True)
    def _short_deadline(self, world: World) -> None:
        world.stack.set_config("traceloop:deadline", "0.5")

    def test_during_create(self, world: World) -> None:
        world.traceloop.stop()
        up = world.up('group("g", {"a": setup()})', fails=True)
        assert "nothing was sent" in up.output
        world.traceloop.start()
        world.up()
        assert world.monitors == {"a": "openai"}

    def test_during_update(self, world: World) -> None:
        world.up('group("g", {"a": setup()})')
        world.traceloop.stop()
        world.up('group("g", {"a": setup("azure")})', fails=True)
        world.traceloop.start()
        world.up()
        assert world.monitors == {"a": "azure"}

    def test_during_refresh_and_delete(self, world: World) -> None:
        world.up('one("m")\ngroup("g", {"a": setup(), "b": setup()})')
        world.traceloop.stop()
        world.refresh(fails=True)
        world.destroy(fails=True)
        world.traceloop.start()
        assert world.up().changes["create"] == 1  # the membership, which was deleted first
        assert world.traceloop.writes == {}
        assert set(world.preview().changes) == {"same"}
        world.destroy()
        assert world.monitors == {}
