"""Rules, args classes and their one canonical form: `args.py`."""

from __future__ import annotations

from collections.abc import Callable

import pulumi
import pytest

from pulumi_traceloop import (
    AutoMonitorSetupArgs,
    EvaluatorConfigArgs,
    SelectorRuleArgs,
    resource,
    span,
)
from pulumi_traceloop.args import RuleBuilder, canonical, plain, resolved
from tests.support.programs import ARGS, DICT, JSON, Program


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
    def test_args_become_dicts_at_every_depth(self) -> None:
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
    def test_is_the_same_for_dicts_and_args(self) -> None:
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
    def test_rejects_values_that_json_lacks(self, value: object) -> None:
        with pytest.raises(TypeError, match="not JSON serializable"):
            canonical(value)

    @pytest.mark.parametrize("value", [float("nan"), float("inf")])
    def test_rejects_numbers_that_json_lacks(self, value: float) -> None:
        with pytest.raises(TypeError):
            canonical({"triggers": [value]})


class TestResolved:
    def test_plain_values_are_resolved(self) -> None:
        assert resolved(plain(ARGS))

    def test_outputs_are_not_resolved(self, program: Program) -> None:
        seen: list[bool] = []

        def resolve() -> None:
            output = pulumi.Output.from_input("v")
            nested = AutoMonitorSetupArgs([span("k").equals(output)], ["faithfulness"])
            seen.extend(resolved(plain(value)) for value in (output, [output], nested))

        program.run(resolve)
        assert seen == [False, False, False]
