"""What a response says: a result, or which error."""

from __future__ import annotations

import html
import http.client
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from pydantic import ValidationError
from pydantic_core import from_json

from .._models import mismatch
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

#: Of an error's body this much is read, in bytes: a message, or the title of an HTML page.
ERROR_BODY_LIMIT = 64 * 1024

#: Bytes in a MiB, in which people set limits.
MIB = 1024 * 1024

_T = TypeVar("_T")


@dataclass(frozen=True)
class Effort:
    """What a request took."""

    attempts: int = 1
    seconds: float = 0.0
    #: Whether it was sent at all; if not, this is what another one took that failed before.
    sent: bool = True

    def __str__(self) -> str:
        """Return it in words, if it was more than one quick attempt."""
        if self.attempts < 2 and self.seconds < 1:
            return ""
        attempts = "1 attempt" if self.attempts == 1 else f"{self.attempts} attempts"
        return f"{attempts} in {self.seconds:.0f} s"


@dataclass(frozen=True)
class Response:
    """One response, read up to its limit."""

    status: int
    headers: Mapping[str, str]
    #: All of it, or the beginning of what *stream* was fed.
    body: bytes
    #: As far as it was read, in bytes; or as the service declares it, if that is too much to read.
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
        """Whether this is JSON, perhaps cut off, and so most likely the API's."""
        return self.body.lstrip().startswith((b"{", b"["))

    @property
    def is_the_apis(self) -> bool:
        """Whether the body is an error of the API's: ``{"error": "..."}``, as its pages document.

        A gateway or another server writes HTML, text (``404 page not found``), another JSON
        (``{"message": "no Route matched"}``), or nothing at all.
        """
        content = self.json
        return isinstance(content, dict) and isinstance(content.get("error"), str)

    @property
    def says_absent(self) -> bool:
        """Whether the API says that there is no such setup: its own 404, or 410.

        Any other 404 comes from a server that knows nothing about setups; believed, it would make
        all of them look deleted, and a setup that is to be deleted would stay for good. So does one
        with an empty body, which a service mesh sends for a route that it does not know.
        """
        return self.status in (404, 410) and self.is_the_apis

    @property
    def lacks_route(self) -> bool:
        """Whether a server says, to a write, that it does not have such a route at all."""
        return self.status == 405 or (self.status == 404 and not self.is_the_apis)

    @property
    def redirect_target(self) -> str:
        """Where a redirect leads, without what may be secret in it."""
        try:
            parts = urlsplit(self.headers.get("Location", ""))
        except ValueError:
            return "an unusable URL"
        host = parts.netloc.rpartition("@")[2]
        return (f"{parts.scheme}://{host}" if host else "") + parts.path or "nowhere"

    @property
    def message(self) -> str:
        """What a response of another status than 2xx says, in its own words if it has some."""
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
        """The body in a few words."""
        text = self.body[:ERROR_BODY_LIMIT].decode("utf-8", "replace").strip()
        if re.match(r"<(!doctype html|html|head|body)\b", text, re.IGNORECASE):
            title = re.search(r"<title[^>]*>([^<]*)", text, re.IGNORECASE)
            named = printable(html.unescape(title[1]), 100) if title else ""
            return f'an HTML page, "{named}"' if named else "an HTML page"
        return printable(text, 200) or "empty"


class Reader:
    """Reads responses: returns what they hold, or raises what they mean.

    Args:
        settings: what messages call the settings.
        base_url: the service.
        api_key: what no message shows.
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
        """Return the response, of whatever status, or raise why there is none."""
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
        """Return the response if its status is 2xx, else raise what it means."""
        status = response.status
        if 200 <= status < 300:
            if response.size > request.body_limit:
                raise self._too_large(request, response)
            return response
        raise self.error(request, response)

    def error(self, request: Request, response: Response) -> RequestError:
        """Return what a response of another status than 2xx means."""
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
        # What was declared is more than one chunk over the limit.
        declared = response.size > request.body_limit + 2 * ERROR_BODY_LIMIT
        reason = f"should be at most {limit:,} MiB, but is "
        reason += f"{-(-response.size // MIB):,} MiB" if declared else "larger"
        if request.stream is not None:
            enough = str(-(-max(response.size, 2 * request.body_limit) // MIB))
            reason += f"; to read more, {self._settings.how_to_set('maxListSize', enough)}"
        return self._unusable(request, response, reason)

    def listing(self, request: Request, response: Response) -> Listing:
        """Return the list that a response was read as."""
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
        """Return what *validate* makes of the body, which should be what is *expected*."""
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
        """Return the error for a response of which one part is wrong, and why."""
        return self._unusable(request, response, f"should be {expected}, but {reason}")

    def malformed(
        self, request: Request, response: Response, expected: str
    ) -> MalformedResponseError:
        """Return the error for a response that is not what is *expected*."""
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
        """Return what Traceloop's support finds the request by; the gateway in front adds it."""
        given = response.headers.get("X-Kong-Request-Id", "")
        well_formed = re.fullmatch(r"[\w-]{1,64}", given, re.ASCII)
        return given if well_formed and self._api_key not in given else None

    def quotable(self, text: str) -> str:
        """Return a server's words without the key, should it send that back, and fit to print."""
        # What is shorter is no real key, and may be a part of any word.
        if len(self._api_key) >= 8:
            text = text.replace(self._api_key, "[secure]")
        return printable(text)


#: The API's text for a failure that it does not explain, as such or as a 500's.
INTERNAL = re.compile(r"\s*internal (server )?error\.?\s*", re.IGNORECASE)

_INDEX = re.compile(r"\bsetups\[(\d+)\]")


def without_index(message: str, batch: tuple[str, ...]) -> str:
    """Replace the indices in a bulk answer's message, which mean nothing to whoever reads it.

    ``setups[1]: unknown evaluator slug "x"`` becomes ``unknown evaluator slug "x"``, and
    ``duplicate external_id "x" (also at setups[0])`` names the setup.
    """

    def name(match: re.Match[str]) -> str:
        index = int(match[1][:9])
        return f'setup "{batch[index]}"' if index < len(batch) else "another setup"

    if not batch:
        return message
    return _INDEX.sub(name, re.sub(r"^\s*setups\[\d+\]:\s*", "", message))
