"""A program that declares a group: `group.py`."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pulumi
import pytest

from pulumi_traceloop import (
    AutoMonitorSetupArgs,
    AutoMonitorSetupGroup,
    InputError,
    SelectorRuleArgs,
    span,
)
from pulumi_traceloop.args import plain
from tests.engine.wire import make_secret
from tests.support.programs import (
    ARGS,
    BATCH,
    DICT,
    GROUP,
    JSON,
    MEMBERSHIP,
    Component,
    Program,
)


class TestGroup:
    def test_registers_a_batch_and_a_membership(self, program: Program) -> None:
        outputs: Any = {
            "owned": '["a"]',
            "env_project_id": "env",
            "failed": {},
            "setup_ids": '{"a":"1"}',
            "external_ids": '["a","b"]',
        }
        program.run(lambda: AutoMonitorSetupGroup("g", {"b": DICT, "a": DICT}), **outputs)
        group, batch, membership = (program.of(t) for t in (GROUP, BATCH, MEMBERSHIP))
        assert {group.name, batch.name, membership.name} == {"g"}
        assert batch.parent.endswith(f"{GROUP}::g")
        assert membership.parent == batch.parent
        assert {k: v for k, v in batch.inputs.items() if k != "__provider"} == {
            "setups": {"a": JSON, "b": JSON},
            "declared_by": 'AutoMonitorSetupGroup "g"',
        }
        assert {k: v for k, v in membership.inputs.items() if k != "__provider"} == {
            "external_ids": '["a","b"]',
            "group_id": "g-id",
            "owned": '["a"]',
            "env_project_id": "env",
            "declared_by": 'AutoMonitorSetupGroup "g"',
        }

    @pytest.mark.parametrize(
        "setup",
        [
            lambda: ARGS,
            lambda: DICT,
            lambda: pulumi.Output.from_input(ARGS),
            lambda: pulumi.Output.from_input(DICT),
            lambda: pulumi.Output.from_input("v").apply(
                lambda v: AutoMonitorSetupArgs([span("k").equals(v)], ["faithfulness"])
            ),
            lambda: {**DICT, "selector": [span("k").equals(pulumi.Output.from_input("v"))]},
            lambda: {**DICT, "selector": pulumi.Output.from_input(DICT["selector"])},
            lambda: {**DICT, "selector": [pulumi.Output.from_input(span("k").equals("v"))]},
            pytest.param(
                lambda: pulumi.Output.from_input("k").apply(
                    lambda k: {**DICT, "selector": [span(k).equals(pulumi.Output.from_input("v"))]}
                ),
            ),
            lambda: AutoMonitorSetupArgs(
                [SelectorRuleArgs(pulumi.Output.from_input("k"), "span_attributes", "equals", "v")],
                [pulumi.Output.from_input("faithfulness")],
            ),
        ],
        ids=[
            "args",
            "dict",
            "Output of args",
            "Output of dict",
            "Output of args, by apply",
            "Output of a value",
            "Output of a selector",
            "Output of a rule",
            "Output in an Output",
            "Outputs in args",
        ],
    )
    def test_setup_may_be_args_a_dict_or_an_output(
        self, program: Program, setup: Callable[[], Any]
    ) -> None:
        assert program.setups(a=setup()) == {"a": JSON}

    def test_accepts_an_awaitable_value(self, program: Program) -> None:
        async def value() -> str:
            return "v"

        def declare() -> object:
            awaitable: Any = {**DICT, "selector": [span("k").equals(value())]}
            return AutoMonitorSetupGroup("g", {"a": awaitable})

        program.run(declare)
        assert program.of(BATCH).inputs["setups"] == {"a": JSON}

    def test_secret_value_makes_only_its_setup_secret(self, program: Program) -> None:
        secret = {**DICT, "selector": [span("k").equals(pulumi.Output.secret("v"))]}
        assert program.setups(a=secret, b=DICT) == {"a": make_secret(JSON), "b": JSON}

    def test_setup_ids_and_failed_resolve(self, program: Program) -> None:
        seen: list[Any] = []

        def declare() -> object:
            g = AutoMonitorSetupGroup("g", {"a": DICT})
            return pulumi.Output.all(g.setup_ids, g.failed).apply(seen.append)

        program.run(declare, failed={}, setup_ids='{"a":"1"}', owned='["a"]')
        assert seen == [[{"a": "1"}, {}]]

    def test_setup_ids_and_failed_are_empty_without_outputs(self, program: Program) -> None:
        """As in unit tests whose mocks return the inputs."""
        seen: list[Any] = []

        def declare() -> object:
            g = AutoMonitorSetupGroup("g", {"a": DICT})
            return pulumi.Output.all(g.setup_ids, g.failed).apply(seen.append)

        program.run(declare)
        assert seen == [[{}, {}]]

    def test_failed_setup_ends_the_program(self, program: Program) -> None:
        with pytest.raises(pulumi.RunError) as failure:
            program.run(
                lambda: AutoMonitorSetupGroup("g", {"a": DICT, "b": DICT}),
                failed={"b": "no"},
                setup_ids='{"a":"1"}',
            )
        assert str(failure.value) == 'AutoMonitorSetupGroup "g": 1 of 2 setups failed'

    def test_logged_error_names_the_failed_setups(
        self, program: Program, caplog: pytest.LogCaptureFixture
    ) -> None:
        with pytest.raises(pulumi.RunError):
            program.run(
                lambda: AutoMonitorSetupGroup("g", {"a": DICT, "b": DICT, "c": DICT}),
                failed={"a": "no", "c": "no"},
                setup_ids="{}",
            )
        (record,) = caplog.records
        assert record.levelname == "ERROR"
        assert record.message == (
            "2 of 3 monitor setups failed; the next `pulumi up` sends only these again:\n"
            '  "a", "c": no'
        )

    def test_whole_group_is_registered_before_the_program_ends(self, program: Program) -> None:
        """The membership must know the written setups, else nothing would delete them."""
        with pytest.raises(pulumi.RunError):
            program.run(
                lambda: AutoMonitorSetupGroup("g", {"a": DICT, "b": DICT}),
                failed={"b": "no"},
                owned='["a"]',
                setup_ids='{"a":"1"}',
            )
        assert program.of(MEMBERSHIP).inputs["owned"] == '["a"]'

    def test_failed_is_readable_although_the_program_ends(self, program: Program) -> None:
        seen: list[Any] = []

        def declare() -> None:
            AutoMonitorSetupGroup("g", {"a": DICT}).failed.apply(seen.append)

        with pytest.raises(pulumi.RunError):
            program.run(declare, failed={"a": "no"}, setup_ids="{}")
        assert seen == [{"a": "no"}]

    def test_earlier_failure_ends_no_preview(
        self, program: Program, caplog: pytest.LogCaptureFixture
    ) -> None:
        seen: list[Any] = []
        program.run(
            lambda: AutoMonitorSetupGroup("g", {"a": DICT}).setup_ids.apply(seen.append),
            preview=True,
            failed={"a": "no"},
            unsettled={},
            setup_ids='{"b":"1"}',
        )
        assert seen == [{"b": "1"}]
        assert caplog.records == []

    def test_declarer_has_the_parent(self, program: Program) -> None:
        def declare() -> object:
            opts = pulumi.ResourceOptions(parent=Component("shop"))
            return AutoMonitorSetupGroup("g", {"a": DICT}, opts)

        program.run(declare)
        name = 'AutoMonitorSetupGroup "g" in shop:index:Monitoring "shop"'
        assert program.of(BATCH).inputs["declared_by"] == name
        assert program.of(MEMBERSHIP).inputs["declared_by"] == name

    def test_value_that_json_lacks_in_an_output_is_reported_with_its_path(
        self, program: Program
    ) -> None:
        triggers = pulumi.Output.from_input(1).apply(lambda _: [object()])
        with pytest.raises(TypeError) as failure:
            program.setups(a={**DICT, "triggers": triggers})
        assert 'AutoMonitorSetupGroup "g", setups["a"]: ' in str(failure.value)

    def test_setups_are_an_output(self, program: Program) -> None:
        seen: list[Any] = []

        def declare() -> object:
            value = pulumi.Output.from_input("v").apply(lambda v: v + "!")
            other: Any = {**DICT, "selector": [span("k").equals(value)]}
            group = AutoMonitorSetupGroup("g", {"b": ARGS, "a": other})
            return group.setups.apply(seen.append)

        program.run(declare)
        (setups,) = seen
        assert list(setups) == ["a", "b"]
        assert setups["b"] == plain(DICT)
        assert setups["a"]["selector"][0]["value"] == "v!"

    def test_setups_are_secret_if_one_has_a_secret(self, program: Program) -> None:
        seen: dict[str, bool] = {}

        async def note(group: AutoMonitorSetupGroup) -> None:
            seen[group.pulumi_resource_name] = await group.setups.is_secret()

        def declare() -> object:
            secret: Any = {**DICT, "selector": [span("k").equals(pulumi.Output.secret("v"))]}
            groups = (
                AutoMonitorSetupGroup("g", {"a": secret}),
                AutoMonitorSetupGroup("h", {"b": DICT}),
            )
            return [asyncio.ensure_future(note(group)) for group in groups]

        program.run(declare)
        assert seen == {"g": True, "h": False}


class TestGroupOptions:
    REFUSED = (
        (
            "ignore_changes: has no effect on a group: remove the setup from the group, or declare"
            " it as an AutoMonitorSetup, which takes this option"
        ),
        "replace_on_changes: has no effect on a group: to send a setup again, change its triggers",
        (
            "custom_timeouts: reaches no dynamic provider: use wait_timeout, or traceloop:deadline"
            " in the configuration"
        ),
        'additional_secret_outputs: takes "failed" and "setup_ids", not "owned"',
        (
            "hooks: takes no delete hooks: the setups removed from a group are deleted together,"
            " after the program. Declare a setup that needs one as an AutoMonitorSetup"
        ),
    )

    def test_hooks_and_secret_outputs_apply_to_the_batch(self, program: Program) -> None:
        def declare() -> object:
            hook = pulumi.ResourceHook("written", lambda _: None)
            opts = pulumi.ResourceOptions(
                additional_secret_outputs=["failed", "setup_ids"],
                hooks=pulumi.ResourceHookBinding(after_create=[hook], after_update=[hook]),
            )
            group = AutoMonitorSetupGroup("g", {"a": DICT}, opts)
            assert opts.hooks  # the caller's options are not changed
            return group

        program.run(declare)
        batch, others = program.of(BATCH), (program.of(GROUP), program.of(MEMBERSHIP))
        assert batch.secret_outputs == ["failed", "setup_ids"]
        assert batch.hooks == {"after_create": ["written"], "after_update": ["written"]}
        assert [(r.secret_outputs, r.hooks) for r in others] == [([], {})] * 2

    def test_options_without_effect_are_rejected(self, program: Program) -> None:
        def declare() -> object:
            hook = pulumi.ResourceHook("gone", lambda _: None)
            opts = pulumi.ResourceOptions(
                additional_secret_outputs=["failed", "owned"],
                custom_timeouts=pulumi.CustomTimeouts(create="1m"),
                hooks=pulumi.ResourceHookBinding(after_delete=[hook]),
                ignore_changes=["setups"],
                replace_on_changes=["setups"],
            )
            return AutoMonitorSetupGroup("g", {"a": DICT}, opts)

        with pytest.raises(InputError) as failure:
            program.run(declare)
        assert str(failure.value).splitlines() == [
            '5 problems in AutoMonitorSetupGroup "g":',
            *(f"  opts.{problem}" for problem in self.REFUSED),
        ]
