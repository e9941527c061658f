"""Attributes as text, and content of end users: `spans/values.py`."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulumi_traceloop.spans.values import as_text, is_content


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("chat", "chat"),
        ("", ""),
        (None, ""),
        (True, "true"),
        (False, "false"),
        (1, "1"),
        (1.0, "1"),
        (-1.0, "-1"),
        (0.0, "0"),
        (-0.0, "0"),
        (0.2, "0.2"),
        (1e20, "100000000000000000000"),
        (1e21, "1e+21"),
        (1.5e-7, "1.5e-7"),
        (0.000001, "0.000001"),
        (2**63, "9223372036854775808"),
        (math.nan, "NaN"),
        (math.inf, "Infinity"),
        (-math.inf, "-Infinity"),
        (b"hello", "aGVsbG8="),
        ([], "[]"),
        (["stop", "über"], '["stop","über"]'),
        ([1, 1.0, 0.5, True, None, math.inf], '[1,1,0.5,true,null,"Infinity"]'),
        ({"b": [b"x"], "a": {"c": "d"}}, '{"a":{"c":"d"},"b":["eA=="]}'),
    ],
)
def test_text_of_a_value(value: Any, text: str) -> None:
    assert as_text(value) == text


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_float_survives_its_text(value: float) -> None:
    text = as_text(value)
    assert float(text) == value
    assert ".0" not in text[-2:]
    assert float(json.loads(text)) == value


def test_invalid_value_is_rejected() -> None:
    with pytest.raises(TypeError, match="an attribute value cannot be a object"):
        as_text([object()])


@pytest.mark.parametrize(
    "key",
    [
        "gen_ai.input.messages",
        "gen_ai.output.messages",
        "gen_ai.system_instructions",
        "gen_ai.prompt",
        "gen_ai.prompt.0.content",
        "gen_ai.completion.0.tool_calls.0.arguments",
        "gen_ai.tool.call.arguments",
        "gen_ai.tool.definitions",
        "gen_ai.retrieval.query.text",
        "traceloop.entity.input",
        "traceloop.entity.output",
        "traceloop.prompt.template_variables.name",
        "llm.prompts.0.content",
        "llm.input_messages.0.message.content",
        "ai.prompt.messages",
        "ai.response.text",
        "gen_ai.task.input",
        "gen_ai.headers",
        "http.request.header.authorization",
        "db.chroma.query.where_document",
        "input.value",
        "output.value",
        "input",
        "prompts",
        "retrieval.documents",
        "db.query.text",
        "db.statement",
        "exception.message",
        "http.url",
        "url.full",
        "mcp.request.argument",
    ],
)
def test_content_of_end_users(key: str) -> None:
    assert is_content(key)
    assert is_content(key.upper())


@pytest.mark.parametrize(
    "key",
    [
        "gen_ai.system",
        "gen_ai.provider.name",
        "gen_ai.request.model",
        "gen_ai.usage.input_tokens",
        "gen_ai.usage.output_tokens",
        "gen_ai.output.type",
        "gen_ai.tool.name",
        "gen_ai.agent.name",
        "gen_ai.operation.name",
        "traceloop.workflow.name",
        "traceloop.entity.name",
        "traceloop.entity.path",
        "traceloop.association.properties.tenant",
        "traceloop.prompt.key",
        "gen_ai.prompt.name",
        "gen_ai.prompt.version",
        "gen_ai.evaluation.name",
        "gen_ai.embeddings.dimension.count",
        "gen_ai.request.max_tokens",
        "llm.request.type",
        "service.name",
        "deployment.environment.name",
        "http.response.status_code",
        "http.request.method",
        "db.system.name",
        "error.type",
    ],
)
def test_metadata_is_not_content(key: str) -> None:
    assert not is_content(key)


def test_long_text_is_content() -> None:
    assert is_content("acme.notes", "x" * 1025)
    assert not is_content("acme.notes", "x" * 1024)
