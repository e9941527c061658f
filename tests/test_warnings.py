"""Warnings about a program's setups: `_warnings.py`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from typing import Any

import pulumi
import pytest

from pulumi_traceloop import AutoMonitorSetupArgs, EvaluatorConfigArgs, resource, span
from pulumi_traceloop._warnings import ignored, warnings


@pytest.fixture(autouse=True)
def _no_configuration(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("TRACELOOP_BASE_URL", raising=False)
    pulumi.runtime.set_all_config({})
    loop = asyncio.new_event_loop()  # for Outputs
    asyncio.set_event_loop(loop)
    yield
    loop.run_until_complete(asyncio.gather(*asyncio.all_tasks(loop)))
    asyncio.set_event_loop(None)
    loop.close()
    pulumi.runtime.set_all_config({})


def old(**more: Any) -> dict[str, Any]:
    return {"selector": [span("gen_ai.system").equals("openai")], "evaluators": ["sql"], **more}


def test_each_kind_says_how_to_silence_it() -> None:
    evaluator, attribute = warnings([("m", old())])
    assert evaluator.startswith("not an evaluator that Traceloop documents")
    assert attribute.startswith("attributes that the spans of today's SDKs may not have:")
    for text in (evaluator, attribute):
        assert text.splitlines()[-1] == (
            "to silence one: pulumi config set --path 'traceloop:ignoreWarnings[0]'"
            " <attribute or slug>"
        )


def test_args_and_dicts_have_the_same_warnings() -> None:
    args = AutoMonitorSetupArgs(
        selector=[span("gen_ai.system").is_in("Anthropic"), resource("gen_ai.agent.name").exists()],
        evaluator_configs=[EvaluatorConfigArgs("perplexity")],
    )
    as_dict = {
        "selector": (
            {
                "key": "gen_ai.system",
                "source": "span_attributes",
                "operator": "in",
                "values": ["Anthropic"],
            },
            {"key": "gen_ai.agent.name", "source": "resource_attributes", "operator": "exists"},
        ),
        "evaluator_configs": [{"slug": "perplexity"}],
    }
    texts = list(warnings([("m", args)]))
    assert texts == list(warnings([("m", as_dict)]))
    assert '"anthropic" instead of "Anthropic"' in texts[1]
    assert "is a span attribute" in texts[1]


def test_part_of_a_value_is_not_a_value() -> None:
    (text,) = warnings(
        [("m", {"selector": [span("gen_ai.system").contains("Azure")], "evaluators": []})]
    )
    assert "Azure" not in text


@pytest.mark.parametrize(
    "setup",
    [
        lambda _: None,
        lambda output: output({}),
        lambda output: {"selector": output([]), "evaluators": None},
        lambda output: {"selector": [output({}), None, 3], "evaluators": [None]},
        lambda output: {"selector": [span(output("x")).equals("y")]},
        lambda output: {
            "selector": [{"key": "acme", "source": "span_attributes", "operator": output("x")}]
        },
    ],
)
def test_unknown_values_are_skipped(setup: Callable[[Any], Any]) -> None:
    assert list(warnings([("m", setup(pulumi.Output.from_input))])) == []


def test_secret_value_is_not_quoted() -> None:
    secret = pulumi.Output.secret("Anthropic")
    (text,) = warnings([("m", {"selector": [span("gen_ai.system").equals(secret)]})])
    assert "nthropic" not in text


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ('["gen_ai.system", "sql"]', []),
        ("gen_ai.system,sql", []),
        ("gen_ai.* , s*", []),
        ("gen_ai.system", ["not an"]),
        ('["sql"]', ["attribut"]),
        ("*", []),
        ('"x"', ["not an", "attribut"]),
        ("7", ["not an", "attribut"]),
    ],
)
def test_one_switch_silences_both(value: str, expected: list[str]) -> None:
    pulumi.runtime.set_all_config({"traceloop:ignoreWarnings": value})
    assert [
        text[: len(start)] for text, start in zip(warnings([("m", old())]), expected, strict=True)
    ] == (expected)


def test_nothing_is_ignored_by_default() -> None:
    assert ignored() == []


@pytest.mark.parametrize(
    ("base_url", "warned"),
    [
        (None, False),
        ("https://api.traceloop.com", False),
        ("https://app.traceloop.com/api", False),
        ("http://127.0.0.1:8787", False),
        ("http://localhost:8787", False),
        ("https://traceloop.acme.example", True),
        ("https://nottraceloop.com", True),
        ("https://[broken", False),
    ],
)
def test_evaluators_of_traceloops_service_only(
    base_url: str | None, warned: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    setups = [("m", {"selector": [], "evaluators": ["toxicity-detector"]})]
    pulumi.runtime.set_all_config({"traceloop:baseUrl": base_url} if base_url else {})
    assert bool(list(warnings(setups))) is warned
    pulumi.runtime.set_all_config({})
    if base_url:
        monkeypatch.setenv("TRACELOOP_BASE_URL", base_url)
    assert bool(list(warnings(setups))) is warned
    assert not list(warnings(setups, config_namespace="second"))


def test_ignored_list_is_json() -> None:
    pulumi.runtime.set_all_config({"traceloop:ignoreWarnings": json.dumps(["a", "b"])})
    assert ignored() == ["a", "b"]
