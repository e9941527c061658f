"""The plan: what happens to each monitor setup, as data and as printed lines.

::

    monitors: 1 to create, 1 to change, 1 to delete, 96 unchanged
      + anthropic     gen_ai.provider.name = "anthropic"          faithfulness
      ~ openai-gpt4o  gen_ai.request.model = "gpt-4o" -> "gpt-5"  + toxicity-detector
      - old-monitor   gen_ai.provider.name = "azure"              faithfulness

A resource's provider makes its `Change` values once. The renderers, here and in the command, read
these values, never printed text.

**From the provider to the command.** A dynamic provider cannot add hidden data to
``pulumi preview --json``. Seen on the Pulumi CLI 3.260 with the SDK 3.272:

- the Python host forwards ``changes``, ``replaces`` and ``delete_before_replace`` of a
  `DiffResult`, but no detailed diff;
- the JSON has no messages of the severity "debug" and no ephemeral ones;
- an input that `check` adds only in a preview is in the JSON. If its name begins with ``__`` and
  its value is unknown, no terminal shows it and no update plan enforces it. But `check` gets old
  inputs only, and earlier failures are in the old outputs, which `diff` gets.

So the plan is a printed line, which every terminal shows. The provider prints it only with
``TRACELOOP_PLAN=json`` in the environment: one line for each call, with a checksum. The engine
replaces every text in it that equals a secret of the configuration, of three characters or more. So
the whole line is blank-separated pairs of hexadecimal digits: `_MAGIC`, a byte with the version of
the format, four bytes with the checksum, and the data.
"""

from __future__ import annotations

import json
import os
import zlib
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Final, Literal, NamedTuple, get_args

from ._describe import (
    HIDDEN,
    OPERATORS,
    SECRET,
    UNKNOWN,
    description,
    difference,
    hides,
)
from ._naming import resource_name
from ._text import by_cause, columns, name, names, printable, say

__all__ = [
    "ACTIONS",
    "ASKED",
    "HIDDEN",
    "LEAVES",
    "OPERATORS",
    "RELEASED",
    "SECRET",
    "UNKNOWN",
    "Action",
    "Change",
    "Matches",
    "ResourcePlan",
    "announce",
    "by_harm",
    "decoded",
    "deleted",
    "encoded",
    "explained",
    "lines",
    "report",
    "report_drift",
    "summary",
    "with_renames",
]

#: What happens to a setup, the most harmful first: a long list is cut at its end.
Action = Literal[
    "delete",
    "replace",  # Traceloop has a different, unmanaged setup, which is overwritten
    "change",
    "retry",  # the last update failed: the setup is sent again
    "recheck",  # written, but was not ready: nothing is sent
    "move",  # another resource declares it now: nothing is deleted
    "create",
    "adopt",  # Traceloop has an equal setup: nothing is sent
    "release",  # the setup stays in Traceloop, but is no longer managed
]
ACTIONS: tuple[Action, ...] = get_args(Action)

#: What happens to setups that the resource no longer declares.
LEAVES: tuple[Action, ...] = ("delete", "move", "release")

#: When the lines are printed: before an update, after it, or after a refresh that found drift.
Tense = Literal["plan", "done", "drift"]

#: The environment variable that requests the plan as data, and its value.
ASKED = ("TRACELOOP_PLAN", "json")

#: How many setups are listed one by one.
LINES = 60

#: The longest text about a setup's matches, in characters.
MATCHES_WIDTH = 500

#: The first bytes of a line that `encoded` returns, and the version of its format.
_MAGIC = b"traceloop"
_VERSION = b"\x01"


class Matches(NamedTuple):
    """How many of a sample of recorded spans a setup's selector matches."""

    matched: int
    #: The number of spans in the sample.
    sampled: int
    #: The number of spans that may match: a rule's value is hidden, or the attribute's was dropped.
    undecided: int = 0
    #: The hours that the spans cover; ``None`` if unknown.
    hours: float | None = None
    #: Why none matches, or which rule excludes none; without a secret.
    why: str = ""
    #: Estimated evaluations a day: spans a day that match or may match, times evaluators. ``None``
    #: if there is no estimate.
    evaluations: int | None = None

    @property
    def none(self) -> bool:
        """Whether no span matches."""
        return not self.matched and not self.undecided

    @property
    def share(self) -> str:
        """The matched and the sampled spans, such as ``1,240 of 2,000`` or ``none of 2,000``."""
        most = self.matched + self.undecided
        some = f"up to {most:,}" if self.undecided else f"{most:,}"
        return f"{some if most else 'none'} of {self.sampled:,}"

    @property
    def period(self) -> str:
        """The time that the spans cover, such as `` (24 h)``; empty if unknown."""
        if self.hours is None:
            return ""
        shown = f"{self.hours:,.0f}" if self.hours >= 10 else f"{self.hours:.2g}"
        return f" ({shown if self.hours >= 0.1 else '<0.1'} h)"

    def __str__(self) -> str:
        """Return the end of a plan's line."""
        if self.none and self.why:
            return f"matches {self.share}: {self.why}"
        return f"matches {self.share} spans{self.period}"


class Change(NamedTuple):
    """What happens to one setup."""

    action: Action
    external_id: str
    #: The setup as Traceloop or the state has it, and as declared, each as display JSON; see
    #: `_describe`. ``None`` if it does not exist or is unknown.
    before: str | None = None
    after: str | None = None
    #: A remark, such as why the last update failed.
    note: str = ""
    #: Whether a value differs that both hide.
    secret_changes: bool = False
    #: The setup's matches, if spans were read.
    matches: Matches | None = None


class ResourcePlan(NamedTuple):
    """What happens to the setups of one resource or group."""

    #: The resource or group that declares them, as `_naming.declarer` returns it.
    owner: str
    changes: Sequence[Change] = ()
    #: The external_ids that it declares.
    declares: Sequence[str] = ()
    #: The Traceloop project: its ``env_project_id``, empty while unknown, and the configuration's
    #: namespace.
    project: str = ""
    namespace: str = ""
    #: Whether it is a group; a single resource has one line.
    group: bool = True
    #: Why the plan is not compared with what Traceloop has; empty if it is.
    blind: str = ""
    #: Remarks, one on each line, such as why no spans were read.
    notes: str = ""


#: The note of a released setup.
RELEASED: Final = "no longer managed, but stays in Traceloop"


class _Words(NamedTuple):
    symbol: str
    #: The engine's number of the colour; see `_coloured`.
    colour: int
    plan: str
    done: str
    drift: str = ""


_WORDS: Mapping[Action, _Words] = {
    "create": _Words("+", 2, "to create", "created"),
    "replace": _Words("!", 5, "to replace", "replaced"),
    "change": _Words("~", 3, "to change", "changed", "changed outside of this stack"),
    "retry": _Words("*", 3, "to send again", "sent again"),
    "recheck": _Words("?", 3, "to check again", "checked again"),
    "delete": _Words("-", 1, "to delete", "deleted", "gone"),
    "release": _Words(">", 6, "to leave in place", "left in place"),
    "move": _Words(">", 6, "to move", "moved"),
    "adopt": _Words("=", 6, "to adopt", "adopted"),
}


def summary(changes: Iterable[Change], unchanged: int = 0, tense: Tense = "plan") -> str:
    """Return the number of setups by action, such as ``1 to create, 2 to delete``."""
    counts = Counter(change.action for change in changes)
    parts = [
        f"{counts[action]:,} {getattr(words, tense)}"
        for action, words in _WORDS.items()
        if counts[action]
    ]
    return ", ".join([*parts, *([f"{unchanged:,} unchanged"] if unchanged else [])]) or "no setups"


def explained(change: Change) -> list[str]:
    """Return what happens to a setup, as texts: its rules, its evaluators, notes, matches."""
    before, after, note = change.before, change.after, printable(change.note)
    if before is not None and after is not None:
        what = difference(before, after, secret_changes=change.secret_changes).texts()
    else:
        known = after if after is not None else before
        what = ("", "") if known is None else description(known)
    matches = "" if change.matches is None else printable(str(change.matches), MATCHES_WIDTH)
    parts: Sequence[str]
    match change.action:
        case "adopt":
            parts = ("in Traceloop already and equal: nothing is sent", note)
        case "recheck":
            why = "written, but was not ready" if note else "waits until it is ready"
            parts = (f"{why}: nothing is sent",)
        case "retry":
            parts = what
        case "move" | "release":
            parts = (note,)
        case "replace":
            parts = (f"replaces what Traceloop has: {', '.join(filter(None, what))}", note)
        case _:
            parts = (*what, note)
    return [part for part in (*parts, matches) if part]


def with_renames(changes: Sequence[Change]) -> list[Change]:
    """Return *changes* with a hint where one setup is deleted and an equal one is created."""
    deletes: dict[tuple[str, str], list[str]] = {}
    creates: dict[tuple[str, str], list[str]] = {}
    for change in changes:
        if change.action == "delete" and change.before and not hides(change.before):
            deletes.setdefault(description(change.before), []).append(change.external_id)
    for change in changes if deletes else ():
        if change.action == "create" and change.after and not hides(change.after):
            creates.setdefault(description(change.after), []).append(change.external_id)
    hints: dict[tuple[Action, str], str] = {}
    for what in deletes.keys() & creates.keys():
        if len(deletes[what]) == len(creates[what]) == 1:
            (old,), (new,) = deletes[what], creates[what]
            hints["delete", old] = f"(renamed to {name(new)}? It is equal)"
            hints["create", new] = f"(renamed from {name(old)}? It is equal)"
    return [
        change._replace(note="; ".join(filter(None, (change.note, hint))))
        if (hint := hints.get((change.action, change.external_id)))
        else change
        for change in changes
    ]


def lines(plan: ResourcePlan, tense: Tense = "plan") -> list[str]:
    """Return the lines about a resource's changes, in the engine's markup."""
    if not plan.changes:
        return []
    rows = _rows(with_renames(plan.changes))
    causes = [*_evaluations(plan.changes), *_causes(plan.changes)] if tense == "plan" else []
    if not plan.group:
        # Not indented: below a group's name it would look like one of its setups.
        alone = all(resource_name(plan.owner) == c.external_id for c in plan.changes)
        named = "" if alone else f"   ({printable(plan.owner)})"
        words = [_WORDS[change.action] for change in sorted(plan.changes, key=_by_name)]
        what = ["" if tense == "plan" else f"   ({getattr(each, tense)})" for each in words]
        return [*(f"{row}{w}{named}" for row, w in zip(rows, what, strict=True)), *causes]
    touched = sum(change.action not in ("delete", "move", "release") for change in plan.changes)
    unchanged = len(plan.declares) - touched if tense == "plan" else 0
    head = f"{printable(resource_name(plan.owner))}: {summary(plan.changes, unchanged, tense)}"
    return [head, *(f"  {line}" for line in [*rows, *causes])]


def _evaluations(changes: Sequence[Change]) -> list[str]:
    """Return the line about the changed setups' evaluations a day, if spans were read."""
    total = sum((c.matches and c.matches.evaluations) or 0 for c in changes)
    return [f"about {total:,} evaluations a day: matched spans x evaluators"] if total else []


def _causes(changes: Sequence[Change]) -> list[str]:
    """Return why the last update failed, each cause once."""
    found = []
    for action, text in (("retry", "the last update failed"), ("recheck", "not ready")):
        why = {c.external_id: printable(c.note) for c in changes if c.action == action}
        if any(why.values()):
            found += [f"{text}:", *by_cause(why).splitlines()]
    return found


def _rows(changes: Sequence[Change]) -> list[str]:
    """Return a line for each change, sorted by external_id, and the number of omitted ones."""
    # The least harmful changes are omitted.
    ordered = sorted(changes, key=by_harm)
    listed = sorted(ordered[:LINES], key=_by_name)
    cells = [(name(change.external_id), *explained(change)) for change in listed]
    rows = [
        _coloured(_WORDS[change.action], row)
        for change, row in zip(listed, columns(cells), strict=True)
    ]
    rest = len(ordered) - len(listed)
    return [*rows, f"... and {rest:,} more"] if rest else rows


def by_harm(change: Change) -> tuple[int, bool, str]:
    """Sort the most harmful first, and within an action those that match no span."""
    silent = change.matches is not None and change.matches.none
    return ACTIONS.index(change.action), not silent, change.external_id


def _by_name(change: Change) -> str:
    return change.external_id


def _coloured(words: _Words, row: str) -> str:
    """Return a line in the colour of its action.

    The engine turns its markup into colours, and drops it with ``--color never`` and in JSON (seen
    on the Pulumi CLI 3.260).
    """
    label, blank, rest = row.partition("  ")
    return f"<{{%fg {words.colour}%}}>{words.symbol} {label}<{{%reset%}}>{blank}{rest}"


def deleted(owner: str, external_ids: Sequence[str]) -> str:
    """Return the line about setups that were deleted."""
    what = "monitor setup" if len(external_ids) == 1 else "monitor setups"
    shown = names(sorted(external_ids))
    return f"{printable(resource_name(owner))}: deleted {len(external_ids):,} {what}: {shown}"


def announce(plan: ResourcePlan) -> None:
    """Print a resource's plan and, if requested, the same as data."""
    text = lines(plan)
    if os.environ.get(ASKED[0]) == ASKED[1]:
        text.append(encoded(plan))
    if text:
        say("\n".join(text))


def report(plan: ResourcePlan, written: Collection[str]) -> None:
    """Print what an update did to the setups that were *written* or needed no request."""
    done = [c for c in plan.changes if c.action in ("move", "release") or c.external_id in written]
    if done:
        # Deletes come last and are reported then.
        say("\n".join(lines(plan._replace(changes=done), "done")))


def report_drift(plan: ResourcePlan) -> None:
    """Print the setups that differ from the state in a refresh."""
    if plan.changes:
        say("\n".join(lines(plan, "drift")))


def encoded(plan: ResourcePlan) -> str:
    """Return a resource's plan as the line that `decoded` reads."""
    data = zlib.compress(json.dumps(plan._asdict()).encode())  # named tuples become lists
    return b"".join((_MAGIC, _VERSION, _checksum(data), data)).hex(" ")


def decoded(line: str) -> ResourcePlan | None:
    """Return the plan that a printed line holds, or ``None`` for any other line.

    Raises:
        ValueError: the plan is damaged, or from another version.

    """
    text = line.strip()
    if not text.startswith(_MAGIC.hex(" ")):
        return None
    if SECRET in text:
        raise ValueError("the value of a secret of the configuration occurs in its plan")
    try:
        found = bytes.fromhex(text).removeprefix(_MAGIC)
    except ValueError:
        raise ValueError("its plan is damaged") from None
    version, checksum, data = found[:1], found[1:5], found[5:]
    if version not in (_VERSION, b""):
        raise ValueError("another version of pulumi-traceloop wrote its plan")
    if checksum != _checksum(data):
        raise ValueError("its plan is damaged")
    fields = json.loads(zlib.decompress(data))
    changes = [Change(*each) for each in fields["changes"]]
    return ResourcePlan(
        **fields
        | {"changes": [c._replace(matches=c.matches and Matches(*c.matches)) for c in changes]}
    )


def _checksum(data: bytes) -> bytes:
    return zlib.crc32(data).to_bytes(4, "big")
