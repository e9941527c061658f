"""Explains why a selector matches no span, and what to change.

Only values of `HARMLESS` keys are displayed: others may be end-user content or personal data.
Operands of rules are never displayed: they may be secret.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from .._text import printable
from . import attributes

if TYPE_CHECKING:
    from .matching import RuleSurvey, SpanIndex, Survey

__all__ = ["HARMLESS", "NearMiss", "Reason", "reason_of_all", "reason_of_rule"]

#: Keys whose values are no end-user content: names, versions and kinds (docs/spans.md lists them).
HARMLESS: Final = frozenset(
    {
        "db.system",
        "db.system.name",
        "deployment.environment",
        "deployment.environment.name",
        "gen_ai.agent.name",
        "gen_ai.is_streaming",
        "gen_ai.operation.name",
        "gen_ai.output.type",
        "gen_ai.provider.name",
        "gen_ai.request.model",
        "gen_ai.response.finish_reasons",
        "gen_ai.response.model",
        "gen_ai.system",
        "gen_ai.tool.name",
        "gen_ai.tool.type",
        "gen_ai.workflow.name",
        "llm.is_streaming",
        "llm.request.type",
        "service.name",
        "service.namespace",
        "service.version",
        "telemetry.sdk.language",
        "telemetry.sdk.name",
        "traceloop.entity.name",
        "traceloop.span.kind",
        "traceloop.workflow.name",
    }
)

#: How many values are displayed, and the longest text in characters.
_DISPLAYED, _LENGTH = 3, 60

#: With more values, similar ones are not searched.
_COMPARED = 200

_SOURCE_NAMES: Final = {"span_attributes": "span", "resource_attributes": "resource"}
_OTHER: Final = {
    "span_attributes": "resource_attributes",
    "resource_attributes": "span_attributes",
}


_Kind = Literal["value", "source", "renamed", "similar"]


@dataclass(frozen=True)
class NearMiss:
    """An attribute of some spans that the rule may be meant for."""

    #: ``value``: the same attribute with other values. ``source``: the same key in the other
    #: source. ``renamed``: the key's name in other versions of the conventions. ``similar``: the
    #: most similar key.
    kind: _Kind
    key: str
    source: str
    #: The number of spans that have it.
    spans: int
    #: The number of spans by value: the nearest or most frequent values of a harmless key.
    values: Mapping[str, int]
    #: Whether more values exist.
    more: bool = False

    def __str__(self) -> str:
        counts = [f"{_cut(v) or '(empty)'} {count:,}" for v, count in self.values.items()]
        listed = ", ".join([*counts, *(["..."] if self.more else [])])
        values = f" ({listed})" if listed else ""
        if self.kind == "value":
            return f"{self.spans:,} have it with other values{values}"
        if self.kind == "source":
            return f"it is a {_SOURCE_NAMES[self.source]} attribute of {self.spans:,}{values}"
        return f"{self.spans:,} have {_attribute(self.key, self.source)}{values}"


@dataclass(frozen=True)
class Reason:
    """Why a rule matches no span, and near misses."""

    text: str
    #: The rule's key; ``None`` for all rules together.
    key: str | None = None
    near: tuple[NearMiss, ...] = ()

    def __str__(self) -> str:
        return "; ".join([self.text, *map(str, self.near)])


def reason_of_rule(index: SpanIndex, survey: RuleSurvey) -> Reason:
    """Return why the rule matches no span, or excludes none."""
    rule = survey.rule
    operator = rule.operator or "equals"
    attribute = _attribute(rule.key, rule.source)
    if rule.source not in _SOURCE_NAMES or operator.removeprefix("not_") not in _OPERATORS:
        return Reason(
            f"{attribute} is compared with an operator or source that this version does not know",
            rule.key,
        )
    if survey.undecided:
        return Reason(
            f"{attribute} holds end-user content, which is not read: only exists and not_exists can"
            " be checked",
            rule.key,
        )
    near = tuple(_near(index, survey))
    if not survey.present:
        useless = "" if not operator.startswith("not_") else f', so "{operator}" excludes none'
        return Reason(f"no span has {attribute}{useless}", rule.key, near)
    if operator == "not_exists":
        return Reason(f"every span has {attribute}", rule.key)
    if operator.startswith("not_"):
        return Reason(
            f'every span has {attribute} with a value that "{operator}" excludes', rule.key
        )
    return Reason(f"no span has {attribute} with such a value", rule.key, near)


_OPERATORS = ("equals", "contains", "in", "exists")


def reason_of_all(survey: Survey) -> Reason:
    """Return why no span matches a selector although each rule matches some."""
    if survey.undecided:
        undecided = [_attribute(r.rule.key, r.rule.source) for r in survey.rules if r.undecided]
        return Reason(
            f"{survey.undecided:,} may match: {', '.join(undecided)} holds end-user content, which"
            " is not read"
        )
    without = [rule for rule in survey.rules if rule.excluded_alone]
    if without:
        parts = [
            f"{rule.excluded_alone:,} would match without the rule on"
            f" {_attribute(rule.rule.key, rule.rule.source)}"
            for rule in without
        ]
    else:
        parts = [
            f"{rule.matched:,} pass {_attribute(rule.rule.key, rule.rule.source)}"
            for rule in survey.rules
        ]
    return Reason(f"no span passes all rules; {'; '.join(parts)}")


def _near(index: SpanIndex, survey: RuleSurvey) -> Iterator[NearMiss]:
    """Yield the best suggestion."""
    rule = survey.rule
    if survey.present:
        values = index.values(rule.source, rule.key)
        wanted = [rule.value] if rule.value else list(rule.values or ())
        yield _near_miss("value", rule.key, rule.source, survey.present, values, wanted)
        return
    other = _OTHER[rule.source]
    if found := _found("source", index, rule.key, [other]):
        yield found
        return
    sources = (rule.source, other)
    for key in attributes.renames(rule.key):
        if found := _found("renamed", index, key, sources):
            yield found
            return
    for source in sources:
        similar = index.similar_key(source, rule.key)
        if similar and (found := _found("similar", index, similar, [source])):
            yield found
            return


def _found(
    kind: _Kind,
    index: SpanIndex,
    key: str,
    sources: Iterable[str],
) -> NearMiss | None:
    for source in sources:
        if count := index.present(source, key):
            return _near_miss(kind, key, source, count, index.values(source, key))
    return None


def _near_miss(
    kind: _Kind,
    key: str,
    source: str,
    spans: int,
    values: Mapping[str, int],
    wanted: Iterable[str] = (),
) -> NearMiss:
    """Return a near miss with the values nearest to *wanted*, then the most frequent ones."""
    if key not in HARMLESS:
        return NearMiss(kind, key, source, spans, {})
    folded: dict[str, str] = {}
    for value in values:
        folded.setdefault(value.casefold(), value)
    near = [
        folded[match]
        for text in (wanted if len(folded) <= _COMPARED else ())
        for match in difflib.get_close_matches(text.casefold(), folded, n=1, cutoff=0.6)
    ]
    displayed = list(dict.fromkeys([*near, *values]))[:_DISPLAYED]
    return NearMiss(
        kind,
        key,
        source,
        spans,
        {value: values[value] for value in displayed},
        len(displayed) < len(values),
    )


def _attribute(key: str, source: str) -> str:
    # Most attributes are span attributes, so only the others are qualified.
    return f"{'the resource attribute ' if source == 'resource_attributes' else ''}{_cut(key)}"


def _cut(text: str) -> str:
    return printable(text, _LENGTH)
