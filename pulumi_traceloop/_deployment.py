"""What the provider process knows during one deployment.

The engine runs one process of the Python dynamic host for all dynamic resources of a stack, and
another one for a preview (seen on the Pulumi CLI 3.260). So what this module holds lives for one
deployment: its projects, and which resource of the program declares which setup.

A configuration's namespace is a name, not a project: two namespaces, two keys or two spellings of
a URL can lead to one Traceloop project, where one external_id is one monitor. So setups are
compared by `Deployment.same_project`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Iterable
from typing import TYPE_CHECKING, NamedTuple

from ._ownership import Claim, Claims, Ownership
from ._project import Project
from ._text import name, say

if TYPE_CHECKING:
    from ._settings import Connection

__all__ = ["Deployment", "Granted", "deployment"]

#: How many setups are asked for, in two projects, to find out whether they are one.
PROBES = 3


class Granted(NamedTuple):
    """What a group's state says is in place, unasked."""

    external_ids: Collection[str] = ()
    env_project_id: str | None = None


class Deployment:
    """The projects and the declarations of one deployment. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._projects: dict[Connection, Project] = {}
        self._claims: Claims[Project] = Claims()
        self._managed: dict[str, set[Project]] = {}
        self._leaving: dict[str, str] = {}
        self._groups: set[str] = set()
        self._granted: dict[str, Granted] = {}
        self._handed_over: dict[str, list[Ownership]] = {}
        self._probes: dict[frozenset[Project], int] = {}

    def project(
        self, connection: Connection, *, key_is_stored: Callable[[], bool] = lambda: False
    ) -> Project:
        """Return the project of this connection, the same one for the life of the process.

        Args:
            connection: how to reach it.
            key_is_stored: as of `Project`.

        """
        with self._lock:
            if connection not in self._projects:
                self._projects[connection] = Project(connection, key_is_stored=key_is_stored)
            return self._projects[connection]

    # Which projects are one.

    def same_project(self, one: Project, other: Project, external_id: str) -> bool | None:
        """Return whether two connections lead to one project; ``None`` if that cannot be told.

        Where no response has told yet, both are asked for *external_id*, a few times at most.

        Raises:
            TraceloopError: the service cannot be asked.

        """
        known = one.is_same(other)
        if known is not None:
            return known
        pair = frozenset((one, other))
        with self._lock:
            self._probes[pair] = probes = self._probes.get(pair, 0) + 1
        if probes > PROBES and not (one.knows(external_id) and other.knows(external_id)):
            return None
        here, there = (p.present([external_id]).get(external_id) for p in (one, other))
        known = one.is_same(other)
        if known is None and here and there:
            return here.id == there.id
        return known

    # What the program declares.

    def declare(self, external_id: str, declarer: str, project: Project) -> str | None:
        """Note that *declarer* declares a setup; return who else does in the same project.

        Two connections that nothing shows to be one project are not taken for one here: `rivals`
        compares them again when something is written.
        """
        with self._lock:
            others = self._claims.add(external_id, Claim(declarer, project))
            announced = self._leaving.pop(external_id, declarer)
        if announced != declarer:
            say(f"  > {name(external_id)} is not deleted: {declarer} declares it")
        return next((c.declarer for c in others if c.project.is_same(project)), None)

    def declarer(self, external_id: str, project: Project) -> str | None:
        """Return who declares the setup in this project, if anybody.

        Where that depends on whether two connections lead to one project, and no response has told
        yet, both are asked; if that cannot be told either, they count as one.

        Raises:
            TraceloopError: the service cannot be asked.

        """
        if expected := self.expected_declarer(external_id, project):
            return expected
        with self._lock:
            claims = self._claims.of(external_id)
        for claim in claims:
            if project.is_same(claim.project) is None:
                # What the other connection lacks cannot be its monitor.
                there = claim.project.get(external_id)
                if there and self.same_project(project, claim.project, external_id) is not False:
                    return claim.declarer
        return None

    def expected_declarer(self, external_id: str, project: Project) -> str | None:
        """Return who declares the setup, for a plan: as `declarer`, but without a request."""
        with self._lock:
            claims = self._claims.of(external_id)
        return next((c.declarer for c in claims if c.project.is_same(project)), None)

    def rivals(
        self, external_ids: Iterable[str], declarer: str, project: Project
    ) -> dict[str, str]:
        """Return which setups another resource declares in the same project, and which one.

        Before a write, when responses have told more about the projects than at `declare`.
        """
        found: dict[str, str] = {}
        for external_id in external_ids:
            with self._lock:
                claims = self._claims.of(external_id)
            for claim in claims:
                if claim.declarer == declarer:
                    break  # it came first: the others are refused
                if self.same_project(project, claim.project, external_id):
                    found[external_id] = claim.declarer
                    break
        return found

    @property
    def declares_nothing(self) -> bool:
        """Whether no resource was checked: so far, or since the program does not run at all."""
        with self._lock:
            return not self._claims

    def leave(self, external_id: str, declarer: str) -> None:
        """Note that a plan has announced that *declarer*'s setup will be deleted.

        Should another resource turn out to declare it, the announcement is taken back.
        """
        with self._lock:
            self._leaving[external_id] = declarer

    # What the state says.

    def manage(self, external_ids: Iterable[str], project: Project) -> None:
        """Note what the state says that this stack manages."""
        with self._lock:
            for external_id in external_ids:
                self._managed.setdefault(external_id, set()).add(project)

    def disown(self, external_ids: Iterable[str], project: Project) -> None:
        """Note that setups which the state mentions never became this stack's."""
        with self._lock:
            for external_id in external_ids:
                self._managed.get(external_id, set()).discard(project)

    def manages(self, external_id: str, project: Project, *, ask: bool = True) -> bool:
        """Whether a resource of this stack is known to manage the setup.

        Args:
            external_id: the setup's key.
            project: where it is.
            ask: whether requests may be made to find out which connections lead to one project.

        """
        with self._lock:
            managing = set(self._managed.get(external_id, ()))
        return any(
            self.same_project(project, other, external_id) if ask else project.is_same(other)
            for other in managing
        )

    # Groups, each by its batch's id or, in what older versions recorded, by its name.

    def add_group(self, *keys: str | None) -> None:
        """Note that the program declares a group."""
        with self._lock:
            self._groups.update(key for key in keys if key)

    def has_group(self, key: str) -> bool:
        """Whether the program declares the group."""
        with self._lock:
            return key in self._groups

    def grant(self, declarer: str, granted: Granted) -> None:
        """Note which setups of a group are taken to be in place, as the state says, unasked."""
        with self._lock:
            self._granted[declarer] = granted

    def granted(self, declarer: str) -> Granted:
        """Return what was granted to the group."""
        with self._lock:
            return self._granted.get(declarer, Granted())

    def hand_over(self, key: str, ownership: Ownership) -> None:
        """Note what a membership knew that is deleted together with its group."""
        with self._lock:
            self._handed_over.setdefault(key, []).append(ownership)

    def handed_over(self, *keys: str) -> list[Ownership]:
        """Return what the memberships of a group knew, found by its keys."""
        with self._lock:
            return [each for key in keys for each in self._handed_over.get(key, ())]


_deployment = Deployment()


def deployment() -> Deployment:
    """Return the process's deployment."""
    return _deployment
