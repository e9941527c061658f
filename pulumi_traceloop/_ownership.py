"""Which resource owns a monitor setup, and which may delete it.

Pure functions without requests, locks or output, called by the providers.

A group is two resources, because the engine deletes last and only after a whole program:

- The *batch* writes. Its state records an `Ownership`: the **owned** setups (written, adopted or
  perhaps written), and the **removed** ones that are not yet known to be gone.
- The *membership* deletes. Its state records the setups that it is responsible for. When one is
  removed, the engine replaces the membership, and the delete of the old one deletes the setup.

The states of a group's setup:

=============================  ================================  =================================
recorded                       event                             then
=============================  ================================  =================================
nothing                        written or adopted                owned by the batch
nothing                        the write was refused             nothing: may be unmanaged
nothing                        the outcome is unknown            owned: may have been written
owned                          removed from the program          removed: `flushed`
owned                          refresh: a GET by id finds none   nothing: `refreshed`
owned                          refresh: a list lacks it          owned: lists may be incomplete
removed, in a membership       the program succeeded             the old membership deletes it
removed, in a membership       the program failed                the old membership stays pending
removed, in no membership      the next membership is recorded   it adopts the setup: `adopted`
removed                        a GET by id finds none            nothing: `flushed` drops it
owned                          removed, ``retain_on_delete``     nothing: it stays in Traceloop
removed                        declared again, here              owned, once written
any                            another resource declares it in   it is not deleted: `deletable`
                               the same project
owned or removed               the whole group is deleted        the membership leaves it to the
                                                                 batch: `group_deletes`
=============================  ================================  =================================

The id of its batch identifies a group across renames: after a rename by alias the engine keeps the
old outputs, with the old name, until something else changes (seen on the Pulumi CLI 3.260).
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
    """The owned and removed setups that a batch's state records."""

    #: The external_ids that the group wrote, adopted or may have written.
    owned: frozenset[str] = frozenset()
    #: ``{external_id: server id or None}`` of removed setups that are not known to be gone.
    removed: Mapping[str, str | None] = field(default_factory=dict)


def flushed(
    before: Ownership,
    declared: Set[str],
    stored: Collection[str],
    unknown: Collection[str],
    server_ids: Mapping[str, str],
    gone: Collection[str],
) -> Ownership:
    """Return the ownership after a flush.

    Args:
        before: the ownership before.
        declared: the group's external_ids.
        stored: the setups that were written or adopted.
        unknown: the setups that may have been written.
        server_ids: the server ids of the setups owned before.
        gone: the setups that are gone according to a GET by id or a delete, and removed ones that
            the engine retains: nothing will delete them.

    """
    removed = {i: server_ids.get(i) for i in before.owned} | dict(before.removed)
    return Ownership(
        frozenset((before.owned | set(stored) | set(unknown)) & declared),
        {i: server_id for i, server_id in removed.items() if i not in declared and i not in gone},
    )


def refreshed(before: Ownership, present: Collection[str]) -> Ownership:
    """Return the ownership after a refresh; *present* was verified by id, not only by list."""
    return Ownership(before.owned & set(present), before.removed)


def adopted(reported: Ownership, recorded: Iterable[Ownership]) -> frozenset[str]:
    """Return the setups that a membership is responsible for.

    Args:
        reported: the ownership that its batch reports.
        recorded: the ownerships of the group's memberships in the state. A removed setup that none
            of them recorded is adopted, or nothing would delete it. A setup that was created and
            removed again has another server id.

    """
    known = list(recorded)
    return reported.owned | {
        i
        for i, server_id in reported.removed.items()
        if not any(i in o.owned or (i, server_id) in o.removed.items() for o in known)
    }


def needs_replacement(recorded: Set[str], declared: Set[str]) -> bool:
    """Whether a membership recorded a setup that the group no longer declares."""
    return not recorded <= declared


def deletable(
    external_ids: Iterable[str], declared: Callable[[str], bool], deleted: Collection[str]
) -> list[str]:
    """Return which of *external_ids* may be deleted.

    Args:
        external_ids: the setups that a resource is responsible for.
        declared: whether a resource of the deployment declares the setup in the same project, or
            has released it.
        deleted: the setups already deleted in this deployment.

    """
    return [i for i in external_ids if i not in deleted and not declared(i)]


class GroupDeletes(NamedTuple):
    """The deletes of a whole group."""

    #: The setups that the group certainly owns.
    certain: list[str]
    #: ``{external_id: server id or None}`` of removed setups that may be gone: delete one only if
    #: it still has this server id.
    if_same: dict[str, str | None]


def group_deletes(
    ownership: Ownership, handed_over: Iterable[Ownership], deleted: Collection[str]
) -> GroupDeletes:
    """Return the deletes of a removed group's batch.

    Args:
        ownership: the ownership in the batch's state.
        handed_over: the ownerships of its memberships. Setups that they recorded as removed are
            deleted by another membership.
        deleted: the setups already deleted in this deployment.

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


@dataclass(frozen=True)
class Claim(Generic[P]):  # no NamedTuple: a generic one needs Python 3.11
    """A resource of the program that declares a setup, and the setup's project."""

    declarer: str
    project: P


class Claims(Generic[P]):
    """The declarers of each setup, in all projects of a deployment.

    The engine checks all declared resources before any delete, so a delete can distinguish a moved
    setup from a removed one.
    """

    def __init__(self) -> None:
        self._claims: dict[str, list[Claim[P]]] = {}

    def __bool__(self) -> bool:
        return bool(self._claims)

    def add(self, external_id: str, claim: Claim[P]) -> list[Claim[P]]:
        """Add a claim once; return the earlier claims of other resources."""
        claims = self._claims.setdefault(external_id, [])
        if claim not in claims:
            claims.append(claim)
        return [c for c in claims[: claims.index(claim)] if c.declarer != claim.declarer]

    def of(self, external_id: str) -> list[Claim[P]]:
        """Return the claims on a setup."""
        return list(self._claims.get(external_id, ()))
