"""Semantic keys, request bodies and stored setups: `_models.py`."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import ValidationError

from pulumi_traceloop._models import (
    UNREADABLE_LIMIT,
    BulkItem,
    Setup,
    SetupSpec,
    read_bulk,
    read_list,
)
from tests.support.setups import RULE, configs, rule, setup, without


def spec(**changes: Any) -> SetupSpec:
    return SetupSpec.model_validate(setup(**changes))


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
        meaning = SetupSpec.model_validate(one).definition
        assert meaning == SetupSpec.model_validate(other).definition
        assert hash(meaning) == hash(SetupSpec.model_validate(other).definition)

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
        assert spec().definition != SetupSpec.model_validate(other).definition

    def test_includes_the_scope(self) -> None:
        span = SetupSpec.model_validate(configs({"slug": "a", "scope": "span"}))
        trace = SetupSpec.model_validate(configs({"slug": "a", "scope": "trace"}))
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
        body = SetupSpec.model_validate(given).request_body()
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
    return Setup.model_validate(stored(**changes))


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
        declared = SetupSpec.model_validate(given)
        body = declared.request_body()
        config = body.get("evaluator_configs") or [{"slug": slug} for slug in body["evaluators"]]
        back = read(
            init_rules=body["selector"],
            evaluators=[{"evaluator_type": c["slug"], "scope": c.get("scope")} for c in config],
        )
        assert back.definition == declared.definition
        assert SetupSpec.model_validate(back.as_input()).definition == declared.definition
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


#: Values of another type than string, and their names in messages.
OTHER_TYPES = {
    "number": (7, "a number"),
    "float": (7.5, "a number"),
    "boolean": (True, "a boolean"),
    "null": (None, "null"),
    "list": (["x"], "a list"),
    "object": ({"x": 1}, "an object"),
}
#: Where such a value may be, with how to put it there, and whether null is allowed.
PLACES: dict[str, tuple[Callable[[Any], dict[str, Any]], bool]] = {
    "id": (lambda value: {"id": value}, False),
    "status": (lambda value: {"status": value}, False),
    "env_project_id": (lambda value: {"env_project_id": value}, True),
    "created_at": (lambda value: {"created_at": value}, True),
    "init_rules[1].key": (lambda value: {"init_rules": [RULE, {**RULE, "key": value}]}, False),
    "init_rules[0].value": (lambda value: {"init_rules": [{**RULE, "value": value}]}, True),
    "init_rules[0].values[1]": (
        lambda value: {"init_rules": [{**RULE, "operator": "in", "values": ["a", value]}]},
        False,
    ),
    "init_rules[0]": (lambda value: {"init_rules": [value]}, False),
    "evaluators[0].evaluator_type": (
        lambda value: {"evaluators": [{"evaluator_type": value}]},
        False,
    ),
    "evaluators[0].status": (
        lambda value: {"evaluators": [{"evaluator_type": "e", "status": value}]},
        False,
    ),
}


class TestList:
    def test_valid_setups(self) -> None:
        listing = read_list(dump([stored(), stored(external_id="n")]))
        assert [setup.external_id for setup in listing.setups] == ["m", "n"]
        assert listing.unreadable == []

    @pytest.mark.parametrize("other", OTHER_TYPES)
    @pytest.mark.parametrize("place", PLACES)
    def test_value_of_another_type(self, place: str, other: str) -> None:
        """It is named with its project, path and type; all others are read."""
        value, named = OTHER_TYPES[other]
        put, null_is_fine = PLACES[place]
        if (value is None and null_is_fine) or (place == "init_rules[0]" and other == "object"):
            pytest.skip("that can be read, or is wrong elsewhere")
        foreign = stored(external_id="f", env_project_id="theirs") | put(value)
        listing = read_list(dump([stored(), foreign, stored(external_id="n")]))
        assert [setup.external_id for setup in listing.setups] == ["m", "n"]
        (unreadable,) = listing.unreadable
        assert unreadable.external_id == "f"
        assert unreadable.env_project_id == (None if place == "env_project_id" else "theirs")
        assert re.fullmatch(
            re.escape(place) + r" should be (a string|an object), but is " + named,
            unreadable.reason,
        )

    def test_number_as_external_id(self) -> None:
        """It may be a setup of this stack, with the external_id as a number."""
        (unreadable,) = read_list(dump([stored(), stored(external_id=7)])).unreadable
        assert unreadable.external_id == "7"

    @pytest.mark.parametrize("nameless", [{}, None, [], "x", 7, stored(external_id=None)])
    def test_item_without_external_id(self, nameless: object) -> None:
        listing = read_list(dump([nameless, stored(), nameless]))
        assert [setup.external_id for setup in listing.setups] == ["m"]
        assert listing.unreadable == []

    @pytest.mark.parametrize("body", [b"{}", b"7", b"[null]", b"[{}]", b'[{"id": "1"}]', b"["])
    def test_no_item_is_a_setup(self, body: bytes) -> None:
        with pytest.raises(ValidationError):
            read_list(body)

    def test_too_many_unreadable_items(self) -> None:
        other = stored(external_id="f", status=7)
        assert len(read_list(dump([other] * UNREADABLE_LIMIT)).unreadable) == UNREADABLE_LIMIT
        with pytest.raises(ValidationError, match="status"):
            read_list(dump([other] * (UNREADABLE_LIMIT + 1)))


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
