"""Which request is sent again, when, and at which pace."""

from __future__ import annotations

import http
import logging
import math
import random
import threading
from collections import deque
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from urllib3.exceptions import HTTPError, InvalidHeader
from urllib3.util import Retry

from ._failure import described, never_sent
from ._outage import HOST, Outages
from ._response import Effort, Response

if TYPE_CHECKING:
    from collections.abc import Callable

    from ._request import Request
    from ._transport import Transport

__all__ = ["Exchange", "Sender"]

#: The longest wait between two attempts, in seconds, whatever ``Retry-After`` asks for.
_LONGEST_WAIT = 20.0

_log = logging.getLogger("pulumi_traceloop")


class _Retry(Retry):
    """What is sent again, and after which wait; a 429 is the `Pacer`'s."""

    def is_retry(self, method: str, status_code: int, has_retry_after: bool = False) -> bool:
        """Whether a request is sent again after a response of this status."""
        # Of two deletes at the same time either may win; a write has to be read back first.
        conflict = method == "DELETE" and status_code == http.HTTPStatus.CONFLICT
        return conflict or super().is_retry(method, status_code, has_retry_after)

    def wait(self, asked: float) -> float:
        """Return how long to wait before the next attempt, in seconds."""
        # urllib3 does not wait at all before the first repetition: not even threads apart.
        asked += random.random() * self.backoff_jitter  # noqa: S311
        return min(_LONGEST_WAIT, max(asked, self.get_backoff_time()))


_REPEATABLE = frozenset({"GET", "DELETE"})

#: In urllib3's terms: a connection that was never made is tried again for every method, a failure
#: after that for ``allowed_methods``, and any other one (a bad certificate, say) for none.
_RETRIES = _Retry(
    total=5,
    other=0,
    allowed_methods=_REPEATABLE,
    status_forcelist=frozenset({408, 500, 502, 503, 504}),
    backoff_factor=0.5,
    backoff_jitter=1.0,
    backoff_max=_LONGEST_WAIT,
)


@dataclass(frozen=True)
class Exchange:
    """What became of a request after all its attempts.

    Without a response and a failure, its turn never came.
    """

    response: Response | None
    failure: Exception | None
    effort: Effort
    #: Whether any attempt may have reached the service.
    maybe_done: bool

    def unsent(self) -> Exchange:
        """Return this as what becomes of another request that is not sent for it."""
        effort = replace(self.effort, sent=False)
        response = self.response and replace(self.response, effort=effort)
        return replace(self, response=response, effort=effort)


class Sender:
    """Sends requests, repeats what is harmless to repeat, and keeps to the service's pace.

    Args:
        transport: makes the attempts.
        deadline: how long a request may take with all its attempts and waits, in seconds.
        clock: a monotonic clock, in seconds.
        sleep: how to wait, in seconds.

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
        self._pacer = Pacer(deadline, clock, sleep)
        self._outages = Outages(deadline)

    def send(self, request: Request, deadline: float) -> Exchange:
        """Send the request until it has a response that counts, or no attempt is left.

        Args:
            request: what to send.
            deadline: how long that may take, in seconds: the sender's own, or less.

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
        while (turn := self._pacer.wait(end)) is not None:
            end = turn
            attempts += 1
            began = self._clock()
            response, failure = self._transport.attempt(request, end)
            maybe_done = maybe_done or response is not None or not never_sent(failure)
            scope = self._note(request, response, failure, began)
            if response is not None and response.status == http.HTTPStatus.TOO_MANY_REQUESTS:
                _log.debug("%s %s: HTTP 429 to attempt %d", request.method, request.path, attempts)
                self._pacer.slow_down(began, _asked_wait(response))
                continue
            if response is not None and not retries.is_retry(request.method, response.status):
                break
            try:
                retries = retries.increment(request.method, request.path, error=failure)
            except HTTPError:
                exhausted = True
                break  # not to be repeated, or often enough
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

    def _note(
        self, request: Request, response: Response | None, failure: Exception | None, began: float
    ) -> str | None:
        """Note what an attempt says about the service; return what it says is out, if anything."""
        if response is None and never_sent(failure):
            self._outages.failed(HOST, began)
            return HOST
        if response is not None:
            self._outages.over(HOST)
            if response.status < 500 and response.status != http.HTTPStatus.TOO_MANY_REQUESTS:
                self._pacer.go_on(began)
            if response.status not in _RETRIES.status_forcelist:
                self._outages.over(request.route)
                return None
        # A write makes one attempt only, which says little.
        if request.method not in _REPEATABLE:
            return None
        self._outages.failed(request.route, began)
        return request.route


class Pacer:
    """The pace of all threads of a client, once the service has answered 429.

    Until then nobody waits. Each 429 stops everybody for as long as it asks. After that requests
    begin one by one, at 93% of the rate that the service took in a time as long before; the rate
    grows slowly at first and ever faster then, as in TCP's CUBIC (RFC 9438), until the next 429.
    """

    def __init__(
        self, deadline: float, clock: Callable[[], float], sleep: Callable[[float], None]
    ) -> None:
        self._deadline = deadline
        self._clock = clock
        self._sleep = sleep
        self._lock = threading.Lock()
        self._refused_at = self._opens = self._next = -math.inf
        self._rate = math.inf  # in requests per second
        self._share = 0.0  # what one taken request adds to it
        self._refusals = 0  # in a row
        #: When the service took the last requests.
        self._taken: deque[float] = deque([-math.inf], maxlen=10_000)

    def wait(self, end: float) -> float | None:
        """Wait until the next request may begin; return until when it has time.

        Whoever had to wait has time until no request of the client has been taken for as long as
        the deadline is. ``None``: that is over, or certain to be before the turn comes.
        """
        turn = since = None
        waited = False
        while True:
            with self._lock:
                now = self._clock()
                # Less than a millisecond is a clock's rounding.
                if self._opens - now >= 0.001:
                    # No turns yet: requests that are under way may still be taken, and they tell
                    # the rate.
                    turn, until = None, self._opens
                else:
                    # A 429 meanwhile makes all turns that were given out void.
                    if turn is None or since != self._refused_at or turn < self._opens:
                        turn, since = max(now, self._next), self._refused_at
                        self._next = turn + 1 / self._rate_at(turn)
                    until = turn
                if until - now >= 0.001:
                    waited = True
                if waited:
                    end = max(end, self._taken[-1] + self._deadline)
                    if now >= end or self._opens >= end:
                        return None
                if until - now < 0.001:
                    return end
            self._sleep(min(until, end) - now)

    def slow_down(self, began: float, asked: float) -> None:
        """Stop everybody: a request that *began* then was answered 429."""
        with self._lock:
            now = self._clock()
            # Of a whole burst that is refused, only the first one tells something new.
            first = began > self._refused_at
            self._refusals += first
            pause = min(_LONGEST_WAIT, max(asked, 2.0 ** min(self._refusals - 2, 10)))
            if first:
                self._refused_at = now
                lately = max(pause, 1.0)
                taken = sum(1 for moment in self._taken if moment > now - lately)
                self._share = 0.93 / lately
                self._rate = max(taken, 1) * self._share
                # Processes that were refused together come back a little apart.
                pause = min(_LONGEST_WAIT, pause * random.uniform(1.0, 1.05))  # noqa: S311
                self._next = -math.inf
            self._opens = max(self._opens, now + pause)
            self._next = max(self._opens, self._next)

    def go_on(self, began: float) -> None:
        """Note that the service took a request that *began* then."""
        with self._lock:
            self._taken.append(self._clock())
            self._refusals = 0
            if began <= self._refused_at:
                self._rate += self._share  # it was counted by the service before the 429

    def _rate_at(self, moment: float) -> float:
        # After 20 s it is back where it was refused, after a minute at the threefold.
        return self._rate * (1 + 0.075 * (max(moment - self._opens, 0.0) / 20) ** 3)


def _asked_wait(response: Response) -> float:
    """Return the seconds that ``Retry-After`` asks for, which may be a date; 0 if it does not."""
    try:
        asked = _RETRIES.parse_retry_after(response.headers.get("Retry-After", ""))
    except (InvalidHeader, ValueError, OverflowError):
        return 0.0  # neither seconds nor a date
    return min(asked, _LONGEST_WAIT)
