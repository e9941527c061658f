"""Limits the request rate of all threads of a client after a 429."""

from __future__ import annotations

import math
import random
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["LONGEST_WAIT", "Pacer"]

#: The longest wait between two attempts, in seconds; ``Retry-After`` cannot exceed it.
LONGEST_WAIT = 20.0

#: The limit of concurrent requests grows by one after this many accepted requests for each of them.
EASE = 20


class Pacer:
    """Limits a client's requests after the first 429. Thread-safe.

    A 429 pauses all requests for the time in its ``Retry-After``, or longer after several in a row,
    and halves the number of concurrent requests. Accepted requests raise it again: see `EASE`.

    Args:
        clock: a monotonic clock, in seconds.
        sleep: waits, in seconds.

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
        """Wait for a request's turn, and count it as started.

        For a request that had to wait, the deadline starts anew whenever the service accepts
        another one.

        Args:
            end: when the request's time ends, so far.
            deadline: the most seconds that a request may take.

        Returns:
            When the request's time ends; ``None`` if it ends before the request's turn.

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
        """Record the end of a request; *taken* if the response was neither 429 nor 5xx."""
        with self._changed:
            self._under_way -= 1
            if taken:
                self._taken_at = self._clock()
                self._refusals = 0
                self._limit += 1 / (EASE * self._limit)
            self._changed.notify_all()

    def slow_down(self, began: float, asked: float) -> None:
        """Pause all requests after a 429.

        Args:
            began: when the request began.
            asked: the seconds of its ``Retry-After``; 0 without one.

        """
        with self._changed:
            now = self._clock()
            # Requests that were concurrent with the last 429 count as one with it.
            first = began > self._refused_at
            self._refusals += first
            pause = max(asked, 2.0 ** min(self._refusals - 2, 10))
            if first:
                self._limit = max(1.0, min(self._limit, self._under_way) / 2)
                self._refused_at = now
                # Jitter, for processes that got a 429 at the same time.
                pause *= random.uniform(1.0, 1.05)  # noqa: S311 - jitter is no secret
            self._opens = max(self._opens, now + min(LONGEST_WAIT, pause))
