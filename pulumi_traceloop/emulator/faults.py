"""Faults to inject between a client and the service."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field, fields
from datetime import datetime, timezone
from email.utils import format_datetime
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Literal

from .routes import BULK_ROUTE, LIST_ROUTE, ROUTES

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


@dataclass(eq=False)
class Fault:
    """A fault: first the attributes that select requests, then the effects.

    Example:
        ```python
        Fault(status=503, times=2)  # the next two requests
        Fault(method="PUT", external_id="m-1", drop="after")  # written, no response
        Fault(item_error={"m-7": "internal error"}, times=None)
        ```

    Of the faults that replace the response (`status`, `drop`, `body`, `truncate`), a request gets
    the one injected first. All other matching faults (`delay`, `hide`, `item_error`, ...) apply
    together.
    """

    #: Only this route, as a template: "PUT /v2/auto-monitor-setups/by-external-id/{external_id}".
    route: str | None = None
    #: Only this HTTP method.
    method: str | None = None
    #: Only requests with this setup in the path, the query or the body (any item of a bulk).
    external_id: str | None = None
    #: The number of requests to hit; None: until removed.
    times: int | None = 1
    #: The number of matching requests that pass first.
    skip: int = 0

    #: Respond with this status.
    status: int | None = None
    #: `Retry-After` of that response: seconds, a time (sent as an HTTP date) or literal text.
    retry_after: float | datetime | str | None = None
    #: Body of that response: "json", the service's `{"error": "..."}`; "html", a load balancer's
    #: page; "kong", a gateway's `{"message": "..."}` with `X-Kong-Request-Id`; "text", a Go
    #: server's line, such as `404 page not found`; "empty".
    body_kind: Literal["json", "html", "kong", "text", "empty"] = "json"
    #: Text of the JSON error or message; the default depends on `status` and `body_kind`.
    message: str | None = None
    #: Whether the service writes before it responds with `status`, and when `delay` applies.
    when: Literal["before_write", "after_write"] = "before_write"
    #: Drop the connection without a response, before or after the write.
    drop: Literal["before", "after"] | None = None
    #: Delay in seconds.
    delay: float = 0
    #: Truncate the body by half. "json": a complete HTTP response with half a document; "length":
    #: fewer bytes than `Content-Length`; "chunked": incomplete chunks.
    truncate: Literal["json", "length", "chunked"] | None = None
    #: Send this body, with `status` or the status of the real response.
    body: str | bytes | None = None
    #: External ids missing in the list, though a GET by id finds them.
    hide: Iterable[str] = ()
    #: {external id: message} of bulk items to refuse; written anyway with `when="after_write"`.
    item_error: Mapping[str, str] = field(default_factory=dict)
    #: Return the items of a bulk in reverse order.
    reorder: bool = False
    #: The number of items to omit at the end of a bulk response.
    shorten: int = 0

    def __post_init__(self) -> None:
        """Refuse invalid faults and those without effect."""
        self.hide = frozenset([self.hide] if isinstance(self.hide, str) else self.hide)
        if self.times is not None and self.times < 1:
            raise ValueError("times must be at least 1, or None for until removed")
        for name, allowed in (
            ("route", (None, *ROUTES)),
            ("body_kind", ("json", "html", "kong", "text", "empty")),
            ("when", ("before_write", "after_write")),
            ("drop", (None, "before", "after")),
            ("truncate", (None, "json", "length", "chunked")),
        ):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} must be one of {allowed}, not {getattr(self, name)!r}")
        if self.status is not None and not 200 <= self.status <= 599:
            raise ValueError(f"status must be from 200 to 599, not {self.status}")
        alters = self.delay or self.hide or self.item_error or self.reorder or self.shorten
        if not (self.replaces_answer or alters):
            raise ValueError(
                "this fault has no effect: give a status, drop, delay, truncate, body, hide, ..."
            )

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Fault:
        """Create a fault from the body of `POST /_emulator/faults`."""
        unknown = set(values) - {f.name for f in fields(cls)}
        if unknown:
            raise ValueError(f"unknown: {', '.join(sorted(unknown))}")
        return cls(**values)

    @property
    def replaces_answer(self) -> bool:
        """Whether this replaces the service's response."""
        replacements = (self.status, self.drop, self.body, self.truncate)
        return any(given is not None for given in replacements)  # even an empty body

    def fits(self, method: str, route: str, external_ids: frozenset[str]) -> bool:
        """Whether this fault matches a request, apart from `times` and `skip`."""
        if self.hide and route != LIST_ROUTE:
            return False
        if (self.item_error or self.reorder or self.shorten) and route != BULK_ROUTE:
            return False
        if self.item_error and external_ids.isdisjoint(self.item_error):
            return False
        return (
            (self.route is None or self.route == route)
            and (self.method is None or self.method.upper() == method)
            and (self.external_id is None or self.external_id in external_ids)
        )

    def retry_after_header(self) -> str | None:
        """Return the `Retry-After` header."""
        if isinstance(self.retry_after, datetime):
            return format_datetime(self.retry_after.astimezone(timezone.utc), usegmt=True)
        if isinstance(self.retry_after, float) and self.retry_after.is_integer():
            return str(int(self.retry_after))
        return None if self.retry_after is None else str(self.retry_after)


class FaultQueue:
    """The injected faults in order. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pending: dict[Fault, tuple[int, int | None]] = {}  # to skip, to hit

    def inject(self, fault: Fault) -> Fault:
        """Add a fault and return it."""
        with self._lock:
            self._pending[fault] = (fault.skip, fault.times)
        return fault

    def remove(self, fault: Fault) -> None:
        """Remove a fault, if pending."""
        with self._lock:
            self._pending.pop(fault, None)

    def clear(self) -> None:
        """Remove every fault."""
        with self._lock:
            self._pending.clear()

    def pending(self) -> list[Fault]:
        """Return the pending faults."""
        with self._lock:
            return list(self._pending)

    def take(self, method: str, route: str, external_ids: frozenset[str]) -> list[Fault]:
        """Return the faults of this request, and count their use."""
        hits: list[Fault] = []
        replaced = False
        with self._lock:
            for fault, (skip, times) in list(self._pending.items()):
                if (fault.replaces_answer and replaced) or not fault.fits(
                    method, route, external_ids
                ):
                    continue
                if skip:
                    self._pending[fault] = (skip - 1, times)
                    continue
                replaced = replaced or fault.replaces_answer
                hits.append(fault)
                if times == 1:
                    del self._pending[fault]
                elif times is not None:
                    self._pending[fault] = (0, times - 1)
        return hits


def error_text(status: int) -> str:
    """Return the service's error text; only "internal server error" is documented."""
    return "internal server error" if status == 500 else _phrase(status).lower()


def kong_text(status: int) -> str:
    """Return the message of the gateway in front of the service."""
    return "no Route matched with those values" if status == 404 else _phrase(status)


def server_line(status: int) -> str:
    """Return a Go server's plain-text error."""
    return "404 page not found\n" if status == 404 else f"{_phrase(status)}\n"


def gateway_page(status: int) -> str:
    """Return the HTML page of a load balancer in front of the service."""
    title = f"{status} {_phrase(status)}"
    return (
        f"<html>\r\n<head><title>{title}</title></head>\r\n<body>\r\n"
        f"<center><h1>{title}</h1></center>\r\n"
        "<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n"
    )


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Unknown"
