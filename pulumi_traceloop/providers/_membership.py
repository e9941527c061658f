"""The provider of `AutoMonitorSetupMembership`: deletes what is removed from a group."""

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
    """Which setups a group owns: deletes what was removed, and writes none.

    Inputs, all of them outputs of the batch: ``external_ids`` (what the group declares, as JSON),
    ``owned``, ``left``, ``env_project_id``, and ``group_id``, the batch's id. When an owned setup
    is removed, the engine replaces this resource, and deletes the old one last, after the whole
    program succeeded: only then is the setup deleted. When the whole group is removed, the engine
    deletes this resource before the batch, so where the state has a batch alone, the setups may be
    gone.
    """

    #: By declarer: what its memberships in the state knew.
    _recorded: dict[str, list[Ownership]]

    def configure(self, req: Any) -> None:
        """Keep the stack's configuration."""
        super().configure(req)
        self._recorded = {}

    @without_traceback
    def check(self, olds: dict[str, Any], news: dict[str, Any]) -> CheckResult:
        """Fill in what the group is known to own.

        In a preview that may not be known yet, and then stays so: a plan that is saved must hold in
        the update.
        """
        external_ids, declarer = news["external_ids"], news["declared_by"]
        if not isinstance(external_ids, Unknown):
            self._declare(json.loads(external_ids), news)
        # For a replacement the engine checks again, without the old inputs.
        failures = [] if olds or declarer in self._checked else self._gone(news)
        self._checked.add(declarer)
        group_id = news.get("group_id")
        self._deployment.add_group(
            declarer, olds.get("declared_by"), None if isinstance(group_id, Unknown) else group_id
        )
        if not isinstance(news.get("owned"), Unknown):
            # The batch does not change. An output that it lacks is an unknown one in a preview.
            for key in ("left", "env_project_id"):
                if isinstance(news.get(key), Unknown):
                    news[key] = None
            recorded = self._recorded.setdefault(declarer, [])
            recorded.append(ownership_of(olds))
            # What was removed before any membership knew of it: this one deletes it next.
            news["owned"] = canonical(sorted(adopted(ownership_of(news), recorded)))
            return CheckResult(news, failures)
        if olds and external_ids == olds.get("external_ids") == olds.get("owned"):
            news["owned"] = olds["owned"]  # all are in place, and stay
        if isinstance(news.get("env_project_id"), Unknown) and olds.get("env_project_id"):
            news["env_project_id"] = olds["env_project_id"]
        return CheckResult(news, failures)

    def _gone(self, news: Mapping[str, Any]) -> list[CheckFailure]:
        """Return why an update may not go on that takes for granted what is gone.

        Where a batch was left alone, its setups are asked for: nothing else would notice.
        """
        project = self._project(news)
        granted, env_project_id = self._deployment.assumed(news["declared_by"])
        there, unreadable = project.read(granted, env_project_id)
        project.expect(env_project_id)
        gone = [i for i in granted if i not in there and i not in unreadable]
        if not gone:
            return []
        if len(gone) == len(granted) > 1:  # a refresh would refuse
            missing = SetupsMissingError(news["declared_by"], len(gone))
            return [CheckFailure(at(gone[0]), str(missing))]
        reason = (
            f"Traceloop no longer has {len(gone)} of the group's monitor setups that the state has:"
            f" {names(sorted(gone))}. A `pulumi destroy`, or an update without the group, ended"
            " half-way. Run `pulumi up --refresh` to create them again, or `pulumi destroy` to"
            " delete the others"
        )
        return [CheckFailure(at(gone[0]), reason)]

    @without_traceback
    def diff(self, id: str, olds: dict[str, Any], news: dict[str, Any]) -> DiffResult:
        """Ask for a replacement when a setup that the group owns was removed."""
        # What an older version recorded has no group_id: only the name in its outputs leads from
        # its delete to this group, whatever that is called now.
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
        """Delete what was removed from the group; leave all of a removed group to its batch."""
        project, owned = self._project(props), listed(props.get("owned"))
        key = props.get("group_id") or props["declared_by"]
        if self._deployment.has_group(key):
            delete_owned(self._deployment, project, props, owned)
        else:
            self._deployment.hand_over(key, ownership_of(props))


def delete_owned(
    deployment: Deployment, project: Project, props: Mapping[str, Any], owned: Iterable[str]
) -> None:
    """Delete the setups that a resource owned, but for those that the program declares now."""
    from .._flush import delete_all

    def declared(external_id: str) -> bool:
        return deployment.declarer(external_id, project) is not None

    removed = deletable(owned, declared, project.deleted)
    try:
        delete_all(project, removed, props.get("env_project_id"))
    finally:
        gone = project.deleted  # once: it is a copy
        if done := [i for i in removed if i in gone]:
            say(deleted(props["declared_by"], done))
