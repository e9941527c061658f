"""The clock of the tests, which moves only where a test or a wait moves it."""

from __future__ import annotations

import time
from collections.abc import Callable

from pulumi_traceloop.emulator import ManualClock


class Clock(ManualClock):
    """An emulator's clock that is a client's `clock` and has its `sleep`, too.

    Args:
        start: The time now, in seconds.
        tick: By how many seconds each reading moves the clock.
    """

    def __init__(self, start: float = 1000.0, *, tick: float = 0.0) -> None:
        super().__init__(start)
        self.tick = tick
        #: The seconds of each wait.
        self.waits: list[float] = []

    def __call__(self) -> float:
        self.advance(self.tick)
        return super().__call__()

    def sleep(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.advance(seconds)


def until(condition: Callable[[], object], seconds: float = 20) -> None:
    """Wait in real time for what another thread or process is about to do."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.005)
