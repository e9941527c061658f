"""Retries requests, within the service's rate limit and a deadline."""

from __future__ import annotations

import http
import logging
import random
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from urllib3.exceptions import HTTPError, InvalidHeader
from urllib3.util import Retry

from ._failure import described, never_sent
from ._outage import HOST, Outages
from ._pace import LONGEST_WAIT, Pacer
from ._response import Effort, Response

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._request import Request
    from ._transport import Transport

__all__ = ["Exchange", "Sender"]

_log = logging.getLogger("pulumi_traceloop")


class _Retry(Retry):
    """The retry policy; the `Pacer` handles 429s."""

    def is_retry(self, method: str, status_code: int, has_retry_after: bool = False) -> bool:
        """Whether to retry after a response with this status."""
        # A delete may be repeated after a conflict; a write has to be read back first.
        conflict = method == "DELETE" and status_code == http.HTTPStatus.CONFLICT
        return conflict or super().is_retry(method, status_code, has_retry_after)

    def wait(self, asked: float) -> float:
        """Return the seconds to wait before the next attempt."""
        # urllib3 does not wait before the first retry, so concurrent threads would stay in step.
        asked += random.random() * self.backoff_jitter  # noqa: S311
        return min(LONGEST_WAIT, max(asked, self.get_backoff_time()))


_REPEATABLE = frozenset({"GET", "DELETE"})

#: urllib3 retries a failed connection for every method, a later failure for ``allowed_methods``
#: only, and other failures, such as a bad certificate, never.
_RETRIES = _Retry(
    total=5,
    other=0,
    allowed_methods=_REPEATABLE,
    status_forcelist=frozenset({408, 500, 502, 503, 504}),
    backoff_factor=0.5,
    backoff_jitter=1.0,
    backoff_max=LONGEST_WAIT,
)


@dataclass(frozen=True)
class Exchange:
    """The result of a request after its last attempt.

    It has neither a response nor a failure if the rate limit prevented every attempt.
    """

    response: Response | None
    failure: Exception | None
    effort: Effort
    #: Whether any attempt may have reached the service.
    maybe_done: bool

    def unsent(self) -> Exchange:
        """Return this result for another request, which is not sent because of it."""
        effort = replace(self.effort, sent=False)
        response = self.response and replace(self.response, effort=effort)
        return replace(self, response=response, effort=effort)


class Sender:
    """Sends requests, retries those that are safe to repeat, and respects the rate limit.

    Args:
        transport: makes the attempts.
        deadline: the most seconds that a request may take with all attempts and waits.
        clock: a monotonic clock, in seconds.
        sleep: waits, in seconds.

    """

    def __init__(
        self,
        transport: Transport,
        deadline: float,
        clock: Callable[[], float],
        sleep: Callable[[float], None],
    ) -> None:
        self._transport = transport
        self._deadline = deadline
        self._clock = clock
        self._sleep = sleep
        self._pacer = Pacer(clock, sleep)
        self._outages = Outages(deadline)

    def send(self, request: Request, deadline: float) -> Exchange:
        """Send the request, with retries.

        Args:
            request: the request.
            deadline: the most seconds for it, at most the sender's own deadline.

        """
        start = self._clock()
        admitted = self._outages.admit(request, start, start + deadline)
        if isinstance(admitted, Exchange):
            return admitted.unsent()
        end = admitted
        retries = _RETRIES
        attempts = 0
        maybe_done = False
        response: Response | None = None
        failure: Exception | None = None
        scope: str | None = None
        exhausted = False
        while (turn := self._pacer.enter(end, deadline)) is not None:
            end = turn
            attempts += 1
            began = self._clock()
            response, failure = self._attempt(request, end, began)
            scope = self._note(request, response, failure, began)
            if response is not None and response.status == http.HTTPStatus.TOO_MANY_REQUESTS:
                _log.debug("%s %s: HTTP 429 to attempt %d", request.method, request.path, attempts)
                continue
            maybe_done = maybe_done or response is not None or not never_sent(failure)
            if response is not None and not retries.is_retry(request.method, response.status):
                break
            try:
                retries = retries.increment(request.method, request.path, error=failure)
            except HTTPError:
                exhausted = True
                break  # not repeatable, or out of attempts
            wait = retries.wait(_asked_wait(response) if response is not None else 0.0)
            if self._clock() + wait >= end or self._outages.known(request):
                break
            _log.debug(
                "%s %s: %s; attempt %d follows in %.1f s",
                request.method,
                request.path,
                f"HTTP {response.status}" if response is not None else described(failure),
                attempts + 1,
                wait,
            )
            self._sleep(wait)
            if self._clock() >= end or self._outages.known(request):
                break
        now = self._clock()
        effort = Effort(attempts, now - start)
        response = response and replace(response, effort=effort)
        exchange = Exchange(response, failure, effort, maybe_done)
        if scope is not None and (exhausted or deadline >= self._deadline):
            self._outages.gave_up(scope, exchange, now)
        return exchange

    def _attempt(
        self, request: Request, end: float, began: float
    ) -> tuple[Response, None] | tuple[None, Exception]:
        taken = False
        try:
            outcome = self._transport.attempt(request, end)
            response, _ = outcome
            if response is not None and response.status == http.HTTPStatus.TOO_MANY_REQUESTS:
                self._pacer.slow_down(began, _asked_wait(response))
            else:
                taken = response is not None and response.status < 500
        finally:
            self._pacer.leave(taken=taken)
        return outcome

    def _note(
        self, request: Request, response: Response | None, failure: Exception | None, began: float
    ) -> str | None:
        """Record an attempt's result for `Outages`; return the scope of an outage, if any."""
        if response is None and never_sent(failure):
            self._outages.failed(HOST, began)
            return HOST
        if response is not None:
            self._outages.over(HOST)
            if response.status not in _RETRIES.status_forcelist:
                self._outages.over(request.route)
                return None
        # A write makes one attempt only, which is no evidence of an outage.
        if request.method not in _REPEATABLE:
            return None
        self._outages.failed(request.route, began)
        return request.route


def _asked_wait(response: Response) -> float:
    """Return the wait of ``Retry-After`` in seconds, whether a number or a date; 0 without one."""
    try:
        asked = _RETRIES.parse_retry_after(response.headers.get("Retry-After", ""))
    except (InvalidHeader, ValueError, OverflowError):
        return 0.0  # neither seconds nor a date
    return min(asked, LONGEST_WAIT)
