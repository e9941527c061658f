"""A program that declares single setups, and what a program must not declare: `resources.py`."""

from __future__ import annotations

from typing import Any

import pulumi
import pytest

from pulumi_traceloop import (
    AutoMonitorSetup,
    AutoMonitorSetupGroup,
    EvaluatorConfigArgs,
    InputError,
    TraceloopError,
    span,
)
from pulumi_traceloop.args import plain
from tests.engine.wire import is_secret, make_secret
from tests.support.programs import (
    ARGS,
    BATCH,
    DICT,
    GROUP,
    MEMBERSHIP,
    ONE,
    Component,
    Program,
)


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

    def test_external_id_defaults_to_the_resource_name(self, program: Program) -> None:
        program.run(lambda: AutoMonitorSetup("m", **DICT))
        assert program.of(ONE).inputs["external_id"] == "m"

    def test_empty_external_id_is_rejected(self, program: Program) -> None:
        """It is an error, not a default."""
        with pytest.raises(InputError, match="external_id: must not be empty"):
            program.run(lambda: AutoMonitorSetup("m", external_id="", **DICT))

    @pytest.mark.parametrize("args", [ARGS, DICT], ids=["args", "dict"])
    def test_accepts_args_as_every_pulumi_sdk(self, program: Program, args: Any) -> None:
        def declare() -> object:
            opts = pulumi.ResourceOptions(parent=Component("shop"))
            AutoMonitorSetup("m", args, opts, external_id="x")
            return AutoMonitorSetup("n", args, opts=opts, if_exists="fail")

        program.run(declare)
        # The SDK registers them concurrently.
        found = {r.name: r for r in program.registered if r.type == ONE}
        m, n = found["m"], found["n"]
        assert m.inputs["selector"] == n.inputs["selector"] == plain(DICT)["selector"]
        assert m.inputs["evaluators"] == n.inputs["evaluators"] == ["faithfulness"]
        assert (m.inputs["external_id"], n.inputs["if_exists"]) == ("x", "fail")
        assert m.parent.endswith("shop")
        assert n.parent == m.parent

    def test_args_and_keywords_are_exclusive(self, program: Program) -> None:
        with pytest.raises(InputError) as failure:
            program.run(lambda: AutoMonitorSetup("m", ARGS, evaluators=["x"]))  # type: ignore[call-overload]
        assert str(failure.value) == (
            'AutoMonitorSetup "m", args: has the contents of the setup: remove evaluators'
        )

    def test_get_accepts_a_namespace_and_no_setup(self, program: Program) -> None:
        program.run(lambda: AutoMonitorSetup.get("m", " theirs ", config_namespace="second"))
        (read,) = program.read
        assert read["config_namespace"] == "second"
        assert read["external_id"] == " theirs "

    def test_accepts_outputs_anywhere(self, program: Program) -> None:
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

    def test_secret_value_is_sent_as_a_secret(self, program: Program) -> None:
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

    def test_declarer_has_the_parent(self, program: Program) -> None:
        def declare() -> object:
            opts = pulumi.ResourceOptions(parent=Component("shop"))
            return AutoMonitorSetup("m", **DICT, opts=opts)

        program.run(declare)
        declared_by = program.of(ONE).inputs["declared_by"]
        assert declared_by == 'AutoMonitorSetup "m" in shop:index:Monitoring "shop"'


#: Invalid setups, each with the problem.
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
class TestInvalidInputs:
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

    def test_long_message_is_truncated_and_the_attribute_is_complete(
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
    def test_setups_that_are_not_a_mapping(
        self, program: Program, setups: Any, preview: bool
    ) -> None:
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

    def test_text_of_a_real_output(
        self, program: Program, preview: bool, capsys: pytest.CaptureFixture[str]
    ) -> None:
        def declare() -> object:
            name = pulumi.Output.from_input("checkout")
            return AutoMonitorSetupGroup("g", {f"m-{name}": DICT})

        with pytest.raises(InputError, match="the external_id is the text of an Output, not its"):
            program.run(declare, preview=preview)

    def test_unknown_values_are_left_to_the_provider(self, program: Program, preview: bool) -> None:
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


class TestOddTexts:
    def test_of_one_setup_are_one_warning(
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

    def test_of_a_group_are_one_warning(
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

    def test_plain_texts_have_no_warning(
        self, program: Program, caplog: pytest.LogCaptureFixture
    ) -> None:
        program.run(lambda: (AutoMonitorSetup("m", DICT), AutoMonitorSetupGroup("g", {"a": DICT})))
        assert caplog.records == []
