"""Known attributes, without any span: `spans/attributes.py`."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from pulumi_traceloop.spans.attributes import doubts, renames, warning
from pulumi_traceloop.spans.sources import read_file
from pulumi_traceloop.spans.values import is_content
from scripts import attributes as script
from tests.support import CAPTURED, PACKAGE

SPAN, RESOURCE = "span_attributes", "resource_attributes"


def doubts_of(key: str, source: str = SPAN, operands: Iterable[str] = ()) -> list[str]:
    return [doubt.text for doubt in doubts(key, source, operands)]


def test_table_is_up_to_date() -> None:
    """If not: `python -m scripts.attributes`, and read what has changed."""
    table = PACKAGE / "spans" / script.TABLE.name
    assert table.read_text(encoding="utf-8") == script.text()


def test_attributes_of_the_sdk_have_no_warning() -> None:
    for span in read_file(CAPTURED).spans:
        for key, value in span.span_attributes.items():
            assert doubts_of(key, SPAN, [value] if value else []) == []
        for key, value in span.resource_attributes.items():
            assert doubts_of(key, RESOURCE, [value] if value else []) == []


@pytest.mark.parametrize(
    ("key", "successor"),
    [
        ("gen_ai.system", "gen_ai.provider.name"),
        ("gen_ai.prompt.0.content", "gen_ai.input.messages"),
        ("gen_ai.completion.12.tool_calls.0.name", "gen_ai.output.messages"),
        ("gen_ai.usage.prompt_tokens", "gen_ai.usage.input_tokens"),
        ("llm.usage.total_tokens", "gen_ai.usage.total_tokens"),
        ("llm.request.type", "gen_ai.operation.name"),
        ("gen_ai.openai.system_fingerprint", "openai.response.system_fingerprint"),
        ("http.method", "http.request.method"),
    ],
)
def test_deprecated_key(key: str, successor: str) -> None:
    assert doubts_of(key) == [f'is deprecated; today\'s SDKs write "{successor}"']
    assert successor in renames(key)


def test_deprecated_resource_attribute() -> None:
    written = 'is deprecated; today\'s SDKs write "deployment.environment.name"'
    assert doubts_of("deployment.environment", RESOURCE) == [written]
    assert doubts_of("deployment.environment") == [
        written,
        (
            'is a resource attribute: write resource("deployment.environment.name"), or source:'
            " resource_attributes"
        ),
    ]


def test_deprecated_key_without_a_successor() -> None:
    assert doubts_of("rpc.service") == ["is deprecated and has no successor"]


def test_wrong_source() -> None:
    assert doubts_of("service.name") == [
        'is a resource attribute: write resource("service.name"), or source: resource_attributes'
    ]
    assert doubts_of("gen_ai.request.model", RESOURCE) == [
        'is a span attribute: write span("gen_ai.request.model"), or source: span_attributes'
    ]


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("gen_ai.requst.model", "gen_ai.request.model"),
        ("genai.request.model", "gen_ai.request.model"),
        ("gen_ai.Provider.Name", "gen_ai.provider.name"),
        ("traceloop.workflow_name", "traceloop.workflow.name"),
    ],
)
def test_misspelled_key(key: str, meant: str) -> None:
    assert doubts_of(key) == [f'is not a known attribute; did you mean "{meant}"?']


@pytest.mark.parametrize(
    "key",
    [
        "acme.tier",
        "user_id",
        "customer.id",
        "traceloop.association.properties.tenant",
        "db.system",  # Traceloop's vector databases still have it
        "",
        "x" * 10_000,
    ],
)
def test_custom_key_has_no_warning(key: str) -> None:
    assert doubts_of(key) == []
    assert doubts_of(key, RESOURCE)[1:] == []


@pytest.mark.parametrize(
    ("value", "now"),
    [
        ("Anthropic", "anthropic"),
        ("Azure", "az.ai.openai"),
        ("AWS", "aws.bedrock"),
        ("OpenAI", "openai"),
        ("aNTHROPIC", "anthropic"),
    ],
)
def test_old_value(value: str, now: str) -> None:
    change = f'"{now}" instead of "{value}"'
    assert doubts_of("gen_ai.provider.name", SPAN, [value]) == [f"has {change} in today's SDKs"]
    assert doubts_of("gen_ai.system", SPAN, [value]) == [
        f'is deprecated; today\'s SDKs write "gen_ai.provider.name", and {change}'
    ]


def test_values_of_both_generations_have_no_warning() -> None:
    assert doubts_of("gen_ai.provider.name", SPAN, ["anthropic", "Anthropic"]) == []


def test_custom_values_have_no_warning_and_are_not_quoted() -> None:
    assert doubts_of("gen_ai.provider.name", SPAN, ["acme-models"]) == []


def test_renames_work_both_ways() -> None:
    assert renames("gen_ai.system") == ["gen_ai.provider.name"]
    assert renames("gen_ai.provider.name") == ["gen_ai.system"]
    assert renames("acme.tier") == []


def test_all_doubts_are_one_warning() -> None:
    rules = [
        ("gen_ai.system", SPAN, ["openai"], "a"),
        ("gen_ai.system", SPAN, ["anthropic"], "b"),
        ("service.name", SPAN, [], "b"),
        ("gen_ai.request.model", SPAN, [], "b"),
    ]
    assert warning(rules) == (
        "attributes that the spans of today's SDKs may not have:\n"
        '  "gen_ai.system" (in "a", "b") is deprecated; today\'s SDKs write'
        ' "gen_ai.provider.name"\n'
        '  "service.name" (in "b") is a resource attribute: write resource("service.name"), or'
        " source: resource_attributes"
    )
    assert warning(rules, ["gen_ai.*", "service.name"]) is None
    assert warning(rules[3:]) is None


def test_old_value_of_a_current_key_is_a_warning() -> None:
    assert warning([("gen_ai.provider.name", SPAN, ["Anthropic"], "a")]) == (
        "attributes that the spans of today's SDKs may not have:\n"
        '  "gen_ai.provider.name" (in "a") has "anthropic" instead of "Anthropic" in today\'s SDKs'
    )


def test_long_warning_is_truncated() -> None:
    rules: list[tuple[str, str, list[str], str]] = [
        (f"gen_ai.prompt.{n}.content", SPAN, [], "a") for n in range(15)
    ]
    text = warning(rules)
    assert text is not None
    assert text.splitlines()[-1] == "  and 5 more"
    assert len(text.splitlines()) == 12


def test_comparison_of_thousands_of_unknown_keys_is_limited() -> None:
    rules: list[tuple[str, str, list[str], str]] = [
        (f"gen_ai.requst.model{n}", SPAN, [], "a") for n in range(5_000)
    ]
    assert warning(rules) is not None


def test_content_is_never_a_known_value() -> None:
    """A warning quotes only values in the table."""
    for key in script.make()["values"]:
        assert not is_content(key)
