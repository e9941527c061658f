"""The Markdown of a pull-request comment that shows what previews will do to monitor setups.

Texts of users and servers are written as code, which GitHub does not interpret: no mention, link,
reference, HTML or emphasis. See https://github.github.com/gfm/ (code spans, tables).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from .._describe import difference, evaluator_texts, rule_texts, setup
from .._naming import resource_name
from .._plan import ACTIONS, Action, Change, Matches
from .._text import name as shown_name
from .._text import names as shown_names

if TYPE_CHECKING:
    from .preview import Entry, Plan

__all__ = ["LIMIT", "MARKER", "code", "comment", "summary"]

#: The start of the comment, by which a workflow finds its own comment.
MARKER = "<!-- pulumi-traceloop plan -->"

#: The maximum length of a comment. GitHub takes 65,536 characters.
LIMIT = 60_000

#: Longer tables of harmless changes are folded.
_FOLDED_FROM = 20
_HARMFUL: tuple[Action, ...] = ("delete", "replace")

#: The maximum length of one text, and the maximum number of rules in one cell.
_TEXT = 800
_RULES = 10
_NOTICES = 5

_SUMMARY: dict[Action, str] = {
    "delete": "to delete",
    "replace": "to replace",
    "change": "to change",
    "retry": "to send again",
    "recheck": "to check again",
    "move": "to move",
    "create": "to create",
    "adopt": "to adopt",
    "release": "to leave in place",
}
_WORDS: dict[Action, str] = {
    "delete": "**delete**",
    "replace": "**replace**",
    "change": "change",
    "retry": "send again",
    "recheck": "check again",
    "move": "move",
    "create": "create",
    "adopt": "adopt",
    "release": "leave in place",
}
_EXPLAINED: dict[Action, str] = {
    "replace": "replaces what Traceloop has",
    "retry": "the last update failed:",
    "recheck": "written, but was not ready: nothing is sent",
    "adopt": "in Traceloop already and equal: nothing is sent",
}

#: Characters reserved for the text after a section's rows, or after the last section.
_TAIL = 400


def comment(
    plans: Sequence[Plan], names: Sequence[str], links: Sequence[str] = (), limit: int = LIMIT
) -> str:
    """Return the comment for *plans*, at most *limit* characters long.

    Args:
        plans: the plans, one for each stack.
        names: the stacks' names.
        links: Markdown links to the commit and the run.
        limit: the maximum length; rows that do not fit are left out and counted.

    """
    last = f"<sub>{' · '.join(links)}</sub>\n" if links else ""
    heads = [_head(plan, name) for plan, name in zip(plans, names, strict=True)]
    # The rows share the space that the heads do not need.
    needed = [_length(head) + _TAIL for head in heads]
    shown = len(heads)
    room = limit - len(MARKER) - _TAIL - _length(last)
    while shown > 1 and sum(needed[:shown]) > room:
        shown -= 1
    left = room - sum(needed[:shown])
    parts = [MARKER]
    for index in range(shown):
        rows = _rows(plans[index].changes, left // (shown - index))
        left -= _length(rows)
        parts.append(heads[index] + rows)
    if shown < len(heads):
        parts.append(f"**{len(heads) - shown} more stacks left out**: this comment is full.\n")
    return "\n".join([*parts, *([last] if last else [])])


def summary(plan: Plan) -> str:
    """Return the number of setups by action, in one line."""
    counts = plan.counts()
    parts = [f"{counts[action]:,} {_SUMMARY[action]}" for action in ACTIONS if action in counts]
    unchanged = [f"{plan.unchanged:,} unchanged"] if plan.unchanged else []
    if not parts:
        return ", ".join(["No monitor setup changes", *unchanged])
    return ", ".join([f"**{', '.join(parts)}**", *unchanged])


def _head(plan: Plan, name: str) -> str:
    lines = [f"### Monitor setups of {code(name)}", ""]
    if plan.failed:
        lines += [
            "**The preview failed**, so this list is incomplete:",
            "",
            *(f"- {code(error)}" for error in plan.errors[:_NOTICES]),
            *_more(len(plan.errors) - _NOTICES, "- and {} more errors"),
            "",
        ]
    lines += [summary(plan), ""]
    silent = _silent(plan.changes)
    if plan.warnings or silent:
        lines += [
            *silent,
            *(f"- warning: {code(warning)}" for warning in plan.warnings[:_NOTICES]),
            *_more(len(plan.warnings) - _NOTICES, "- and {} more warnings"),
            "",
        ]
    if evaluations := sum(each.evaluations or 0 for each in _tried(plan.changes)):
        lines += [f"About {evaluations:,} evaluations a day: matched spans x evaluators.", ""]
    return "\n".join(lines)


def _tried(entries: Sequence[Entry]) -> list[Matches]:
    return [entry.change.matches for entry in entries if entry.change.matches]


def _silent(entries: Sequence[Entry]) -> list[str]:
    """Return the warning about setups that match no span."""
    found = [e.change.external_id for e in entries if e.change.matches and e.change.matches.none]
    if not found:
        return []
    which = f"{len(found):,} of {len(_tried(entries)):,} setups match no span"
    return [f"- **warning: {which}**: {code(shown_names(found))}"]


def _more(count: int, text: str) -> list[str]:
    return [text.format(count)] if count > 0 else []


def _rows(entries: Sequence[Entry], budget: int) -> str:
    """Return two tables: harmful changes, which are never folded, and the others."""
    owners = {(entry.owner, entry.project) for entry in entries}
    projects = len({project for _, project in owners}) > 1
    tried = bool(_tried(entries))
    # Within each table, setups that match no span come first.
    entries = sorted(entries, key=lambda e: not (e.change.matches and e.change.matches.none))
    tables: list[str] = []
    left_out: Counter[Action] = Counter()
    for harmful in (True, False):
        rows: list[str] = []
        for entry in entries:
            if (entry.change.action in _HARMFUL) is not harmful:
                continue
            row = _row(entry, owner=len(owners) > 1, project=projects, tried=tried)
            if _length(row) > budget:
                left_out[entry.change.action] += 1
                continue
            budget -= _length(row)
            rows.append(row)
        if not rows:
            continue
        where = "| In " if len(owners) > 1 else ""
        more = " Matches |" if tried else ""
        rule = "---|" * (4 + bool(where) + tried)
        head = f"| | Setup {where}| Before | After |{more}\n|{rule}\n"
        table = f"\n{head}{''.join(rows)}"
        if not harmful and len(rows) > _FOLDED_FROM:
            count = f"{len(rows):,} more setups" if tables else f"{len(rows):,} setups"
            table = f"\n<details><summary>{count}</summary>\n{table}\n</details>\n"
        tables.append(table)
    note = ", ".join(f"{left_out[a]:,} {_SUMMARY[a]}" for a in ACTIONS if a in left_out)
    if note:
        tables.append(f"\n**Left out, because this comment is full: {note}.**\n")
    return "".join(tables)


def _row(entry: Entry, *, owner: bool, project: bool, tried: bool) -> str:
    change = entry.change
    before, after = _sides(change)
    explained = _EXPLAINED.get(change.action, "")
    notes = [code(change.note)] if change.note else []
    setup_cell = "<br>".join(
        [code(shown_name(change.external_id)), *filter(None, [explained]), *notes]
    )
    where = code(resource_name(entry.owner)) if owner else ""
    if where and project:
        where += f"<br>in {code(entry.project)}"
    cells = [_WORDS[change.action], setup_cell, *([where] if owner else [])]
    matches = [_matches(change.matches)] if tried else []
    return f"| {' | '.join([*cells, _cell(before), _cell(after), *matches])} |\n"


def _matches(matches: Matches | None) -> str:
    if matches is None:
        return ""
    share = f"{matches.share}{matches.period}".replace("<", "&lt;")
    why = [code(matches.why)] if matches.why else []
    evaluations = matches.evaluations
    a_day = [f"{evaluations:,} evaluations a day"] if evaluations else []
    return "<br>".join([f"**{share}**" if matches.none else share, *why, *a_day])


#: The lines about a setup's rules, of which many are cut, and those about the rest.
_Lines = tuple[list[str], list[str]]


def _cell(lines: _Lines) -> str:
    rules, rest = lines
    cut = [f"and {len(rules) - _RULES} more"] if len(rules) > _RULES else []
    return "<br>".join([*rules[:_RULES], *cut, *rest])


def _sides(change: Change) -> tuple[_Lines, _Lines]:
    """Return the lines about the setup before and after; if it changes, only what differs."""
    before, after = change.before, change.after
    if before is None or after is None:
        return _whole(before), _whole(after)
    found = difference(before, after, secret_changes=change.secret_changes)
    rules = [[code(rule[side]) for rule in found.rules if rule[side]] for side in (0, 1)]
    old, new = ([e[side] for e in found.evaluators if e[side]] for side in (0, 1))
    runs = _runs(new, "runs" if old else "runs also")
    return (rules[0], _runs(old)), (rules[1], [*runs, *found.notes])


def _whole(given: str | None) -> _Lines:
    spec = None if given is None else setup(given)
    if spec is None:
        return [], []
    if isinstance(spec, str):
        return [code(spec)], []
    return [*map(code, rule_texts(spec))], _runs(evaluator_texts(spec))


def _runs(evaluators: Sequence[str], verb: str = "runs") -> list[str]:
    return [f"{verb} {', '.join(map(code, evaluators))}"] if evaluators else []


_BACKTICKS = re.compile("`+")


def code(text: str, limit: int = _TEXT) -> str:
    """Return *text* as inline code that is safe in a table: on one line, and cut if it is long.

    Unprintable characters become escape sequences.
    """
    if len(text) > limit:
        text = text[: limit - 3] + "..."
    text = "".join(c if c.isprintable() else _escaped(c) for c in text)
    if "|" in text:
        # `\|` works in a code span, but not after another backslash. A character reference works
        # everywhere.
        return f"<code>{''.join(c if _is_plain(c) else f'&#{ord(c)};' for c in text)}</code>"
    longest = max(map(len, _BACKTICKS.findall(text)), default=0)
    fence = "`" * (longest + 1)
    # A code span loses one space at each end, and must not begin or end with a backtick.
    pad = " " if not text.strip(" ") or text[0] in " `" or text[-1] in " `" else ""
    return f"{fence}{pad}{text or ' '}{pad}{fence}"


def _escaped(char: str) -> str:
    return char.encode("unicode_escape", "surrogatepass").decode("ascii")


def _is_plain(char: str) -> bool:
    return char.isalnum() or char in " .,-=()" or ord(char) > 127


def _length(text: str) -> int:
    """Return the length as GitHub's database may count it: an emoji is two."""
    return len(text.encode("utf-16-le")) // 2
