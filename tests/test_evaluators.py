"""Evaluators that somebody may have meant, and those that cannot work as declared."""

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
def test_what_was_meant(slug: str, expected: list[str]) -> None:
    assert suggestions(slug) == expected


@pytest.mark.parametrize("slug", DOCUMENTED)
def test_a_documented_evaluator_means_itself(slug: str) -> None:
    assert suggestions(slug.upper()) == [slug]


def test_what_cannot_work() -> None:
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


def test_one_warning_has_both() -> None:
    used = [("sql", "a"), ("sql", "b"), ("perplexity", "b"), ("faithfulness", "c")]
    assert warning(used) == (
        "not an evaluator that Traceloop documents; fine if it is one of your own:\n"
        '  "sql" (in "a", "b"); did you mean "sql-validator"?\n'
        "evaluators that may have nothing to work with:\n"
        '  "perplexity" (in "b") needs a reference to compare with, which spans hardly ever have'
    )
    assert warning(used, ["sql", "perp*"]) is None
    assert warning([("pii-detector", "a")]) is None
