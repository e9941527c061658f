"""Semantic keys, request bodies and stored setups: `_models.py`."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import ValidationError

from pulumi_traceloop._models import (
    SETUP,
    SETUP_SPEC,
    BulkItem,
    Setup,
    SetupSpec,
    read_bulk,
)
from tests.support.setups import RULE, configs, rule, setup, without


def spec(**changes: Any) -> SetupSpec:
    return SETUP_SPEC.validate_python(setup(**changes))


OTHER = rule(key="service.name", source="resource_attributes", value="shop")


class TestSemanticKey:
    @pytest.mark.parametrize(
        ("one", "other"),
        [
            (setup(selector=[RULE, OTHER]), setup(selector=[OTHER, RULE])),
            (setup(), setup(selector=[rule(operator="equals")])),
            (setup(), setup(selector=[RULE, RULE])),
            (
                setup(selector=[rule(operator="in", value=..., values=["a", "b"])]),
                setup(selector=[rule(operator="in", value=..., values=["b", "a", "a"])]),
            ),
            (setup(evaluators=["a", "b"]), setup(evaluators=["b", "a"])),
            (setup(evaluators=["a"]), configs({"slug": "a"})),
            (setup(evaluators=["a"]), configs({"slug": "a", "scope": None})),
            (setup(), setup(triggers=["again"])),
        ],
        ids=[
            *("rules' order", "default operator", "a rule twice", "values' order"),
            *("evaluators' order", "bare config", "config without scope", "triggers"),
        ],
    )
    def test_ignores_order_and_defaults(self, one: dict[str, Any], other: dict[str, Any]) -> None:
        meaning = SETUP_SPEC.validate_python(one).definition
        assert meaning == SETUP_SPEC.validate_python(other).definition
        assert hash(meaning) == hash(SETUP_SPEC.validate_python(other).definition)

    @pytest.mark.parametrize(
        "other",
        [
            setup(selector=[RULE, OTHER]),
            setup(selector=[rule(value="anthropic")]),
            setup(selector=[rule(value="OpenAI")]),
            setup(selector=[rule(key="gen_ai.request.model")]),
            setup(selector=[rule(source="resource_attributes")]),
            setup(selector=[rule(operator="not_equals")]),
            setup(selector=[rule(operator="exists", value=...)]),
            setup(selector=[rule(operator="in", value=..., values=["openai"])]),
            setup(evaluators=["word-count"]),
            setup(evaluators=["pii-detector", "word-count"]),
            configs({"slug": "pii-detector", "scope": "span"}),
        ],
    )
    def test_differs_with_the_definition(self, other: dict[str, Any]) -> None:
        assert spec().definition != SETUP_SPEC.validate_python(other).definition

    def test_includes_the_scope(self) -> None:
        span = SETUP_SPEC.validate_python(configs({"slug": "a", "scope": "span"}))
        trace = SETUP_SPEC.validate_python(configs({"slug": "a", "scope": "trace"}))
        assert span.definition != trace.definition


class TestRequestBody:
    def test_has_the_declared_setup_and_the_operator(self) -> None:
        assert spec(triggers=["x"]).request_body() == {
            "selector": [{**RULE, "operator": "equals"}],
            "evaluators": ["pii-detector"],
        }

    def test_omits_operands_that_the_operator_does_not_take(self) -> None:
        rules = [
            rule(operator="in", value=..., values=["a"]),
            rule(operator="exists", value=...),
        ]
        assert spec(selector=rules).request_body()["selector"] == rules

    def test_has_the_slugs_beside_the_configs(self) -> None:
        given = configs({"slug": "a", "scope": "span"}, {"slug": "b"}, {"slug": "a"})
        body = SETUP_SPEC.validate_python(given).request_body()
        assert body["evaluators"] == ["a", "b"]
        assert body["evaluator_configs"] == [
            {"slug": "a", "scope": "span"},
            {"slug": "b"},
            {"slug": "a"},
        ]


def stored(**changes: Any) -> dict[str, Any]:
    return without(
        {
            "id": "cmm1",
            "external_id": "m",
            "org_id": "o",
            "project_id": "p",
            "env_project_id": "e",
            "init_rules": [{**RULE, "operator": "equals"}],
            "evaluators": [{"evaluator_type": "pii-detector", "status": "pending"}],
            "status": "pending",
            "created_at": "2026-05-20T10:30:00Z",
            "updated_at": "2026-05-20T10:30:00Z",
            **changes,
        }
    )


def read(**changes: Any) -> Setup:
    return SETUP.validate_python(stored(**changes))


class TestStoredSetups:
    def test_equals_the_declared_setup(self) -> None:
        assert read().definition == spec().definition

    def test_rule_without_an_operator_is_an_equality(self) -> None:
        assert read(init_rules=[RULE]).definition == spec().definition

    def test_openapi_files_name_of_the_operator_is_accepted(self) -> None:
        given = read(init_rules=[{**RULE, "op": "not_equals"}])
        assert given.definition == spec(selector=[rule(operator="not_equals")]).definition

    def test_operands_that_the_operator_does_not_take_are_ignored(self) -> None:
        rules = [{**RULE, "operator": "exists", "value": "", "values": []}]
        expected = spec(selector=[rule(operator="exists", value=...)])
        assert read(init_rules=rules).definition == expected.definition

    @pytest.mark.parametrize("scope", [None, "", ...])
    def test_missing_scope_is_no_scope(self, scope: object) -> None:
        evaluator = without({"evaluator_type": "pii-detector", "scope": scope})
        assert read(evaluators=[evaluator]).definition == spec().definition

    def test_unknown_operator_is_a_difference(self) -> None:
        given = read(init_rules=[{**RULE, "operator": "matches"}])
        assert given.definition != spec().definition

    @pytest.mark.parametrize(
        "given",
        [
            setup(),
            setup(selector=[RULE, OTHER], evaluators=["a", "b"]),
            setup(selector=[rule(operator="not_in", value=..., values=["a", "b"])]),
            setup(selector=[rule(operator="not_exists", value=...)]),
            configs({"slug": "a", "scope": "span"}, {"slug": "b"}),
        ],
    )
    def test_as_input_is_the_declared_setup(self, given: dict[str, Any]) -> None:
        declared = SETUP_SPEC.validate_python(given)
        body = declared.request_body()
        config = body.get("evaluator_configs") or [{"slug": slug} for slug in body["evaluators"]]
        back = read(
            init_rules=body["selector"],
            evaluators=[{"evaluator_type": c["slug"], "scope": c.get("scope")} for c in config],
        )
        assert back.definition == declared.definition
        assert SETUP_SPEC.validate_python(back.as_input()).definition == declared.definition
        assert set(back.as_input()) == set(given)

    def test_unknown_fields_and_statuses_are_accepted(self) -> None:
        given = read(
            status="hibernating",
            color={"a": 1},
            evaluators=[{"evaluator_type": "a", "status": "dreaming", "input_schema": [{}]}],
        )
        assert (given.status, given.evaluators[0].status) == ("hibernating", "dreaming")

    @pytest.mark.parametrize("absent", [None, ...])
    def test_missing_fields_are_accepted(self, absent: object) -> None:
        given = read(init_rules=absent, evaluators=absent, env_project_id=absent, created_at=absent)
        assert (given.init_rules, given.evaluators) == ([], [])
        assert (given.env_project_id, given.created_at) == (None, None)

    @pytest.mark.parametrize("field", ["id", "external_id"])
    def test_identity_is_required(self, field: str) -> None:
        with pytest.raises(ValidationError, match=field):
            read(**{field: ...})


def dump(value: object) -> bytes:
    return json.dumps(value).encode()


class TestBulk:
    def test_valid_items(self) -> None:
        ok, refused = read_bulk(
            dump(
                {
                    "setups": [
                        {"external_id": "m", "status": "ok", "result": stored(), "took": 3},
                        {"external_id": "n", "status": "error", "error": "no"},
                    ]
                }
            )
        )
        assert isinstance(ok, BulkItem)
        assert isinstance(refused, BulkItem)
        assert ok.result == read()
        assert (refused.result, refused.error) == (None, "no")

    def test_unreadable_item(self) -> None:
        odd = {"external_id": "n", "status": "ok", "result": stored(external_id="n", status=None)}
        good = {"external_id": "m", "status": "ok", "result": stored()}
        ok, unreadable = read_bulk(dump({"setups": [good, odd]}))
        assert isinstance(ok, BulkItem)
        assert unreadable == ("n", None, "result.status should be a string, but is null")
