"""How all threads of a client keep to the service's pace together."""

from __future__ import annotations

import math
import random
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["LONGEST_WAIT", "Pacer"]

#: The longest wait between two attempts, in seconds, whatever ``Retry-After`` asks for.
LONGEST_WAIT = 20.0

#: One more request is under way at once after so many that were taken, for each that is already.
EASE = 20


class Pacer:
    """The pace of a client's requests, once the service has answered 429. Safe for threads.

    Until then nobody waits. Each 429 stops everybody for as long as it asks, and halves how many
    requests are under way at once; that grows again as the service takes them, by one after
    `EASE` times as many.

    Args:
        clock: a monotonic clock, in seconds.
        sleep: how to wait, in seconds.

    """

    def __init__(self, clock: Callable[[], float], sleep: Callable[[float], None]) -> None:
        self._clock = clock
        self._sleep = sleep
        self._changed = threading.Condition()
        self._under_way = 0
        self._limit = math.inf
        self._refused_at = self._opens = self._taken_at = -math.inf
        self._refusals = 0  # in a row

    def enter(self, end: float, deadline: float) -> float | None:
        """Wait until a request may begin, and count it; return until when it has time.

        Whoever had to wait has time until no request of the client has been taken for as long as
        the deadline is.

        Args:
            end: until when it has time so far.
            deadline: how long a request may take, in seconds.

        Returns:
            ``None`` if its time is over, or certain to be before its turn.

        """
        waited = False
        while True:
            with self._changed:
                now = self._clock()
                pause = self._opens - now
                paused = pause >= 0.001  # less is a clock's rounding
                full = self._under_way + 1 > self._limit
                waited = waited or paused or full
                if waited:
                    end = max(end, self._taken_at + deadline)
                    if now >= end or self._opens >= end:
                        return None
                if not (paused or full):
                    self._under_way += 1
                    return end
                if not paused:
                    self._changed.wait(end - now)
                    continue
            self._sleep(pause)

    def leave(self, *, taken: bool) -> None:
        """Note the end of a request, and whether the service took it: neither 429 nor 5xx."""
        with self._changed:
            self._under_way -= 1
            if taken:
                self._taken_at = self._clock()
                self._refusals = 0
                self._limit += 1 / (EASE * self._limit)
            self._changed.notify_all()

    def slow_down(self, began: float, asked: float) -> None:
        """Stop everybody: a request under way that *began* then was answered 429.

        Args:
            began: when it began.
            asked: what its ``Retry-After`` asks for, in seconds.

        """
        with self._changed:
            now = self._clock()
            # Of a whole burst that is refused, only the first one tells something new.
            first = began > self._refused_at
            self._refusals += first
            pause = max(asked, 2.0 ** min(self._refusals - 2, 10))
            if first:
                self._limit = max(1.0, min(self._limit, self._under_way) / 2)
                self._refused_at = now
                # Processes that were refused together come back a little apart.
                pause *= random.uniform(1.0, 1.05)  # noqa: S311 - jitter is no secret
            self._opens = max(self._opens, now + min(LONGEST_WAIT, pause))
