"""What a program does: builds rules, declares setups, and ends when some of them failed."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import pickletools
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.resources import files
from typing import Any

import pulumi
import pytest
from pulumi.dynamic.dynamic import serialize_provider
from pulumi.runtime.mocks import MockMonitor, MockResourceArgs
from pulumi.runtime.proto import resource_pb2
from pulumi.runtime.settings import SETTINGS

import pulumi_traceloop
from pulumi_traceloop import (
    AutoMonitorSetup,
    AutoMonitorSetupArgs,
    AutoMonitorSetupGroup,
    EvaluatorConfigArgs,
    InputError,
    SelectorRuleArgs,
    TraceloopError,
    providers,
    resource,
    span,
)
from pulumi_traceloop.args import RuleBuilder, canonical, plain, resolved
from tests.engine.wire import Bag, from_struct, is_secret, make_secret

ONE = "pulumi-python:dynamic/traceloop:AutoMonitorSetup"
BATCH = "pulumi-python:dynamic/traceloop:AutoMonitorSetupBatch"
MEMBERSHIP = "pulumi-python:dynamic/traceloop:AutoMonitorSetupMembership"
GROUP = "traceloop:index:AutoMonitorSetupGroup"

DICT: Any = {"selector": [span("k").equals("v")], "evaluators": ["faithfulness"]}
ARGS = AutoMonitorSetupArgs([span("k").equals("v")], ["faithfulness"])
JSON = (
    '{"evaluators":["faithfulness"],"selector":'
    '[{"key":"k","operator":"equals","source":"span_attributes","value":"v"}]}'
)


class TestRuleBuilders:
    @pytest.mark.parametrize(
        ("build", "operator", "operand"),
        [
            (lambda k: k.equals("v"), "equals", {"value": "v"}),
            (lambda k: k.not_equals("v"), "not_equals", {"value": "v"}),
            (lambda k: k.contains("v"), "contains", {"value": "v"}),
            (lambda k: k.not_contains("v"), "not_contains", {"value": "v"}),
            (lambda k: k.is_in("v", "w"), "in", {"values": ["v", "w"]}),
            (lambda k: k.not_in("v", "w"), "not_in", {"values": ["v", "w"]}),
            (lambda k: k.exists(), "exists", {}),
            (lambda k: k.not_exists(), "not_exists", {}),
        ],
    )
    @pytest.mark.parametrize(
        ("attribute", "source"), [(span, "span_attributes"), (resource, "resource_attributes")]
    )
    def test_each_operator(
        self,
        attribute: Callable[[str], RuleBuilder],
        source: str,
        build: Callable[[RuleBuilder], SelectorRuleArgs],
        operator: str,
        operand: dict[str, object],
    ) -> None:
        expected = {"key": "k", "source": source, "operator": operator, **operand}
        assert plain(build(attribute("k"))) == expected


class TestPlain:
    def test_args_become_dicts_all_the_way_down(self) -> None:
        args = AutoMonitorSetupArgs(
            selector=(span("k").exists(), {"key": "l", "source": "span_attributes"}),
            evaluator_configs=[EvaluatorConfigArgs("perplexity", scope="span")],
            triggers=[1, {"a": None}],
        )
        assert plain(args) == {
            "selector": [
                {"key": "k", "source": "span_attributes", "operator": "exists"},
                {"key": "l", "source": "span_attributes"},
            ],
            "evaluator_configs": [{"slug": "perplexity", "scope": "span"}],
            "triggers": [1, {}],
        }

    @pytest.mark.parametrize("value", [None, "text", 1, 2.5, True, object()])
    def test_anything_else_stays(self, value: object) -> None:
        assert plain(value) is value


class TestCanonical:
    def test_is_one_spelling_of_dicts_and_args(self) -> None:
        assert canonical(DICT) == canonical(ARGS) == JSON

    def test_does_not_depend_on_the_order_of_keys(self) -> None:
        assert canonical({"b": {"d": 1, "c": 2}, "a": 3}) == '{"a":3,"b":{"c":2,"d":1}}'

    def test_keeps_the_order_of_lists(self) -> None:
        assert canonical(["b", "a"]) == '["b","a"]'

    def test_drops_none_from_mappings(self) -> None:
        assert canonical({"a": None, "b": {"c": None}}) == '{"b":{}}'

    def test_keeps_text_readable(self) -> None:
        assert canonical("größe-日本") == '"größe-日本"'

    @pytest.mark.parametrize("value", [object(), {1, 2}, b"bytes", {"a": [object()]}, 1j])
    def test_refuses_what_json_does_not_have(self, value: object) -> None:
        with pytest.raises(TypeError, match="not JSON serializable"):
            canonical(value)

    @pytest.mark.parametrize("value", [float("nan"), float("inf")])
    def test_refuses_numbers_that_json_does_not_have(self, value: float) -> None:
        with pytest.raises(TypeError):
            canonical({"triggers": [value]})


class Registration:
    """One resource as the program registered it; secrets are marked in its inputs."""

    def __init__(self, request: resource_pb2.RegisterResourceRequest) -> None:
        self.type: str = request.type
        self.name: str = request.name
        self.parent: str = request.parent
        self.inputs: Bag = from_struct(request.object)
        self.secret_outputs = list(request.additionalSecretOutputs)
        self.hooks = {f.name: list(names) for f, names in request.hooks.ListFields()}


class Mocks(pulumi.runtime.Mocks):
    """An engine that answers a resource's inputs, and a batch's outputs beside them."""

    def __init__(self, **outputs: object) -> None:
        self._outputs = outputs

    def new_resource(self, args: MockResourceArgs) -> tuple[str | None, dict[str, Any]]:
        outputs = self._outputs if args.typ in (BATCH, ONE) else {}
        return f"{args.name}-id", {**args.inputs, **outputs}

    def call(self, args: pulumi.runtime.MockCallArgs) -> tuple[dict[str, Any], None]:
        return {}, None


class Monitor(MockMonitor):
    """Notes what is registered, in the form that goes over the wire."""

    def __init__(self, mocks: Mocks) -> None:
        super().__init__(mocks)
        self.registered: list[Registration] = []
        self.read: list[Bag] = []

    def ReadResource(self, request: resource_pb2.ReadResourceRequest) -> Any:  # noqa: N802
        self.read.append(from_struct(request.properties))
        return _with_a_loop(lambda: super(Monitor, self).ReadResource(request))  # type: ignore[no-untyped-call]

    def RegisterResource(self, request: resource_pb2.RegisterResourceRequest) -> Any:  # noqa: N802
        self.registered.append(Registration(request))
        return _with_a_loop(lambda: super(Monitor, self).RegisterResource(request))  # type: ignore[no-untyped-call]


def _with_a_loop(call: Callable[[], Any]) -> Any:
    """Call in a worker's thread; the SDK would make an event loop for it and leave that open."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        return call()
    finally:
        asyncio.set_event_loop(None)
        loop.close()


class Program:
    """Runs programs on a mocked engine."""

    def __init__(self) -> None:
        self.registered: list[Registration] = []
        self.read: list[Bag] = []

    def run(
        self, program: Callable[[], object], *, preview: bool = False, **outputs: object
    ) -> None:
        mocks = Mocks(**outputs)
        monitor = Monitor(mocks)
        self.registered, self.read = monitor.registered, monitor.read
        logger = logging.getLogger("pulumi-mocks")
        pulumi.runtime.set_mocks(mocks, preview=preview, logger=logger, monitor=monitor)
        pulumi.runtime.test(lambda: program() and None)()  # type: ignore[no-untyped-call]

    def of(self, type_: str) -> Registration:
        (found,) = [each for each in self.registered if each.type == type_]
        return found

    def setups(self, **setups: Any) -> dict[str, Any]:
        """What a group's batch sends for these setups."""
        self.run(lambda: AutoMonitorSetupGroup("g", setups))
        return dict(self.of(BATCH).inputs["setups"])


@pytest.fixture
def program() -> Iterator[Program]:
    loop = asyncio.new_event_loop()
    # A program that ends early leaves futures behind; that is no news to its user.
    loop.set_exception_handler(lambda *_: None)
    asyncio.set_event_loop(loop)
    before = (SETTINGS.monitor, SETTINGS.engine)
    yield Program()
    SETTINGS.monitor, SETTINGS.engine = before
    loop.run_until_complete(loop.shutdown_default_executor())
    asyncio.set_event_loop(None)
    loop.close()


class Component(pulumi.ComponentResource):
    def __init__(self, name: str) -> None:
        super().__init__("shop:index:Monitoring", name)


class TestSetup:
    def test_registers_its_inputs(self, program: Program) -> None:
        program.run(
            lambda: AutoMonitorSetup(
                "m",
                external_id="x",
                selector=[span("k").equals("v")],
                evaluator_configs=[EvaluatorConfigArgs("perplexity", scope="span")],
                triggers=["t"],
            )
        )
        one = program.of(ONE)
        assert one.name == "m"
        assert {k: v for k, v in one.inputs.items() if k != "__provider"} == {
            "external_id": "x",
            "selector": [plain(span("k").equals("v"))],
            "evaluator_configs": [{"slug": "perplexity", "scope": "span"}],
            "triggers": ["t"],
            "declared_by": 'AutoMonitorSetup "m"',
        }

    def test_external_id_is_the_resources_name_by_default(self, program: Program) -> None:
        program.run(lambda: AutoMonitorSetup("m", **DICT))
        assert program.of(ONE).inputs["external_id"] == "m"

    def test_an_empty_external_id_is_not_left_out(self, program: Program) -> None:
        """It is a mistake to report, not one to hide."""
        with pytest.raises(InputError, match="external_id: must not be empty"):
            program.run(lambda: AutoMonitorSetup("m", external_id="", **DICT))

    @pytest.mark.parametrize("args", [ARGS, DICT], ids=["args", "dict"])
    def test_takes_args_as_every_pulumi_sdk(self, program: Program, args: Any) -> None:
        def declare() -> object:
            opts = pulumi.ResourceOptions(parent=Component("shop"))
            AutoMonitorSetup("m", args, opts, external_id="x")
            return AutoMonitorSetup("n", args, opts=opts, if_exists="fail")

        program.run(declare)
        m, n = (r for r in program.registered if r.type == ONE)
        assert m.inputs["selector"] == n.inputs["selector"] == plain(DICT)["selector"]
        assert m.inputs["evaluators"] == n.inputs["evaluators"] == ["faithfulness"]
        assert (m.inputs["external_id"], n.inputs["if_exists"]) == ("x", "fail")
        assert m.parent.endswith("shop")
        assert n.parent == m.parent

    def test_args_and_their_keywords_exclude_each_other(self, program: Program) -> None:
        with pytest.raises(InputError) as failure:
            program.run(lambda: AutoMonitorSetup("m", ARGS, evaluators=["x"]))  # type: ignore[call-overload]
        assert str(failure.value) == (
            'AutoMonitorSetup "m", args: has the contents of the setup: remove evaluators'
        )

    def test_get_takes_a_namespace_and_no_setup(self, program: Program) -> None:
        program.run(lambda: AutoMonitorSetup.get("m", " theirs ", config_namespace="second"))
        (read,) = program.read
        assert read["config_namespace"] == "second"
        assert read["external_id"] == " theirs "

    def test_takes_outputs_anywhere(self, program: Program) -> None:
        program.run(
            lambda: AutoMonitorSetup(
                "m",
                external_id=pulumi.Output.from_input("x"),
                selector=[
                    pulumi.Output.from_input(span("k").equals(pulumi.Output.from_input("v")))
                ],
                evaluators=pulumi.Output.from_input(["faithfulness"]),
            )
        )
        inputs = program.of(ONE).inputs
        assert inputs["external_id"] == "x"
        assert inputs["selector"] == [plain(span("k").equals("v"))]
        assert inputs["evaluators"] == ["faithfulness"]

    def test_a_secret_value_is_sent_as_a_secret(self, program: Program) -> None:
        rule = span("k").equals(pulumi.Output.secret("v"))
        program.run(lambda: AutoMonitorSetup("m", selector=[rule], evaluators=["faithfulness"]))
        inputs = program.of(ONE).inputs
        assert inputs["selector"][0]["value"] == make_secret("v")
        assert [name for name, value in inputs.items() if is_secret(value)] == []

    def test_outputs_resolve(self, program: Program) -> None:
        seen: list[Any] = []

        def declare() -> object:
            m = AutoMonitorSetup("m", **DICT)
            return pulumi.Output.all(m.external_id, m.setup_id, m.env_project_id).apply(seen.append)

        program.run(declare, setup_id="1", env_project_id="env")
        assert seen == [["m", "1", "env"]]

    def test_names_its_parent_as_a_part_of_who_declares_it(self, program: Program) -> None:
        def declare() -> object:
            opts = pulumi.ResourceOptions(parent=Component("shop"))
            return AutoMonitorSetup("m", **DICT, opts=opts)

        program.run(declare)
        declared_by = program.of(ONE).inputs["declared_by"]
        assert declared_by == 'AutoMonitorSetup "m" in shop:index:Monitoring "shop"'


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
    def test_a_setup_may_be_any_of(self, program: Program, setup: Callable[[], Any]) -> None:
        assert program.setups(a=setup()) == {"a": JSON}

    def test_takes_an_awaitable_value(self, program: Program) -> None:
        async def value() -> str:
            return "v"

        def declare() -> object:
            awaitable: Any = {**DICT, "selector": [span("k").equals(value())]}
            return AutoMonitorSetupGroup("g", {"a": awaitable})

        program.run(declare)
        assert program.of(BATCH).inputs["setups"] == {"a": JSON}

    def test_a_secret_value_makes_only_its_setup_a_secret(self, program: Program) -> None:
        secret = {**DICT, "selector": [span("k").equals(pulumi.Output.secret("v"))]}
        assert program.setups(a=secret, b=DICT) == {"a": make_secret(JSON), "b": JSON}

    def test_setup_ids_and_failed_resolve(self, program: Program) -> None:
        seen: list[Any] = []

        def declare() -> object:
            g = AutoMonitorSetupGroup("g", {"a": DICT})
            return pulumi.Output.all(g.setup_ids, g.failed).apply(seen.append)

        program.run(declare, failed={}, setup_ids='{"a":"1"}', owned='["a"]')
        assert seen == [[{"a": "1"}, {}]]

    def test_setup_ids_and_failed_are_empty_where_the_engine_says_nothing(
        self, program: Program
    ) -> None:
        """As in the unit tests of a user, whose mocks answer the inputs."""
        seen: list[Any] = []

        def declare() -> object:
            g = AutoMonitorSetupGroup("g", {"a": DICT})
            return pulumi.Output.all(g.setup_ids, g.failed).apply(seen.append)

        program.run(declare)
        assert seen == [[{}, {}]]

    def test_a_failed_setup_ends_the_program(self, program: Program) -> None:
        with pytest.raises(pulumi.RunError) as failure:
            program.run(
                lambda: AutoMonitorSetupGroup("g", {"a": DICT, "b": DICT}),
                failed={"b": "no"},
                setup_ids='{"a":"1"}',
            )
        assert str(failure.value) == 'AutoMonitorSetupGroup "g": 1 of 2 setups failed'

    def test_the_logged_error_names_the_failed_setups(
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

    def test_all_of_the_group_is_registered_before_it_ends_the_program(
        self, program: Program
    ) -> None:
        """The membership has to know what was written, or nobody would ever delete it."""
        with pytest.raises(pulumi.RunError):
            program.run(
                lambda: AutoMonitorSetupGroup("g", {"a": DICT, "b": DICT}),
                failed={"b": "no"},
                owned='["a"]',
                setup_ids='{"a":"1"}',
            )
        assert program.of(MEMBERSHIP).inputs["owned"] == '["a"]'

    def test_failed_can_be_read_though_the_program_ends(self, program: Program) -> None:
        seen: list[Any] = []

        def declare() -> None:
            AutoMonitorSetupGroup("g", {"a": DICT}).failed.apply(seen.append)

        with pytest.raises(pulumi.RunError):
            program.run(declare, failed={"a": "no"}, setup_ids="{}")
        assert seen == [{"a": "no"}]

    def test_what_failed_before_ends_no_preview(
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

    def test_names_its_parent_as_a_part_of_who_declares_it(self, program: Program) -> None:
        def declare() -> object:
            opts = pulumi.ResourceOptions(parent=Component("shop"))
            return AutoMonitorSetupGroup("g", {"a": DICT}, opts)

        program.run(declare)
        name = 'AutoMonitorSetupGroup "g" in shop:index:Monitoring "shop"'
        assert program.of(BATCH).inputs["declared_by"] == name
        assert program.of(MEMBERSHIP).inputs["declared_by"] == name

    def test_a_value_that_json_does_not_have_in_an_output_is_told_with_its_place(
        self, program: Program
    ) -> None:
        triggers = pulumi.Output.from_input(1).apply(lambda _: [object()])
        with pytest.raises(TypeError) as failure:
            program.setups(a={**DICT, "triggers": triggers})
        assert 'AutoMonitorSetupGroup "g", setups["a"]: ' in str(failure.value)

    def test_setups_are_an_output_for_tests_and_exports(self, program: Program) -> None:
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

    def test_setups_are_secret_with_a_secret_in_them(self, program: Program) -> None:
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


#: What is wrong in a setup, with the path below it.
WRONG: dict[str, tuple[dict[str, Any], str]] = {
    "a misspelled property": (
        {**{k: v for k, v in DICT.items() if k != "evaluators"}, "evaluatrs": ["faithfulness"]},
        'evaluatrs: is not a known property; did you mean "evaluators"?',
    ),
    "an unknown operator": (
        {**DICT, "selector": [{**plain(span("k").equals("v")), "operator": "eq"}]},
        (
            "selector[0].operator: must be one of 'equals', 'not_equals', 'contains',"
            " 'not_contains', 'in', 'not_in', 'exists' or 'not_exists', not \"eq\"; did you mean"
            ' "equals"?'
        ),
    ),
    "a list for values": (
        {**DICT, "selector": [span("k").is_in(["a", "b"])]},  # type: ignore[arg-type]
        (
            "selector[0].values[0]: must be a string, not a list; pass the strings one by one,"
            ' such as is_in("a", "b") or is_in(*names)'
        ),
    ),
    "a builder without an operator": (
        {**DICT, "selector": [span("k")]},
        'selector[0].value: operator "equals" needs "value"',
    ),
    "an empty value": (
        {**DICT, "selector": [span("k").equals("")]},
        (
            'selector[0].value: must not be empty; use the operator "exists" for spans that have'
            ' the attribute, "not_exists" for those that lack it'
        ),
    ),
    "the text of an Output": (
        {
            **DICT,
            "selector": [span("k").equals("Calling __str__ on an Output[T] is not supported")],
        },
        (
            "selector[0].value: is the text of an Output, not its value: use the Output itself, or"
            ' pulumi.Output.format("...{0}", output) for a text around it'
        ),
    ),
    "a set": ({**DICT, "evaluators": {"faithfulness"}}, "evaluators: must be a list"),
    "an object in triggers": (
        {**DICT, "triggers": [object()]},
        "triggers[0]: is a object, which JSON does not have; use its text, str(...)",
    ),
}


@pytest.mark.parametrize("preview", [True, False], ids=["preview", "update"])
class TestInputsThatAreWrong:
    """They end the program before anything is registered, with one message."""

    @pytest.mark.parametrize("case", WRONG)
    def test_in_one_setup(self, program: Program, case: str, preview: bool) -> None:
        setup, problem = WRONG[case]
        args: Any = setup
        with pytest.raises(pulumi.RunError) as failure:
            program.run(lambda: AutoMonitorSetup("m", args), preview=preview)
        assert str(failure.value) == f'AutoMonitorSetup "m", {problem}'
        assert isinstance(failure.value, TraceloopError)
        assert program.registered == []

    @pytest.mark.parametrize("case", WRONG)
    def test_in_a_group(self, program: Program, case: str, preview: bool) -> None:
        setup, problem = WRONG[case]
        setups: Any = {"a": DICT, "b": setup}
        with pytest.raises(pulumi.RunError) as failure:
            program.run(lambda: AutoMonitorSetupGroup("g", setups), preview=preview)
        assert str(failure.value) == f'AutoMonitorSetupGroup "g", setups["b"].{problem}'
        assert program.registered == []

    def test_all_of_a_group_at_once(self, program: Program, preview: bool) -> None:
        later = pulumi.Output.from_input("v").apply(lambda v: v)
        setups: Any = {
            " a": DICT,
            "b": {"selector": [span("k").equals(later)]},
            "c": {**DICT, "evaluators": ["x", later, "x"]},
            "d": pulumi.Output.from_input("no setup"),
            7: ARGS,
            "e": None,
        }
        with pytest.raises(InputError) as failure:
            program.run(
                lambda: AutoMonitorSetupGroup("g", setups, wait_timeout=-1, max_deletes="all"),
                preview=preview,
            )
        assert str(failure.value).splitlines() == [
            '7 problems in AutoMonitorSetupGroup "g":',
            "  wait_timeout: must be a number of seconds above 0",
            '  max_deletes: must be a number, or a percentage such as "10%"',
            '  setups[" a"]: the external_id must not begin or end with a blank',
            '  setups["b"].evaluators: give either evaluators or evaluator_configs',
            '  setups["c"].evaluators[2]: "x" is listed twice',
            "  setups[7]: the external_id must be a string",
            '  setups["e"]: must be a mapping',
        ]
        assert failure.value.problems[2].path == 'setups[" a"]'

    def test_a_long_message_is_cut_and_the_attribute_is_not(
        self, program: Program, preview: bool
    ) -> None:
        setups: Any = {f"m-{n}": {} for n in range(100)}
        with pytest.raises(InputError) as failure:
            program.run(lambda: AutoMonitorSetupGroup("g", setups), preview=preview)
        lines = str(failure.value).splitlines()
        assert (len(lines), lines[0], lines[-1]) == (
            52,
            '200 problems in AutoMonitorSetupGroup "g":',
            "  and 150 more",
        )
        assert len(failure.value.problems) == 200

    @pytest.mark.parametrize("setups", [[DICT], "a", None, pulumi.ResourceOptions()])
    def test_setups_that_are_no_mapping(self, program: Program, setups: Any, preview: bool) -> None:
        with pytest.raises(InputError) as failure:
            program.run(lambda: AutoMonitorSetupGroup("g", setups), preview=preview)
        assert str(failure.value) == (
            'AutoMonitorSetupGroup "g", setups: must map each external_id to its setup, not be a'
            f" {type(setups).__name__}"
        )

    def test_setups_that_are_an_output(self, program: Program, preview: bool) -> None:
        def declare() -> object:
            setups: Any = pulumi.Output.from_input({"a": DICT})
            return AutoMonitorSetupGroup("g", setups)

        with pytest.raises(InputError) as failure:
            program.run(declare, preview=preview)
        assert str(failure.value) == (
            'AutoMonitorSetupGroup "g", setups: must map each external_id to its setup, and not be'
            " an Output: a preview needs the external_ids. Use the Output for a setup,"
            ' {"checkout": output.apply(lambda value: {...})}, or for a part of one,'
            ' {"selector": [span("service.name").equals(output)], ...}'
        )

    def test_the_text_of_a_real_output(
        self, program: Program, preview: bool, capsys: pytest.CaptureFixture[str]
    ) -> None:
        def declare() -> object:
            name = pulumi.Output.from_input("checkout")
            return AutoMonitorSetupGroup("g", {f"m-{name}": DICT})

        with pytest.raises(InputError, match="the external_id is the text of an Output, not its"):
            program.run(declare, preview=preview)

    def test_what_is_not_known_is_left_to_the_provider(
        self, program: Program, preview: bool
    ) -> None:
        wrong = pulumi.Output.from_input("").apply(lambda v: v)

        def declare() -> object:
            setup: Any = {"selector": [span("k").equals(wrong)], "evaluators": wrong}
            AutoMonitorSetup("m", setup, external_id=wrong)
            return AutoMonitorSetupGroup("g", {"a": setup})

        program.run(declare, preview=preview)
        assert {r.type for r in program.registered} == {ONE, GROUP, BATCH, MEMBERSHIP}


ODD: Any = {
    "selector": [span("k").equals("${env} "), span("k\u200b").exists()],
    "evaluators": ["faithfulness"],
}


class TestOptionsOfAGroup:
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

    def test_hooks_and_secret_outputs_are_those_of_the_batch(self, program: Program) -> None:
        def declare() -> object:
            hook = pulumi.ResourceHook("written", lambda _: None)
            opts = pulumi.ResourceOptions(
                additional_secret_outputs=["failed", "setup_ids"],
                hooks=pulumi.ResourceHookBinding(after_create=[hook], after_update=[hook]),
            )
            group = AutoMonitorSetupGroup("g", {"a": DICT}, opts)
            assert opts.hooks  # the caller's own are not changed
            return group

        program.run(declare)
        batch, others = program.of(BATCH), (program.of(GROUP), program.of(MEMBERSHIP))
        assert batch.secret_outputs == ["failed", "setup_ids"]
        assert batch.hooks == {"after_create": ["written"], "after_update": ["written"]}
        assert [(r.secret_outputs, r.hooks) for r in others] == [([], {})] * 2

    def test_what_would_have_no_effect_is_refused(self, program: Program) -> None:
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


class TestOddTexts:
    def test_are_warned_about_once_for_one_setup(
        self, program: Program, caplog: pytest.LogCaptureFixture
    ) -> None:
        program.run(lambda: AutoMonitorSetup("m", ODD, external_id="“m”"))
        (record,) = caplog.records
        assert record.levelname == "WARNING"
        assert record.message.splitlines() == [
            "rules match texts literally; check these:",
            "  external_id has a curly quote: “",
            "  selector[0].value has a placeholder that nothing fills in: ${env}",
            "  selector[1].key has an invisible character: U+200B",
        ]

    def test_are_warned_about_once_for_a_group(
        self, program: Program, caplog: pytest.LogCaptureFixture
    ) -> None:
        setups = {"good": DICT, "{{x}}": ODD, "last": ODD}
        program.run(lambda: AutoMonitorSetupGroup("g", setups))
        (record,) = caplog.records
        assert record.message.splitlines() == [
            "rules match texts literally; check these:",
            '  setups["{{x}}"] the external_id has a placeholder that nothing fills in: {{x}}',
            '  setups["{{x}}"].selector[0].value has a placeholder that nothing fills in: ${env}',
            '  setups["{{x}}"].selector[1].key has an invisible character: U+200B',
            '  setups["last"].selector[0].value has a placeholder that nothing fills in: ${env}',
            '  setups["last"].selector[1].key has an invisible character: U+200B',
        ]

    def test_none_no_warning(self, program: Program, caplog: pytest.LogCaptureFixture) -> None:
        program.run(lambda: (AutoMonitorSetup("m", DICT), AutoMonitorSetupGroup("g", {"a": DICT})))
        assert caplog.records == []


class TestResolved:
    def test_plain_values_are(self) -> None:
        assert resolved(plain(ARGS))

    def test_outputs_are_not(self, program: Program) -> None:
        seen: list[bool] = []

        def look() -> None:
            output = pulumi.Output.from_input("v")
            nested = AutoMonitorSetupArgs([span("k").equals(output)], ["faithfulness"])
            seen.extend(resolved(plain(value)) for value in (output, [output], nested))

        program.run(look)
        assert seen == [False, False, False]


#: What stands in every stack's state as `__provider`: a reference to a module and a class, which is
#: the same on each Python from 3.10 to 3.13 (pickle's default protocol is 4 on all of these).
#: It must never change: stacks could no longer load their provider, and each resource would differ.
PROVIDERS = {
    "AutoMonitorSetupProvider": (
        "gASVPgAAAAAAAACMGnB1bHVtaV90cmFjZWxvb3AucHJvdmlkZXJzlIwYQXV0b01vbml0b3JTZXR1cFByb3ZpZGVylJOU"
        "KYGULg=="
    ),
    "AutoMonitorSetupBatchProvider": (
        "gASVQwAAAAAAAACMGnB1bHVtaV90cmFjZWxvb3AucHJvdmlkZXJzlIwdQXV0b01vbml0b3JTZXR1cEJhdGNoUHJvdmlk"
        "ZXKUk5QpgZQu"
    ),
    "AutoMonitorSetupMembershipProvider": (
        "gASVSAAAAAAAAACMGnB1bHVtaV90cmFjZWxvb3AucHJvdmlkZXJzlIwiQXV0b01vbml0b3JTZXR1cE1lbWJlcnNoaXBQ"
        "cm92aWRlcpSTlCmBlC4="
    ),
}


class TestStateFormat:
    @pytest.mark.skipif(sys.version_info >= (3, 14), reason="pickle's default protocol is 5 there")
    @pytest.mark.parametrize("name", PROVIDERS)
    def test_the_provider_is_pinned(self, name: str) -> None:
        assert serialize_provider(getattr(providers, name)()) == PROVIDERS[name]

    @pytest.mark.parametrize("name", PROVIDERS)
    def test_the_provider_is_stored_by_reference(self, name: str) -> None:
        """On every Python, whatever its pickle protocol."""
        blob = base64.b64decode(serialize_provider(getattr(providers, name)()))
        strings = [arg for _, arg, _ in pickletools.genops(blob) if isinstance(arg, str)]
        assert strings == ["pulumi_traceloop.providers", name]

    def test_the_provider_is_no_secret(self, program: Program) -> None:
        """Else a diff would show it, and each preview of a stack would have to decrypt it."""
        program.run(lambda: (AutoMonitorSetup("m", **DICT), AutoMonitorSetupGroup("g", {})))
        blobs = {r.inputs["__provider"] for r in program.registered if "__provider" in r.inputs}
        assert blobs == {serialize_provider(getattr(providers, name)()) for name in PROVIDERS}


def _imported(program: str) -> set[str]:
    """The modules that a fresh interpreter has imported after *program*."""
    code = f"import json, sys\n{program}\nprint(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return set(json.loads(done.stdout))


class TestPackage:
    @pytest.mark.parametrize("name", pulumi_traceloop.__all__)
    def test_exported_names_resolve(self, name: str) -> None:
        exported = getattr(pulumi_traceloop, name)
        assert getattr(exported, "__name__", name) == name  # a union has none

    def test_all_is_sorted_and_has_what_a_program_needs(self) -> None:
        assert pulumi_traceloop.__all__ == [
            "AutoMonitorSetup",
            "AutoMonitorSetupArgs",
            "AutoMonitorSetupArgsDict",
            "AutoMonitorSetupGroup",
            "AutoMonitorSetupResult",
            "EvaluatorConfigArgs",
            "EvaluatorConfigArgsDict",
            "EvaluatorConfigOutput",
            "EvaluatorResult",
            "FileError",
            "InputError",
            "SelectorRuleArgs",
            "SelectorRuleArgsDict",
            "SelectorRuleOutput",
            "SelectorRuleResult",
            "SetupOutput",
            "TraceloopError",
            "get_auto_monitor_setup",
            "get_auto_monitor_setup_output",
            "list_auto_monitor_setups",
            "list_auto_monitor_setups_output",
            "resource",
            "span",
        ]

    def test_other_names_are_attribute_errors(self) -> None:
        with pytest.raises(AttributeError, match="no attribute 'AutoMonitorSetups'"):
            pulumi_traceloop.AutoMonitorSetups  # type: ignore[attr-defined]  # noqa: B018

    def test_importing_it_imports_no_dependency(self) -> None:
        """pytest loads its plugin in every run, of whatever project."""
        heavy = {"pulumi", "requests", "urllib3", "pydantic", "aiohttp"}
        assert heavy & _imported("import pulumi_traceloop") == set()

    def test_a_program_imports_neither_client_nor_emulator(self) -> None:
        heavy = {"requests", "pydantic", "aiohttp", "pulumi_traceloop.spans.matching"}
        code = "from pulumi_traceloop import AutoMonitorSetup, AutoMonitorSetupGroup, files, span"
        assert heavy & _imported(code) == set()

    def test_a_provider_imports_what_it_needs_when_it_needs_it(self) -> None:
        """Its process pays for each import at every start; here nothing has changed."""
        heavy = {"requests", "urllib3", "pydantic", "aiohttp", "pulumi_traceloop.spans"}
        group = {"setups": {"a": "{}"}, "packed_setups": {"00": '{"b":{}}'}, "declared_by": "g"}
        code = f"""
from pulumi.dynamic import ConfigureRequest
from pulumi_traceloop.providers import AutoMonitorSetupBatchProvider
provider = AutoMonitorSetupBatchProvider()
provider.configure(ConfigureRequest(type("Config", (), {{"get": lambda *_: None}})()))
assert provider.check({group}, {group}).failures == []
assert provider.diff("g", {group}, {group}).changes is False
"""
        assert heavy & _imported(code) == set()

    @pytest.mark.parametrize("asked", [True, False])
    def test_spans_are_imported_where_they_are_asked_for(self, asked: bool) -> None:
        setup = (
            '{"evaluators":["e"],"selector":[{"key":"k","source":"span_attributes","value":"x"}]}'
        )
        group = {"setups": {"a": setup}, "declared_by": "g", "preview": True}
        config = {"traceloop:matchSpans": "no-such-file"} if asked else {}
        code = f"""
from pulumi.dynamic import ConfigureRequest
from pulumi_traceloop.providers import AutoMonitorSetupBatchProvider
provider = AutoMonitorSetupBatchProvider()
provider.configure(
    ConfigureRequest(type("Config", (), {{"get": lambda self, key: {config}.get(key)}})())
)
import contextlib, io
with contextlib.redirect_stdout(io.StringIO()):
    assert provider.check({{}}, {group}).failures == []
"""
        found = {name for name in _imported(code) if name.startswith("pulumi_traceloop.spans")}
        assert bool(found) is asked, found

    def test_is_not_taken_for_a_plugin_to_download(self) -> None:
        """The engine takes any distribution named pulumi-* for one that needs a binary."""
        plugin = (files("pulumi_traceloop") / "pulumi-plugin.json").read_text()
        assert json.loads(plugin)["resource"] is False

    def test_is_typed(self) -> None:
        assert (files("pulumi_traceloop") / "py.typed").is_file()
