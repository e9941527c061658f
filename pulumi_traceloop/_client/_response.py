"""Converts responses to results and errors."""

from __future__ import annotations

import html
import http.client
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from pydantic_core import ValidationError, from_json

from .._mismatch import mismatch
from .._settings import STORED_KEY, Settings
from .._text import printable
from ..errors import (
    AuthenticationError,
    ConflictError,
    ConnectionFailedError,
    MalformedResponseError,
    NotFoundError,
    RateLimitedError,
    RejectedError,
    RequestError,
    ServerError,
    TransportError,
)
from ._failure import described

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from .._models import Listing
    from ._listing import ListStream
    from ._request import Request
    from ._retry import Exchange

__all__ = ["ERROR_BODY_LIMIT", "INTERNAL", "MIB", "Reader", "Response", "without_index"]

#: The bytes read of an error's body, enough for a message or the title of an HTML page.
ERROR_BODY_LIMIT = 64 * 1024

#: Bytes in a MiB.
MIB = 1024 * 1024

_T = TypeVar("_T")


@dataclass(frozen=True)
class Effort:
    """The attempts and the time of a request."""

    attempts: int = 1
    seconds: float = 0.0
    #: Whether the request was sent. If not, this is the effort of an earlier one that failed.
    sent: bool = True

    def __str__(self) -> str:
        """Return the effort as text; empty for a single quick attempt."""
        if self.attempts < 2 and self.seconds < 1:
            return ""
        attempts = "1 attempt" if self.attempts == 1 else f"{self.attempts} attempts"
        return f"{attempts} in {self.seconds:.0f} s"


@dataclass(frozen=True)
class Response:
    """One response, read up to its limit."""

    status: int
    headers: Mapping[str, str]
    #: The whole body, or its beginning if it was parsed by *stream*.
    body: bytes
    #: The bytes that were read, or the declared length if that exceeds the limit.
    size: int
    stream: ListStream | None = None
    effort: Effort = Effort()

    @property
    def json(self) -> Any:
        """The body's JSON value; ``None`` if it is not JSON."""
        try:
            return from_json(self.body)
        except ValueError:
            return None

    @property
    def looks_like_json(self) -> bool:
        """Whether this may be JSON, perhaps truncated, and so probably comes from the API."""
        return self.body.lstrip().startswith((b"{", b"["))

    @property
    def is_the_apis(self) -> bool:
        """Whether the body is an error of the API: ``{"error": "..."}``, as its pages document.

        A gateway or another server sends HTML, text (``404 page not found``), other JSON
        (``{"message": "no Route matched"}``), or an empty body.
        """
        content = self.json
        return isinstance(content, dict) and isinstance(content.get("error"), str)

    @property
    def says_absent(self) -> bool:
        """Whether the API reports that the setup does not exist: its own 404 or 410.

        Any other 404 comes from a server that does not know the setups. If it counted, all setups
        would seem deleted, and a delete would seem done. A 404 with an empty body is another
        server's too: a service mesh sends it for an unknown route.
        """
        return self.status in (404, 410) and self.is_the_apis

    @property
    def lacks_route(self) -> bool:
        """Whether the response to a write shows that the service lacks the route."""
        return self.status == 405 or (self.status == 404 and not self.is_the_apis)

    @property
    def redirect_target(self) -> str:
        """The target of a redirect, without credentials and query."""
        try:
            parts = urlsplit(self.headers.get("Location", ""))
        except ValueError:
            return "an unusable URL"
        host = parts.netloc.rpartition("@")[2]
        return (f"{parts.scheme}://{host}" if host else "") + parts.path or "nowhere"

    @property
    def message(self) -> str:
        """The message of an error response: its own, else the status."""
        content = self.json
        if isinstance(content, dict):
            for name in ("error", "message"):
                if isinstance(content.get(name), str) and content[name].strip():
                    return str(content[name])
        if self.body.strip():
            return self.summary
        return http.client.responses.get(self.status, "no message").lower()

    @property
    def summary(self) -> str:
        """The body as a short text."""
        text = self.body[:ERROR_BODY_LIMIT].decode("utf-8", "replace").strip()
        if re.match(r"<(!doctype html|html|head|body)\b", text, re.IGNORECASE):
            title = re.search(r"<title[^>]*>([^<]*)", text, re.IGNORECASE)
            named = printable(html.unescape(title[1]), 100) if title else ""
            return f'an HTML page, "{named}"' if named else "an HTML page"
        return printable(text, 200) or "empty"


class Reader:
    """Converts responses to results, or raises their errors.

    Args:
        settings: names the settings in messages.
        base_url: the URL of the service.
        api_key: the API key, which is removed from messages.
        key_is_stored: whether the key may be that of the last `pulumi up`.

    """

    def __init__(
        self,
        settings: Settings,
        base_url: str,
        api_key: str,
        key_is_stored: Callable[[], bool],
    ) -> None:
        self._settings = settings
        self._api_key = api_key
        self._key_is_stored = key_is_stored
        parts = urlsplit(base_url)
        self._origin = f"{parts.scheme}://{parts.netloc}"
        self._collector_port = settings.collector_port(base_url)
        self._advice = settings.check_base_url(base_url)

    def response(self, request: Request, exchange: Exchange) -> Response:
        """Return the response with any status, or raise the error if there is none."""
        if exchange.response is not None:
            return exchange.response
        error_class: type[RequestError]
        if exchange.failure is None:
            error_class = RateLimitedError
            reason = f"{self._origin} takes no more requests for now; this one was not sent"
        elif exchange.maybe_done:
            error_class = TransportError
            reason = f"no response from {self._origin}: {described(exchange.failure)}"
        else:
            error_class = ConnectionFailedError
            reason = f"cannot reach {self._origin}: {described(exchange.failure)}"
        if exchange.failure is not None and self._collector_port:
            reason += f"; {self._collector_port}"
        raise error_class(
            request.method,
            request.path,
            self.quotable(reason),
            external_id=request.external_id,
            effort=str(exchange.effort),
            outcome_unknown=None if exchange.effort.sent else False,
        )

    def success(self, request: Request, response: Response) -> Response:
        """Return the response if its status is 2xx, else raise its error."""
        status = response.status
        if 200 <= status < 300:
            if response.size > request.body_limit:
                raise self._too_large(request, response)
            return response
        raise self.error(request, response)

    def error(self, request: Request, response: Response) -> RequestError:
        """Return the error of a response whose status is not 2xx."""
        status, message = response.status, response.message
        error_class: type[RequestError] = RejectedError
        if 300 <= status < 400:
            message = f"the service redirects to {response.redirect_target}, which is not followed"
            message += f"; {self._advice}"
        elif status in (401, 403):
            error_class = AuthenticationError
            setting = self._settings.name("apiKey")
            message = f"{self._origin} does not accept the API key; check {setting}: {message}"
            if self._key_is_stored():
                message += f". {STORED_KEY}"
        elif status in (404, 410):
            error_class = NotFoundError
            if not response.is_the_apis:
                message = f"{self._origin} does not respond as the Traceloop API: {message}"
            if not response.is_the_apis or request.external_id is None or request.method == "PUT":
                message += f"; {self._advice}"
        elif status == 409:
            error_class = ConflictError
        elif status == 429:
            error_class = RateLimitedError
        elif status == 408 or status >= 500:
            error_class = ServerError
        return error_class(
            request.method,
            request.path,
            self.quotable(without_index(message, request.batch)),
            status=status,
            external_id=request.external_id,
            effort=str(response.effort),
            request_id=self._request_id(response),
            outcome_unknown=None if response.effort.sent else False,
        )

    def _too_large(self, request: Request, response: Response) -> MalformedResponseError:
        limit = request.body_limit // MIB
        # A size that was read exceeds the limit by less than this.
        declared = response.size > request.body_limit + 2 * ERROR_BODY_LIMIT
        reason = f"should be at most {limit:,} MiB, but is "
        reason += f"{-(-response.size // MIB):,} MiB" if declared else "larger"
        if request.stream is not None:
            enough = str(-(-max(response.size, 2 * request.body_limit) // MIB))
            reason += f"; to read more, {self._settings.how_to_set('maxListSize', enough)}"
        return self._unusable(request, response, reason)

    def listing(self, request: Request, response: Response) -> Listing:
        """Return the list of setups in a response."""
        expected = "a list of setups"
        stream = response.stream
        if stream is None or stream.problem:
            if stream is not None and response.looks_like_json:
                expected += f" ({stream.problem})"
            raise self.malformed(request, response, expected)
        if stream.wrong_item:
            raise self._wrong(request, response, expected, stream.wrong_item)
        return stream.listing()

    def parse(
        self,
        request: Request,
        response: Response,
        validate: Callable[[bytes], _T],
        expected: str,
    ) -> _T:
        """Return the body as *validate* parses it; *expected* describes it in errors."""
        try:
            return validate(response.body)
        except ValidationError as error:
            reason, where = mismatch(error), error.errors(include_input=False)[0]["loc"]
        if where:
            raise self._wrong(request, response, expected, reason)
        if response.looks_like_json:
            expected += f" ({reason})"
        raise self.malformed(request, response, expected)

    def _wrong(
        self, request: Request, response: Response, expected: str, reason: str
    ) -> MalformedResponseError:
        """Return the error for a response with one invalid part."""
        return self._unusable(request, response, f"should be {expected}, but {reason}")

    def malformed(
        self, request: Request, response: Response, expected: str
    ) -> MalformedResponseError:
        """Return the error for a response that is not as *expected*."""
        hint = "" if response.looks_like_json else f"; {self._advice}"
        found = response.summary if request.quotable else "something else"
        return self._unusable(request, response, f"should be {expected}, but is {found}{hint}")

    def _unusable(
        self, request: Request, response: Response, reason: str
    ) -> MalformedResponseError:
        return MalformedResponseError(
            request.method,
            request.path,
            self.quotable(f"the response {reason}"),
            status=response.status,
            external_id=request.external_id,
            request_id=self._request_id(response),
        )

    def _request_id(self, response: Response) -> str | None:
        """Return the id that the gateway adds, for Traceloop's support."""
        given = response.headers.get("X-Kong-Request-Id", "")
        well_formed = re.fullmatch(r"[\w-]{1,64}", given, re.ASCII)
        return given if well_formed and self._api_key not in given else None

    def quotable(self, text: str) -> str:
        """Return a server's text as printable text without the API key."""
        # A shorter key is not a real one, and may be a part of a word.
        if len(self._api_key) >= 8:
            text = text.replace(self._api_key, "[secure]")
        return printable(text)


#: The API's message for an unexplained failure, alone or with a 500.
INTERNAL = re.compile(r"\s*internal (server )?error\.?\s*", re.IGNORECASE)

_INDEX = re.compile(r"\bsetups\[(\d+)\]")


def without_index(message: str, batch: tuple[str, ...]) -> str:
    """Replace the indices in the message of a bulk response, which users do not know.

    ``setups[1]: unknown evaluator slug "x"`` becomes ``unknown evaluator slug "x"``, and
    ``duplicate external_id "x" (also at setups[0])`` names the setup.
    """

    def name(match: re.Match[str]) -> str:
        index = int(match[1][:9])
        return f'setup "{batch[index]}"' if index < len(batch) else "another setup"

    if not batch:
        return message
    return _INDEX.sub(name, re.sub(r"^\s*setups\[\d+\]:\s*", "", message))
