"""The public API as users write it. Nothing runs here: mypy checks it, and so it pins the types."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pulumi
from typing_extensions import assert_type

from pulumi_traceloop import (
    AutoMonitorSetup,
    AutoMonitorSetupArgs,
    AutoMonitorSetupArgsDict,
    AutoMonitorSetupGroup,
    EvaluatorConfigArgs,
    EvaluatorConfigArgsDict,
    SelectorRuleArgs,
    SelectorRuleArgsDict,
    SetupOutput,
    TraceloopError,
    resource,
    span,
)
from pulumi_traceloop.spans.matching import SpanIndex, Survey
from pulumi_traceloop.testing import (
    SetupMocks,
    assert_matches,
    assert_matches_nothing,
    declared_setups,
    load_spans,
    surveys,
)

config = pulumi.Config()
tenant: pulumi.Output[str] = config.require_secret("tenant")

# Rules.

assert_type(span("gen_ai.system").equals("openai"), SelectorRuleArgs)
assert_type(span("gen_ai.system").not_equals("openai"), SelectorRuleArgs)
assert_type(span("gen_ai.request.model").contains("gpt"), SelectorRuleArgs)
assert_type(span("gen_ai.request.model").not_contains("mini"), SelectorRuleArgs)
assert_type(resource("service.name").is_in("checkout", "cart"), SelectorRuleArgs)
assert_type(resource("service.name").not_in("kyc"), SelectorRuleArgs)
assert_type(span("retrieval.documents").exists(), SelectorRuleArgs)
assert_type(span("error.type").not_exists(), SelectorRuleArgs)
span(tenant).equals(tenant)
resource("service.name").is_in("checkout", tenant)

span("a").equals(1)  # type: ignore[arg-type]
span("a").equals("1", "2")  # type: ignore[call-arg]
span("a").is_in(["x", "y"])  # type: ignore[arg-type]
span("a").exists("x")  # type: ignore[call-arg]
span("a").like("x")  # type: ignore[attr-defined]
span()  # type: ignore[call-arg]

rule: SelectorRuleArgsDict = {"key": "a", "source": "span_attributes", "value": tenant}
rule_of_outputs: SelectorRuleArgsDict = {"key": "a", "source": tenant, "operator": tenant}
config_of_one: EvaluatorConfigArgsDict = {"slug": "pii-detector", "scope": "trace"}
config_of_outputs: EvaluatorConfigArgsDict = {"slug": tenant, "scope": tenant}
SelectorRuleArgs("a", tenant, tenant, tenant)
SelectorRuleArgs("a", "span_attributes", "not_in", values=["x"])
EvaluatorConfigArgs("pii-detector", tenant)
SelectorRuleArgs("a", "span")  # type: ignore[arg-type]
SelectorRuleArgs("a", "span_attributes", "eq", "x")  # type: ignore[arg-type]
EvaluatorConfigArgs("pii-detector", "spans")  # type: ignore[arg-type]
rule_of_another_source: SelectorRuleArgsDict = {
    "key": "a",
    "source": "span",  # type: ignore[typeddict-item]
}
rule_of_another_operator: SelectorRuleArgsDict = {
    "key": "a",
    "source": "span_attributes",
    "operator": "eq",  # type: ignore[typeddict-item]
}
config_of_another_scope: EvaluatorConfigArgsDict = {
    "slug": "x",
    "scope": "spans",  # type: ignore[typeddict-item]
}
rule_without_source: SelectorRuleArgsDict = {"key": "a"}  # type: ignore[typeddict-item]
rule_with_a_slip: SelectorRuleArgsDict = {
    "key": "a",
    "source": "span_attributes",
    "valeu": "x",  # type: ignore[typeddict-unknown-key]
}

# One setup.

checkout = AutoMonitorSetup(
    "checkout-agent",
    selector=[span("gen_ai.system").equals("openai"), rule],
    evaluators=["answer-relevancy", "toxicity-detector"],
)
assert_type(checkout.external_id, pulumi.Output[str])
assert_type(checkout.setup_id, pulumi.Output[str])
assert_type(checkout.env_project_id, pulumi.Output[str])
assert_type(checkout.selector, pulumi.Output[Sequence[dict[str, Any]]])
assert_type(checkout.evaluators, pulumi.Output[Sequence[str] | None])
assert_type(checkout.evaluator_configs, pulumi.Output[Sequence[dict[str, Any]] | None])
assert_type(checkout.triggers, pulumi.Output[Sequence[Any] | None])
assert_type(checkout.id, pulumi.Output[str])

AutoMonitorSetup(
    "everything",
    external_id=tenant,
    selector=[
        SelectorRuleArgs("a", "span_attributes", value="1"),
        {"key": "b", "source": "resource_attributes", "operator": "in", "values": ["x", tenant]},
        tenant.apply(lambda name: span("tenant").equals(name)),
    ],
    evaluator_configs=[
        EvaluatorConfigArgs("conversation-quality", scope="session"),
        {"slug": tenant},
        config_of_one,
    ],
    triggers=["2026-06", 1, tenant],
    opts=pulumi.ResourceOptions(protect=True),
)
AutoMonitorSetup("outputs", selector=pulumi.Output.from_input([rule]), evaluators=[tenant])

assert_type(AutoMonitorSetup.get("theirs", "their-external-id"), AutoMonitorSetup)
AutoMonitorSetup.get("theirs", tenant, pulumi.ResourceOptions())

assert_type(AutoMonitorSetup.get("theirs", "id", config_namespace="second"), AutoMonitorSetup)

AutoMonitorSetup("m", selector=span("a").exists(), evaluators=["x"])  # type: ignore[call-overload]
AutoMonitorSetup("m", selector=[span("a")], evaluators=["x"])  # type: ignore[list-item]
AutoMonitorSetup("m", "x", selector=[rule])  # type: ignore[call-overload]
AutoMonitorSetup("m", selector=[rule], evaluator=["x"])  # type: ignore[call-overload]
AutoMonitorSetup("m")  # type: ignore[call-overload]
AutoMonitorSetup("m", selector=[rule])  # type: ignore[call-overload]
AutoMonitorSetup("m", evaluators=["x"])  # type: ignore[call-overload]
AutoMonitorSetup("m", selector=[rule], evaluators=["x"], evaluator_configs=[])  # type: ignore[call-overload]

# A group.

as_dict: AutoMonitorSetupArgsDict = {"selector": [rule], "evaluators": ["faithfulness"]}
as_args = AutoMonitorSetupArgs(
    selector=[span("gen_ai.system").equals(tenant)],
    evaluator_configs=[EvaluatorConfigArgs("perplexity")],
    triggers=[1],
)
AutoMonitorSetup("m", as_args, opts=pulumi.ResourceOptions(protect=True))
AutoMonitorSetup("m", as_dict, pulumi.ResourceOptions(), external_id=tenant, if_exists="fail")
AutoMonitorSetup("m", {"selector": [rule], "evaluators": ["x"]})
AutoMonitorSetup("m", args=as_args)
AutoMonitorSetup("m", as_args, selector=[rule])  # type: ignore[call-overload]
AutoMonitorSetup("m", pulumi.Output.from_input(as_args))  # type: ignore[call-overload]

monitors = AutoMonitorSetupGroup(
    "monitors",
    setups={
        "openai": {
            "selector": [span("gen_ai.system").equals("openai")],
            "evaluators": ["faithfulness"],
        },
        "tenant": {
            "selector": [span("tenant").equals(tenant)],
            "evaluator_configs": [{"slug": "pii-detector", "scope": "span"}],
            "triggers": ["2026-06"],
        },
    },
    opts=pulumi.ResourceOptions(depends_on=[checkout]),
)
assert_type(monitors.setup_ids, pulumi.Output[dict[str, str]])
assert_type(monitors.failed, pulumi.Output[dict[str, str]])
assert_type(monitors.setups, pulumi.Output[dict[str, SetupOutput]])
monitors.setups.apply(lambda setups: setups["openai"]["selector"][0]["key"].upper())
monitors.setups.apply(lambda setups: setups["openai"]["rules"])  # type: ignore[typeddict-item]
AutoMonitorSetupGroup("mixed", {"dict": as_dict, "args": as_args})
AutoMonitorSetupGroup(
    "outputs",
    {
        "args": tenant.apply(lambda name: AutoMonitorSetupArgs([span("a").equals(name)], [name])),
        "dict": pulumi.Output.from_input(as_dict),
    },
)
AutoMonitorSetupGroup("many", {f"m-{n}": as_args for n in range(1000)})


def group_of(setups: Mapping[str, AutoMonitorSetupArgs]) -> AutoMonitorSetupGroup:
    """A mapping of args alone is one of args, dicts and Outputs, too."""
    return AutoMonitorSetupGroup("mapping", setups)


AutoMonitorSetupGroup("list", [as_args])  # type: ignore[arg-type]
AutoMonitorSetupGroup("whole", pulumi.Output.from_input({"a": as_args}))  # type: ignore[arg-type]
AutoMonitorSetupGroup("slip", {"a": {"evaluators": ["x"]}})  # type: ignore[dict-item]
AutoMonitorSetupGroup(
    "slip",
    {"a": {"selector": [rule], "evaluatrs": ["x"]}},  # type: ignore[dict-item]
)
AutoMonitorSetupGroup("slip", {"a": {"selector": [rule]}})  # type: ignore[dict-item]
AutoMonitorSetupArgs(evaluators=["x"])  # type: ignore[call-overload]
AutoMonitorSetupArgs([rule])  # type: ignore[call-overload]
AutoMonitorSetupArgs([rule], ["x"], [config_of_one])  # type: ignore[call-overload]
assert_type(AutoMonitorSetupArgs([rule], evaluator_configs=[config_of_one]), AutoMonitorSetupArgs)
as_args.triggers = None  # type: ignore[misc]

# Tests of programs.

spans = load_spans("spans.jsonl")
assert_type(spans, SpanIndex)
assert_type(declared_setups("__main__.py", config={"a:b": "c"}), dict[str, dict[str, Any]])
assert_type(surveys({"dict": as_dict, "args": as_args}, spans), dict[str, Survey])
assert_matches(as_args, spans, allow_none=["canary-*"])
assert_matches(as_dict, "spans.jsonl")
assert_matches_nothing(SetupMocks().setups, [])
assert_matches("monitors.yaml", 3)  # type: ignore[arg-type]

# Errors.


def message_of(error: TraceloopError) -> str:
    return str(error)
