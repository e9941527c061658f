"""The emulator and the client's models against what Traceloop documents.

Sources: the OpenAPI file of traceloop/docs, as far as the reference pages agree with it (they are
newer: a selector is an array of rules there, and there are eight operators), and the examples and
errors of the pages "Create an Auto Monitor Setup", "Upsert an Auto Monitor Setup by External ID"
and "Bulk Upsert Auto Monitor Setups". Requests go out without the package's client.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from pulumi_traceloop._client import TraceloopClient
from pulumi_traceloop._client._listing import ListStream
from pulumi_traceloop._models import SETUP, SETUP_SPEC, BulkItem, read_bulk
from pulumi_traceloop.emulator import Emulator, Fault
from pulumi_traceloop.errors import RejectedError, RequestError, ServerError
from tests.support import API_KEY
from tests.support.api import Api
from tests.support.service import Service, response

SETUPS = "/v2/auto-monitor-setups"

# -- the shapes of the OpenAPI file, with the pages' names of a rule's fields --

PROPERTY_TYPES = {"string", "int", "float", "boolean", "enum"}
TEXTS = [
    "id",
    "external_id",
    "org_id",
    "project_id",
    "env_project_id",
    "status",
    "created_at",
    "updated_at",
]
EVALUATOR_TEXTS = [
    "binding_id",
    "error_message",
    "evaluator_id",
    "evaluator_type",
    "processed_at",
    "status",
]
#: Only in the reference pages.
PAGES_ONLY_EVALUATOR = {"scope"}


def check_error(body: Any) -> None:
    assert set(body) == {"error"}
    assert isinstance(body["error"], str)


def check_property(body: Any) -> None:
    assert {"name", "type"} <= set(body) <= {"name", "type", "label", "description", "enum_values"}
    assert body["type"] in PROPERTY_TYPES
    assert all(isinstance(body[key], str) for key in set(body) - {"enum_values"})


def check_evaluator(body: Any) -> None:
    assert set(body) <= {*EVALUATOR_TEXTS, "input_schema", "output_schema", *PAGES_ONLY_EVALUATOR}
    for name, value in body.items():
        if name in ("input_schema", "output_schema"):
            assert isinstance(value, list)
            for item in value:
                check_property(item)
        else:
            assert isinstance(value, str)


def check_rule(body: Any) -> None:
    # The pages' names; the OpenAPI file has "op" for "operator" and no "values".
    assert set(body) <= {"key", "value", "values", "source", "operator"}
    assert all(isinstance(body[name], str) for name in set(body) - {"values"})
    assert {"key", "source", "operator"} <= set(body)


def check_setup(body: Any) -> None:
    assert set(body) == {*TEXTS, "init_rules", "evaluators"}
    assert all(isinstance(body[name], str) for name in TEXTS)
    for rule in body["init_rules"]:
        check_rule(rule)
    for evaluator in body["evaluators"]:
        check_evaluator(evaluator)


def check_list(body: Any) -> None:
    assert isinstance(body, list)
    assert body
    for setup in body:
        check_setup(setup)


def check_bulk(body: Any) -> None:
    assert set(body) == {"setups"}
    for item in body["setups"]:
        if item["status"] == "ok":
            assert set(item) == {"external_id", "status", "result"}
            check_setup(item["result"])
        else:
            assert item["status"] == "error"
            assert set(item) == {"external_id", "status", "error"}
            assert isinstance(item["error"], str)


# -- the pages' examples --

OPENAI = [
    {"key": "gen_ai.system", "value": "openai", "source": "span_attributes"},
    {"key": "gen_ai.request.model", "value": "gpt-4o", "source": "span_attributes"},
]
ANTHROPIC = [{"key": "gen_ai.system", "value": "anthropic", "source": "span_attributes"}]
TWO = ["answer-relevancy", "toxicity-detector"]
EXAMPLE: dict[str, Any] = {"evaluators": TWO, "selector": OPENAI}
EXAMPLE_BULK = [
    {"external_id": "openai-gpt4o-monitor", **EXAMPLE},
    {
        "external_id": "anthropic-monitor",
        "evaluators": ["answer-relevancy"],
        "selector": ANTHROPIC,
    },
]
#: The response to a write of `EXAMPLE`; the service sets the ids.
STORED: dict[str, Any] = {
    "org_id": "c108269c-...",
    "project_id": "cm9v2g95l...",
    "env_project_id": "cm9v2ga9i...",
    "init_rules": [{**rule, "operator": "equals"} for rule in OPENAI],
    "evaluators": [{"evaluator_type": slug, "status": "pending"} for slug in TWO],
    "status": "pending",
    "created_at": "2026-01-15T10:30:00Z",
    "updated_at": "2026-01-15T10:30:00Z",
}
TYPO = "answer-relevancy-typo"
BULK_RESPONSE: dict[str, Any] = {
    "setups": [
        {
            "external_id": "openai-gpt4o-monitor",
            "status": "ok",
            "result": {"id": "cmm...", "external_id": "openai-gpt4o-monitor", **STORED},
        },
        {
            "external_id": "anthropic-monitor",
            "status": "error",
            "error": f'setups[1]: unknown evaluator slug "{TYPO}"',
        },
    ]
}
#: The "Create" page before selectors were arrays: a response without rules and with other statuses.
OLDER_RESPONSE = {
    "id": "ams_01j9...",
    "external_id": "m",
    "evaluators": [
        {
            "evaluator_id": "...",
            "evaluator_type": "answer-relevancy",
            "status": "active",
            "binding_id": "...",
        }
    ],
    "created_at": "2025-01-15T10:30:00Z",
}
#: Every field that the OpenAPI file has, with its names.
OPENAPI_RESPONSE = {
    **dict.fromkeys(TEXTS, "x"),
    "external_id": "m",
    "init_rules": [
        {"key": "k", "op": "not_in", "source": "s", "value": "v", "value_type": "string"}
    ],
    "evaluators": [
        {
            **dict.fromkeys(EVALUATOR_TEXTS, "x"),
            "input_schema": [
                {
                    "name": "n",
                    "type": "enum",
                    "label": "l",
                    "description": "d",
                    "enum_values": ["a"],
                }
            ],
            "output_schema": [{"name": "n", "type": "float"}],
        }
    ],
}
#: Most fields of evaluators come later or never, as the pages say.
SPARSE_RESPONSE = {
    "id": "1",
    "external_id": "m",
    "init_rules": None,
    "evaluators": [{"evaluator_type": "x", "status": "failed", "error_message": None}],
}


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    with Emulator() as running:
        yield running


ITEM, UPSERT, BULK = f"{SETUPS}/m", f"{SETUPS}/by-external-id/m", f"{SETUPS}/bulk"
Check = Callable[[Any], None]


def no_body(body: Any) -> None:
    assert body is None


#: Each documented status of each route: if the setup exists, the request, the response's shape.
RESPONSES: list[tuple[str, str, Any, bool, int, Check]] = [
    ("GET", SETUPS, None, True, 200, check_list),
    ("GET", f"{SETUPS}?external_id=m", None, True, 200, check_list),
    ("GET", f"{SETUPS}?status=completed", None, True, 200, check_list),
    ("POST", SETUPS, {"external_id": "m", **EXAMPLE}, False, 201, check_setup),
    ("POST", SETUPS, {"external_id": "m", "evaluators": []}, False, 400, check_error),
    ("GET", ITEM, None, True, 200, check_setup),
    ("GET", ITEM, None, False, 404, check_error),
    ("PUT", ITEM, {"evaluators": ["faithfulness"]}, True, 200, check_setup),
    ("PUT", ITEM, {"selector": OPENAI}, True, 200, check_setup),
    ("PUT", ITEM, {"evaluators": 7}, True, 400, check_error),
    ("PUT", ITEM, EXAMPLE, False, 404, check_error),
    ("DELETE", ITEM, None, True, 204, no_body),
    ("DELETE", ITEM, None, False, 404, check_error),
    ("PUT", UPSERT, EXAMPLE, True, 200, check_setup),
    ("PUT", UPSERT, EXAMPLE, False, 201, check_setup),
    ("PUT", UPSERT, {}, False, 400, check_error),
    ("POST", BULK, {"setups": EXAMPLE_BULK}, False, 207, check_bulk),
    ("POST", BULK, {"setups": []}, False, 400, check_error),
]


class TestTheEmulatorAgainstTheOpenApiFile:
    @pytest.mark.parametrize(("method", "path", "body", "exists", "status", "check"), RESPONSES)
    def test_response_has_the_documented_shape(
        self,
        api: Api,
        emulator: Emulator,
        method: str,
        path: str,
        body: Any,
        exists: bool,
        status: int,
        check: Check,
    ) -> None:
        if exists:
            emulator.put("m", OPENAI, ["answer-relevancy", "word-count"])
        returned, content = api.exchange(method, path, body)
        assert returned == status, content
        check(content)

    @pytest.mark.parametrize(
        ("method", "path"), sorted({(method, path) for method, path, *_ in RESPONSES})
    )
    def test_every_route_documents_a_500(
        self, api: Api, emulator: Emulator, method: str, path: str
    ) -> None:
        emulator.inject(Fault(status=500))
        assert api.exchange(method, path, {}) == (500, {"error": "internal server error"})

    def test_setup_keeps_its_shape_until_it_settles_or_fails(
        self, api: Api, emulator: Emulator
    ) -> None:
        emulator.fail_evaluator("word-count", "boom")
        configs = [{"slug": "faithfulness", "scope": "trace"}, {"slug": "word-count"}]
        emulator.put("m", OPENAI, evaluator_configs=configs)
        _, setup = api.exchange("GET", ITEM)
        check_setup(setup)
        assert setup["status"] == "partial"
        assert [e.get("error_message") for e in setup["evaluators"]] == [None, "boom"]


def without_server_data(setup: dict[str, Any]) -> dict[str, Any]:
    """Drop generated values, and the schemas, which the examples omit."""
    kept = {name: value for name, value in setup.items() if not re.search("(^|_)id$|_at$", name)}
    kept["evaluators"] = [
        {name: value for name, value in evaluator.items() if not name.endswith("_schema")}
        for evaluator in setup["evaluators"]
    ]
    return kept


class TestTheEmulatorAgainstTheExamples:
    def test_create(self, api: Api) -> None:
        status, setup = api.exchange(
            "POST", SETUPS, {"external_id": "my-agent-monitor-1", **EXAMPLE}
        )
        assert status == 201
        assert setup["external_id"] == "my-agent-monitor-1"
        assert without_server_data(setup) == without_server_data(STORED)

    def test_upsert_creates_and_then_replaces(self, api: Api) -> None:
        path = f"{SETUPS}/by-external-id/my-agent-monitor-1"
        for expected in (201, 200):
            status, setup = api.exchange("PUT", path, EXAMPLE)
            assert status == expected
            assert without_server_data(setup) == without_server_data(STORED)

    def test_update(self, api: Api, emulator: Emulator) -> None:
        emulator.put("m", ANTHROPIC, ["answer-relevancy"])
        rules = [
            OPENAI[0],
            {
                "key": "service.name",
                "value": "my-service",
                "source": "resource_attributes",
                "operator": "equals",
            },
        ]
        status, setup = api.exchange("PUT", ITEM, {"selector": rules})
        assert status == 200
        assert setup["init_rules"] == [{"operator": "equals", **rule} for rule in rules]
        assert [e["evaluator_type"] for e in setup["evaluators"]] == ["answer-relevancy"]
        assert setup["status"] == "pending"

    def test_bulk_as_in_the_example(self, api: Api) -> None:
        status, body = api.exchange("POST", BULK, {"setups": EXAMPLE_BULK})
        assert status == 207
        assert [item["status"] for item in body["setups"]] == ["ok", "ok"]

    def test_bulk_with_the_error_of_the_example(self, api: Api) -> None:
        first, second = EXAMPLE_BULK
        _, body = api.exchange("POST", BULK, {"setups": [first, {**second, "evaluators": [TYPO]}]})
        good, bad = body["setups"]
        documented_good, documented_bad = BULK_RESPONSE["setups"]
        assert bad == documented_bad
        assert good["external_id"] == documented_good["external_id"]
        documented = documented_good["result"]
        assert isinstance(documented, dict)
        assert without_server_data(good["result"]) == without_server_data(documented)

    @pytest.mark.parametrize("operator", ["equals", "not_equals", "contains", "not_contains"])
    def test_operators_with_a_value(self, api: Api, operator: str) -> None:
        rule = {"key": "k", "source": "span_attributes", "operator": operator, "value": "v"}
        assert api.exchange("PUT", UPSERT, {**EXAMPLE, "selector": [rule]})[0] == 201
        missing = {name: value for name, value in rule.items() if name != "value"}
        assert api.exchange("PUT", UPSERT, {**EXAMPLE, "selector": [missing]})[0] == 400

    @pytest.mark.parametrize("operator", ["in", "not_in"])
    def test_operators_with_values(self, api: Api, operator: str) -> None:
        rule = {"key": "k", "source": "span_attributes", "operator": operator, "values": ["v"]}
        assert api.exchange("PUT", UPSERT, {**EXAMPLE, "selector": [rule]})[0] == 201
        missing = {name: value for name, value in rule.items() if name != "values"}
        assert api.exchange("PUT", UPSERT, {**EXAMPLE, "selector": [missing]})[0] == 400

    @pytest.mark.parametrize("operator", ["exists", "not_exists"])
    def test_operators_without_a_value(self, api: Api, operator: str) -> None:
        rule = {"key": "k", "source": "resource_attributes", "operator": operator}
        assert api.exchange("PUT", UPSERT, {**EXAMPLE, "selector": [rule]})[0] == 201


MISSING_BOTH = "one of evaluators or evaluator_configs is required"
CREATE_EMPTY = "invalid input: evaluators must contain at least one item"
TWICE = 'setups[2]: duplicate external_id "openai-gpt4o-monitor" (also at setups[0])'

#: The documented 400s: the request and, where a page has it, the exact text.
REFUSALS: list[tuple[str, str, Any, str | None]] = [
    ("PUT", UPSERT, {**EXAMPLE, "selector": []}, "selector must have at least 1 filter"),
    ("PUT", UPSERT, {"selector": OPENAI}, MISSING_BOTH),
    ("PUT", UPSERT, {**EXAMPLE, "evaluators": ["x"]}, 'unknown evaluator slug "x"'),
    ("POST", SETUPS, {"external_id": "m", "evaluators": []}, CREATE_EMPTY),
    ("POST", SETUPS, {"external_id": "m", "selector": OPENAI}, CREATE_EMPTY),
    ("POST", SETUPS, EXAMPLE, None),
    ("POST", BULK, {"setups": []}, None),
    ("POST", BULK, {}, None),
    ("POST", BULK, {"setups": [{**EXAMPLE, "external_id": f"m{n}"} for n in range(101)]}, None),
    ("POST", BULK, {"setups": [*EXAMPLE_BULK, EXAMPLE]}, None),
    ("POST", BULK, {"setups": [*EXAMPLE_BULK, EXAMPLE_BULK[0]]}, TWICE),
]


class TestTheEmulatorAgainstTheDocumentedErrors:
    @pytest.mark.parametrize(("method", "path", "body", "text"), REFUSALS)
    def test_refused_request_writes_nothing(
        self, api: Api, emulator: Emulator, method: str, path: str, body: Any, text: str | None
    ) -> None:
        status, content = api.exchange(method, path, body)
        assert status == 400
        check_error(content)
        assert content["error"] == text or text is None
        assert emulator.setups == {}

    def test_internal_error_of_an_item(self, api: Api, emulator: Emulator) -> None:
        emulator.inject(Fault(item_error={"anthropic-monitor": "internal error"}))
        _, body = api.exchange("POST", BULK, {"setups": EXAMPLE_BULK})
        assert body["setups"][1]["error"] == "setups[1]: internal error"
        assert set(emulator.setups) == {"openai-gpt4o-monitor"}


class TestTheClientsModels:
    @pytest.mark.parametrize(
        "documented",
        [
            {"id": "cmm...", "external_id": "m", **STORED},
            OLDER_RESPONSE,
            OPENAPI_RESPONSE,
            SPARSE_RESPONSE,
        ],
        ids=["pages", "older page", "OpenAPI", "sparse"],
    )
    def test_parse_every_documented_setup(self, documented: dict[str, Any]) -> None:
        setup = SETUP.validate_json(json.dumps(documented))
        assert setup.external_id == "m"
        stream = ListStream()
        stream.feed(json.dumps([documented]).encode(), last=True)
        assert stream.listing().setups == [setup]

    def test_accept_the_openapi_files_name_of_the_operator(self) -> None:
        (rule,) = SETUP.validate_python(OPENAPI_RESPONSE).init_rules
        assert rule.operator == "not_in"

    def test_parse_the_documented_bulk_response(self) -> None:
        good, bad = read_bulk(json.dumps(BULK_RESPONSE).encode())
        assert isinstance(good, BulkItem)
        assert isinstance(bad, BulkItem)
        assert good.result is not None
        assert good.result.definition == SETUP_SPEC.validate_python(EXAMPLE).definition
        assert (bad.status, bad.result) == ("error", None)

    @pytest.mark.parametrize(
        "setup_status",
        ["pending", "in_progress", "waiting_for_spans", "completed", "partial", "failed"],
    )
    def test_parse_responses_of_the_emulator(
        self, api: Api, emulator: Emulator, setup_status: str
    ) -> None:
        configs = [{"slug": "faithfulness", "scope": "trace"}, {"slug": "word-count"}]
        emulator.put("m", OPENAI, evaluator_configs=configs)
        emulator.force_status("m", setup_status)
        _, content = api.exchange("GET", ITEM)
        setup = SETUP.validate_python(content)
        assert setup.status == setup_status
        declared = SETUP_SPEC.validate_python({"selector": OPENAI, "evaluator_configs": configs})
        assert setup.definition == declared.definition


class TestTheClientAgainstTheDocumentedErrors:
    SPEC = SETUP_SPEC.validate_python(EXAMPLE)

    @pytest.mark.parametrize(
        ("status", "text", "error"),
        [
            (400, "selector must have at least 1 filter", RejectedError),
            (400, MISSING_BOTH, RejectedError),
            (400, CREATE_EMPTY, RejectedError),
            (400, 'unknown evaluator slug "x"', RejectedError),
            (400, "invalid input", RejectedError),
            (500, "internal server error", ServerError),
        ],
    )
    def test_error_quotes_the_service(
        self, status: int, text: str, error: type[RequestError]
    ) -> None:
        with (
            Service(response(status, {"error": text})) as server,
            TraceloopClient(API_KEY, server.url) as client,
            pytest.raises(error) as caught,
        ):
            client.upsert_setup("m", self.SPEC)
        assert caught.value.server_message == text
        assert caught.value.outcome_unknown is (status == 500)

    def test_documented_404_means_absent(self) -> None:
        with (
            Service(response(404, {"error": "auto monitor setup not found"})) as server,
            TraceloopClient(API_KEY, server.url) as client,
        ):
            assert client.get_setup("m") is None
            assert client.delete_setup("m") is False

    def test_documented_bulk_response(self) -> None:
        with (
            Service(response(207, BULK_RESPONSE)) as server,
            TraceloopClient(API_KEY, server.url) as client,
        ):
            ids = ("openai-gpt4o-monitor", "anthropic-monitor")
            outcome = client.bulk_upsert(dict.fromkeys(ids, self.SPEC))
        assert list(outcome.stored) == ["openai-gpt4o-monitor"]
        assert outcome.refused == {"anthropic-monitor": f'unknown evaluator slug "{TYPO}"'}

    def test_refused_batch_names_the_setup(self) -> None:
        with (
            Service(response(400, {"error": TWICE})) as server,
            TraceloopClient(API_KEY, server.url) as client,
            pytest.raises(RejectedError) as caught,
        ):
            client.bulk_upsert({"openai-gpt4o-monitor": self.SPEC})
        assert caught.value.server_message.startswith('duplicate external_id "openai-gpt4o-monitor')
        assert "setups[" not in caught.value.server_message
