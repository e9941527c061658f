"""The JSON schema accepts what a file accepts."""

from __future__ import annotations

import json
import typing
from typing import Any

import pytest
import yaml
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from pulumi_traceloop import _naming, _validation
from pulumi_traceloop.evaluators import DOCUMENTED, incompatibility
from pulumi_traceloop.files import SCHEMA
from pulumi_traceloop.spans.attributes import doubts, renames
from tests.support import REPOSITORY
from tests.support.files import EXAMPLE, JUNK, OPERATORS, PLAUSIBLE, SETUPS, accepted, load, wrong

pytestmark = pytest.mark.usefixtures("folder")


@pytest.fixture(scope="module")
def schema() -> Draft202012Validator:
    return Draft202012Validator(json.loads(SCHEMA.read_text()))


class TestSchema:
    def test_is_a_valid_schema(self, schema: Draft202012Validator) -> None:
        schema.check_schema(schema.schema)

    @settings(deadline=None)
    @given(setup=SETUPS | PLAUSIBLE | JUNK)
    def test_accepts_what_validation_accepts(
        self, schema: Draft202012Validator, setup: Any
    ) -> None:
        # The one difference: for a schema, a missing scope and an empty one differ.
        configs = setup.get("evaluator_configs") if isinstance(setup, dict) else None
        for config in configs if isinstance(configs, list) else []:
            assume(not (isinstance(config, dict) and config.get("scope", "") is None))
        assert schema.is_valid({"setups": {"m": setup}}) is accepted(setup)

    @pytest.mark.parametrize(
        ("changes", "right"),
        [
            ({}, True),
            ({"evaluators": ["a", "b"]}, True),
            ({"evaluators": None, "evaluator_configs": [{"slug": "a"}]}, True),
            ({"evaluator_configs": None, "triggers": None}, True),
            ({"evaluator_configs": [{"slug": "a"}]}, False),
            ({"evaluators": None}, False),
            ({"evaluators": []}, False),
            ({"evaluators": ["a", "a"]}, False),
            ({"evaluators": None, "evaluator_configs": []}, False),
            ({"evaluators": None, "evaluator_configs": [{"slug": "a"}, {"slug": "a"}]}, False),
            ({"evaluators": None, "evaluator_configs": [{"slug": "a", "scope": "all"}]}, False),
            ({"selector": []}, False),
            ({"selector": [{"key": "a", "source": "span", "value": "b"}]}, False),
            ({"selector": [{"key": "a", "source": "span_attributes", "operator": "like"}]}, False),
            ({"triggers": {}}, False),
        ],
    )
    def test_agrees_with_validation_in_edge_cases(
        self, schema: Draft202012Validator, changes: dict[str, Any], right: bool
    ) -> None:
        rule = {"key": "a", "source": "span_attributes", "operator": "exists"}
        setup = {"selector": [rule], "evaluators": ["a"], **changes}
        assert accepted(setup) is right
        assert schema.is_valid({"setups": {"m": setup}}) is right

    def test_has_all_operators_and_sources(self) -> None:
        definitions = json.loads(SCHEMA.read_text())["$defs"]
        rule = definitions["rule"]["properties"]
        scope = definitions["evaluatorConfig"]["properties"]["scope"]
        assert rule["operator"]["enum"] == list(typing.get_args(_validation.Operator))
        assert rule["source"]["enum"] == list(typing.get_args(_validation.Source))
        assert scope["enum"] == [*typing.get_args(_validation.Scope), None]

    @settings(deadline=None)
    @given(operator=OPERATORS | st.none(), fields=st.sets(st.sampled_from(["value", "values"])))
    def test_has_the_operands_of_each_operator(
        self, schema: Draft202012Validator, operator: str | None, fields: set[str]
    ) -> None:
        rule: dict[str, Any] = {"key": "a", "source": "span_attributes"}
        rule |= {"operator": operator} if operator else {}
        rule |= {field: {"value": "a", "values": ["a"]}[field] for field in fields}
        setup = {"selector": [rule], "evaluators": ["a"]}
        assert schema.is_valid({"setups": {"m": setup}}) is accepted(setup)

    @pytest.mark.parametrize(
        "external_id",
        ["", " ", ".", "..", "...", "a", "a/b", "é", "a b", " a", "a\n", "a" * 2000, "a" * 2001],
    )
    def test_external_ids(self, schema: Draft202012Validator, external_id: str) -> None:
        setup = {
            "selector": [{"key": "a", "source": "span_attributes", "operator": "exists"}],
            "evaluators": ["a"],
        }
        right = _naming.external_id_problem(external_id) is None
        assert schema.is_valid({"setups": {external_id: setup}}) is right

    @pytest.mark.parametrize(
        ("file", "right"),
        [
            ({"setups": {}}, True),
            ({"setups": {}, "$schema": "s.json", "x-a": 1}, True),
            ({"setups": {}, "shared": {}}, False),
            ({"setups": {}, "$schema": 1}, False),
            ({"setups": None}, False),
            ({"setups": []}, False),
            ({}, False),
            ([], False),
            (None, False),
        ],
    )
    def test_top_level_is_that_of_the_loader(
        self, schema: Draft202012Validator, file: object, right: bool
    ) -> None:
        assert schema.is_valid(file) is right
        if right:
            load(json.dumps(file))
        else:
            wrong(json.dumps(file))

    def test_suggests_documented_evaluators_and_accepts_others(self) -> None:
        suggested, others = json.loads(SCHEMA.read_text())["$defs"]["slug"]["anyOf"]
        assert set(suggested["enum"]) == set(DOCUMENTED)
        assert others["type"] == "string"

    def test_hints_about_evaluators_are_the_warnings(self) -> None:
        suggested, _ = json.loads(SCHEMA.read_text())["$defs"]["slug"]["anyOf"]
        hints = dict(zip(suggested["enum"], suggested["enumDescriptions"], strict=True))
        for slug, hint in hints.items():
            why = incompatibility(slug) or incompatibility(slug, self_hosted=True) or ""
            assert bool(hint) is bool(why)
            assert hint[1:-1] == why[1 : len(hint) - 1]

    def test_hints_about_attributes_are_the_warnings(self) -> None:
        key = json.loads(SCHEMA.read_text())["$defs"]["rule"]["properties"]["key"]
        spans, resources, *deprecated, _ = key["anyOf"]
        sources = ("span_attributes", "resource_attributes")
        for suggested, right, other in ((spans, *sources), (resources, *reversed(sources))):
            for name in suggested["enum"]:
                assert list(doubts(name, right)) == []
                assert len(list(doubts(name, other))) == 1
        assert {each["const"] for each in deprecated} >= {"gen_ai.system", "deployment.environment"}
        for each in deprecated:
            assert each["deprecated"] is True
            successors = renames(each["const"])
            assert each["deprecationMessage"] == f"today's SDKs write {' or '.join(successors)}"
            assert each["description"] == f"Deprecated; {each['deprecationMessage']}."

    @pytest.mark.skipif(
        not SCHEMA.is_relative_to(REPOSITORY), reason="the package is not in the repository"
    )
    def test_example_file_refers_to_it_and_is_valid(self, schema: Draft202012Validator) -> None:
        text = EXAMPLE.read_text()
        named = text.splitlines()[0].partition("$schema=")[2]
        assert (EXAMPLE.parent / named).resolve() == SCHEMA.resolve()
        schema.validate(yaml.safe_load(text))
