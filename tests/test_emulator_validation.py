"""Requests that the emulator refuses, and its messages: `emulator/validation.py`."""

from __future__ import annotations

from typing import Any

import pytest

from pulumi_traceloop.emulator import Emulator
from tests.support.api import (
    BULK,
    CONTENT,
    RULE,
    SETUPS,
    Api,
    item,
    setup,
)


def test_create_without_a_selector_is_accepted(api: Api) -> None:
    reply = api.call("POST", SETUPS, {"external_id": "m", "evaluators": ["faithfulness"]})
    assert (reply.status, reply.json["init_rules"]) == (201, [])


@pytest.mark.parametrize("evaluators", [{}, {"evaluators": []}, {"evaluators": None}])
def test_create_without_evaluators_is_refused(api: Api, evaluators: dict[str, Any]) -> None:
    reply = api.call("POST", SETUPS, {"external_id": "m", "selector": [RULE], **evaluators})
    assert reply.status == 400
    assert reply.error == "invalid input: evaluators must contain at least one item"


@pytest.mark.parametrize("external_id", [None, "", 7])
def test_create_without_external_id_is_refused(api: Api, external_id: Any) -> None:
    reply = api.call("POST", SETUPS, {**CONTENT, "external_id": external_id})
    assert (reply.status, reply.error) == (400, "invalid input: external_id is required")


@pytest.mark.parametrize("selector", [{}, {"selector": []}, {"selector": None}])
def test_upsert_without_a_selector_is_refused(api: Api, selector: dict[str, Any]) -> None:
    reply = api.upsert("m", {"evaluators": ["faithfulness"], **selector})
    assert (reply.status, reply.error) == (400, "selector must have at least 1 filter")


@pytest.mark.parametrize(
    "evaluators", [{}, {"evaluators": []}, {"evaluator_configs": []}, {"evaluators": None}]
)
def test_upsert_without_evaluators_and_configs_is_refused(
    api: Api, evaluators: dict[str, Any]
) -> None:
    reply = api.upsert("m", {"selector": [RULE], **evaluators})
    assert (reply.status, reply.error) == (
        400,
        "one of evaluators or evaluator_configs is required",
    )


@pytest.mark.parametrize(
    "evaluators", [{"evaluators": ["nope"]}, {"evaluator_configs": [{"slug": "nope"}]}]
)
def test_unknown_evaluator_is_refused(
    api: Api, emulator: Emulator, evaluators: dict[str, Any]
) -> None:
    reply = api.upsert("m", {"selector": [RULE], **evaluators})
    assert (reply.status, reply.error) == (400, 'unknown evaluator slug "nope"')
    assert emulator.setups == {}
    assert not emulator.writes


def test_configs_override_evaluators_and_scope_is_optional(api: Api) -> None:
    configs = [{"slug": "faithfulness", "scope": "trace"}, {"slug": "word-count"}]
    evaluators = api.upsert("m", {**CONTENT, "evaluator_configs": configs}).json["evaluators"]
    assert [e["evaluator_type"] for e in evaluators] == ["faithfulness", "word-count"]
    assert evaluators[0]["scope"] == "trace"
    assert "scope" not in evaluators[1]


def test_empty_configs_do_not_override_evaluators(api: Api) -> None:
    reply = api.upsert("m", {**CONTENT, "evaluator_configs": []})
    assert [e["evaluator_type"] for e in reply.json["evaluators"]] == ["answer-relevancy"]


@pytest.mark.parametrize(
    ("config", "text"),
    [
        ({"slug": "faithfulness", "scope": "request"}, "scope must be one of session, trace, span"),
        ({"scope": "trace"}, "slug is required"),
        ("faithfulness", "must be an object"),
    ],
)
def test_invalid_config_is_refused(api: Api, config: Any, text: str) -> None:
    reply = api.upsert("m", {"selector": [RULE], "evaluator_configs": [config]})
    assert (reply.status, reply.error) == (400, f"invalid input: evaluator_configs[0]: {text}")


def test_custom_evaluator_is_accepted_once_added(api: Api, emulator: Emulator) -> None:
    body = {**CONTENT, "evaluators": ["my-judge"]}
    assert api.upsert("m", body).status == 400
    emulator.add_evaluator("my-judge")
    assert api.upsert("m", body).status == 201


@pytest.mark.parametrize(
    "rule",
    [
        *({**RULE, "operator": op} for op in ("equals", "not_equals", "contains", "not_contains")),
        *(
            {"key": "k", "values": ["a", "b"], "source": "span_attributes", "operator": op}
            for op in ("in", "not_in")
        ),
        *(
            {"key": "k", "source": "resource_attributes", "operator": op}
            for op in ("exists", "not_exists")
        ),
    ],
    ids=lambda rule: rule["operator"],
)
def test_each_operator_is_stored_as_it_was_sent(api: Api, rule: dict[str, Any]) -> None:
    assert api.upsert("m", {**CONTENT, "selector": [rule]}).json["init_rules"] == [rule]


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"key": None}, "key is required"),
        ({"key": ""}, "key is required"),
        ({"source": None}, "source is required"),
        ({"source": "spans"}, "source must be one of span_attributes, resource_attributes"),
        ({"operator": "like"}, "operator must be one of equals, not_equals, contains,"),
        ({"value": None}, "value is required for operator equals"),
        ({"operator": "contains", "value": None}, "value is required for operator contains"),
        ({"operator": "in"}, "values is required for operator in"),
        ({"operator": "not_in", "values": []}, "values is required for operator not_in"),
        ({"value": 7}, "value must be a string"),
        ({"operator": "in", "values": [7]}, "values must be an array of strings"),
    ],
)
def test_invalid_rule_is_refused(api: Api, change: dict[str, Any], text: str) -> None:
    reply = api.upsert("m", {**CONTENT, "selector": [RULE, {**RULE, **change}]})
    assert reply.status == 400
    assert reply.error.startswith(f"invalid input: selector[1]: {text}")


@pytest.mark.parametrize("selector", [{"gen_ai.system": "openai"}, "openai", [["key"]]])
def test_selector_that_is_not_an_array_of_rules_is_refused(api: Api, selector: Any) -> None:
    assert api.upsert("m", {**CONTENT, "selector": selector}).status == 400


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({"selector": []}, "selector must have at least 1 filter"),
        ({"evaluators": []}, "invalid input: evaluators must contain at least one item"),
        ({"evaluators": ["nope"]}, 'unknown evaluator slug "nope"'),
    ],
)
def test_invalid_update_is_refused(api: Api, body: Any, text: str) -> None:
    api.upsert("m")
    reply = api.call("PUT", item("m"), body)
    assert (reply.status, reply.error) == (400, text)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"selector": []}, "selector must have at least 1 filter"),
        (
            {"evaluators": None, "evaluator_configs": [{"slug": "faithfulness"}]},
            "invalid input: evaluators must contain at least one item",
        ),
        ({"selector": [{**RULE, "source": "x"}]}, "invalid input: selector[0]: source must be"),
        ({"evaluators": "faithfulness"}, "invalid input: evaluators must be an array of strings"),
    ],
)
def test_error_of_a_bulk_item_names_its_index(api: Api, change: Any, text: str) -> None:
    entries = api.bulk(setup("fine"), setup("m", **change)).json["setups"]
    assert entries[0]["status"] == "ok"
    assert entries[1]["status"] == "error"
    assert entries[1]["error"].startswith(f"setups[1]: {text}")


@pytest.mark.parametrize(
    ("setups", "text"),
    [
        ([], "invalid input: setups must contain at least one item"),
        ([setup(f"m-{i}") for i in range(101)], "invalid input: setups must contain at most 100"),
        ([setup("a"), CONTENT], "setups[1]: external_id is required"),
        ([setup("a"), setup("")], "setups[1]: external_id is required"),
        (
            [setup("a"), setup("b"), setup("a")],
            'setups[2]: duplicate external_id "a" (also at setups[0])',
        ),
        ([setup("a"), "b"], "setups[1]: must be an object"),
        (None, "invalid input: setups is required and must be an array"),
    ],
    ids=["empty", "too many", "no id", "empty id", "duplicate", "no object", "no array"],
)
def test_invalid_batch_is_refused_as_a_whole(
    api: Api, emulator: Emulator, setups: Any, text: str
) -> None:
    reply = api.call("POST", BULK, {"setups": setups})
    assert reply.status == 400
    assert reply.error.startswith(text)
    assert emulator.setups == {}
