"""Why a selector matches nothing, and what to change: `spans/near_misses.py`."""

from __future__ import annotations

import pytest

from pulumi_traceloop.spans.matching import Rule, Span, SpanIndex
from pulumi_traceloop.spans.near_misses import NearMiss


def spans(count: int, key: str, value: str | None, **resource: str) -> list[Span]:
    return [Span({key: value}, {"service.name": "shop", **resource})] * count


def why(index: SpanIndex, *rules: Rule) -> str:
    return str(index.survey(rules))


MODELS = SpanIndex(
    [
        *spans(1240, "gen_ai.provider.name", "openai"),
        *spans(500, "gen_ai.request.model", "gpt-4o"),
        *spans(200, "gen_ai.request.model", "gpt-4o-mini"),
        *spans(50, "gen_ai.request.model", "claude-sonnet-4-5"),
        *spans(10, "gen_ai.request.model", "o4-mini"),
    ]
)


def test_successor_of_the_key() -> None:
    index = MODELS
    assert why(index, Rule("gen_ai.system", value="openai")) == (
        "0 of 2,000; no span has gen_ai.system; 1,240 have gen_ai.provider.name (openai 1,240)"
    )


def test_predecessor_of_the_key() -> None:
    index = SpanIndex(spans(3, "gen_ai.system", "Anthropic"))
    assert why(index, Rule("gen_ai.provider.name", value="anthropic")) == (
        "0 of 3; no span has gen_ai.provider.name; 3 have gen_ai.system (Anthropic 3)"
    )


def test_other_source() -> None:
    assert why(MODELS, Rule("service.name", value="shop")) == (
        "0 of 2,000; no span has service.name; it is a resource attribute of 2,000 (shop 2,000)"
    )
    assert why(MODELS, Rule("gen_ai.provider.name", "resource_attributes", "exists")) == (
        "0 of 2,000; no span has the resource attribute gen_ai.provider.name; it is a span"
        " attribute of 1,240 (openai 1,240)"
    )


def test_nearest_key() -> None:
    assert why(MODELS, Rule("gen_ai.requst.Model", value="gpt-4o")) == (
        "0 of 2,000; no span has gen_ai.requst.Model; 760 have gen_ai.request.model (gpt-4o 500,"
        " gpt-4o-mini 200, claude-sonnet-4-5 50, ...)"
    )


def test_no_near_key() -> None:
    assert why(MODELS, Rule("acme.tier", value="gold")) == "0 of 2,000; no span has acme.tier"


def test_nearest_values_come_first() -> None:
    assert why(MODELS, Rule("gen_ai.request.model", value="O4-Mini")) == (
        "0 of 2,000; no span has gen_ai.request.model with such a value; 760 have it with other"
        " values (o4-mini 10, gpt-4o 500, gpt-4o-mini 200, ...)"
    )


@pytest.mark.parametrize(
    "rule",
    [
        Rule("acme.user", value="secret-of-the-program"),
        Rule("acme.user", operator="contains", value="secret-of-the-program"),
        Rule("acme.usr", operator="in", values=["secret-of-the-program"]),
        Rule("acme.user", "resource_attributes", "exists"),
    ],
)
def test_values_of_other_keys_and_operands_are_not_displayed(rule: Rule) -> None:
    survey = SpanIndex(spans(2, "acme.user", "jane@example.com")).survey([rule])
    assert survey.matched == 0
    assert survey.reasons[0].near[0].key == "acme.user"
    assert survey.reasons[0].near[0].values == {}
    for text in (str(survey), repr(survey.reasons)):
        assert "jane" not in text
        assert "secret-of-the-program" not in text


def test_dropped_value() -> None:
    index = SpanIndex(spans(3, "gen_ai.input.messages", None))
    assert why(index, Rule("gen_ai.input.messages", operator="contains", value="x")) == (
        "0 of 3; gen_ai.input.messages holds end-user content, which is not read: only exists"
        " and not_exists can be checked"
    )


def test_rules_that_exclude_each_other() -> None:
    index = SpanIndex([*spans(3, "a", "1"), *spans(2, "b", "1"), *spans(1, "c", "1")])
    rules = Rule("a", operator="exists"), Rule("b", operator="exists")
    assert why(index, *rules) == (
        "0 of 6; no span passes all rules; 2 would match without the rule on a; 3 would match"
        " without the rule on b"
    )
    assert why(index, *rules, Rule("c", operator="exists")) == (
        "0 of 6; no span passes all rules; 3 pass a; 2 pass b; 1 pass c"
    )


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        (Rule("a", operator="not_exists"), "every span has a"),
        (
            Rule("a", operator="not_equals", value="1"),
            'every span has a with a value that "not_equals" excludes',
        ),
        (
            Rule("a", operator="starts_with"),
            "a is compared with an operator or source that this version does not know",
        ),
        (Rule("a", ""), "a is compared with an operator or source that this version does not know"),
    ],
)
def test_other_reasons(rule: Rule, text: str) -> None:
    assert why(SpanIndex(spans(2, "a", "1")), rule) == f"0 of 2; {text}"


def test_rule_that_excludes_nothing_is_reported_although_spans_match() -> None:
    assert why(MODELS, Rule("gen_ai.system", operator="not_equals", value="x")) == (
        '2,000 of 2,000; no span has gen_ai.system, so "not_equals" excludes none; 1,240 have'
        " gen_ai.provider.name (openai 1,240)"
    )


def test_no_spans_need_no_reason() -> None:
    assert why(SpanIndex([]), Rule("a", operator="exists")) == "0 of 0"


def test_reasons_are_printable() -> None:
    index = SpanIndex(spans(1, "gen_ai.request.model", "a\x1b[31m\n" + "b" * 100))
    text = why(index, Rule("gen_ai.request.model", value="c"))
    assert text.isprintable()
    assert "b" * 60 not in text
    assert why(index, Rule("x\x1by", value="c")).isprintable()


def test_near_misses_are_data() -> None:
    (reason,) = MODELS.survey([Rule("gen_ai.system", value="openai")]).reasons
    assert reason.key == "gen_ai.system"
    assert reason.near == (
        NearMiss("renamed", "gen_ai.provider.name", "span_attributes", 1240, {"openai": 1240}),
    )
