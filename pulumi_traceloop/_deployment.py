"""The state of the provider process during one deployment.

The engine runs one process of the Python dynamic host for all dynamic resources of a stack, and
another one for the preview (seen on the Pulumi CLI 3.260). So this module lives for one deployment.
It knows the projects, and which resource of the program declares which setup.

Two namespaces, keys or URLs can lead to one Traceloop project, where an external_id is one monitor.
So projects are compared with `Deployment.same_project`, not by namespace.
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

__all__ = ["Assumed", "Deployment", "deployment"]

#: How many setups are read in two projects to find out whether they are the same.
PROBES = 3


class Assumed(NamedTuple):
    """The setups of a group that exist according to the state, without a read."""

    external_ids: Collection[str] = ()
    env_project_id: str | None = None


class Deployment:
    """The projects and declarations of one deployment. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._projects: dict[Connection, Project] = {}
        self._claims: Claims[Project] = Claims()
        self._managed: dict[str, set[Project]] = {}
        self._leaving: dict[str, str] = {}
        self._released: set[tuple[str, Project]] = set()
        self._groups: set[str] = set()
        self._assumed: dict[str, Assumed] = {}
        self._handed_over: dict[str, list[Ownership]] = {}
        self._probes: dict[frozenset[Project], int] = {}

    def project(
        self, connection: Connection, *, key_is_stored: Callable[[], bool] = lambda: False
    ) -> Project:
        """Return the one project object of a connection.

        Args:
            connection: the connection.
            key_is_stored: as in `Project`.

        """
        with self._lock:
            if connection not in self._projects:
                self._projects[connection] = Project(connection, key_is_stored=key_is_stored)
            return self._projects[connection]

    def same_project(self, one: Project, other: Project, external_id: str) -> bool | None:
        """Return whether two connections lead to one project; ``None`` if unknown.

        If no response has shown that yet, *external_id* is read in both, a few times at most.

        Raises:
            TraceloopError: the read failed.

        """
        known = one.is_same(other)
        if known is not None:
            return known
        pair = frozenset((one, other))
        with self._lock:
            self._probes[pair] = probes = self._probes.get(pair, 0) + 1
        if probes > PROBES and not (one.knows(external_id) and other.knows(external_id)):
            return None
        first, second = (p.present([external_id]).get(external_id) for p in (one, other))
        known = one.is_same(other)
        if known is None and first and second:
            return first.id == second.id
        return known

    # Declarations of the program.

    def declare(self, external_id: str, declarer: str, project: Project) -> str | None:
        """Register *declarer* for a setup; return another declarer in the same project.

        Connections that may lead to one project count as different here: `rivals` compares them
        again before a write.
        """
        with self._lock:
            others = self._claims.add(external_id, Claim(declarer, project))
            announced = self._leaving.pop(external_id, declarer)
        if announced != declarer:
            say(f"  > {name(external_id)} is not deleted: {declarer} declares it")
        return next((c.declarer for c in others if c.project.is_same(project)), None)

    def declarer(self, external_id: str, project: Project) -> str | None:
        """Return the declarer of the setup in this project, if any.

        If that depends on whether two connections lead to one project, both are read. If it stays
        unknown, they count as one.

        Raises:
            TraceloopError: the read failed.

        """
        if known := self.known_declarer(external_id, project):
            return known
        with self._lock:
            claims = self._claims.of(external_id)
        for claim in claims:
            if project.is_same(claim.project) is None:
                # A setup that the other project lacks is not the claimed one.
                claimed = claim.project.get(external_id)
                if claimed and self.same_project(project, claim.project, external_id) is not False:
                    return claim.declarer
        return None

    def known_declarer(self, external_id: str, project: Project) -> str | None:
        """Return the declarer of the setup without a request, for plans."""
        with self._lock:
            claims = self._claims.of(external_id)
        return next((c.declarer for c in claims if c.project.is_same(project)), None)

    def rivals(
        self, external_ids: Iterable[str], declarer: str, project: Project
    ) -> dict[str, str]:
        """Return ``{external_id: declarer}`` of setups that another resource declared first.

        It is called before writes, when more projects can be compared than in `declare`.
        """
        found: dict[str, str] = {}
        for external_id in external_ids:
            with self._lock:
                claims = self._claims.of(external_id)
            for claim in claims:
                if claim.declarer == declarer:
                    break  # first declarer: the others are refused
                if self.same_project(project, claim.project, external_id):
                    found[external_id] = claim.declarer
                    break
        return found

    @property
    def declares_nothing(self) -> bool:
        """Whether no resource has been checked, for instance in a destroy."""
        with self._lock:
            return not self._claims

    def announce_delete(self, external_id: str, declarer: str) -> None:
        """Record that the plan shows the delete of *declarer*'s setup.

        `declare` prints a correction if another resource declares it.
        """
        with self._lock:
            self._leaving[external_id] = declarer

    # Setups in the state.

    def manage(self, external_ids: Iterable[str], project: Project) -> None:
        """Record the setups that this stack manages."""
        with self._lock:
            for external_id in external_ids:
                self._managed.setdefault(external_id, set()).add(project)

    def disown(self, external_ids: Iterable[str], project: Project) -> None:
        """Record that this stack does not manage setups, although the state lists them."""
        with self._lock:
            for external_id in external_ids:
                self._managed.get(external_id, set()).discard(project)

    def release(self, external_ids: Iterable[str], project: Project) -> None:
        """Record removed setups that stay in Traceloop, whatever the state of a membership says."""
        with self._lock:
            self._released |= {(external_id, project) for external_id in external_ids}

    def is_released(self, external_id: str, project: Project) -> bool:
        """Whether a removed setup stays in Traceloop."""
        with self._lock:
            return (external_id, project) in self._released

    def manages(self, external_id: str, project: Project, *, ask: bool = True) -> bool:
        """Whether a resource of this stack manages the setup.

        Args:
            external_id: the setup's key.
            project: the setup's project.
            ask: whether requests may be sent to compare projects.

        """
        with self._lock:
            managing = set(self._managed.get(external_id, ()))
        return any(
            self.same_project(project, other, external_id) if ask else project.is_same(other)
            for other in managing
        )

    # Groups, by the id of their batch or, in states of older versions, by name.

    def add_group(self, *keys: str | None) -> None:
        """Record that the program declares a group."""
        with self._lock:
            self._groups.update(key for key in keys if key)

    def has_group(self, key: str) -> bool:
        """Whether the program declares the group."""
        with self._lock:
            return key in self._groups

    def assume(self, declarer: str, assumed: Assumed) -> None:
        """Record the setups of a group that are assumed to exist."""
        with self._lock:
            self._assumed[declarer] = assumed

    def assumed(self, declarer: str) -> Assumed:
        """Return the setups of a group that are assumed to exist."""
        with self._lock:
            return self._assumed.get(declarer, Assumed())

    def hand_over(self, key: str, ownership: Ownership) -> None:
        """Record the ownership of a membership that is deleted with its group."""
        with self._lock:
            self._handed_over.setdefault(key, []).append(ownership)

    def handed_over(self, *keys: str) -> list[Ownership]:
        """Return the ownerships of a deleted group's memberships."""
        with self._lock:
            return [each for key in keys for each in self._handed_over.get(key, ())]


_deployment = Deployment()


def deployment() -> Deployment:
    """Return the deployment of this process."""
    return _deployment
