"""`pulumi-traceloop status`: reads the status of the setups, once or until they are ready."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any, Protocol

from rich.console import Console
from rich.text import Text

from .._text import name
from .._validation import FINAL, WAITING
from ..errors import RateLimitedError, RequestError, ServerError, TransportError, printable
from .project import matching, selected
from .tables import new_table, rendered

if TYPE_CHECKING:
    from .._models import Setup
    from .._project import Project
    from .stack import Part

__all__ = [
    "STATUSES",
    "Poll",
    "Progress",
    "Report",
    "as_json",
    "read_project",
    "read_stack",
    "table",
    "unmanaged",
    "wait",
]

#: The documented statuses, in the order of a setup's life.
STATUSES = ("pending", "in_progress", "waiting_for_spans", "completed", "partial", "failed")

_FAILED = ("partial", "failed")
_STYLES = {
    "pending": "yellow",
    "in_progress": "yellow",
    WAITING: "yellow",
    "completed": "green",
    "partial": "red",
    "failed": "bold red",
    "missing": "bold red",
    "unreadable": "bold red",
}

#: The interval between two polls: the first and the longest in seconds, and its growth.
_FIRST, _GROWTH, _LONGEST = 1.0, 1.5, 15.0


@dataclass(frozen=True)
class Report:
    """The setups that a poll read."""

    setups: Mapping[str, Setup]
    #: The external_ids and patterns that name no setup.
    missing: Sequence[str] = ()
    #: Why setups cannot be read, by external_id.
    unreadable: Mapping[str, str] = field(default_factory=dict)
    timed_out: bool = False

    @property
    def failed(self) -> list[str]:
        """The setups that need attention."""
        return [i for i, setup in self.setups.items() if setup.status in _FAILED]

    @property
    def under_way(self) -> list[str]:
        """The setups that Traceloop is still processing."""
        ready = (*FINAL, WAITING)
        return [i for i, setup in self.setups.items() if setup.status not in ready]

    @property
    def waiting(self) -> list[str]:
        """The setups that have matched too few spans, so that no monitor exists yet."""
        return [i for i, setup in self.setups.items() if setup.status == WAITING]

    def stale(self, now: datetime, seconds: float) -> list[str]:
        """Return the setups that have waited for spans for longer than *seconds*."""
        return [
            i
            for i in self.waiting
            if (since := _waiting_since(self.setups[i])) is not None
            and (now - since).total_seconds() > seconds
        ]

    def counts(self) -> str:
        """Return the number of setups by status."""
        found = Counter(setup.status for setup in self.setups.values())
        order = [s for s in STATUSES if s in found] + sorted(found.keys() - set(STATUSES))
        parts = [f"{found[s]} {printable(s, 40)}" for s in order]
        parts += [f"{len(self.missing)} missing"] if self.missing else []
        parts += [f"{len(self.unreadable)} unreadable"] if self.unreadable else []
        return ", ".join(parts) or "no setups"


#: Reads what Traceloop has now.
Poll = Callable[[], Report]


def read_project(project: Project, patterns: Sequence[str], statuses: Sequence[str] = ()) -> Report:
    """Read the setups that *patterns* name and, if *statuses* are given, that have one of them."""
    return _only(Report(*selected(project, patterns, fresh=True)), statuses)


def read_stack(
    parts: Sequence[tuple[Part, Project]], patterns: Sequence[str], statuses: Sequence[str] = ()
) -> Report:
    """Read the setups of a stack, in all its Traceloop projects; see `read_project`."""
    setups: dict[str, Setup] = {}
    missing: list[str] = []
    unreadable: dict[str, str] = {}
    unused = set(patterns)
    for part, project in parts:
        wanted, none = matching(part.declared, patterns)
        unused &= set(none)
        found, errors = project.read(wanted, part.env_project_id, max_age=0)
        project.expect(part.env_project_id, wanted)
        where = _where(part, parts)
        setups |= {f"{i}{where}": setup for i, setup in sorted(found.items())}
        unreadable |= {f"{i}{where}": error.summary for i, error in sorted(errors.items())}
        missing += [f"{i}{where}" for i in sorted(wanted) if i not in found and i not in errors]
    return _only(Report(setups, [*missing, *sorted(unused)], unreadable), statuses)


def unmanaged(parts: Sequence[tuple[Part, Project]], statuses: Sequence[str] = ()) -> Report:
    """Return the setups of a stack's Traceloop projects that are in no resource of the stack."""
    mentioned: dict[str | None, set[str]] = {}
    remote: dict[str | None, tuple[str, Project, dict[str, Setup]]] = {}
    for part, project in parts:
        # Two namespaces may lead to one project.
        setups = project.setups(fresh=True)
        ids = {setup.env_project_id for setup in setups.values()} or {part.env_project_id}
        for env_project_id in ids:
            mentioned.setdefault(env_project_id, set()).update(part.mentioned)
            remote[env_project_id] = (_where(part, parts), project, setups)
    found: dict[str, Setup] = {}
    unreadable: dict[str, str] = {}
    for env_project_id, (where, project, setups) in remote.items():
        known = mentioned[env_project_id]
        found |= {f"{i}{where}": s for i, s in sorted(setups.items()) if i not in known}
        unreadable |= {
            f"{i}{where}": why
            for i, why in sorted(project.unreadable.items())
            if i not in known and i not in setups
        }
    return _only(Report(found, unreadable=unreadable), statuses)


def _where(part: Part, parts: Sequence[object]) -> str:
    """Return the namespace to add to an external_id; two projects may have the same one."""
    return f" ({part.connection.namespace})" if len(parts) > 1 else ""


def _only(report: Report, statuses: Sequence[str]) -> Report:
    if not statuses:
        return report
    kept = {i: setup for i, setup in report.setups.items() if setup.status in statuses}
    return replace(report, setups=kept)


class Progress(Protocol):
    """Shows the progress of `wait`."""

    def __call__(self, report: Report) -> None:
        """Show a new report."""

    def trouble(self, error: RequestError) -> None:
        """Show that a poll failed."""


def wait(
    poll: Poll,
    timeout: float,
    progress: Progress,
    *,
    accepted: bool = False,
    clock: Callable[[], float],
    sleep: Callable[[float], None],
) -> Report:
    """Poll until no setup is under way or waiting for spans, or until the time limit.

    Args:
        poll: reads the setups to wait for.
        timeout: the time limit, in seconds.
        progress: shows each report.
        accepted: whether a setup that waits for spans is ready.
        clock: a monotonic clock, in seconds.
        sleep: sleeps, for a number of seconds.

    Raises:
        TraceloopError: the first poll failed, or a later one with an error that is not transient.

    """
    end = clock() + timeout
    report = poll()
    interval = _FIRST
    while True:
        progress(report)
        if not report.under_way and (accepted or not report.waiting):
            return report
        left = end - clock()
        if left <= 0:
            return replace(report, timed_out=True)
        sleep(min(interval, left))
        interval = min(interval * _GROWTH, _LONGEST)
        try:
            report = poll()
        except (TransportError, ServerError, RateLimitedError) as error:
            progress.trouble(error)


class Lines:
    """Progress for a log: a line for each change."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._last = ""
        self._failed: set[str] = set()

    def __call__(self, report: Report) -> None:
        """Write the counts, and which setups failed since the last report."""
        if (counts := report.counts()) != self._last:
            self._say(counts)
            self._last = counts
        for external_id in report.failed:
            if external_id not in self._failed:
                setup = report.setups[external_id]
                self._say(f"  {name(external_id)}: {printable(setup.status, 40)}")
        self._failed = set(report.failed)

    def trouble(self, error: RequestError) -> None:
        """Write that a poll failed."""
        self._say(f"{error}; trying again")


class Bar:
    """Progress for a terminal: one line that is redrawn."""

    def __init__(self, console: Console) -> None:
        self._status = console.status("reading ...")

    def __enter__(self) -> Bar:
        self._status.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._status.stop()

    def __call__(self, report: Report) -> None:
        """Show the counts."""
        total = len(report.setups)
        ready = total - len(report.under_way) - len(report.waiting)
        self._status.update(Text(f"{ready} of {total} ready: {report.counts()}"))

    def trouble(self, error: RequestError) -> None:
        """Show that a poll failed."""
        self._status.update(Text(f"{error}; trying again"))


def progress_display(
    say: Callable[[str], None], *, terminal: bool
) -> AbstractContextManager[Progress]:
    """Return the display for standard error."""
    return Bar(Console(stderr=True)) if terminal else nullcontext(Lines(say))


def table(report: Report, now: datetime, *, width: int | None, colour: bool) -> str:
    """Return the report as a table.

    Args:
        report: the report.
        now: the current time, for ages.
        width: the terminal's width; if ``None``, lines are not wrapped.
        colour: whether to colour it.

    """
    shown = new_table(("SETUP", "STATUS", "AGE", "EVALUATORS"), width)
    rows: list[tuple[str, str, Setup | None]] = [
        *((external_id, setup.status, setup) for external_id, setup in report.setups.items()),
        *((external_id, "missing", None) for external_id in report.missing),
        *((external_id, "unreadable", None) for external_id in report.unreadable),
    ]
    # Setups that need attention come first.
    for external_id, status, setup in sorted(rows, key=lambda row: (_order(row[1]), row[0])):
        shown.add_row(
            Text(name(external_id)),
            _status(status, setup, now),
            age(setup.created_at, now) if setup else "",
            Text("\n").join(_evaluators(setup) if setup else []),
        )
    count = len(report.setups) + len(report.missing) + len(report.unreadable)
    if not count:
        return "no monitor setups\n"
    total = f"{count:,} monitor setup{'' if count == 1 else 's'}"
    return f"{rendered(shown, width=width, colour=colour)}{total}: {report.counts()}\n"


def _order(status: str) -> int:
    order = ("failed", "partial", "missing", "unreadable", "pending", "in_progress", WAITING)
    return order.index(status) if status in order else len(order)


def _status(status: str, setup: Setup | None, now: datetime) -> Text:
    text = printable(status, 40)
    if setup and status == WAITING and (since := age(setup.updated_at, now)):
        text = f"{text} for {since}"
    return Text(text, style=_STYLES.get(status, ""))


def _waiting_since(setup: Setup) -> datetime | None:
    # An upsert starts over. Nothing else is documented to change the time.
    return _parsed(setup.updated_at or setup.created_at or "")


def _evaluators(setup: Setup) -> Iterable[Text]:
    if all(e.status == setup.status and not e.error_message for e in setup.evaluators):
        # One line: none of them differs from the others.
        scopes = ((e, f" ({printable(e.scope, 40)})" if e.scope else "") for e in setup.evaluators)
        yield Text(", ".join(f"{printable(e.evaluator_type)}{scope}" for e, scope in scopes))
        return
    for evaluator in setup.evaluators:
        scope = f" ({printable(evaluator.scope, 40)})" if evaluator.scope else ""
        text = Text(f"{printable(evaluator.evaluator_type)}{scope}: ")
        text.append(printable(evaluator.status, 40), style=_STYLES.get(evaluator.status, ""))
        if evaluator.error_message:
            text.append(f", {printable(evaluator.error_message)}")
        yield text


def as_json(report: Report, stale: Sequence[str] = ()) -> str:
    """Return the report as JSON, in ASCII: no control character of a server reaches a terminal.

    Args:
        report: the report.
        stale: the setups that have waited for spans for too long.

    """
    from .._models import content

    document: dict[str, Any] = {
        "setups": [
            {
                "external_id": external_id,
                "status": setup.status,
                "evaluators": [content(e) for e in setup.evaluators],
                "created_at": setup.created_at,
                "updated_at": setup.updated_at,
            }
            for external_id, setup in report.setups.items()
        ],
        "missing": list(report.missing),
        "unreadable": dict(report.unreadable),
        "failed": report.failed,
        "under_way": report.under_way,
        "waiting": report.waiting,
        "stale": list(stale),
        "timed_out": report.timed_out,
    }
    return json.dumps(document, indent=2).replace("\x7f", "\\u007f")


def age(written: str | None, now: datetime) -> str:
    """Return the age of *written* in one unit, such as ``5m``; empty if it is no time."""
    moment = _parsed(written or "")
    if moment is None:
        return ""
    passed = max(now - moment, timedelta())
    for unit, length in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if (count := int(passed.total_seconds() // length)) > 0:
            return f"{count}{unit}"
    return f"{int(passed.total_seconds())}s"


def _parsed(text: str) -> datetime | None:
    # Python 3.10 knows neither a Z nor a fraction of other than 3 or 6 digits.
    head, dot, tail = text.replace("Z", "+00:00").partition(".")
    digits = tail[: len(tail) - len(tail.lstrip("0123456789"))]
    try:
        moment = datetime.fromisoformat(
            f"{head}.{digits[:6]:0<6}{tail[len(digits) :]}" if dot else head
        )
    except ValueError:
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)
