"""The received spans, in memory, and the queries of the page "Get Spans"."""

from __future__ import annotations

import threading
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic_core import from_json, to_json

from .validation import InvalidRequestError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from .otlp import ReceivedSpan

#: How many of the latest spans an environment keeps.
KEPT = 10_000

#: The default page size ("page_size" of the page's example), and the largest (undocumented).
PAGE, LARGEST_PAGE = 50, 1000

#: The attributes that `sort_by` may name, and the fields of the span.
_SORTED_BY_ATTRIBUTE = {
    "total_tokens": "gen_ai.usage.total_tokens",
    "llm_usage_total_tokens": "llm.usage.total_tokens",
    "llm_response_model": "gen_ai.response.model",
    "traceloop_workflow_name": "traceloop.workflow.name",
    "traceloop_entity_name": "traceloop.entity.name",
}
_SORTED_BY_FIELD = {
    "timestamp": "timestamp",
    "duration_ms": "duration",
    "span_name": "span_name",
    "trace_id": "trace_id",
}

_KNOWN = {
    "from_timestamp_sec",
    "to_timestamp_sec",
    "workflow",
    "span_name",
    "sort_order",
    "sort_by",
    "cursor",
    "limit",
    "filters",
}


class SpanLog:
    """The latest spans of every environment. Thread-safe.

    They are not written to the data file: they hold end-user content.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._spans: dict[str, deque[_Numbered]] = {}
        self._last = 0

    def add(self, environment: str, spans: Iterable[ReceivedSpan]) -> None:
        """Add spans of an environment."""
        with self._lock:
            kept = self._spans.setdefault(environment, deque(maxlen=KEPT))
            for span in spans:
                self._last += 1
                kept.append(_Numbered(self._last, {"environment": environment, **span.response}))

    def all(self, environment: str) -> list[dict[str, Any]]:
        """Return an environment's spans, oldest first, as the service returns them."""
        return [span.response for span in self._of(environment)]

    def clear(self) -> None:
        """Remove all spans."""
        with self._lock:
            self._spans.clear()

    def find(self, environment: str, query: Mapping[str, str]) -> dict[str, Any]:
        """Return the response to a query.

        Raises:
            InvalidRequestError: a parameter is invalid (the texts are undocumented).

        """
        search = _Search.of(query)
        found = [span for span in self._of(environment) if search.accepts(span.response)]
        found.sort(key=search.place, reverse=search.descending)
        rest = [span for span in found if search.is_after_cursor(span)]
        page = rest[: search.limit]
        more = len(rest) > len(page)
        return {
            "spans": {
                "data": [span.response for span in page],
                "page_size": len(page),
                "total_results": len(found),
                "next_cursor": search.cursor_at(page[-1]) if more else "",
            }
        }

    def _of(self, environment: str) -> list[_Numbered]:
        with self._lock:
            return list(self._spans.get(environment, ()))


class _Numbered(NamedTuple):
    number: int
    response: dict[str, Any]


#: A sort key: a number or a text, then the order of arrival.
_Place = tuple[float, str, int]

_Condition = Callable[[dict[str, Any]], bool]


@dataclass(frozen=True)
class _Search:
    """A parsed query."""

    conditions: list[_Condition]
    sort_by: str
    descending: bool
    limit: int
    cursor: _Place | None

    @classmethod
    def of(cls, query: Mapping[str, str]) -> _Search:
        since = _integer(query, "from_timestamp_sec")
        if since is None:
            raise InvalidRequestError("invalid input: from_timestamp_sec is required")
        conditions: list[_Condition] = [lambda span: span["timestamp"] >= since * 1000]
        if (until := _integer(query, "to_timestamp_sec")) is not None:
            conditions.append(lambda span: span["timestamp"] <= until * 1000)
        for name, field in (("workflow", "traceloop.workflow.name"), ("span_name", "span_name")):
            if name in query:
                conditions.append(_condition(field, "equals", query[name]))
        # "Any query parameter not matching a known field is treated as an attribute filter."
        conditions += [
            _condition(key, "equals", value) for key, value in query.items() if key not in _KNOWN
        ]
        conditions += _filters(query.get("filters"))
        order = query.get("sort_order", "ASC")
        if order not in ("ASC", "DESC"):
            raise InvalidRequestError("invalid input: sort_order must be ASC or DESC")
        sort_by = query.get("sort_by", "timestamp")
        if sort_by not in _SORTED_BY_FIELD and sort_by not in _SORTED_BY_ATTRIBUTE:
            raise InvalidRequestError(f'invalid input: unknown sort_by "{sort_by}"')
        limit = _integer(query, "limit")
        if limit is not None and limit < 1:
            raise InvalidRequestError("invalid input: limit must be at least 1")
        return cls(
            conditions,
            sort_by,
            order == "DESC",
            min(PAGE if limit is None else limit, LARGEST_PAGE),
            _cursor(query.get("cursor")),
        )

    def accepts(self, span: dict[str, Any]) -> bool:
        return all(condition(span) for condition in self.conditions)

    def place(self, span: _Numbered) -> _Place:
        attribute = _SORTED_BY_ATTRIBUTE.get(self.sort_by)
        if attribute is None:
            value = span.response[_SORTED_BY_FIELD[self.sort_by]]
        else:
            value = span.response["span_attributes"].get(attribute, "")
        number = _number(value)
        return (number or 0.0, "" if number is not None else str(value), span.number)

    def is_after_cursor(self, span: _Numbered) -> bool:
        if self.cursor is None:
            return True
        place = self.place(span)
        return place < self.cursor if self.descending else place > self.cursor

    def cursor_at(self, span: _Numbered) -> str:
        return urlsafe_b64encode(to_json(self.place(span))).decode()


def _cursor(text: str | None) -> _Place | None:
    """Parse a `next_cursor`, whose format is undocumented."""
    if not text:
        return None
    try:
        number, value, position = from_json(urlsafe_b64decode(text))
        return float(number), str(value), int(position)
    except (ValueError, TypeError):
        raise InvalidRequestError("invalid input: cursor is not one of this service") from None


def _integer(query: Mapping[str, str], name: str) -> int | None:
    text = query.get(name)
    if text is None:
        return None
    try:
        return int(text)
    except ValueError:
        raise InvalidRequestError(f"invalid input: {name} must be an integer") from None


def _number(value: object) -> float | None:
    try:
        return float(str(value))
    except ValueError:
        return None


def _filters(text: str | None) -> list[_Condition]:
    if not text:
        return []
    try:
        filters = from_json(text)
        return [_condition(f["id"], f["operator"], f.get("value")) for f in filters]
    except (ValueError, TypeError, KeyError, AttributeError):
        raise InvalidRequestError(
            "invalid input: filters must be an array of {id, operator, value}"
        ) from None


def _condition(key: str, operator: str, wanted: Any) -> _Condition:
    """Return a filter on a span attribute or on a field of the span.

    Filters on resource attributes are undocumented, and not supported here.
    """
    compare = _comparison(operator, wanted)

    def condition(span: dict[str, Any]) -> bool:
        value = span["span_attributes"].get(key, span.get(key))
        return compare(None if value is None else str(value))

    return condition


def _comparison(operator: str, wanted: Any) -> Callable[[str | None], bool]:
    """Return an operator's test; `not_` ones accept a missing attribute (undocumented)."""
    if operator in ("not_equals", "not_in", "not_exists"):
        opposite = _comparison(operator.removeprefix("not_"), wanted)
        return lambda value: not opposite(value)
    if operator == "in":
        several = {str(item) for item in wanted}
        return lambda value: value in several
    text = str(wanted)
    tests: dict[str, Callable[[str], bool]] = {
        "equals": lambda value: value == text,
        "contains": lambda value: text in value,
        "starts_with": lambda value: value.startswith(text),
        "exists": lambda _: True,
        "greater_than": _numeric(text, lambda a, b: a > b),
        "greater_than_or_equal": _numeric(text, lambda a, b: a >= b),
        "less_than": _numeric(text, lambda a, b: a < b),
        "less_than_or_equal": _numeric(text, lambda a, b: a <= b),
    }
    if operator not in tests:
        raise InvalidRequestError(f'invalid input: unknown operator "{operator}" in filters')
    test = tests[operator]
    return lambda value: value is not None and test(value)


def _numeric(wanted: str, compare: Callable[[float, float], bool]) -> Callable[[str], bool]:
    limit = _number(wanted)

    def test(value: str) -> bool:
        number = _number(value)
        return number is not None and limit is not None and compare(number, limit)

    return test
