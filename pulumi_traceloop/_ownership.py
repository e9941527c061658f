"""Who owns a monitor setup, and who may delete it.

Pure: no request, no lock, no output. The providers translate between these functions and the
engine's calls.

A group is two resources, since the engine deletes last and only after a whole program:

- the *batch* writes. Its state records an `Ownership`: what it **owned** (wrote, adopted, or may
  have written) and what was **removed** from it and is not yet known to be gone.
- the *membership* deletes. Its state records what it has to take care of. When a setup that it has
  is removed, the engine replaces it and deletes the old one last: that deletes the setup.

One setup of a group, by what is recorded about it:

=============================  ================================  =================================
recorded                       event                             then
=============================  ================================  =================================
nothing                        written or adopted                owned by the batch
nothing                        the write was refused             nothing: it may be foreign
nothing                        the outcome is unknown            owned: the write may have happened
owned                          removed from the program          removed: `flushed`
owned                          refresh: a GET by id finds none   nothing: `refreshed`
owned                          refresh: a list lacks it          owned: lists may be incomplete
removed, membership knew it    the program ended well            the old membership deletes it
removed, membership knew it    the program failed                the old membership stays pending
removed, no membership knew    the next membership is recorded   it takes the setup over (`adopted`)
removed                        a GET by id finds none            nothing: `flushed` drops it
removed                        declared again, here              owned, once it is in place
any                            declared elsewhere in the         nobody deletes it (`deletable`)
                               deployment, in the same project
owned or removed               the whole group is deleted        the membership leaves it to the
                                                                 batch: `group_deletes`
=============================  ================================  =================================

A group is recognized by its batch's id, which no rename changes: after a rename by alias the engine
keeps old outputs, with the old name in them, as long as nothing else changes (seen on the Pulumi
CLI 3.260).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Set
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, TypeVar

__all__ = [
    "Claim",
    "Claims",
    "GroupDeletes",
    "Ownership",
    "adopted",
    "deletable",
    "flushed",
    "group_deletes",
    "needs_replacement",
    "refreshed",
]

P = TypeVar("P")


@dataclass(frozen=True)
class Ownership:
    """What a batch's state records about its group's setups."""

    #: The external_ids that the group wrote or adopted, or may have written.
    owned: frozenset[str] = frozenset()
    #: ``{external_id: the server's id, or None}`` of those that were removed from the group, as far
    #: as they are not known to be gone.
    removed: Mapping[str, str | None] = field(default_factory=dict)


def flushed(
    before: Ownership,
    declared: Set[str],
    stored: Collection[str],
    unknown: Collection[str],
    server_ids: Mapping[str, str],
    gone: Collection[str],
) -> Ownership:
    """Return what a batch owns after a flush.

    Args:
        before: what it owned before.
        declared: the group's external_ids now.
        stored: those that are in place, written or adopted.
        unknown: those that may have been written.
        server_ids: the server's ids of what was owned before.
        gone: those that a GET by id, or a delete, has proved to be gone.

    """
    removed = {i: server_ids.get(i) for i in before.owned} | dict(before.removed)
    return Ownership(
        frozenset((before.owned | set(stored) | set(unknown)) & declared),
        {i: server_id for i, server_id in removed.items() if i not in declared and i not in gone},
    )


def refreshed(before: Ownership, present: Collection[str]) -> Ownership:
    """Return what a batch owns after a refresh that found *present*, each list's gap checked."""
    return Ownership(before.owned & set(present), before.removed)


def adopted(reported: Ownership, recorded: Iterable[Ownership]) -> frozenset[str]:
    """Return what a membership takes care of.

    Args:
        reported: what its batch reports.
        recorded: what the memberships of the group, in the state, knew before. What was removed
            before any of them knew it is taken over: nothing else would delete it. One that came
            back and was removed again has another server's id.

    """
    known = list(recorded)
    return reported.owned | {
        i
        for i, server_id in reported.removed.items()
        if not any(i in o.owned or (i, server_id) in o.removed.items() for o in known)
    }


def needs_replacement(recorded: Set[str], declared: Set[str]) -> bool:
    """Whether a membership has a setup that is no longer the group's, so that it has to go."""
    return not recorded <= declared


def deletable(
    external_ids: Iterable[str], declared: Callable[[str], bool], deleted: Collection[str]
) -> list[str]:
    """Return which of *external_ids* may be deleted now.

    Args:
        external_ids: what a resource took care of.
        declared: whether a resource of the deployment declares the setup in the same project.
        deleted: what was deleted in this deployment.

    """
    return [i for i in external_ids if i not in deleted and not declared(i)]


class GroupDeletes(NamedTuple):
    """What the deletion of a whole group takes."""

    #: What the group certainly owns.
    certain: list[str]
    #: What was removed from it and may have been deleted: only if Traceloop still has it, under the
    #: server's id that the state has.
    if_same: dict[str, str | None]


def group_deletes(
    ownership: Ownership, handed_over: Iterable[Ownership], deleted: Collection[str]
) -> GroupDeletes:
    """Return what the batch of a removed group has to delete.

    Args:
        ownership: what the batch's state records.
        handed_over: what its memberships had to take care of, and knew to be removed: that, another
            membership still has to delete, or has deleted.
        deleted: what was deleted in this deployment.

    """
    handed = list(handed_over)
    pending = {i for each in handed for i in each.owned}
    known = {item for each in handed for item in each.removed.items()}
    removed = ownership.removed
    return GroupDeletes(
        [*sorted(ownership.owned), *(i for i in removed if i in pending)],
        {
            i: server_id
            for i, server_id in removed.items()
            if not (i in pending or i in deleted or (i, server_id) in known)
        },
    )


class Claim(NamedTuple, Generic[P]):
    """One resource of the program that declares a setup, and the project that it is for."""

    declarer: str
    project: P


class Claims(Generic[P]):
    """Which resources of the program declare which setup, over all projects of a deployment.

    The engine checks each declared resource before it deletes anything, so that a delete can tell
    a setup that moved from one that was removed.
    """

    def __init__(self) -> None:
        self._claims: dict[str, list[Claim[P]]] = {}

    def __bool__(self) -> bool:
        return bool(self._claims)

    def add(self, external_id: str, claim: Claim[P]) -> list[Claim[P]]:
        """Add a claim, once; return those that other resources made before it."""
        claims = self._claims.setdefault(external_id, [])
        if claim not in claims:
            claims.append(claim)
        return [c for c in claims[: claims.index(claim)] if c.declarer != claim.declarer]

    def of(self, external_id: str) -> list[Claim[P]]:
        """Return the claims on a setup."""
        return list(self._claims.get(external_id, ()))
