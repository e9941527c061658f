"""What a program writes: rule builders, args classes and the dicts that may stand for them."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypedDict

import pulumi

from ._codec import encoded

__all__ = [
    "AutoMonitorSetupArgs",
    "AutoMonitorSetupArgsDict",
    "EvaluatorConfigArgs",
    "EvaluatorConfigArgsDict",
    "RuleBuilder",
    "SelectorRuleArgs",
    "SelectorRuleArgsDict",
    "canonical",
    "canonical_if_known",
    "plain",
    "resolved",
    "resource",
    "span",
]


@dataclass(frozen=True)
class SelectorRuleArgs:
    """One rule of a selector; `span` and `resource` build them in fewer words.

    Args:
        key: the attribute's key, such as ``gen_ai.provider.name``.
        source: where the attribute lives: ``span_attributes`` or ``resource_attributes``.
        operator: ``equals`` (the default), ``not_equals``, ``contains``, ``not_contains``, ``in``,
            ``not_in``, ``exists`` or ``not_exists``.
        value: what the first four operators compare with.
        values: what ``in`` and ``not_in`` compare with.

    """

    key: pulumi.Input[str]
    source: pulumi.Input[str]
    operator: pulumi.Input[str] | None = None
    value: pulumi.Input[str] | None = None
    values: pulumi.Input[Sequence[pulumi.Input[str]]] | None = None


class _SelectorRuleRequired(TypedDict):
    key: pulumi.Input[str]
    source: pulumi.Input[str]


class SelectorRuleArgsDict(_SelectorRuleRequired, total=False):
    """A `SelectorRuleArgs` as a plain dict."""

    operator: pulumi.Input[str]
    value: pulumi.Input[str]
    values: pulumi.Input[Sequence[pulumi.Input[str]]]


@dataclass(frozen=True)
class EvaluatorConfigArgs:
    """One evaluator with its options.

    Args:
        slug: the evaluator's slug, such as ``pii-detector``.
        scope: what it looks at: ``session``, ``trace`` or ``span``.

    """

    slug: pulumi.Input[str]
    scope: pulumi.Input[str] | None = None


class _EvaluatorConfigRequired(TypedDict):
    slug: pulumi.Input[str]


class EvaluatorConfigArgsDict(_EvaluatorConfigRequired, total=False):
    """An `EvaluatorConfigArgs` as a plain dict."""

    scope: pulumi.Input[str]


SelectorRule = SelectorRuleArgs | SelectorRuleArgsDict
EvaluatorConfig = EvaluatorConfigArgs | EvaluatorConfigArgsDict


@dataclass(frozen=True)
class AutoMonitorSetupArgs:
    """One setup of an `AutoMonitorSetupGroup`.

    Args:
        selector: the rules that a span has to match, all of them; at least one.
        evaluators: the slugs of the evaluators to run on what matches.
        evaluator_configs: the evaluators with options; in place of *evaluators*.
        triggers: any values; when they change, the setup is sent again even if it is equal to what
            Traceloop has.

    """

    selector: pulumi.Input[Sequence[pulumi.Input[SelectorRule]]]
    evaluators: pulumi.Input[Sequence[pulumi.Input[str]]] | None = None
    evaluator_configs: pulumi.Input[Sequence[pulumi.Input[EvaluatorConfig]]] | None = None
    triggers: pulumi.Input[Sequence[Any]] | None = None


class _AutoMonitorSetupRequired(TypedDict):
    selector: pulumi.Input[Sequence[pulumi.Input[SelectorRule]]]


class AutoMonitorSetupArgsDict(_AutoMonitorSetupRequired, total=False):
    """An `AutoMonitorSetupArgs` as a plain dict."""

    evaluators: pulumi.Input[Sequence[pulumi.Input[str]]]
    evaluator_configs: pulumi.Input[Sequence[pulumi.Input[EvaluatorConfig]]]
    triggers: pulumi.Input[Sequence[Any]]


@dataclass(frozen=True)
class RuleBuilder:
    """An attribute to write rules about: ``span("gen_ai.provider.name").equals("openai")``."""

    key: pulumi.Input[str]
    source: str

    def equals(self, value: pulumi.Input[str]) -> SelectorRuleArgs:
        """Match where the attribute is *value*."""
        return SelectorRuleArgs(self.key, self.source, "equals", value)

    def not_equals(self, value: pulumi.Input[str]) -> SelectorRuleArgs:
        """Match where the attribute is not *value*."""
        return SelectorRuleArgs(self.key, self.source, "not_equals", value)

    def contains(self, value: pulumi.Input[str]) -> SelectorRuleArgs:
        """Match where the attribute contains *value*."""
        return SelectorRuleArgs(self.key, self.source, "contains", value)

    def not_contains(self, value: pulumi.Input[str]) -> SelectorRuleArgs:
        """Match where the attribute does not contain *value*."""
        return SelectorRuleArgs(self.key, self.source, "not_contains", value)

    def is_in(self, *values: pulumi.Input[str]) -> SelectorRuleArgs:
        """Match where the attribute is one of *values*."""
        return SelectorRuleArgs(self.key, self.source, "in", values=list(values))

    def not_in(self, *values: pulumi.Input[str]) -> SelectorRuleArgs:
        """Match where the attribute is none of *values*."""
        return SelectorRuleArgs(self.key, self.source, "not_in", values=list(values))

    def exists(self) -> SelectorRuleArgs:
        """Match where the attribute is there, whatever its value."""
        return SelectorRuleArgs(self.key, self.source, "exists")

    def not_exists(self) -> SelectorRuleArgs:
        """Match where the attribute is not there."""
        return SelectorRuleArgs(self.key, self.source, "not_exists")


def span(key: pulumi.Input[str]) -> RuleBuilder:
    """Return a builder of rules about the span attribute *key*."""
    return RuleBuilder(key, "span_attributes")


def resource(key: pulumi.Input[str]) -> RuleBuilder:
    """Return a builder of rules about the resource attribute *key*."""
    return RuleBuilder(key, "resource_attributes")


_ARGS: Final = (SelectorRuleArgs, EvaluatorConfigArgs, AutoMonitorSetupArgs)


def plain(value: Any) -> Any:
    """Return *value* with args classes as dicts, without the entries that are ``None``.

    Outputs stay as they are, and awaitables become some; what they resolve to is made plain then.
    """
    if isinstance(value, _ARGS):
        value = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {key: plain(item) for key, item in value.items() if item is not None}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, pulumi.Output) or hasattr(value, "__await__"):
        return pulumi.Output.from_input(value).apply(plain)
    return value


def resolved(value: Any) -> bool:
    """Whether the `plain` *value* holds no Output."""
    if isinstance(value, dict):
        return all(map(resolved, value.values()))
    if isinstance(value, list):
        return all(map(resolved, value))
    return not isinstance(value, pulumi.Output)


def canonical(value: Any) -> str:
    """Return *value*, which holds no Output, as JSON, always in the same spelling.

    Raises:
        TypeError: *value* holds what JSON does not have.

    """
    try:
        return encoded(plain(value))
    except ValueError as error:  # NaN and the infinities, and what contains itself
        raise TypeError(str(error)) from None


class _Unresolved(Exception):  # noqa: N818 - no error: a way out
    """A value is not known yet."""


def _known(value: Any) -> Any:
    if isinstance(value, _ARGS):
        return {k: v for k, v in vars(value).items() if v is not None}
    if isinstance(value, pulumi.Output) or hasattr(value, "__await__"):
        raise _Unresolved
    raise TypeError(f"Object of type {type(value).__name__} is not JSON serializable")


_FAST_ENCODER = json.JSONEncoder(
    sort_keys=True,
    separators=(",", ":"),
    ensure_ascii=False,
    allow_nan=False,
    default=_known,
)


def canonical_if_known(value: Any) -> str | None:
    """Return ``canonical(plain(value))``, or ``None`` where that has to be found out step by step.

    That is where *value* holds an Output, a ``None`` or what JSON does not have. For all others it
    is several times as fast, which counts with ten thousand setups.
    """
    try:
        text = _FAST_ENCODER.encode(value)
    except (_Unresolved, TypeError, ValueError):
        return None
    return None if ":null" in text else text
