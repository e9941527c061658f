"""Suggestions for evaluators, and evaluators that cannot work as declared."""

from __future__ import annotations

import pytest

from pulumi_traceloop.evaluators import DOCUMENTED, incompatibility, suggestions, warning


@pytest.mark.parametrize(
    ("slug", "expected"),
    [
        ("toxicity", ["toxicity-detector"]),
        ("PII-Detector", ["pii-detector"]),
        ("profanity", ["profanity-detector"]),
        ("sql", ["sql-validator"]),
        ("json_validator", ["json-validator"]),
        ("Answer Relevancy", ["answer-relevancy"]),
        ("faithfullness", ["faithfulness"]),
        ("tone-detector", ["tone-detection"]),
        ("word", ["word-count", "word-count-ratio"]),
        ("answer", ["answer-completeness", "answer-correctness", "answer-relevancy"]),
        ("agent", []),
        ("refund-policy", []),
        ("", []),
    ],
)
def test_suggestion_for_a_misspelled_evaluator(slug: str, expected: list[str]) -> None:
    assert suggestions(slug) == expected


@pytest.mark.parametrize("slug", DOCUMENTED)
def test_documented_evaluator_is_found_in_any_case(slug: str) -> None:
    assert suggestions(slug.upper()) == [slug]


def test_evaluator_that_cannot_work() -> None:
    assert incompatibility("agent-flow-quality") == (
        "needs conditions and a threshold, which a setup has no place for"
    )
    assert incompatibility("answer-correctness") == (
        "needs a reference to compare with, which spans hardly ever have"
    )
    assert incompatibility("toxicity-detector") is None
    assert incompatibility("toxicity-detector", self_hosted=True) == (
        "runs on Traceloop's own service only, and traceloop:baseUrl is another one"
    )
    assert incompatibility("faithfulness", self_hosted=True) is None
    assert incompatibility("one-of-ours", self_hosted=True) is None


def test_both_problems_are_one_warning() -> None:
    used = [("sql", "a"), ("sql", "b"), ("perplexity", "b"), ("faithfulness", "c")]
    assert warning(used) == (
        "not an evaluator that Traceloop documents; fine if it is one of your own:\n"
        '  "sql" (in "a", "b"); did you mean "sql-validator"?\n'
        "evaluators that may have nothing to work with:\n"
        '  "perplexity" (in "b") needs a reference to compare with, which spans hardly ever have'
    )
    assert warning(used, ["sql", "perp*"]) is None
    assert warning([("pii-detector", "a")]) is None
