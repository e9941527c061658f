"""The provider of `AutoMonitorSetupMembership`: deletes setups that are removed from a group."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from pulumi.dynamic import CheckFailure, CheckResult, CreateResult, DiffResult, UpdateResult
from pulumi.output import Unknown

from .._ownership import adopted, deletable, needs_replacement
from .._plan import deleted
from .._text import names, say
from ..args import canonical
from ..errors import SetupsMissingError
from ._host import (
    HostedProvider,
    at,
    listed,
    namespace_changed,
    ownership_of,
    without_traceback,
)

if TYPE_CHECKING:
    from .._deployment import Deployment
    from .._ownership import Ownership
    from .._project import Project

__all__ = ["AutoMonitorSetupMembershipProvider", "delete_owned"]


class AutoMonitorSetupMembershipProvider(HostedProvider):
    """The setups that a group owns: deletes those that are removed, and writes none.

    The inputs are outputs of the batch: ``external_ids`` (what the group declares, as JSON),
    ``owned``, ``left``, ``env_project_id``, and ``group_id``, the batch's id. When an owned setup
    is removed, the engine replaces this resource. It deletes the old one last, after the whole
    program succeeded, and only then is the setup deleted. When the whole group is removed, the
    engine deletes this resource before the batch. So if the state has the batch without it, the
    setups may have been deleted.
    """

    #: By declarer: what its memberships in the state record.
    _recorded: dict[str, list[Ownership]]
    #: By declarer: the ``env_project_id`` of a membership that stays in its namespace.
    _projects: dict[str, str | None]

    def configure(self, req: Any) -> None:
        """Keep the stack's configuration."""
        super().configure(req)
        self._recorded = {}
        self._projects = {}

    @without_traceback
    def check(self, olds: dict[str, Any], news: dict[str, Any]) -> CheckResult:
        """Fill in the setups that the group owns.

        Outputs that are unknown in a preview stay unknown, so that the update can follow a saved
        plan.
        """
        external_ids, declarer = news["external_ids"], news["declared_by"]
        if not isinstance(external_ids, Unknown):
            self._declare(json.loads(external_ids), news)
        # For a replacement the engine checks again, without the old inputs.
        failures = [] if olds or declarer in self._checked else self._deleted_before(news)
        self._checked.add(declarer)
        group_id = news.get("group_id")
        self._deployment.add_group(
            declarer, olds.get("declared_by"), None if isinstance(group_id, Unknown) else group_id
        )
        if not isinstance(news.get("owned"), Unknown):
            # The batch does not change. In a preview, an output that it lacks is unknown.
            for key in ("left", "env_project_id"):
                if isinstance(news.get(key), Unknown):
                    news[key] = None
            recorded = self._recorded.setdefault(declarer, [])
            recorded.append(ownership_of(olds))
            # It also deletes what was removed before a membership recorded it.
            news["owned"] = canonical(sorted(adopted(ownership_of(news), recorded)))
            return CheckResult(news, failures)
        if olds and external_ids == olds.get("external_ids") == olds.get("owned"):
            news["owned"] = olds["owned"]  # all are in place and stay
        project = olds.get("env_project_id") if olds else self._projects.get(declarer)
        if olds and not namespace_changed(olds, news):
            # A replacement that deletes removed setups stays in the project.
            self._projects[declarer] = project
        if isinstance(news.get("env_project_id"), Unknown) and project:
            news["env_project_id"] = project
        return CheckResult(news, failures)

    def _deleted_before(self, inputs: Mapping[str, Any]) -> list[CheckFailure]:
        """Refuse an update whose batch is in the state, while its setups have been deleted.

        That is the state of a batch without its membership. The batch reads no setup that does not
        change, so it would not notice.
        """
        project = self._project(inputs)
        assumed, env_project_id = self._deployment.assumed(inputs["declared_by"])
        remote, unreadable = project.read(assumed, env_project_id)
        project.expect(env_project_id)
        missing = [i for i in assumed if i not in remote and i not in unreadable]
        if not missing:
            return []
        if len(missing) == len(assumed) > 1:  # a refresh would refuse
            error = SetupsMissingError(inputs["declared_by"], len(missing))
            return [CheckFailure(at(missing[0]), str(error))]
        reason = (
            f"Traceloop no longer has {len(missing)} of the group's monitor setups that the state"
            f" has: {names(sorted(missing))}. A `pulumi destroy`, or an update without the group,"
            " ended half-way. Run `pulumi up --refresh` to create them again, or `pulumi destroy`"
            " to delete the others"
        )
        return [CheckFailure(at(missing[0]), reason)]

    @without_traceback
    def diff(self, id: str, olds: dict[str, Any], news: dict[str, Any]) -> DiffResult:
        """Ask for a replacement when a setup that the group owns was removed."""
        # The outputs of an older version have no group_id. Their delete finds this group by the
        # name in them, which a rename does not change.
        self._deployment.add_group(olds.get("declared_by"), olds.get("group_id"))
        if self._moves(olds, news, listed(olds.get("owned"))):
            return DiffResult(changes=True, replaces=["config_namespace"])
        external_ids = news["external_ids"]
        if isinstance(external_ids, Unknown):
            return DiffResult(changes=True)
        if needs_replacement(set(listed(olds.get("owned"))), set(json.loads(external_ids))):
            return DiffResult(changes=True, replaces=["external_ids"])
        properties = ("external_ids", "owned", "env_project_id", "group_id")
        changed = any(olds.get(key) != news.get(key) for key in properties)
        return DiffResult(changes=changed or namespace_changed(olds, news))

    def create(self, props: dict[str, Any]) -> CreateResult:
        """Record what the group owns; no request."""
        return CreateResult(props["declared_by"], props)

    def update(self, id: str, olds: dict[str, Any], news: dict[str, Any]) -> UpdateResult:
        """Record what the group owns; no request."""
        return UpdateResult(news)

    @without_traceback
    def delete(self, id: str, props: dict[str, Any]) -> None:
        """Delete the setups removed from the group; leave those of a removed group to its batch."""
        project, owned = self._project(props), listed(props.get("owned"))
        key = props.get("group_id") or props["declared_by"]
        if self._deployment.has_group(key):
            delete_owned(self._deployment, project, props, owned)
        else:
            self._deployment.hand_over(key, ownership_of(props))


def delete_owned(
    deployment: Deployment, project: Project, props: Mapping[str, Any], owned: Iterable[str]
) -> None:
    """Delete the setups that a resource owned, except those that are declared or released now."""
    from .._flush import delete_all

    def stays(external_id: str) -> bool:
        released = deployment.is_released(external_id, project)
        return released or deployment.declarer(external_id, project) is not None

    removed = deletable(owned, stays, project.deleted)
    try:
        delete_all(project, removed, props.get("env_project_id"))
    finally:
        found = project.deleted  # a copy
        if done := [i for i in removed if i in found]:
            say(deleted(props["declared_by"], done))
