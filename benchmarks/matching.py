"""Measures the matching of many selectors with many spans: ``python -m benchmarks.matching``.

Each span has forty attributes, some of them with a unique value. The setups use all operators. A
third of them have a wrong key, so that near misses are searched.
"""

from __future__ import annotations

import argparse
import random
import statistics
import time

from pulumi_traceloop.spans.matching import Rule, Span, SpanIndex

MODELS = ["gpt-4o", "gpt-4o-mini", "gpt-5", "claude-sonnet-4-5", "o4-mini"]
SERVICES = [f"service-{n}" for n in range(40)]
OPERATORS = [
    "equals",
    "not_equals",
    "contains",
    "not_contains",
    "in",
    "not_in",
    "exists",
    "not_exists",
]


def make_spans(count: int, dice: random.Random) -> list[Span]:
    """Return spans with forty attributes each."""
    return [
        Span(
            {
                "gen_ai.provider.name": dice.choice(["openai", "anthropic"]),
                "gen_ai.request.model": dice.choice(MODELS),
                "gen_ai.response.id": f"response-{n}",
                "gen_ai.input.messages": None,
                "gen_ai.usage.total_tokens": str(dice.randrange(5_000)),
                "traceloop.workflow.name": f"workflow-{dice.randrange(100)}",
                "traceloop.association.properties.user_id": f"user-{dice.randrange(1_000)}",
                **{f"acme.attribute.{k}": str(dice.randrange(10)) for k in range(25)},
            },
            {
                "service.name": dice.choice(SERVICES),
                "service.instance.id": f"instance-{dice.randrange(200)}",
                "deployment.environment.name": dice.choice(["production", "staging"]),
                **{f"acme.resource.{k}": str(dice.randrange(3)) for k in range(5)},
            },
            time=float(n),
        )
        for n in range(count)
    ]


def make_selectors(count: int, dice: random.Random) -> list[list[Rule]]:
    """Return selectors of three rules each, hardly two of which are equal."""
    selectors = []
    for n in range(count):
        operator = OPERATORS[n % len(OPERATORS)]
        takes_many, takes_none = operator in ("in", "not_in"), operator.endswith("exists")
        # Every third one names a key that is misspelled, old, or on the other side.
        key = (
            dice.choice(["gen_ai.requst.model", "gen_ai.system", "service.name"])
            if n % 3 == 0
            else "gen_ai.response.id"
        )
        value = f"response-{dice.randrange(2_000)}"
        selectors.append(
            [
                Rule("service.name", "resource_attributes", "equals", dice.choice(SERVICES)),
                Rule("gen_ai.request.model", operator="in", values=dice.sample(MODELS, 3)),
                Rule(
                    key,
                    operator=operator,
                    value=None if takes_many or takes_none else value,
                    values=[value, f"{value}0"] if takes_many else None,
                ),
            ]
        )
    return selectors


def measure(spans: list[Span], selectors: list[list[Rule]]) -> tuple[float, float, int]:
    """Return the processor seconds for the index and the surveys, and how many match nothing."""
    began = time.process_time()
    index = SpanIndex(spans)
    indexed = time.process_time()
    surveys = [index.survey(selector) for selector in selectors]
    lines = [str(survey) for survey in surveys]
    ended = time.process_time()
    assert len(lines) == len(selectors)
    return indexed - began, ended - indexed, sum(not survey.matched for survey in surveys)


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--spans", type=int, nargs="+", default=[2_000, 20_000])
    parser.add_argument("--setups", type=int, nargs="+", default=[1_000, 10_000])
    parser.add_argument("--repeat", type=int, default=5)
    options = parser.parse_args()
    print("| spans | setups | index, s | surveys, s | together, s | match nothing |")
    print("| --- | --- | --- | --- | --- | --- |")
    for span_count in options.spans:
        for setup_count in options.setups:
            dice = random.Random(1)  # noqa: S311 - the same ones each time
            spans, selectors = make_spans(span_count, dice), make_selectors(setup_count, dice)
            found = [measure(spans, selectors) for _ in range(options.repeat)]
            index, surveys = (statistics.median(f[k] for f in found) for k in (0, 1))
            print(
                f"| {span_count:,} | {setup_count:,} | {index:.2f} | {surveys:.2f} |"
                f" {index + surveys:.2f} | {found[0][2]:,} |"
            )


if __name__ == "__main__":
    main()
