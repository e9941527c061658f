"""Checks of the options that guard writes and deletes."""

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

__all__ = ["GUARDS", "exists_error", "too_many_deletes", "too_many_evaluations", "waits_for_more"]


#: By value of ``if_exists``: the actions refused for a setup that this stack does not manage.
GUARDS: Final = {"adopt": ("replace",), "fail": ("replace", "adopt")}


def exists_error(if_exists: str | None, change: Change) -> ExistsError | None:
    """Return the error if ``if_exists`` refuses the change of an unmanaged setup, else ``None``.

    Args:
        if_exists: the option.
        change: the change of a setup that exists in Traceloop and that this stack does not manage.

    """
    if change.action not in GUARDS.get(if_exists or "", ()):
        return None
    before, after = change.before, change.after
    differs = difference(before, after).texts() if before and after else ()
    return ExistsError(change.external_id, str(if_exists), ", ".join(filter(None, differs)))


def waits_for_more(state: Mapping[str, Any], inputs: Mapping[str, Any]) -> bool:
    """Whether *inputs* wait for more than the update did that wrote *state*."""
    return _wait(inputs) > _wait(state)


def _wait(inputs: Mapping[str, Any]) -> int:
    if not inputs.get("wait_for_setup"):
        return 0
    return 1 if inputs.get("wait_for") == "accepted" else 2


def too_many_deletes(
    inputs: Mapping[str, Any], before: Collection[str], removed: Sequence[str]
) -> list[CheckFailure]:
    """Return the failure of an update that removes more setups from a group than allowed."""
    limit = inputs.get("max_deletes")
    if limit is None or isinstance(limit, Unknown):
        return []
    match = MAX_DELETES.fullmatch(str(limit))
    if not match:
        return []  # `option_problems` reports it
    allowed = len(before) * int(match[1]) // 100 if match[2] else int(match[1])
    if len(removed) <= allowed:
        return []
    reason = (
        f"this update would delete {len(removed)} of the group's {len(before)} monitor setups, and"
        f" max_deletes allows {allowed}: {names(sorted(removed))}. Nothing of the group was"
        " written. If the deletes are intended, raise the limit for this update. Setups that move"
        " to a resource declared after the group count too. max_deletes does not guard against the"
        " removal of the whole group: the option protect does"
    )
    return [CheckFailure("max_deletes", reason)]


#: How many setups an error lists with their evaluations.
_NAMED = 5


def too_many_evaluations(
    inputs: Mapping[str, Any], evaluations: Mapping[str, int | None]
) -> list[CheckFailure]:
    """Return the failure of a preview whose setups run more evaluations a day than allowed.

    Args:
        inputs: the inputs of the resource or group.
        evaluations: each setup's evaluations a day; ``None`` if there is no estimate.

    """
    limit = inputs.get("max_evaluations")
    if not isinstance(limit, (int, float)) or isinstance(limit, bool):
        return []  # unknown, or `option_problems` reports it
    ranked = sorted(
        ((count or 0, i) for i, count in evaluations.items()), key=lambda e: (-e[0], e[1])
    )
    total = sum(count for count, _ in ranked)
    if total <= limit:
        return []
    listed = [f"{name(i)} {count:,}" for count, i in ranked[:_NAMED] if count]
    rest = sum(1 for count, _ in ranked[_NAMED:] if count)
    which = ", ".join([*listed, *([f"and {rest:,} more"] if rest else [])])
    reason = (
        f"matching spans would cause about {total:,} evaluations a day (matched spans a day x"
        f" evaluators), and max_evaluations allows {limit:,.0f}: {which}. Narrow the"
        " selectors, run fewer evaluators, or raise the limit"
    )
    return [CheckFailure("max_evaluations", reason)]
