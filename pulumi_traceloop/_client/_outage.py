"""Shares an outage of the service between calls.

A deployment makes a call for each of many resources. Without this, each call in an outage would
retry until its own deadline.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ._request import Request
    from ._retry import Exchange

__all__ = ["HOLD", "HOST", "Outages"]

#: The scope of an outage without any connection to the service; other scopes are routes.
HOST = "*"

#: Seconds between two attempts after the shared deadline; other calls fail at once.
HOLD = 10.0


@dataclass
class _Outage:
    #: The start of the first failed attempt since the last success.
    began: float
    #: The result of the first call that exhausted its attempts; ``None`` before that.
    exchange: Exchange | None = None
    #: When the next attempt may start after the shared deadline.
    opens: float = 0.0


class Outages:
    """The current outages of routes, or of the whole service. Thread-safe.

    The first failed attempt starts a deadline that all calls to the route share; a failed
    connection counts for all routes. Once a call has exhausted its attempts, each later call makes
    one attempt. After the shared deadline, only one call in `HOLD` seconds does; the others fail
    like the first one. A success ends the outage. Routes are independent: a list that always times
    out does not affect single setups.

    Args:
        deadline: the most seconds that a call may take.

    """

    def __init__(self, deadline: float) -> None:
        self._deadline = deadline
        self._lock = threading.Lock()
        self._outages: dict[str, _Outage] = {}

    def admit(self, request: Request, now: float, end: float) -> float | Exchange:
        """Return the request's deadline, at most *end*, or its failure if it must not be sent."""
        with self._lock:
            known = self._known(request)
            spent = [outage for outage in known if now >= outage.began + self._deadline]
            for outage in spent:
                if outage.exchange is not None and now < outage.opens:
                    return outage.exchange
            for outage in spent:
                outage.opens = now + HOLD
            return min([end, *(o.began + self._deadline for o in known if o not in spent)])

    def known(self, request: Request) -> bool:
        """Whether a call has exhausted its attempts, so that retries are pointless."""
        with self._lock:
            return any(outage.exchange is not None for outage in self._known(request))

    def failed(self, scope: str, began: float) -> None:
        """Record a failed attempt that started at *began*."""
        with self._lock:
            outage = self._outages.setdefault(scope, _Outage(began))
            if outage.exchange is None and began >= outage.began + self._deadline:
                outage.began = began  # the old outage ended without a call: a new one starts

    def gave_up(self, scope: str, exchange: Exchange, now: float) -> None:
        """Record that a call has exhausted its attempts."""
        with self._lock:
            outage = self._outages.setdefault(scope, _Outage(now))
            outage.exchange = outage.exchange or exchange
            outage.opens = now + HOLD

    def over(self, scope: str) -> None:
        """Record a connection (`HOST`) or a success of a route."""
        with self._lock:
            self._outages.pop(scope, None)

    def _known(self, request: Request) -> list[_Outage]:
        return [self._outages[s] for s in (HOST, request.route) if s in self._outages]
