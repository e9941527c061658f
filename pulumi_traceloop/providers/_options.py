"""Checks of the options that say how setups are put in place."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from pulumi.dynamic import CheckFailure
from pulumi.output import Unknown

from .._describe import difference
from .._text import name, names
from .._validation import MAX_DELETES
from ..errors import ExistsError

if TYPE_CHECKING:
    from .._plan import Change

__all__ = ["GUARDS", "exists_error", "too_many_deletes", "too_many_evaluations"]


#: By value of ``if_exists``: what must not happen to a setup that this stack does not manage.
GUARDS: Final = {"adopt": ("replace",), "fail": ("replace", "adopt")}


def exists_error(if_exists: str | None, change: Change) -> ExistsError | None:
    """Return why a setup must not be written that Traceloop has and this stack does not manage.

    Args:
        if_exists: the option.
        change: what would happen to it.

    """
    if change.action not in GUARDS.get(if_exists or "", ()):
        return None
    before, after = change.before, change.after
    differs = difference(before, after).texts() if before and after else ()
    return ExistsError(change.external_id, str(if_exists), ", ".join(filter(None, differs)))


def too_many_deletes(
    inputs: Mapping[str, Any], before: Collection[str], removed: Sequence[str]
) -> list[CheckFailure]:
    """Return why an update may not go on, if it removes more setups from a group than allowed."""
    limit = inputs.get("max_deletes")
    if limit is None or isinstance(limit, Unknown):
        return []
    match = MAX_DELETES.fullmatch(str(limit))
    if not match:
        return []  # `option_problems` says so
    allowed = len(before) * int(match[1]) // 100 if match[2] else int(match[1])
    if len(removed) <= allowed:
        return []
    reason = (
        f"this update would delete {len(removed)} of the group's {len(before)} monitor setups, and"
        f" max_deletes allows {allowed}: {names(sorted(removed))}. Nothing of the group was"
        " written. Raise the limit for this update if they are meant to go; setups that move to a"
        " resource which the program declares after the group count too. max_deletes does not guard"
        " against the removal of the whole group: the option protect does"
    )
    return [CheckFailure("max_deletes", reason)]


#: How many setups an error names with their evaluations.
_NAMED = 5


def too_many_evaluations(
    inputs: Mapping[str, Any], evaluations: Mapping[str, int | None]
) -> list[CheckFailure]:
    """Return why a preview may not go on, if setups run more evaluations a day than allowed.

    Args:
        inputs: the resource's or the group's inputs.
        evaluations: how many a day each setup runs; ``None`` where that cannot be estimated.

    """
    limit = inputs.get("max_evaluations")
    if not isinstance(limit, (int, float)) or isinstance(limit, bool):
        return []  # it is unknown, or `option_problems` says what is wrong
    most = sorted(
        ((count or 0, i) for i, count in evaluations.items()), key=lambda e: (-e[0], e[1])
    )
    total = sum(count for count, _ in most)
    if total <= limit:
        return []
    shown = [f"{name(i)} {count:,}" for count, i in most[:_NAMED] if count]
    rest = sum(1 for count, _ in most[_NAMED:] if count)
    which = ", ".join([*shown, *([f"and {rest:,} more"] if rest else [])])
    reason = (
        f"the recorded spans that match would make about {total:,} evaluations a day (matched spans"
        f" a day x evaluators), and max_evaluations allows {limit:,.0f}: {which}. Narrow the"
        " selectors, run fewer evaluators, or raise the limit"
    )
    return [CheckFailure("max_evaluations", reason)]
