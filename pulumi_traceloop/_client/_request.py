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

#: A response is read up to here, in bytes: no real one about setups comes near it, no real setup.
_BODY_LIMIT = 64 * 1024 * 1024
_SETUP_LIMIT = 1024 * 1024


@dataclass(frozen=True)
class Request:
    """One request; its path is below the base URL and encoded."""

    method: str
    path: str
    #: The setup that it is about; ``None`` for lists and batches.
    external_id: str | None = None
    params: dict[str, str] = field(default_factory=dict)
    json: dict[str, Any] | None = None
    #: The external_ids of a bulk request, in order.
    batch: tuple[str, ...] = ()
    #: Whether an error may quote the body of a response.
    quotable: bool = True
    #: Makes what reads the body of a successful response while it arrives; ``None`` to keep it.
    stream: Callable[[], ListStream] | None = None
    #: The longest body that *stream* is fed, in bytes.
    stream_limit: int = 0

    @property
    def route(self) -> str:
        """The method and the path, the same for all setups: what is out or not as a whole."""
        named = self.external_id is not None and not self.batch
        return f"{self.method} {self.path.rpartition('/')[0] + '/' if named else self.path}"

    @property
    def body_limit(self) -> int:
        """How much of a successful response is read, in bytes."""
        if self.stream is not None:
            return self.stream_limit
        if self.external_id is not None:
            return _SETUP_LIMIT
        return min(len(self.batch) * _SETUP_LIMIT, _BODY_LIMIT) if self.batch else _BODY_LIMIT


def about(method: str, route: str, external_id: str, json: dict[str, Any] | None = None) -> Request:
    """Return a request about one setup, which the path names.

    Raises:
        RejectedError: no path can carry the external_id.

    """
    problem = path_problem(external_id)
    if problem:
        raise RejectedError(
            method, route, f"the external_id {problem}", external_id=printable(str(external_id))
        )
    return Request(method, f"{route}/{quote(external_id, safe='')}", external_id, json=json)
