"""The Markdown of a pull-request comment that shows what previews will do to monitor setups.

What a user or a server wrote stands in code, where GitHub makes nothing of it: no mention, link,
reference, HTML or emphasis. See https://github.github.com/gfm/ (code spans, tables).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import TypeVar

from .preview import ACTIONS, Action, Change, Definition, Plan, RuleText

_Text = TypeVar("_Text")

__all__ = ["LIMIT", "MARKER", "code", "comment", "summary"]

#: The comment begins with it, so that a workflow finds its own comment again.
MARKER = "<!-- pulumi-traceloop plan -->"

#: How long a comment becomes at most. GitHub takes 65,536 characters.
LIMIT = 60_000

#: A longer table is folded up.
_FOLDED_FROM = 20

#: How much is shown of one text, and how many lines of one cell.
_TEXT = 160
_LINES = 10
_NOTICES = 5

_SUMMARY: dict[Action, str] = {
    "delete": "to delete",
    "replace": "to replace",
    "change": "to change",
    "unclear": "that may change",
    "recheck": "to look at again",
    "create": "to create",
    "adopt": "to adopt",
    "move": "to move",
    "release": "to leave in place",
}
_WORDS: dict[Action, str] = {
    "delete": "**delete**",
    "replace": "**replace**",
    "change": "change",
    "unclear": "may change",
    "recheck": "look again",
    "create": "create",
    "adopt": "adopt",
    "move": "move",
    "release": "leave in place",
}
_EXPLAINED: dict[Action, str] = {
    "replace": "is in Traceloop already and differs, and this stack does not manage it yet",
    "unclear": "holds a secret or a value that is not known yet",
    "recheck": "is written but did not come up: nothing is sent",
    "adopt": "is in Traceloop already and equal: nothing is sent",
    "move": "nothing is sent",
    "release": "is no longer managed, but stays in Traceloop",
}
_HEADER = "| | Setup | Before | After |\n|---|---|---|---|\n"


def comment(plans: Sequence[Plan], names: Sequence[str], limit: int = LIMIT) -> str:
    """Return the comment for *plans*, at most *limit* characters long.

    Args:
        plans: one for each stack.
        names: what to call each stack.
        limit: what does not fit is left out and counted.

    """
    heads = [_head(plan, name) for plan, name in zip(plans, names, strict=True)]
    # What every section needs is set aside first; the rows share what is left.
    needed = [_length(head) + _TAIL for head in heads]
    shown = len(heads)
    while shown > 1 and sum(needed[:shown]) > limit - len(MARKER) - _TAIL:
        shown -= 1
    left = limit - len(MARKER) - _TAIL - sum(needed[:shown])
    parts = [MARKER]
    for index in range(shown):
        rows = _rows(plans[index].changes, left // (shown - index))
        left -= _length(rows)
        parts.append(heads[index] + rows)
    if shown < len(heads):
        parts.append(f"**{len(heads) - shown} more stacks left out**: this comment is full.\n")
    return "\n".join(parts)


def summary(plan: Plan) -> str:
    """Return how many setups become what, in one line."""
    counts = plan.counts()
    parts = [f"{counts[action]:,} {_SUMMARY[action]}" for action in ACTIONS if action in counts]
    unchanged = [f"{plan.unchanged:,} unchanged"] if plan.unchanged else []
    if not parts:
        return ", ".join(["No monitor setup changes", *unchanged])
    return ", ".join([f"**{', '.join(parts)}**", *unchanged])


#: Room for what follows a section's rows, or the last section.
_TAIL = 400


def _head(plan: Plan, name: str) -> str:
    lines = [f"### Monitor setups of {code(name)}", ""]
    if plan.failed:
        lines += [
            "**The preview failed**, so this is not all that will happen:",
            *(f"- {code(error, 300)}" for error in plan.errors[:_NOTICES]),
            *_more(len(plan.errors) - _NOTICES, "- and {} more errors"),
            "",
        ]
    lines += [summary(plan), ""]
    if plan.warnings:
        lines += [
            *(f"- warning: {code(warning, 300)}" for warning in plan.warnings[:_NOTICES]),
            *_more(len(plan.warnings) - _NOTICES, "- and {} more warnings"),
            "",
        ]
    return "\n".join(lines)


def _more(count: int, text: str) -> list[str]:
    return [text.format(count)] if count > 0 else []


def _rows(changes: Sequence[Change], budget: int) -> str:
    if not changes:
        return ""
    rows: list[str] = []
    left_out: Counter[Action] = Counter()
    for change in changes:
        row = _row(change)
        if _length(row) > budget:
            left_out[change.action] += 1
            continue
        budget -= _length(row)
        rows.append(row)
    table = "\n" + _HEADER + "".join(rows) if rows else ""
    note = ", ".join(f"{left_out[a]:,} {_SUMMARY[a]}" for a in ACTIONS if a in left_out)
    if note:
        note = f"\n**Left out, because this comment is full: {note}.**\n"
    if len(rows) <= _FOLDED_FROM:
        return table + note
    shown = f"{len(rows):,} of {len(changes):,}" if left_out else f"{len(rows):,}"
    return f"\n<details><summary>{shown} setups</summary>\n{table}\n</details>\n{note}"


def _row(change: Change) -> str:
    before, after = _sides(change)
    explained = _EXPLAINED.get(change.action, "")
    notes = [code(change.note, 300)] if change.note else []
    setup = "<br>".join([code(change.external_id), *filter(None, [explained]), *notes])
    return f"| {_WORDS[change.action]} | {setup} | {_cell(before)} | {_cell(after)} |\n"


def _cell(lines: Sequence[str]) -> str:
    cut = [f"and {len(lines) - _LINES} more"] if len(lines) > _LINES else []
    return "<br>".join([*lines[:_LINES], *cut])


def _sides(change: Change) -> tuple[list[str], list[str]]:
    """Return what to say about the setup before and after: of a changed one, what differs."""
    before, after = change.before or Definition(), change.after or Definition()
    twice = _in_both_sources([*before.rules, *after.rules])
    if change.action in ("change", "unclear") and change.before and change.after:
        lines = (
            _lines(_without(before.rules, after.rules), twice)
            + _runs(_without(before.evaluators, after.evaluators), "runs"),
            _lines(_without(after.rules, before.rules), twice)
            + _runs(
                _without(after.evaluators, before.evaluators),
                "runs" if _without(before.evaluators, after.evaluators) else "runs also",
            ),
        )
        if before.triggers != after.triggers:
            lines[1].append("other triggers: it is set up again")
        if lines == ([], []):
            # What differs is behind a mask; so show where the masks are.
            return _whole(before, twice), _whole(after, twice)
        return lines
    return (
        _whole(before, twice) if change.before and change.action != "recheck" else [],
        _whole(after, twice) if change.after and change.action != "move" else [],
    )


def _whole(definition: Definition, twice: set[Hashable]) -> list[str]:
    return _lines(definition.rules, twice) + _runs(definition.evaluators, "runs")


def _without(
    some: Mapping[tuple[Hashable, ...], _Text], others: Iterable[tuple[Hashable, ...]]
) -> dict[tuple[Hashable, ...], _Text]:
    rest = set(others)
    return {key: text for key, text in some.items() if key not in rest}


def _in_both_sources(keys: Iterable[tuple[Hashable, ...]]) -> set[Hashable]:
    """Return the attributes that rules look for in spans and in resources."""
    sources: dict[Hashable, set[Hashable]] = {}
    for key in keys:
        if len(key) > 1:
            sources.setdefault(key[1], set()).add(key[0])
    return {attribute for attribute, found in sources.items() if len(found) > 1}


def _lines(rules: Mapping[tuple[Hashable, ...], RuleText], twice: set[Hashable]) -> list[str]:
    lines = []
    for key, text in rules.items():
        tell = len(key) > 1 and key[0] == "resource_attributes" and key[1] in twice
        rule = text._replace(attribute=f"{text.attribute} (resource)") if tell else text
        lines.append(code(str(rule)))
    return lines


def _runs(evaluators: Mapping[tuple[Hashable, ...], str], verb: str) -> list[str]:
    if not evaluators:
        return []
    names = [code(text) for text in list(evaluators.values())[:_LINES]]
    more = len(evaluators) - len(names)
    return [f"{verb} {', '.join(names)}" + (f" and {more} more" if more > 0 else "")]


_BACKTICKS = re.compile("`+")


def code(text: str, limit: int = _TEXT) -> str:
    """Return *text* as inline code that is safe in a table: on one line, and cut if it is long.

    What cannot be printed is shown as an escape sequence.
    """
    if len(text) > limit:
        text = text[: limit - 3] + "..."
    text = "".join(c if c.isprintable() else _escaped(c) for c in text)
    if "|" in text:
        # `\|` would do in a code span, but not after another backslash. A character reference
        # never ends a cell, nor begins anything else.
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
