"""What setups would see of the traffic, for a plan: how many spans, how many evaluations a day."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from .._plan import Matches
from .matching import SelectorRule, SpanIndex, Survey
from .sources import SAMPLE, read_files, read_service

if TYPE_CHECKING:
    from .._client import TraceloopClient

__all__ = ["Traffic", "of_files", "of_service", "seconds_in"]

_SECONDS: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}
_HOUR: Final = 3_600

#: After so many seconds no further page of spans is asked for.
PATIENCE: Final = 20.0


def seconds_in(text: str) -> int | None:
    """Return a time such as ``24h`` in seconds; ``None`` if it is none."""
    found = re.fullmatch(r"(\d{1,6})([smhdw])", text)
    return int(found[1]) * _SECONDS[found[2]] or None if found else None


@dataclass(frozen=True)
class Traffic:
    """A sample of recorded spans, to try setups on.

    Args:
        index: the spans.
        hours: how many hours they cover; ``None`` if that is not known.
        daily: whether that tells how many there are in a day.
        problems: what could not be read, one line each.

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
        """Return what a selector matches; ``None`` if there are no spans.

        Args:
            selector: the rules.
            evaluators: how many evaluators run on each span that matches.
            secrets: the setup's secret values. With any, the reason names no values of spans: it
                begins with those nearest to what the rule compares with.
            partly_hidden: whether there are more rules, which could not be tried.

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
    from .._masking import masked  # with pulumi: a command has no secrets, and need not wait for it

    if any(secret in found.rule.key for found in survey.rules for secret in secrets):
        return ""  # keys are cut, and a part of a secret is not masked
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
        seconds: how far back, in seconds.
        limit: how many spans at most.
        now: the time, in seconds since 1970.

    Raises:
        RequestError: Traceloop could not be asked.

    """
    end = now()
    sample = read_service(client, seconds=seconds, limit=limit, now=lambda: end, patience=PATIENCE)
    index = SpanIndex(sample.spans)
    hours: float | None = seconds / _HOUR
    if len(index) >= limit or sample.problems:
        # Only the newest were read: they cover less than the time that was asked for.
        age = end - index.period[0] if index.period else 0
        hours = age / _HOUR if age > 0 else None
    problems = list(sample.problems)
    if not len(index):
        problems.append(
            "Traceloop recorded no span in this time, in the environment of the API key"
        )
    return Traffic(index, hours, daily=True, problems=problems)


def of_files(paths: Iterable[str | os.PathLike[str]]) -> Traffic:
    """Return the spans of some files.

    How many there are in a day is estimated only of spans that cover an hour at least: a short
    capture says nothing about it.

    Raises:
        SpanFileError: there is no span in one of them.
        OSError: one of them cannot be read.

    """
    sample = read_files(paths)
    index = SpanIndex(sample.spans)
    age = index.period[1] - index.period[0] if index.period else 0
    hours = age / _HOUR if age > 0 else None
    return Traffic(index, hours, daily=age >= _HOUR, problems=sample.problems)
