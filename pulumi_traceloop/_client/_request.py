"""A request to the API, before it is sent."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from .._naming import path_problem
from .._text import printable
from ..errors import RejectedError

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._listing import ListStream

__all__ = ["SETUPS", "Request", "about"]

SETUPS = "/v2/auto-monitor-setups"

#: The longest response and the longest setup, in bytes, far above real ones.
_BODY_LIMIT = 64 * 1024 * 1024
_SETUP_LIMIT = 1024 * 1024


@dataclass(frozen=True)
class Request:
    """One request; its path is below the base URL and encoded."""

    method: str
    path: str
    #: The setup of the request; ``None`` for lists and batches.
    external_id: str | None = None
    params: dict[str, str] = field(default_factory=dict)
    json: dict[str, Any] | None = None
    #: The external_ids of a bulk request, in order.
    batch: tuple[str, ...] = ()
    #: Whether errors may quote the response.
    quotable: bool = True
    #: Creates the parser that receives a successful response while it arrives, if any.
    stream: Callable[[], ListStream] | None = None
    #: The longest body for *stream*, in bytes.
    stream_limit: int = 0

    @property
    def route(self) -> str:
        """The method and the path without the external_id: the scope of an outage."""
        named = self.external_id is not None and not self.batch
        return f"{self.method} {self.path.rpartition('/')[0] + '/' if named else self.path}"

    @property
    def body_limit(self) -> int:
        """The longest successful response, in bytes."""
        if self.stream is not None:
            return self.stream_limit
        if self.external_id is not None:
            return _SETUP_LIMIT
        return min(len(self.batch) * _SETUP_LIMIT, _BODY_LIMIT) if self.batch else _BODY_LIMIT


def about(method: str, route: str, external_id: str, json: dict[str, Any] | None = None) -> Request:
    """Return a request with the external_id in the path.

    Raises:
        RejectedError: a URL cannot contain the external_id.

    """
    problem = path_problem(external_id)
    if problem:
        raise RejectedError(
            method, route, f"the external_id {problem}", external_id=printable(str(external_id))
        )
    return Request(method, f"{route}/{quote(external_id, safe='')}", external_id, json=json)
