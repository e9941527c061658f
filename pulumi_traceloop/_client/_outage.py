"""What a client has learnt about a service that does not respond, so that calls share it.

A deployment makes one call for each of many resources. Without this, each would repeat what the one
before has just found out, for as long as a deadline is.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ._request import Request
    from ._retry import Exchange

__all__ = ["HOLD", "HOST", "Outages"]

#: Stands for all routes: there is no connection to the service at all.
HOST = "*"

#: How long calls fail at once before one is sent again, in seconds, once an outage has lasted for
#: as long as a deadline.
HOLD = 10.0


@dataclass
class _Outage:
    #: When the first attempt began that has failed since the last one that succeeded.
    began: float
    #: How the first call failed that made all its attempts; ``None`` before that.
    exchange: Exchange | None = None
    #: When the next attempt may begin after the deadline.
    opens: float = 0.0


class Outages:
    """Which routes, or the whole service, do not respond. Safe to use from several threads.

    From the first failed attempt on, all calls to the same route share one deadline; a connection
    that fails counts for all routes. Once a call has made all its attempts, every later one makes a
    single attempt; after the deadline, only one in `HOLD` seconds does, and the others fail as the
    first one did. A success ends it. A route counts by itself: a list that always times out says
    nothing about a single setup.

    Args:
        deadline: how long a call may take, in seconds.

    """

    def __init__(self, deadline: float) -> None:
        self._deadline = deadline
        self._lock = threading.Lock()
        self._outages: dict[str, _Outage] = {}

    def admit(self, request: Request, now: float, end: float) -> float | Exchange:
        """Return until when a request has time, *end* at most, or how it fails unsent."""
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
        """Whether another attempt at the request is pointless: a call has made them all."""
        with self._lock:
            return any(outage.exchange is not None for outage in self._known(request))

    def failed(self, scope: str, began: float) -> None:
        """Note that an attempt failed that *began* then."""
        with self._lock:
            outage = self._outages.setdefault(scope, _Outage(began))
            if outage.exchange is None and began >= outage.began + self._deadline:
                outage.began = began  # it had passed, and nobody had asked

    def gave_up(self, scope: str, exchange: Exchange, now: float) -> None:
        """Note that a call has made all its attempts."""
        with self._lock:
            outage = self._outages.setdefault(scope, _Outage(now))
            outage.exchange = outage.exchange or exchange
            outage.opens = now + HOLD

    def over(self, scope: str) -> None:
        """Note that there was a connection (`HOST`), or that a route works."""
        with self._lock:
            self._outages.pop(scope, None)

    def _known(self, request: Request) -> list[_Outage]:
        return [self._outages[s] for s in (HOST, request.route) if s in self._outages]
