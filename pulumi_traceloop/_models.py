"""Setups as the user declares them (`SetupSpec`) and as the service has them (`Setup`).

The shapes are those of the API's reference pages "Create an Auto Monitor Setup", "Upsert by
External ID" and "Bulk Upsert" (https://www.traceloop.com/docs/api-reference/auto-monitor-setups).
"""

from __future__ import annotations

from dataclasses import fields
from typing import Annotated, Any, NamedTuple, cast

from pydantic import (
    AliasChoices,
    BaseModel,
    BeforeValidator,
    FailFast,
    Field,
    TypeAdapter,
    ValidationError,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    WrapValidator,
)
from pydantic.dataclasses import dataclass

from ._mismatch import mismatch
from ._naming import path_problem
from ._validation import VALUE_FIELD

__all__ = [
    "SETUP",
    "SETUP_SPEC",
    "BulkItem",
    "Definition",
    "EvaluatorConfig",
    "Listing",
    "Rule",
    "Setup",
    "SetupEvaluator",
    "SetupRule",
    "SetupSpec",
    "SpanPage",
    "Unreadable",
    "ValidationError",
    "content",
    "read_bulk",
    "unreadable",
]


class Definition(NamedTuple):
    """The semantic key of a setup: setups are equal if their definitions are.

    All rules of a selector must match, so their order and repetition are irrelevant, as is the
    order of evaluators.
    """

    rules: frozenset[tuple[str, str, str, str | frozenset[str] | None]]
    evaluators: frozenset[tuple[str, str | None]]


# `_validation` validates the content of what is declared. The models do not, so they read states
# with values that this version refuses.
@dataclass(frozen=True, slots=True)
class Rule:
    """One rule of a selector."""

    key: str
    source: str
    operator: str = "equals"
    value: str | None = None
    values: list[str] | None = None


@dataclass(frozen=True, slots=True)
class EvaluatorConfig:
    """One evaluator with its options."""

    slug: str
    scope: str | None = None


@dataclass(frozen=True, slots=True)
class SetupSpec:
    """A setup as the user declares it; that of a ``get`` is empty."""

    selector: list[Rule] = Field(default_factory=list)
    evaluators: list[str] | None = None
    evaluator_configs: list[EvaluatorConfig] | None = None
    triggers: list[Any] | None = None

    @property
    def _evaluators(self) -> list[tuple[str, str | None]]:
        if self.evaluator_configs is not None:
            return [(config.slug, config.scope) for config in self.evaluator_configs]
        return [(slug, None) for slug in self.evaluators or []]

    @property
    def definition(self) -> Definition:
        """The semantic key, comparable with that of a `Setup`."""
        return Definition(
            frozenset(_rule_definition(rule) for rule in self.selector), frozenset(self._evaluators)
        )

    def request_body(self) -> dict[str, Any]:
        """Return the body of an upsert, without the external_id.

        The bulk page requires ``evaluators``, so the slugs are sent with the configs, which take
        precedence.
        """
        body: dict[str, Any] = {
            "selector": [content(rule) for rule in self.selector],
            "evaluators": list(dict.fromkeys(slug for slug, _ in self._evaluators)),
        }
        if self.evaluator_configs is not None:
            body["evaluator_configs"] = [content(config) for config in self.evaluator_configs]
        return body


def content(part: Rule | EvaluatorConfig | SetupRule | SetupEvaluator) -> dict[str, Any]:
    """Return the fields of a part of a setup that are not ``None``."""
    return {
        field.name: value
        for field in fields(part)
        if (value := getattr(part, field.name)) is not None
    }


def _rule_definition(
    rule: Rule | SetupRule,
) -> tuple[str, str, str, str | frozenset[str] | None]:
    operator = rule.operator or "equals"
    field = VALUE_FIELD.get(operator)
    operand = frozenset(rule.values or ()) if field == "values" else rule.value if field else None
    return rule.source, rule.key, operator, operand


def _none_is_empty(value: Any) -> Any:
    return [] if value is None else value


@dataclass(frozen=True, slots=True)
class SetupRule:
    """One stored rule; the OpenAPI file has ``op`` where the reference pages have ``operator``."""

    key: str
    source: str = ""
    operator: str | None = Field(default=None, validation_alias=AliasChoices("operator", "op"))
    value: str | None = None
    values: Annotated[list[str] | None, FailFast()] = None


@dataclass(frozen=True, slots=True)
class SetupEvaluator:
    """One evaluator of a stored setup and its status."""

    evaluator_type: str
    status: str = "unknown"
    scope: str | None = None
    error_message: str | None = None


@dataclass(frozen=True, slots=True)
class Setup:
    """A setup as the service has it. The service changes the statuses asynchronously."""

    id: str
    external_id: str
    env_project_id: str | None = None
    init_rules: Annotated[list[SetupRule], FailFast(), BeforeValidator(_none_is_empty)] = Field(
        default_factory=list
    )
    evaluators: Annotated[list[SetupEvaluator], FailFast(), BeforeValidator(_none_is_empty)] = (
        Field(default_factory=list)
    )
    status: str = "unknown"
    created_at: str | None = None
    updated_at: str | None = None

    @property
    def definition(self) -> Definition:
        """The semantic key, comparable with that of a `SetupSpec`."""
        return Definition(
            frozenset(_rule_definition(rule) for rule in self.init_rules),
            frozenset((e.evaluator_type, e.scope or None) for e in self.evaluators),
        )

    def as_input(self) -> dict[str, Any]:
        """Return this setup as a user would declare it, to display drift."""
        spec: dict[str, Any] = {"selector": [content(rule) for rule in self.init_rules]}
        if any(evaluator.scope for evaluator in self.evaluators):
            spec["evaluator_configs"] = [
                {"slug": e.evaluator_type} | ({"scope": e.scope} if e.scope else {})
                for e in self.evaluators
            ]
        else:
            spec["evaluators"] = [e.evaluator_type for e in self.evaluators]
        return spec


@dataclass(frozen=True, slots=True)
class BulkItem:
    """The outcome of one setup of a bulk request: *result* on success, else *error*."""

    external_id: str
    status: str
    result: Setup | None = None
    error: str | None = None


class Unreadable(NamedTuple):
    """A setup, or an item of a bulk response, that does not match the API's documentation."""

    external_id: str
    #: ``None`` if missing or unreadable.
    env_project_id: str | None
    #: Such as ``init_rules[0].value should be a string, but is a number``, without values.
    reason: str


class Listing(NamedTuple):
    """The response of the list route. An unreadable setup may belong to another project."""

    setups: list[Setup]
    unreadable: list[Unreadable]


#: Parse a declared setup, and a stored one.
SETUP_SPEC: TypeAdapter[SetupSpec] = TypeAdapter(SetupSpec)
SETUP: TypeAdapter[Setup] = TypeAdapter(Setup)

#: With more unreadable items than this, the whole response is unreadable.
UNREADABLE_LIMIT = 10_000


def unreadable(value: object, reason: str) -> Unreadable | None:
    """Return which setup an unreadable item is about; ``None`` if it has no usable name."""
    fields = value if isinstance(value, dict) else {}
    external_id, env_project_id = fields.get("external_id"), fields.get("env_project_id")
    if isinstance(external_id, int) and not isinstance(external_id, bool):
        external_id = str(external_id)
    if not isinstance(external_id, str) or path_problem(external_id):
        return None
    project = env_project_id if isinstance(env_project_id, str) else None
    return Unreadable(external_id, project, reason)


def _item(value: Any, validate: ValidatorFunctionWrapHandler, info: ValidationInfo) -> Any:
    """Return the validated item, or an `Unreadable`; ``None`` if it has no usable external_id."""
    try:
        return validate(value)
    except ValidationError as error:
        budget = cast("dict[str, int]", info.context)
        budget["left"] -= 1
        if budget["left"] < 0:
            raise
        return unreadable(value, mismatch(error))


# FailFast, here and above: collecting all errors of a hostile response takes gigabytes.
class _Bulk(BaseModel):
    setups: Annotated[list[BulkItem], FailFast()]


class _SpanList(BaseModel):
    data: Annotated[list[dict[str, Any]], FailFast(), BeforeValidator(_none_is_empty)]
    next_cursor: str | None = None


class SpanPage(BaseModel):
    """One page of spans and the cursor of the next (reference page "Get Spans")."""

    spans: _SpanList


class _TolerantBulk(BaseModel):
    setups: Annotated[list[Annotated[BulkItem, WrapValidator(_item)]], FailFast()]


def read_bulk(body: bytes) -> list[BulkItem | Unreadable]:
    """Read the response of the bulk route (207).

    Raises:
        ValidationError: the body is not a list of outcomes.

    """
    items: list[Any]
    try:
        items = list(_Bulk.model_validate_json(body).setups)
    except ValidationError as error:
        failure = error
        items = list(
            _TolerantBulk.model_validate_json(body, context={"left": UNREADABLE_LIMIT}).setups
        )
        if not any(items):
            raise failure from None
    return [item for item in items if item is not None]
