"""Tests ownership with all sequences of three deployments of one setup.

A deployment declares the setup in a group, in a single resource, or nowhere. It succeeds, or fails
or is killed after any step. This module models the steps of the engine and the providers; the
functions under test decide who owns and who deletes the setup.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Literal

import pytest

from pulumi_traceloop._ownership import (
    Claim,
    Claims,
    Ownership,
    adopted,
    deletable,
    flushed,
    group_deletes,
    needs_replacement,
    refreshed,
)

X = "x"
Place = Literal["group", "single", "empty group", "nowhere"]


@dataclass
class Batch:
    """A batch in the state."""

    group_id: str
    ownership: Ownership = field(default_factory=Ownership)
    server_ids: dict[str, str] = field(default_factory=dict)


@dataclass
class Membership:
    """A membership in the state."""

    group_id: str
    owned: frozenset[str]
    removed: dict[str, str | None]


class Ended(Exception):  # noqa: N818 - no error
    """The deployment ends here."""


@dataclass
class World:
    """The service, the state, and the invariants."""

    remote: str | None = None
    batch: Batch | None = None
    membership: Membership | None = None
    single: bool = False
    pending: list[Membership] = field(default_factory=list)
    #: Whether a write was never recorded, so that the setup has no known owner.
    orphaned: bool = False
    #: Whether a resource deleted the setup while another one has it in the state, after an
    #: interrupted move and an interrupted delete. Only a refresh finds that.
    unnoticed: bool = False
    numbers: Iterator[int] = field(default_factory=lambda: iter(range(1, 1_000)))

    # One deployment.

    def up(self, place: Place, single_first: bool, end: int | None) -> None:
        """Deploy; stop after *end* steps, or never if ``None``."""
        deployment = Deployment(self, place, end)
        try:
            for resource in ("single", "group") if single_first else ("group", "single"):
                getattr(deployment, resource)()
            deployment.deletes()
        except Ended:
            self.unnoticed |= self.remote is None and self.single + bool(self._owned) > 0
            return

    @property
    def _owned(self) -> bool:
        return self.batch is not None and X in self.batch.ownership.owned

    def settle(self, place: Place) -> None:
        if self.unnoticed:
            self.refresh()
        for _ in range(2):
            self.up(place, single_first=False, end=None)

    def refresh(self) -> None:
        present = {X} if self.remote is not None else set[str]()
        if self.batch:
            self.batch.ownership = refreshed(self.batch.ownership, present)
        self.single = self.single and bool(present)

    @property
    def held(self) -> bool:
        """Whether a record in the state will delete the setup when it is no longer declared."""
        memberships = [self.membership, *self.pending]
        return (
            self.single or self._owned or any(m is not None and X in m.owned for m in memberships)
        )


class Deployment:
    """The steps of one deployment."""

    def __init__(self, world: World, place: Place, end: int | None) -> None:
        self._world = world
        self._place = place
        self._left = end
        self._claims: Claims[str] = Claims()
        self._groups: set[str] = set()
        self._deleted: set[str] = set()
        self._handed: dict[str, list[Ownership]] = {}

    def _step(self) -> None:
        """The deployment may end here."""
        if self._left == 0:
            raise Ended
        if self._left is not None:
            self._left -= 1

    def _write(self) -> str:
        world = self._world
        created = world.remote is None
        if created:
            world.remote = f"id-{next(world.numbers)}"
        removed = world.batch is not None and X in world.batch.ownership.removed
        world.orphaned = not world.held and (created or not removed)
        assert world.remote
        return world.remote

    def group(self) -> None:
        world = self._world
        if self._place not in ("group", "empty group"):
            return
        declared = {X} if self._place == "group" else set[str]()
        for external_id in declared:
            self._claims.add(external_id, Claim("group", "project"))
        self._step()
        before = world.batch or Batch(f"group-{next(world.numbers)}")
        stored = {X: self._write()} if declared - before.ownership.owned else {}
        self._step()  # killed between the write and its record
        gone = {i for i in before.ownership.removed if world.remote is None}
        ownership = flushed(before.ownership, declared, stored, (), before.server_ids, gone)
        world.batch = Batch(before.group_id, ownership, before.server_ids | stored)
        if stored:
            world.orphaned = False
        self._step()
        self._groups.add(world.batch.group_id)
        old = world.membership
        recorded = [Ownership(old.owned, old.removed)] if old else []
        new = Membership(
            world.batch.group_id, adopted(ownership, recorded), dict(ownership.removed)
        )
        if old and needs_replacement(old.owned, declared):
            world.pending.append(old)
        world.membership = new
        self._step()

    def single(self) -> None:
        world = self._world
        if self._place != "single":
            return
        self._claims.add(X, Claim("single", "project"))
        self._step()
        if not world.single:
            self._write()
            self._step()
            world.single = True
            world.orphaned = False
        self._step()

    def deletes(self) -> None:
        world = self._world
        going = self._place not in ("group", "empty group")
        for old in list(world.pending):
            self._delete_membership(old)
            world.pending.remove(old)
            if not going:
                self._step()
        # The engine deletes all memberships of a removed group concurrently, without a request.
        if going and world.membership:
            self._delete_membership(world.membership)
            world.membership = None
            self._step()
        if world.single and self._place != "single":
            self._delete([X] if not self._claims.of(X) else [])
            world.single = False
            self._step()
        if going and world.batch:
            self._delete_batch(world.batch)
            world.batch = None
            self._step()

    def _delete_membership(self, old: Membership) -> None:
        if old.group_id in self._groups:
            declared = lambda i: bool(self._claims.of(i))  # noqa: E731
            self._delete(deletable(old.owned, declared, self._deleted))
        else:
            handed = Ownership(old.owned, old.removed)
            self._handed.setdefault(old.group_id, []).append(handed)

    def _delete_batch(self, old: Batch) -> None:
        handed = self._handed.get(old.group_id, [])
        certain, if_same = group_deletes(old.ownership, handed, self._deleted)
        same = [i for i, server_id in if_same.items() if self._world.remote in (server_id,)]
        declared = lambda i: bool(self._claims.of(i))  # noqa: E731
        self._delete(deletable([*certain, *same], declared, self._deleted))

    def _delete(self, external_ids: list[str]) -> None:
        for external_id in external_ids:
            assert not self._claims.of(external_id), "deleted although it is declared"
            self._step()  # killed, or the delete failed
            self._world.remote = None
            self._deleted.add(external_id)


PLACES: tuple[Place, ...] = ("group", "single", "empty group", "nowhere")
ENDS = (None, *range(7))
DEPLOYMENTS = list(product(PLACES, (False, True), ENDS))
#: First deployments: the setup is in the group, with every end.
FIRST: list[tuple[Place, bool, int | None]] = [("group", False, end) for end in ENDS]


@pytest.mark.parametrize("last", PLACES)
def test_every_life_of_three_deployments(last: Place) -> None:
    """A declared setup exists in the end. An undeclared one does not, if it was ever recorded."""
    lives = 0
    for first, second, third in product(FIRST, DEPLOYMENTS, DEPLOYMENTS):
        world = World()
        for deployment in (first, second, third):
            world.up(*deployment)
        orphaned = world.orphaned
        world.settle(last)
        life = (first, second, third, last)
        if last in ("group", "single"):
            assert world.remote is not None, life
            assert world.held, life
        elif not orphaned:
            assert world.remote is None, life
            assert not world.pending, life
        lives += 1
    assert lives == len(FIRST) * len(DEPLOYMENTS) ** 2


class TestFlushed:
    """The ownership after a flush, for all combinations of facts about one setup."""

    @pytest.mark.parametrize("declared", [False, True])
    @pytest.mark.parametrize("outcome", ["stored", "unknown", "refused"])
    @pytest.mark.parametrize("before", ["nothing", "owned", "removed"])
    @pytest.mark.parametrize("gone", [False, True])
    def test_table(self, declared: bool, outcome: str, before: str, gone: bool) -> None:
        known = {
            "nothing": Ownership(),
            "owned": Ownership(frozenset({X})),
            "removed": Ownership(removed={X: "1"}),
        }[before]
        after = flushed(
            known,
            {X} if declared else set(),
            {X} if outcome == "stored" and declared else (),
            {X} if outcome == "unknown" and declared else (),
            {X: "1"} if before != "nothing" else {},
            {X} if gone else (),
        )
        owned = declared and (outcome != "refused" or before == "owned")
        assert after.owned == ({X} if owned else set())
        removed = not declared and before != "nothing" and not gone
        assert after.removed == ({X: "1"} if removed else {})

    def test_a_refused_setup_that_was_removed_before_is_forgotten_by_its_declaration(self) -> None:
        """It is declared: the next flush tries again, and owns it then."""
        after = flushed(Ownership(removed={X: "1"}), {X}, (), (), {}, ())
        assert after == Ownership()


class TestOthers:
    def test_a_refresh_drops_only_what_is_proved_to_be_gone(self) -> None:
        before = Ownership(frozenset("ab"), {"c": "1"})
        assert refreshed(before, {"a", "z"}) == replace(before, owned=frozenset("a"))

    @pytest.mark.parametrize(
        ("recorded", "owned"), [((), {"a", "b"}), (("b",), {"a"}), (("a", "b"), {"a"})]
    )
    def test_a_membership_takes_over_what_none_knew(
        self, recorded: tuple[str, ...], owned: set[str]
    ) -> None:
        known = [Ownership(frozenset(recorded))]
        assert adopted(Ownership(frozenset("a"), {"b": None}), known) == owned

    @pytest.mark.parametrize(("server_id", "owned"), [("1", set()), ("2", {"b"})])
    def test_one_that_came_back_and_was_removed_again_is_another(
        self, server_id: str, owned: set[str]
    ) -> None:
        known = [Ownership(removed={"b": "1"})]
        assert adopted(Ownership(removed={"b": server_id}), known) == owned

    def test_a_claim_counts_once_and_the_first_comes_first(self) -> None:
        claims: Claims[str] = Claims()
        assert claims.add(X, Claim("one", "p")) == []
        assert claims.add(X, Claim("one", "p")) == []
        assert claims.add(X, Claim("other", "q")) == [Claim("one", "p")]
        assert claims.add(X, Claim("one", "p")) == []
        assert claims.of(X) == [Claim("one", "p"), Claim("other", "q")]
