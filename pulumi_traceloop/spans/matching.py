"""Matches selectors against spans, and counts which rules exclude spans.

All rules of a selector must match (reference page "Create an Auto Monitor Setup"). The page does
not document how operators treat a missing attribute. Here each ``not_`` operator is the exact
negation: a span without the attribute passes ``not_equals``, ``not_in``, ``not_contains`` and
``not_exists``.

Values are compared as text, as `values.as_text` returns it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import reduce
from itertools import islice
from operator import and_
from typing import Final, NamedTuple, Protocol

from .near_misses import Reason, reason_of_all, reason_of_rule
from .values import is_content

__all__ = [
    "Attributes",
    "Rule",
    "RuleSurvey",
    "SelectorRule",
    "Span",
    "SpanIndex",
    "Survey",
    "matches",
    "verdict",
]

#: Attribute text by key. ``None``: the value was end-user content, dropped when read.
Attributes = Mapping[str, "str | None"]

SOURCES: Final = ("span_attributes", "resource_attributes")

#: How many keys are compared with a misspelled one.
_COMPARED: Final = 500


@dataclass(frozen=True)
class Span:
    """The parts of a span that rules match.

    Args:
        span_attributes: the span's attributes.
        resource_attributes: the attributes of the span's resource (the service).
        name: the span's name, such as ``openai.chat``.
        service: the name of the service.
        time: the start, in seconds since 1970; ``None`` if unknown.

    """

    span_attributes: Attributes = field(default_factory=dict)
    resource_attributes: Attributes = field(default_factory=dict)
    name: str = ""
    service: str = ""
    time: float | None = None


class SelectorRule(Protocol):
    """The interface of rules: `Rule` and the rules of `_models`."""

    @property
    def key(self) -> str:
        """The attribute's key."""

    @property
    def source(self) -> str:
        """The kind of attribute: ``span_attributes`` or ``resource_attributes``."""

    @property
    def operator(self) -> str | None:
        """One of the eight operators; ``None`` is ``equals``."""

    @property
    def value(self) -> str | None:
        """The operand of an operator that takes one value."""

    @property
    def values(self) -> Sequence[str] | None:
        """The operands of ``in`` and ``not_in``."""


class Rule(NamedTuple):
    """One rule of a selector."""

    key: str
    source: str = "span_attributes"
    operator: str | None = "equals"
    value: str | None = None
    values: Sequence[str] | None = None


_Test = Callable[[str], bool]


def _test(rule: SelectorRule) -> _Test | None:
    """Return the test of the operator without ``not_``; ``None`` if it is unknown."""
    value, values = rule.value or "", frozenset(rule.values or ())
    tests: dict[str, _Test] = {
        "equals": lambda text: text == value,
        "contains": lambda text: value in text,
        "in": lambda text: text in values,
        "exists": lambda _: True,
    }
    return tests.get((rule.operator or "equals").removeprefix("not_"))


def _negated(rule: SelectorRule) -> bool:
    return (rule.operator or "").startswith("not_")


def verdict(rule: SelectorRule, span: Span) -> bool | None:
    """Whether the rule matches the span; ``None`` if undecided.

    A rule is undecided if the value was dropped when read, or if its operator or source is not
    documented.
    """
    test = _test(rule)
    if test is None or rule.source not in SOURCES:
        return None
    attributes: Attributes = getattr(span, rule.source)
    if rule.key not in attributes:
        return _negated(rule)
    value = attributes[rule.key]
    if value is None:
        if not (rule.operator or "").endswith("exists"):
            return None
        value = ""
    return test(value) is not _negated(rule)


def matches(selector: Iterable[SelectorRule], span: Span) -> bool:
    """Whether every rule of the selector certainly matches the span.

    A selector without rules matches every span.
    """
    return all(verdict(rule, span) for rule in selector)


@dataclass(frozen=True)
class RuleSurvey:
    """The effect of one rule on many spans."""

    rule: Rule
    #: How many spans have the attribute.
    present: int
    #: How many spans the rule alone matches.
    matched: int
    #: How many spans are undecided.
    undecided: int
    #: How many spans would match without this rule.
    excluded_alone: int


@dataclass(frozen=True)
class Survey:
    """The effect of a selector on many spans."""

    #: How many spans there are.
    spans: int
    #: How many certainly match.
    matched: int
    #: How many may match; see `verdict`.
    undecided: int
    #: In the selector's order.
    rules: tuple[RuleSurvey, ...]
    #: If no span matches, why, and what to change. Otherwise the rules without effect, because no
    #: span has their attribute.
    reasons: tuple[Reason, ...] = ()

    @property
    def share(self) -> float:
        """The share of spans that match, from 0 to 1."""
        return self.matched / self.spans if self.spans else 0.0

    @property
    def why(self) -> str:
        """The reasons on one line; may be empty."""
        return "; ".join(str(reason) for reason in self.reasons)

    def __str__(self) -> str:
        """Return one line, such as ``0 of 2,000; no span has gen_ai.system``."""
        text = f"{self.matched:,} of {self.spans:,}"
        return f"{text}; {self.why}" if self.reasons else text


class _Bits(NamedTuple):
    """The spans that a rule matches and the undecided ones, one bit per span."""

    matched: int
    undecided: int


class SpanIndex:
    """An index of spans by key and value, to survey many selectors.

    Example:
        ```python
        index = SpanIndex(spans)
        print(index.survey(setup.selector))
        ```

    """

    def __init__(self, spans: Iterable[Span]) -> None:
        self._positions: dict[tuple[str, str], dict[str | None, list[int]]] = {}
        self._bits: dict[tuple[object, ...], _Bits] = {}
        self._reasons: dict[tuple[object, ...], Reason] = {}
        self._similar: dict[tuple[str, str], str | None] = {}
        times = []
        count = 0
        for position, span in enumerate(spans):
            count += 1
            if span.time is not None:
                times.append(span.time)
            for source in SOURCES:
                attributes: Attributes = getattr(span, source)
                for key, value in attributes.items():
                    by_value = self._positions.setdefault((source, key), {})
                    by_value.setdefault(value, []).append(position)
        self._count = count
        self._all = (1 << count) - 1
        #: The start of the first and the last span, in seconds since 1970.
        self.period: tuple[float, float] | None = (min(times), max(times)) if times else None

    def __len__(self) -> int:
        return self._count

    def similar_key(self, source: str, key: str) -> str | None:
        """Return the key in *source* most similar to *key*, or ``None``."""
        if (source, key) not in self._similar:
            keys = {
                other.casefold(): other
                for other_source, other in self._positions
                if other_source == source and not is_content(other)
            }
            compared = dict(islice(keys.items(), _COMPARED))
            near = get_close_matches(key.casefold(), compared, n=1, cutoff=0.8)
            self._similar[source, key] = compared[near[0]] if near else None
        return self._similar[source, key]

    def present(self, source: str, key: str) -> int:
        """Return how many spans have the attribute."""
        return sum(map(len, self._positions.get((source, key), {}).values()))

    def values(self, source: str, key: str) -> dict[str, int]:
        """Return the number of spans by value, the most frequent first, without dropped values.

        The caller must make sure that the values are safe to display.
        """
        found = self._positions.get((source, key), {})
        counts = {value: len(spans) for value, spans in found.items() if value is not None}
        return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))

    def survey(self, selector: Iterable[SelectorRule]) -> Survey:
        """Return how many spans the selector matches, and why none if none."""
        rules = [_rule(rule) for rule in selector]
        found = [self._rule_bits(rule) for rule in rules]
        matched = reduce(and_, (bits.matched for bits in found), self._all)
        possible = reduce(and_, (bits.matched | bits.undecided for bits in found), self._all)
        without = self._all_others([bits.matched for bits in found])
        surveys = tuple(
            RuleSurvey(
                rule,
                present=self.present(rule.source, rule.key),
                matched=bits.matched.bit_count(),
                undecided=bits.undecided.bit_count(),
                excluded_alone=(others & ~(bits.matched | bits.undecided)).bit_count(),
            )
            for rule, bits, others in zip(rules, found, without, strict=True)
        )
        survey = Survey(
            spans=self._count,
            matched=matched.bit_count(),
            undecided=(possible & ~matched).bit_count(),
            rules=surveys,
        )
        return Survey(**{**vars(survey), "reasons": tuple(self._why(survey))})

    def _all_others(self, bits: Sequence[int]) -> list[int]:
        """Return, for each of *bits*, the conjunction of all others."""
        before = [self._all]
        for each in bits:
            before.append(before[-1] & each)
        result = []
        after = self._all
        for each, others in zip(reversed(bits), reversed(before[:-1]), strict=True):
            result.append(others & after)
            after &= each
        return result[::-1]

    def _rule_bits(self, rule: Rule) -> _Bits:
        key = _cache_key(rule)
        if key not in self._bits:
            self._bits[key] = self._found(rule)
        return self._bits[key]

    def _found(self, rule: Rule) -> _Bits:
        test = _test(rule)
        if test is None or rule.source not in SOURCES:
            return _Bits(0, self._all)
        by_value = self._positions.get((rule.source, rule.key), {})
        undecided = 0
        if rule.operator in ("exists", "not_exists"):
            passing = list(by_value.values())
        else:
            undecided = self._union([by_value.get(None, [])])
            if rule.operator == "equals":
                chosen: Iterable[str] = [rule.value or ""]
            elif rule.operator == "in":
                chosen = set(rule.values or ())
            else:
                chosen = [value for value in by_value if value is not None and test(value)]
            passing = [by_value[value] for value in chosen if value in by_value]
        matched = self._union(passing)
        return _Bits(self._all & ~(matched | undecided) if _negated(rule) else matched, undecided)

    def _union(self, positions: Iterable[Sequence[int]]) -> int:
        buffer = bytearray(self._count // 8 + 1)
        for some in positions:
            for position in some:
                buffer[position >> 3] |= 1 << (position & 7)
        return int.from_bytes(buffer, "little")

    def _why(self, survey: Survey) -> Iterable[Reason]:
        if not survey.spans:
            return
        explained = False
        for found in survey.rules:
            rule = found.rule
            matches_none = not found.matched and not survey.matched
            # `not_exists` is meant for attributes that no span should have.
            is_void = _negated(rule) and not found.present and rule.operator != "not_exists"
            if matches_none or is_void:
                key = _cache_key(rule)
                if key not in self._reasons:
                    self._reasons[key] = reason_of_rule(self, found)
                yield self._reasons[key]
                explained = explained or matches_none
        if not survey.matched and not explained:
            yield reason_of_all(survey)


def _rule(rule: SelectorRule) -> Rule:
    return Rule(rule.key, rule.source, rule.operator or "equals", rule.value, rule.values)


def _cache_key(rule: Rule) -> tuple[object, ...]:
    return (*rule[:4], frozenset(rule.values or ()))
