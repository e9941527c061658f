"""`pulumi-traceloop match`: which monitors match recorded spans, and why others do not."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from rich.text import Text

from .._naming import is_named
from ..errors import printable
from .markdown import code
from .tables import new_table, rendered

if TYPE_CHECKING:
    from ..spans.matching import SpanIndex, Survey
    from .selectors import Declared

__all__ = ["Report", "Result", "as_json", "as_markdown", "match", "table"]

#: GitHub takes a comment of 65,536 characters.
_MARKDOWN_LIMIT = 60_000


@dataclass(frozen=True)
class Result:
    """How many of the spans one setup matches."""

    external_id: str
    survey: Survey
    #: Whether it may match none.
    allowed: bool = False
    #: Whether it has rules with hidden values, which were not tried.
    partly_hidden: bool = False

    @property
    def undecided(self) -> int:
        """How many spans may match."""
        return self.survey.undecided + (self.survey.matched if self.partly_hidden else 0)

    @property
    def matched(self) -> int:
        """How many spans certainly match."""
        return 0 if self.partly_hidden else self.survey.matched

    @property
    def none(self) -> bool:
        """Whether certainly no span matches."""
        return not self.matched and not self.undecided

    @property
    def silent(self) -> bool:
        """Whether it matches no span and has to match some."""
        return self.none and not self.allowed

    @property
    def why(self) -> str:
        """The reasons why it matches none, or a remark, on one line."""
        notes = [self.survey.why] if self.survey.why else []
        if self.partly_hidden and self.undecided:
            notes.append("a rule's value is secret or not known yet, so it was not tried")
        if self.none and self.allowed:
            notes.append("allowed")
        return "; ".join(notes)

    @property
    def count(self) -> str:
        """How many of how many match, such as ``1,240 of 2,000``."""
        least = (
            f"up to {self.matched + self.undecided:,}" if self.undecided else f"{self.matched:,}"
        )
        return f"{least} of {self.survey.spans:,}"

    @property
    def share(self) -> str:
        """The share of the spans that match, such as ``62%``."""
        if not self.survey.spans or self.undecided:
            return ""
        share = 100 * self.matched / self.survey.spans
        return "<1%" if 0 < share < 1 else f"{int(share)}%"


@dataclass(frozen=True)
class Report:
    """How many of the spans each setup matches."""

    #: Those that match none first, then by external_id.
    results: Sequence[Result]
    #: How many spans were tried, and the times of the first and the last one.
    spans: int
    period: tuple[float, float] | None
    #: The external_ids and patterns that name no setup.
    missing: Sequence[str] = ()
    #: Why setups cannot be read, by external_id.
    unreadable: Mapping[str, str] = field(default_factory=dict)
    #: The spans that could not be read, and why.
    problems: Sequence[str] = ()

    @property
    def silent(self) -> list[str]:
        """The setups that match no span and have to match some."""
        return [result.external_id for result in self.results if result.silent]

    def summary(self) -> str:
        """Return one line about all setups."""
        count = len(self.results)
        matching = sum(result.matched > 0 for result in self.results)
        if self.silent:
            text = f"{len(self.silent):,} of {count:,} monitors match none of {self.spans:,} spans"
        elif not count:
            text = "there is no monitor"
        elif matching == count:
            text = f"every one of {count:,} monitors matches some of {self.spans:,} spans"
        else:
            text = f"{matching:,} of {count:,} monitors match some of {self.spans:,} spans"
        others = {
            "may match some": sum(not r.matched and not r.none for r in self.results),
            "allowed to match none": sum(r.none and r.allowed for r in self.results),
            "cannot be read": len(self.unreadable),
        }
        parts = [text, *(f"{number:,} {what}" for what, number in others.items() if number)]
        return ", ".join(parts) + self._time_range()

    def _time_range(self) -> str:
        if self.period is None:
            return ""
        first, last = (datetime.fromtimestamp(moment, timezone.utc) for moment in self.period)
        return f" ({first:%Y-%m-%d %H:%M} to {last:%Y-%m-%d %H:%M} UTC)"


def match(
    declared: Mapping[str, Declared],
    index: SpanIndex,
    *,
    allowed: Sequence[str] = (),
    missing: Sequence[str] = (),
    unreadable: Mapping[str, str],
    problems: Sequence[str] = (),
) -> Report:
    """Try selectors on spans.

    Args:
        declared: the selectors by external_id, as `selectors.by_label` returns them.
        index: the spans.
        allowed: patterns of the external_ids that may match none.
        missing: the external_ids and patterns that name no setup.
        unreadable: why setups cannot be read, by external_id.
        problems: the spans that could not be read, and why.

    """
    results = [
        Result(
            label,
            index.survey(each.selector.rules),
            is_named(each.external_id, allowed),
            each.selector.partly_hidden,
        )
        for label, each in declared.items()
    ]
    results.sort(key=lambda result: (not result.silent, result.external_id))
    return Report(results, len(index), index.period, missing, unreadable, problems)


def table(report: Report, *, width: int | None, colour: bool) -> str:
    """Return the report as a table; see `tables.rendered`."""
    shown = new_table(("SETUP", "MATCHED", "SHARE", "WHY NOT"), width)
    for result in report.results:
        style = "bold red" if result.silent else "yellow" if result.undecided else ""
        shown.add_row(
            Text(printable(result.external_id)),
            Text(result.count, style=style),
            Text(result.share),
            Text(printable(result.why, 1000)),
        )
    for external_id in report.missing:
        shown.add_row(Text(printable(external_id)), Text("missing", style="bold red"), "", "")
    return rendered(shown, width=width, colour=colour)


def as_markdown(report: Report) -> str:
    """Return the report as a Markdown table, at most `_MARKDOWN_LIMIT` characters long."""
    lines = ["| | Setup | Matched | Share | Why not |", "|---|---|---|---|---|"]
    room = _MARKDOWN_LIMIT
    rows = list(_markdown_rows(report))
    for row in rows:
        room -= len(row.encode("utf-16-le")) // 2 + 1
        if room < 0:
            break
        lines.append(row)
    rest = len(rows) - len(lines) + 2
    more = f"\n\nand {rest:,} more" if rest else ""
    return f"{_sentence(report.summary())}\n\n" + "\n".join(lines) + f"{more}\n"


def _markdown_rows(report: Report) -> Iterable[str]:
    for result in report.results:
        mark = "**none**" if result.silent else ""
        why = code(printable(result.why, 1000), 1000) if result.why else ""
        yield (
            f"| {mark} | {code(printable(result.external_id))} | {result.count} |"
            f" {result.share.replace('<', '&lt;')} | {why} |"
        )
    for external_id in report.missing:
        yield f"| **missing** | {code(printable(external_id))} | | | |"


def _sentence(text: str) -> str:
    return f"{text[0].upper()}{text[1:]}."


def as_json(report: Report) -> str:
    """Return the report as JSON, in ASCII: no control character of a server reaches a terminal."""
    document: dict[str, Any] = {
        "spans": report.spans,
        "period": report.period and [_iso(moment) for moment in report.period],
        "setups": [_result(result) for result in report.results],
        "silent": report.silent,
        "missing": list(report.missing),
        "unreadable": dict(report.unreadable),
        "problems": list(report.problems),
    }
    return json.dumps(document, indent=2).replace("\x7f", "\\u007f")


def _result(result: Result) -> dict[str, Any]:
    return {
        "external_id": result.external_id,
        "matched": result.matched,
        "undecided": result.undecided,
        "share": round(result.matched / result.survey.spans, 4) if result.survey.spans else 0.0,
        "allowed": result.allowed,
        "why": result.why,
        # Without the rules' values: they may be secrets.
        "rules": [
            {
                "key": rule.rule.key,
                "source": rule.rule.source,
                "operator": rule.rule.operator,
                "present": rule.present,
                "matched": rule.matched,
                "undecided": rule.undecided,
                "excluded_alone": rule.excluded_alone,
            }
            for rule in result.survey.rules
        ],
        "reasons": [
            {"key": reason.key, "text": reason.text, "near": [asdict(near) for near in reason.near]}
            for reason in result.survey.reasons
        ],
    }


def _iso(moment: float) -> str:
    return datetime.fromtimestamp(moment, timezone.utc).isoformat(timespec="seconds")
