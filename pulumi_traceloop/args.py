"""The inputs of setups: args classes, equivalent dicts, and rule builders."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypedDict, overload

import pulumi

from ._codec import encoded
from ._text import printable
from ._validation import Operator, Problem, Scope, Source
from .errors import TraceloopError

__all__ = [
    "AutoMonitorSetupArgs",
    "AutoMonitorSetupArgsDict",
    "EvaluatorConfigArgs",
    "EvaluatorConfigArgsDict",
    "EvaluatorConfigOutput",
    "InputError",
    "Operator",
    "RuleBuilder",
    "Scope",
    "SelectorRuleArgs",
    "SelectorRuleArgsDict",
    "SelectorRuleOutput",
    "SetupOutput",
    "Source",
    "canonical",
    "canonical_if_known",
    "plain",
    "resolved",
    "resource",
    "span",
]


# Outputs may hold any text: the API may add operators, sources and scopes.
OperatorInput: TypeAlias = Operator | Awaitable[str] | pulumi.Output[str]
SourceInput: TypeAlias = Source | Awaitable[str] | pulumi.Output[str]
ScopeInput: TypeAlias = Scope | Awaitable[str] | pulumi.Output[str]


@dataclass(frozen=True)
class SelectorRuleArgs:
    """One rule of a selector; `span` and `resource` are shorter.

    Args:
        key: the attribute's key, such as ``gen_ai.provider.name``.
        source: the kind of attribute: ``span_attributes`` or ``resource_attributes``.
        operator: ``equals`` (the default), ``not_equals``, ``contains``, ``not_contains``, ``in``,
            ``not_in``, ``exists`` or ``not_exists``.
        value: the operand of the first four operators; not empty.
        values: the operands of ``in`` and ``not_in``; not empty.

    """

    key: pulumi.Input[str]
    source: SourceInput
    operator: OperatorInput | None = None
    value: pulumi.Input[str] | None = None
    values: pulumi.Input[Sequence[pulumi.Input[str]]] | None = None


class _SelectorRuleRequired(TypedDict):
    key: pulumi.Input[str]
    source: SourceInput


class SelectorRuleArgsDict(_SelectorRuleRequired, total=False):
    """A `SelectorRuleArgs` as a plain dict."""

    operator: OperatorInput
    value: pulumi.Input[str]
    values: pulumi.Input[Sequence[pulumi.Input[str]]]


@dataclass(frozen=True)
class EvaluatorConfigArgs:
    """One evaluator with its options.

    Args:
        slug: the evaluator's slug, such as ``pii-detector``.
        scope: the evaluated unit: ``session``, ``trace`` or ``span``.

    """

    slug: pulumi.Input[str]
    scope: ScopeInput | None = None


class _EvaluatorConfigRequired(TypedDict):
    slug: pulumi.Input[str]


class EvaluatorConfigArgsDict(_EvaluatorConfigRequired, total=False):
    """An `EvaluatorConfigArgs` as a plain dict."""

    scope: ScopeInput


SelectorRule = SelectorRuleArgs | SelectorRuleArgsDict
EvaluatorConfig = EvaluatorConfigArgs | EvaluatorConfigArgsDict


SelectorInput: TypeAlias = pulumi.Input[Sequence[pulumi.Input[SelectorRule]]]
EvaluatorsInput: TypeAlias = pulumi.Input[Sequence[pulumi.Input[str]]]
EvaluatorConfigsInput: TypeAlias = pulumi.Input[Sequence[pulumi.Input[EvaluatorConfig]]]
TriggersInput: TypeAlias = pulumi.Input[Sequence[Any]]


@dataclass(frozen=True)
class AutoMonitorSetupArgs:
    """The contents of one setup, for an `AutoMonitorSetup` or in an `AutoMonitorSetupGroup`.

    Args:
        selector: the rules, at least one; a span has to match all of them.
        evaluators: the slugs of the evaluators to run on matching spans.
        evaluator_configs: the evaluators with options, instead of *evaluators*.
        triggers: any values; when they change, the setup is sent again even if Traceloop has an
            equal one.

    """

    selector: SelectorInput
    evaluators: EvaluatorsInput | None = None
    evaluator_configs: EvaluatorConfigsInput | None = None
    triggers: TriggersInput | None = None

    if TYPE_CHECKING:  # one of the two kinds of evaluators is required

        @overload
        def __init__(
            self,
            selector: SelectorInput,
            evaluators: EvaluatorsInput,
            evaluator_configs: None = None,
            triggers: TriggersInput | None = None,
        ) -> None: ...
        @overload
        def __init__(
            self,
            selector: SelectorInput,
            evaluators: None = None,
            *,
            evaluator_configs: EvaluatorConfigsInput,
            triggers: TriggersInput | None = None,
        ) -> None: ...
        def __init__(
            self,
            selector: Any,
            evaluators: Any = None,
            evaluator_configs: Any = None,
            triggers: Any = None,
        ) -> None: ...


class _SetupRequired(TypedDict):
    selector: SelectorInput


class _Setup(_SetupRequired, total=False):
    triggers: TriggersInput


class _SetupWithEvaluators(_Setup):
    evaluators: EvaluatorsInput


class _SetupWithEvaluatorConfigs(_Setup):
    evaluator_configs: EvaluatorConfigsInput


#: An `AutoMonitorSetupArgs` as a plain dict.
AutoMonitorSetupArgsDict: TypeAlias = _SetupWithEvaluators | _SetupWithEvaluatorConfigs


class _SelectorRuleOutputRequired(TypedDict):
    key: str
    source: str


class SelectorRuleOutput(_SelectorRuleOutputRequired, total=False):
    """A rule of a declared setup, with known values."""

    operator: str
    value: str
    values: list[str]


class _EvaluatorConfigOutputRequired(TypedDict):
    slug: str


class EvaluatorConfigOutput(_EvaluatorConfigOutputRequired, total=False):
    """An evaluator with options, with known values."""

    scope: str


class _SetupOutputRequired(TypedDict):
    selector: list[SelectorRuleOutput]


class SetupOutput(_SetupOutputRequired, total=False):
    """A setup that a group declares, with known values."""

    evaluators: list[str]
    evaluator_configs: list[EvaluatorConfigOutput]
    triggers: list[Any]


#: How many problems the message of an error lists; its attribute has all.
_NAMED = 50


class InputError(TraceloopError, pulumi.RunError):
    """Invalid inputs of a resource or group; the message lists them.

    As a `pulumi.RunError` it ends a program with its message and no traceback. The provider
    validates inputs that are unknown when the program declares them.

    Attributes:
        declared_by: the resource, such as ``AutoMonitorSetupGroup "monitors"``.
        problems: pairs of a property's path and the reason.

    """

    def __init__(self, declared_by: str, problems: Sequence[Problem]) -> None:
        self.declared_by = declared_by
        self.problems = tuple(problems)
        lines = [f"{printable(p.path)}: {p.reason}" for p in self.problems[:_NAMED]]
        if len(self.problems) == 1:
            message = f"{declared_by}, {lines[0]}"
        else:
            if (rest := len(self.problems) - _NAMED) > 0:
                lines.append(f"and {rest} more")
            head = f"{len(self.problems)} problems in {declared_by}:"
            message = "\n  ".join([head, *lines])
        super().__init__(message)


@dataclass(frozen=True)
class RuleBuilder:
    """Builds rules about an attribute: ``span("gen_ai.provider.name").equals("openai")``."""

    key: pulumi.Input[str]
    source: Source

    def equals(self, value: pulumi.Input[str]) -> SelectorRuleArgs:
        """Match spans whose attribute is *value*."""
        return SelectorRuleArgs(self.key, self.source, "equals", value)

    def not_equals(self, value: pulumi.Input[str]) -> SelectorRuleArgs:
        """Match spans whose attribute is not *value*."""
        return SelectorRuleArgs(self.key, self.source, "not_equals", value)

    def contains(self, value: pulumi.Input[str]) -> SelectorRuleArgs:
        """Match spans whose attribute contains *value*."""
        return SelectorRuleArgs(self.key, self.source, "contains", value)

    def not_contains(self, value: pulumi.Input[str]) -> SelectorRuleArgs:
        """Match spans whose attribute does not contain *value*."""
        return SelectorRuleArgs(self.key, self.source, "not_contains", value)

    def is_in(self, *values: pulumi.Input[str]) -> SelectorRuleArgs:
        """Match spans whose attribute is one of *values*."""
        return SelectorRuleArgs(self.key, self.source, "in", values=list(values))

    def not_in(self, *values: pulumi.Input[str]) -> SelectorRuleArgs:
        """Match spans whose attribute is none of *values*."""
        return SelectorRuleArgs(self.key, self.source, "not_in", values=list(values))

    def exists(self) -> SelectorRuleArgs:
        """Match spans that have the attribute."""
        return SelectorRuleArgs(self.key, self.source, "exists")

    def not_exists(self) -> SelectorRuleArgs:
        """Match spans that lack the attribute."""
        return SelectorRuleArgs(self.key, self.source, "not_exists")


def span(key: pulumi.Input[str]) -> RuleBuilder:
    """Return a builder of rules about the span attribute *key*."""
    return RuleBuilder(key, "span_attributes")


def resource(key: pulumi.Input[str]) -> RuleBuilder:
    """Return a builder of rules about the resource attribute *key*."""
    return RuleBuilder(key, "resource_attributes")


#: A builder without an operator is a rule without a value, which validation reports.
_ARGS: Final = (SelectorRuleArgs, EvaluatorConfigArgs, AutoMonitorSetupArgs, RuleBuilder)


def plain(value: Any) -> Any:
    """Return *value* with args classes as dicts, without ``None`` entries.

    Awaitables become Outputs; the values of Outputs become plain when they resolve.
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
    """Return *value*, which has no Outputs, as canonical JSON.

    Raises:
        TypeError: JSON cannot represent *value*.

    """
    try:
        return encoded(plain(value))
    except ValueError as error:  # NaN, infinities, circular references
        raise TypeError(str(error)) from None


class _Unresolved(Exception):  # noqa: N818 - control flow, no error
    """A value is unknown."""


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
    """Return ``canonical(plain(value))``, several times as fast, or ``None``.

    It is ``None`` if *value* contains an Output, a ``None`` or a value that JSON cannot represent.
    """
    try:
        text = _FAST_ENCODER.encode(value)
    except (_Unresolved, TypeError, ValueError):
        return None
    return None if ":null" in text else text
