"""Estimates for plans how many spans setups match, and how many evaluations they cause a day."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from statistics import median_low
from typing import TYPE_CHECKING, Final

from .._plan import Matches
from .matching import SelectorRule, SpanIndex, Survey
from .sources import SAMPLE, read_files, read_service

if TYPE_CHECKING:
    from .._client import TraceloopClient

__all__ = ["Traffic", "of_files", "of_service", "seconds_in"]

_SECONDS: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}
_HOUR: Final = 3_600
#: The farthest from the median that a span's time counts, in seconds.
_PLAUSIBLE: Final = 7 * 86_400

#: The time, in seconds, after which no further page of spans is read.
PATIENCE: Final = 20.0


def seconds_in(text: str) -> int | None:
    """Return a duration such as ``24h`` in seconds; ``None`` if it is invalid."""
    found = re.fullmatch(r"(\d{1,6})([smhdw])", text)
    return int(found[1]) * _SECONDS[found[2]] or None if found else None


@dataclass(frozen=True)
class Traffic:
    """A sample of recorded spans.

    Args:
        index: the spans.
        hours: the hours that the spans cover; ``None`` if unknown.
        daily: whether a number per day can be estimated.
        problems: problems of reading the spans, one line each.

    """

    index: SpanIndex
    hours: float | None
    daily: bool
    problems: Collection[str] = ()

    def matches(
        self,
        selector: Iterable[SelectorRule],
        evaluators: int,
        *,
        secrets: Collection[str] = (),
        partly_hidden: bool = False,
    ) -> Matches | None:
        """Return the matches of a selector; ``None`` if there are no spans.

        Args:
            selector: the rules.
            evaluators: how many evaluators run on each matching span.
            secrets: the setup's secret values. With secrets, the reason lists no span values, since
                it would begin with those nearest to the rule's operand.
            partly_hidden: whether more rules exist that could not be checked.

        """
        if not len(self.index):
            return None
        survey = self.index.survey(selector)
        undecided = survey.undecided + (survey.matched if partly_hidden else 0)
        most = survey.matched + survey.undecided
        evaluations = None
        if self.daily and self.hours:
            evaluations = round(most * evaluators * 24 / self.hours)
        return Matches(
            0 if partly_hidden else survey.matched,
            len(self.index),
            undecided,
            self.hours,
            _why(survey, secrets),
            evaluations,
        )


def _why(survey: Survey, secrets: Collection[str]) -> str:
    if not secrets:
        return survey.why
    from .._masking import masked  # imports pulumi; commands have no secrets

    if any(secret in found.rule.key for found in survey.rules for secret in secrets):
        return ""  # keys are cut, and masking misses a part of a secret
    return masked("; ".join(reason.text for reason in survey.reasons), secrets)


def of_service(
    client: TraceloopClient,
    seconds: int,
    *,
    limit: int = SAMPLE,
    now: Callable[[], float] = time.time,
) -> Traffic:
    """Return the newest spans that Traceloop recorded in the key's environment.

    Args:
        client: the connection to Traceloop.
        seconds: the age of the oldest span, in seconds.
        limit: the most spans to read.
        now: the time, in seconds since 1970.

    Raises:
        RequestError: the request failed.

    """
    end = now()
    sample = read_service(client, seconds=seconds, limit=limit, now=lambda: end, patience=PATIENCE)
    index = SpanIndex(sample.spans)
    hours: float | None = seconds / _HOUR
    if len(index) >= limit or sample.problems:
        # Only the newest spans were read: they cover a shorter time.
        age = end - index.period[0] if index.period else 0
        hours = age / _HOUR if age > 0 else None
    return Traffic(index, hours, daily=True, problems=sample.problems)


def of_files(paths: Iterable[str | os.PathLike[str]]) -> Traffic:
    """Return the spans of some files.

    A number per day is estimated only from spans that cover at least an hour.

    Raises:
        SpanFileError: a file has no span.
        OSError: a file cannot be read.

    """
    sample = read_files(paths)
    index = SpanIndex(sample.spans)
    covered = _covered([span.time for span in sample.spans if span.time is not None])
    hours = covered / _HOUR if covered > 0 else None
    return Traffic(index, hours, daily=covered >= _HOUR, problems=sample.problems)


def _covered(times: Collection[float]) -> float:
    """Return the time, in seconds, that spans cover: at most an hour for each hour with a span.

    Gaps and wrong clocks would dilute the number per day, and `max_evaluations` with it. So times
    far from the median do not count.
    """
    if not times:
        return 0
    middle = median_low(times)
    near = [time for time in times if abs(time - middle) <= _PLAUSIBLE]
    first = min(near)
    hours = {(time - first) // _HOUR for time in near}
    return min(max(near) - first, len(hours) * _HOUR)
