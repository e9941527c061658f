"""Validates request bodies as the server does.

Sources of the rules and quoted texts: the pages "Create", "Upsert by External ID" and "Bulk Upsert"
of traceloop/docs. Texts without a source are marked "undocumented".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pydantic_core import from_json

SOURCES = ("span_attributes", "resource_attributes")
ONE_VALUE = ("equals", "not_equals", "contains", "not_contains")
MANY_VALUES = ("in", "not_in")
NO_VALUE = ("exists", "not_exists")
OPERATORS = (*ONE_VALUE, *MANY_VALUES, *NO_VALUE)
SCOPES = ("session", "trace", "span")
MAX_BATCH = 100

#: The page "Evaluator Slugs"; the last two have separate pages only.
DOCUMENTED_EVALUATORS = frozenset(
    [
        "answer-relevancy",
        "answer-correctness",
        "answer-completeness",
        "faithfulness",
        "semantic-similarity",
        "topic-adherence",
        "uncertainty-detector",
        "instruction-adherence",
        "context-relevance",
        "perplexity",
        "prompt-perplexity",
        "char-count",
        "char-count-ratio",
        "word-count",
        "word-count-ratio",
        "tone-detection",
        "pii-detector",
        "profanity-detector",
        "secrets-detector",
        "prompt-injection",
        "sexism-detector",
        "toxicity-detector",
        "json-validator",
        "regex-validator",
        "placeholder-regex",
        "sql-validator",
        "html-comparison",
        "agent-goal-accuracy",
        "agent-goal-completeness",
        "agent-flow-quality",
        "agent-efficiency",
        "agent-tool-error-detector",
        "agent-tool-trajectory",
        "intent-change",
        "conversation-quality",
        "action-advancement",
        "agent-tool-selection-quality",
    ]
)


class InvalidRequestError(Exception):
    """The response is a 400, or the bulk item an error; ``str()`` is the text."""


@dataclass(frozen=True)
class Evaluator:
    """One evaluator of a setup: its slug and, if given, its scope."""

    slug: str
    scope: str | None = None


@dataclass(frozen=True)
class Content:
    """The content of a setup. None: the request lacks that part."""

    rules: list[dict[str, Any]] | None
    evaluators: list[Evaluator] | None


def parse_object(body: bytes) -> dict[str, Any]:
    """Decode a request body, which must be a JSON object (texts undocumented)."""
    try:
        value = from_json(body, allow_inf_nan=False)
    except ValueError:
        raise InvalidRequestError("invalid request body: malformed JSON") from None
    if not isinstance(value, dict):
        raise InvalidRequestError("invalid request body: must be a JSON object")
    return value


def for_create(body: dict[str, Any], known: frozenset[str]) -> Content:
    """Check a POST's body: `evaluators` is required, `selector` is optional ("Create" page).

    An empty selector is refused: the page calls it optional, not empty.
    """
    rules = _selector(body)
    if rules is not None and not rules:
        raise InvalidRequestError("selector must have at least 1 filter")
    slugs = _slugs(body)
    if not slugs:
        raise InvalidRequestError("invalid input: evaluators must contain at least one item")
    evaluators = _configs(body) or slugs
    _must_be_known(evaluators, known)
    return Content(rules or [], evaluators)


def for_upsert(body: dict[str, Any], known: frozenset[str]) -> Content:
    """Check the body of an upsert: both parts are required ("Upsert by External ID" page)."""
    rules = _selector(body)
    if not rules:
        raise InvalidRequestError("selector must have at least 1 filter")
    slugs = _slugs(body)
    evaluators = _configs(body) or slugs
    if not evaluators:
        raise InvalidRequestError("one of evaluators or evaluator_configs is required")
    _must_be_known(evaluators, known)
    return Content(rules, evaluators)


def for_update(body: dict[str, Any], known: frozenset[str]) -> Content:
    """Check an update's body: "Fields to update" (openapi.json), so all are optional."""
    rules = _selector(body)
    if rules is not None and not rules:
        raise InvalidRequestError("selector must have at least 1 filter")
    slugs = _slugs(body)
    evaluators = _configs(body) or slugs
    if evaluators is not None:
        if not evaluators:
            raise InvalidRequestError("invalid input: evaluators must contain at least one item")
        _must_be_known(evaluators, known)
    return Content(rules, evaluators)


def external_id_of(body: dict[str, Any]) -> str:
    """Return the external id in a POST's body (the text is undocumented)."""
    external_id = body.get("external_id")
    if not isinstance(external_id, str) or not external_id:
        raise InvalidRequestError("invalid input: external_id is required")
    return external_id


def batch_of(body: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Return a bulk request's items as (external id, item), or refuse the whole batch.

    The "Bulk Upsert" page lists the four causes, and the text for a duplicate only.
    """
    items = body.get("setups")
    if not isinstance(items, list):
        raise InvalidRequestError("invalid input: setups is required and must be an array")
    if not items:
        raise InvalidRequestError("invalid input: setups must contain at least one item")
    if len(items) > MAX_BATCH:
        raise InvalidRequestError(
            f"invalid input: setups must contain at most {MAX_BATCH} items, got {len(items)}"
        )
    seen: dict[str, int] = {}
    batch: list[tuple[str, dict[str, Any]]] = []
    for index, item in enumerate(items):
        if not isinstance(item, dict):
            raise InvalidRequestError(f"setups[{index}]: must be an object")
        external_id = item.get("external_id")
        if not isinstance(external_id, str) or not external_id:
            raise InvalidRequestError(f"setups[{index}]: external_id is required")
        if external_id in seen:
            raise InvalidRequestError(
                f'setups[{index}]: duplicate external_id "{external_id}" '
                f"(also at setups[{seen[external_id]}])"
            )
        seen[external_id] = index
        batch.append((external_id, item))
    return batch


def _selector(body: dict[str, Any]) -> list[dict[str, Any]] | None:
    """Return the rules with `operator` filled in, None when absent or null."""
    selector = body.get("selector")
    if selector is None:
        return None
    if not isinstance(selector, list):
        # openapi.json describes an object here, the newer pages an array.
        raise InvalidRequestError("invalid input: selector must be an array of filters")
    return [_rule(rule, f"selector[{index}]") for index, rule in enumerate(selector)]


def _rule(rule: Any, where: str) -> dict[str, Any]:
    """Check one rule against the table on the "Create" page; the texts are undocumented."""
    if not isinstance(rule, dict):
        raise InvalidRequestError(f"invalid input: {where} must be an object")
    key, source = rule.get("key"), rule.get("source")
    operator = rule.get("operator")
    operator = "equals" if operator is None else operator
    if not isinstance(key, str) or not key:
        raise InvalidRequestError(f"invalid input: {where}: key is required")
    if source is None or source == "":
        raise InvalidRequestError(f"invalid input: {where}: source is required")
    if source not in SOURCES:
        raise InvalidRequestError(
            f"invalid input: {where}: source must be one of {', '.join(SOURCES)}"
        )
    if operator not in OPERATORS:
        raise InvalidRequestError(
            f"invalid input: {where}: operator must be one of {', '.join(OPERATORS)}"
        )
    value, values = rule.get("value"), rule.get("values")
    if value is not None and not isinstance(value, str):
        raise InvalidRequestError(f"invalid input: {where}: value must be a string")
    if values is not None and not (
        isinstance(values, list) and all(isinstance(v, str) for v in values)
    ):
        raise InvalidRequestError(f"invalid input: {where}: values must be an array of strings")
    if operator in ONE_VALUE and not value:
        raise InvalidRequestError(
            f"invalid input: {where}: value is required for operator {operator}"
        )
    if operator in MANY_VALUES and not values:
        raise InvalidRequestError(
            f"invalid input: {where}: values is required for operator {operator}"
        )
    # "Same shape as the input": a value that the operator does not need is stored too
    # (undocumented).
    checked = {"key": key, "value": value, "values": values, "source": source, "operator": operator}
    return {name: given for name, given in checked.items() if given is not None}


def _slugs(body: dict[str, Any]) -> list[Evaluator] | None:
    slugs = body.get("evaluators")
    if slugs is None:
        return None
    if not isinstance(slugs, list) or not all(isinstance(slug, str) for slug in slugs):
        raise InvalidRequestError("invalid input: evaluators must be an array of strings")
    return [Evaluator(slug) for slug in slugs]


def _configs(body: dict[str, Any]) -> list[Evaluator] | None:
    """Return the `evaluator_configs`, which take precedence over `evaluators` if not empty."""
    configs = body.get("evaluator_configs")
    if configs is None:
        return None
    if not isinstance(configs, list):
        raise InvalidRequestError("invalid input: evaluator_configs must be an array")
    evaluators = []
    for index, config in enumerate(configs):
        where = f"invalid input: evaluator_configs[{index}]"
        if not isinstance(config, dict):
            raise InvalidRequestError(f"{where}: must be an object")
        slug, scope = config.get("slug"), config.get("scope")
        if not isinstance(slug, str) or not slug:
            raise InvalidRequestError(f"{where}: slug is required")
        if scope is not None and scope not in SCOPES:
            raise InvalidRequestError(f"{where}: scope must be one of {', '.join(SCOPES)}")
        evaluators.append(Evaluator(slug, scope))
    return evaluators


def _must_be_known(evaluators: list[Evaluator], known: frozenset[str]) -> None:
    for evaluator in evaluators:
        if evaluator.slug not in known:
            raise InvalidRequestError(f'unknown evaluator slug "{evaluator.slug}"')
