"""The dynamic providers: what Pulumi's engine calls for each resource.

The module's path and the classes' names are part of every stack's state: the SDK stores a provider
from an installed module by reference. They are never renamed.

What the engine and the Python dynamic host do, as far as this module relies on it (seen on the
Pulumi CLI 3.260 with the SDK 3.272):

- `check` gets the old inputs, the other calls get old outputs; in a preview only `check` and `diff`
  are called, and what is not known yet is an `pulumi.output.Unknown` there.
- every resource that the program declares is checked before anything is deleted, and deletes come
  last, after the whole program succeeded; in a destroy nothing is checked.
- what is printed here appears under Diagnostics, in the preview and in the update.
"""

from __future__ import annotations

import atexit
import gc
import json
import os
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import cache, lru_cache, wraps
from itertools import count
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, cast

from pulumi.dynamic import (
    CheckFailure,
    CheckResult,
    ConfigureRequest,
    CreateResult,
    DiffResult,
    ReadResult,
    ResourceProvider,
    UpdateResult,
)
from pulumi.output import Unknown

from .._codec import compressed, repacked, unpacked
from .._describe import unseen_change
from .._masking import masked, secret_values, stand_in_of_other
from .._naming import external_id_problem, resource_name
from .._plan import UNKNOWN, Action, Change, ResourcePlan, announce, deleted, report, report_drift
from .._project import Project, connection, project
from .._text import name, names, say, use_utf8
from ..args import canonical
from ..errors import ExistsError, SetupsMissingError, TraceloopError

if TYPE_CHECKING:
    from .._models import Problem, Setup, SetupSpec

__all__ = [
    "AutoMonitorSetupBatchProvider",
    "AutoMonitorSetupMembershipProvider",
    "AutoMonitorSetupProvider",
]

_Method = TypeVar("_Method", bound=Callable[..., Any])

#: How many new objects there are before Python looks for garbage; its own default is some hundreds.
GARBAGE_THRESHOLD = 100_000

#: The inputs of an `AutoMonitorSetup` that make up the setup itself.
_SPEC = ("selector", "evaluators", "evaluator_configs", "triggers")

#: What the providers add to the inputs.
_OUTPUTS = (
    "drifted",
    "env_project_id",
    "failed",
    "left",
    "owned",
    "resend",
    "setup_id",
    "setup_ids",
    "unsettled",
)


def _without_traceback(method: _Method) -> _Method:
    """Make a `TraceloopError` reach the user as its message.

    The host shows the whole traceback of an exception; this leaves its own two frames.
    """

    @wraps(method)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        try:
            return method(*args, **kwargs)
        except TraceloopError as error:
            failure = error
        raise failure.with_traceback(None) from None

    return cast("_Method", wrapper)


class _Provider(ResourceProvider):
    """What the three providers share: the stack's configuration and its projects."""

    # The provider holds no secret: the configuration reaches it in `configure`, in the process.
    serialize_as_secret_always = False

    # Not set before `configure`: what an instance holds when it is declared goes into the state.
    _setting: Callable[[str], Any]
    #: Who was checked in this deployment, what was told, and what each membership knew before.
    _checked: set[str]
    _announced: set[tuple[str, str, str]]
    _known: dict[str, set[str]]
    #: What was found out about each resource's changes, until it is printed.
    _plans: dict[str, ResourcePlan]
    #: Whether this is a preview. The program says so in an input that `check` takes out.
    _preview: bool

    def configure(self, req: ConfigureRequest) -> None:
        """Keep the stack's configuration, which has the secrets in the clear."""
        # The process lives for one operation. By default Python looks for garbage so often, while
        # ten thousand setups are read, that this takes as long as the reading.
        use_utf8()
        gc.set_threshold(GARBAGE_THRESHOLD)
        # It looks once more as it ends, at all of them again, and the engine waits for that.
        atexit.register(gc.freeze)
        self._setting = req.config.get
        self._checked = set()
        self._announced = set()
        self._known = {}
        self._plans = {}
        self._preview = False

    def _take_preview(self, news: dict[str, Any]) -> None:
        """Note whether this is a preview, and take that out of the inputs."""
        self._preview = bool(news.pop("preview", False))

    def _present(self, plan: ResourcePlan) -> None:
        """Print a plan in a preview; in an update what was done is printed, after it."""
        if self._preview:
            announce(plan)
        else:
            self._plans[plan.owner] = plan

    def _report(self, props: Mapping[str, Any], written: Collection[str]) -> None:
        if plan := self._plans.pop(props["declared_by"], None):
            report(plan, written)

    def _project(self, props: Mapping[str, Any]) -> Project:
        """Return the Traceloop project that a resource is in."""
        return project(connection(self._setting, os.environ, props.get("config_namespace")))

    def _plan(
        self,
        props: Mapping[str, Any],
        changes: Iterable[Change],
        declares: Iterable[str],
        *,
        group: bool = True,
    ) -> ResourcePlan:
        where = self._project(props)
        return ResourcePlan(
            props["declared_by"],
            list(changes),
            list(declares),
            where.env_project_id or "",
            where.namespace,
            group,
            where.blind,
        )

    def _declare(self, external_ids: Collection[Any], props: Mapping[str, Any]) -> dict[str, str]:
        """Note what the program declares; return why not, where somebody else does already."""
        declarer, where = props["declared_by"], self._project(props)
        return {
            external_id: f'the external_id "{external_id}" is declared twice: by {other} and by'
            f" {declarer}. Traceloop has one monitor setup for it, so the two would overwrite each"
            " other: remove one of them or give it another external_id"
            for external_id in external_ids
            if isinstance(external_id, str) and (other := where.declare(external_id, declarer))
        }


class AutoMonitorSetupProvider(_Provider):
    """One setup, upserted by its external_id."""

    @_without_traceback
    def check(self, olds: dict[str, Any], news: dict[str, Any]) -> CheckResult:
        """Validate the inputs; every problem is told, with the path of its property."""
        self._take_preview(news)
        external_id = news.get("external_id")
        # First of all, valid or not: what is declared must not be deleted.
        twice = self._declare([external_id], news)
        failures = [CheckFailure("external_id", reason) for reason in twice.values()]
        if not isinstance(external_id, Unknown) and (reason := external_id_problem(external_id)):
            failures.append(CheckFailure("external_id", reason))
        _, problems = _parsed(_spec_inputs(news))
        secrets = _secrets(news)
        # The engine prints the value of a path that leads to one.
        prefix = "setup." if secrets else ""
        failures += [CheckFailure(prefix + p.path, masked(p.reason, secrets)) for p in problems]
        failures += _option_failures(news)
        self._checked.add(news["declared_by"])
        if olds:
            self._project(olds).manage([olds.get("external_id", "")])
        if not failures and olds.get("external_id") != external_id:
            failures += self._announce_new(news)
        elif not failures:
            self._announce(news)
        return CheckResult(news, failures)

    def _announce_new(self, news: dict[str, Any]) -> list[CheckFailure]:
        """Print the plan for a setup that is not in the state; return why it must not be made."""
        external_id = news["external_id"]
        if isinstance(external_id, Unknown):
            self._announce(news, Change("create", UNKNOWN, after=_shown(news)))
            return []
        where = self._project(news)
        change = _new(where, where.look_at(external_id), external_id, news, _shown(news))
        if change.action == "replace" and news.get("if_exists") == "fail":
            return [CheckFailure("external_id", str(ExistsError(external_id)))]
        self._announce(news, change)
        return []

    def _announce(self, news: Mapping[str, Any], *changes: Change) -> None:
        """Print the plan, once: for a replacement the engine checks twice."""
        reported = {(news["declared_by"], c.action, c.external_id) for c in changes}
        if not changes or reported - self._announced:
            self._announced |= reported
            ids = [] if isinstance(news["external_id"], Unknown) else [news["external_id"]]
            self._present(self._plan(news, changes, ids, group=False))

    @_without_traceback
    def diff(self, id: str, olds: dict[str, Any], news: dict[str, Any]) -> DiffResult:
        """Compare by meaning: neither order nor a left-out default is a change."""
        replaces = [
            key for key in ("external_id", "config_namespace") if olds.get(key) != news.get(key)
        ]
        # A refresh compares too, without a check: it announces nothing, and what is still to be
        # done is no drift.
        checked = news["declared_by"] in self._checked
        if checked:
            self._project(olds).made_in(olds.get("env_project_id"))
        if replaces:
            if checked and not self._project(olds).declarer(id):
                self._project(olds).leave(id, news["declared_by"])
                self._announce(news, Change("delete", id, _shown(olds)))
            return DiffResult(changes=True, replaces=replaces)
        old, new = _spec_inputs(olds), _spec_inputs(news)
        differ = _differ(old, new)
        if not checked:
            return DiffResult(changes=differ)
        unsettled = olds.get("unsettled")
        if differ:
            self._announce(news, _changed(id, olds, news, _shown(olds), _shown(news)))
        elif unsettled:
            self._announce(news, Change("recheck", id, after=_shown(news), note=unsettled))
        return DiffResult(changes=differ or bool(unsettled))

    @_without_traceback
    def create(self, props: dict[str, Any]) -> CreateResult:
        """Put the setup in place: adopt what is equal, else upsert it."""
        return CreateResult(props["external_id"], self._put(props, {}))

    @_without_traceback
    def update(self, id: str, olds: dict[str, Any], news: dict[str, Any]) -> UpdateResult:
        """Put the setup in place; changed triggers send it even if it is equal."""
        return UpdateResult(self._put(news, olds))

    def _put(self, news: dict[str, Any], olds: dict[str, Any]) -> dict[str, Any]:
        from .._flush import upsert, wait

        where, external_id = self._project(news), news["external_id"]
        secrets = _secrets(news)
        try:
            setup = upsert(
                where,
                external_id,
                _spec(news),
                force=bool(olds) and olds.get("triggers") != news.get("triggers"),
                env_project_id=olds.get("env_project_id"),
                keep_others=not olds and news.get("if_exists") == "fail",
            )
        except TraceloopError as error:
            error.args = (masked(str(error), secrets),)
            raise
        unsettled = {}
        if news.get("wait_for_setup"):
            unsettled = wait(where, [external_id], news.get("wait_timeout"), external_id)
        reason = unsettled.get(external_id)
        self._report(news, [external_id])
        return news | _identity(setup) | {"unsettled": reason and masked(reason, secrets)}

    @_without_traceback
    def read(self, id: str, props: dict[str, Any]) -> ReadResult:
        """Read the setup; what is equal in meaning keeps the user's own spelling."""
        where = self._project(props)
        setup = where.present([id], props.get("env_project_id")).get(id)
        where.expect(props.get("env_project_id"))
        if setup is None:
            drift = Change("delete", id, _shown(props))
            report_drift(self._plan(props, [drift], [], group=False))
            return ReadResult("", {})
        declared = {key: value for key, value in props.items() if key not in _OUTPUTS}
        spec, _ = _parsed(_spec_inputs(props))
        if spec is None or spec.meaning != setup.meaning:
            for key in ("selector", "evaluators", "evaluator_configs"):
                declared.pop(key, None)
            there = setup.as_input()
            declared |= {"external_id": id, **there}
            if spec is not None:  # else a program reads it with `get`
                before = _shown(props)
                found = stand_in_of_other(canonical(there), canonical(_spec_inputs(props)), before)
                drift = Change("change", id, before, found)
                report_drift(self._plan(props, [drift], [id], group=False))
            if (shown := props.get("shown")) is not None:
                before = canonical(_spec_inputs(props))
                declared["shown"] = stand_in_of_other(canonical(there), before, shown)
        outs = declared | _identity(setup) | {"unsettled": props.get("unsettled")}
        return ReadResult(id, outs, declared)

    @_without_traceback
    def delete(self, id: str, props: dict[str, Any]) -> None:
        """Delete the setup, unless another resource of the program declares it now."""
        where = self._project(props)
        if declarer := where.declarer(id):
            say(f"kept the monitor setup {name(id)}: {declarer} declares it")
            return
        where.expect(props.get("env_project_id"), [id])
        where.delete(id)
        say(deleted(props["declared_by"], [id]))


class _Changes(NamedTuple):
    """What differs between a group's setups in the state and those that the program declares."""

    added: Sequence[str]
    left: Sequence[str]
    changed: Sequence[str]
    #: What failed before and is tried again.
    again: Sequence[str]


class AutoMonitorSetupBatchProvider(_Provider):
    """The setups of a group: writes them through the bulk endpoint; leaves deletes to another.

    Inputs: ``setups``, ``{external_id: the setup as canonical JSON}``, and ``packed_setups``, which
    is how `spelling` puts many. Outputs beside them:

    - ``failed``, ``unsettled``: ``{external_id: why}`` of what is not in place, did not come up;
    - ``owned``: the external_ids that this group wrote or adopted, or may have written;
    - ``left``: ``{external_id: the server's id, or null}`` of those that it owned before, as far as
      they are not known to be gone;
    - ``setup_ids``: ``{external_id: the server's id}``;
    - ``resend``: what is still to be sent although it is equal;
    - ``env_project_id``: the project that all are in;
    - ``drifted``: ``{external_id: the setup as the last refresh found it, or "gone"}`` of those in
      ``packed_setups`` that it found changed: the outputs' ``packed_setups`` are compressed.

    ``owned``, ``left`` and ``setup_ids`` are JSON: the SDK walks every nested value several times.
    """

    @_without_traceback
    def check(self, olds: dict[str, Any], news: dict[str, Any]) -> CheckResult:
        """Validate the setups that are new or spelled differently than before."""
        self._take_preview(news)
        setups, old = unpacked(news), unpacked(olds)
        twice = self._declare(setups, news)
        failures = [CheckFailure(_at(i), reason) for i, reason in twice.items()]
        for external_id, setup in setups.items():
            if reason := external_id_problem(external_id):
                failures.append(CheckFailure(_at(external_id), f"the external_id {reason}"))
            if isinstance(setup, Unknown) or setup == old.get(external_id):
                continue
            _, problems = _parsed(setup)
            if problems:
                secrets = _secrets_of(news, external_id, setup)
                failures += [
                    CheckFailure(_at(external_id, p.path), masked(p.reason, secrets))
                    for p in problems
                ]
        failures += _option_failures(news)
        self._checked.add(news["declared_by"])
        self._project(news).grant(news["declared_by"], ())
        self._project(olds).manage(old)
        failures += _too_many_deletes(
            news, old, [i for i in old if i not in setups and not self._project(news).declarer(i)]
        )
        if not failures and news.get("if_exists") == "fail":
            failures += [
                CheckFailure(_at(entry.external_id), str(ExistsError(entry.external_id)))
                for entry in self._new_changes(news, setups, setups.keys() - old.keys())
                if entry.action == "replace"
            ]
        if not failures:
            new = [] if olds else self._new_changes(news, setups, setups)
            self._present(self._plan(news, new, setups))
        return CheckResult(news, failures)

    def _new_changes(
        self, news: Mapping[str, Any], setups: Mapping[str, Any], external_ids: Iterable[str]
    ) -> list[Change]:
        """Return what happens to setups that are not in the state."""
        new = list(external_ids)
        where = self._project(news)
        there = where.look(new)
        shown = _shown_of(news, setups)
        return [_new(where, there.get(i), i, setups[i], shown(i)) for i in new]

    @_without_traceback
    def diff(self, id: str, olds: dict[str, Any], news: dict[str, Any]) -> DiffResult:
        """Compare by meaning, and ask for an update while a setup is not in place."""
        if olds.get("config_namespace") != news.get("config_namespace"):
            return DiffResult(changes=True, replaces=["config_namespace"])
        old, new = unpacked(olds), unpacked(news)
        failed = olds.get("failed") or {}
        changes = _Changes(
            added=[i for i in new if i not in old],
            left=[i for i in old if i not in new],
            again=[i for i in failed if i in new],
            changed=[i for i in new if i in old and i not in failed and _differ(old[i], new[i])],
        )
        differ = bool(changes.added or changes.left or changes.changed)
        # A refresh compares too, without a check: it announces nothing, and what is still to be
        # done is no drift.
        if news["declared_by"] not in self._checked:
            return DiffResult(changes=differ)
        where = self._project(news)
        where.made_in(olds.get("env_project_id"))
        sent = {*changes.added, *changes.again, *changes.changed}
        granted = [i for i in _listed(olds.get("owned")) if i in new and i not in sent]
        where.grant(news["declared_by"], granted, olds.get("env_project_id"))
        if differ or failed or olds.get("unsettled"):
            self._announce_changes(olds, old, news, new, changes)
            return DiffResult(changes=True)
        return DiffResult(changes=False)

    def _announce_changes(
        self,
        olds: Mapping[str, Any],
        old: Mapping[str, Any],
        news: Mapping[str, Any],
        new: Mapping[str, Any],
        changes: _Changes,
    ) -> None:
        where = self._project(news)
        before, after = _shown_of(olds, old), _shown_of(news, new)
        owned = set(_listed(olds.get("owned")))
        failed, unsettled = olds.get("failed") or {}, olds.get("unsettled") or {}
        # What never came into the group's hands may be somebody else's, as what is new may be.
        strange = [i for i in changes.again if i not in owned]
        where.disown(strange)
        found = {c.external_id: c for c in self._new_changes(news, new, changes.again)}
        refused = [i for i in strange if found[i].action == "replace"]
        if refused and news.get("if_exists") == "fail":
            raise ExistsError(refused[0])
        told = self._new_changes(news, new, changes.added)
        told += [_changed(i, old[i], new[i], before(i), after(i)) for i in changes.changed]
        told += [
            c
            if c.action == "adopt" or (c.action == "replace" and i in strange)
            else c._replace(action="retry", note=failed[i])
            for i, c in found.items()
        ]
        sent = {*changes.again, *changes.changed}
        unsettled = {i: why for i, why in unsettled.items() if i in new and i not in sent}
        told += [Change("recheck", i, after=after(i), note=w) for i, w in unsettled.items()]
        for external_id in changes.left:
            if declarer := where.declarer(external_id):
                told.append(Change("move", external_id, before(external_id), note=f"to {declarer}"))
            elif external_id in owned:
                # What failed is not what is there.
                gone = None if external_id in failed else before(external_id)
                told.append(Change("delete", external_id, gone))
                where.leave(external_id, news["declared_by"])
        self._present(self._plan(news, told, new))

    @_without_traceback
    def create(self, props: dict[str, Any]) -> CreateResult:
        """Put all setups in place."""
        return CreateResult(props["declared_by"], self._flush(props, {}))

    @_without_traceback
    def update(self, id: str, olds: dict[str, Any], news: dict[str, Any]) -> UpdateResult:
        """Put in place what the state does not say is in place already."""
        return UpdateResult(self._flush(news, olds))

    def _flush(self, news: dict[str, Any], olds: dict[str, Any]) -> dict[str, Any]:
        from .._flush import flush, wait

        where = self._project(news)
        setups, old_setups = unpacked(news), unpacked(olds)
        old_failed: dict[str, str] = olds.get("failed") or {}
        old_owned = set(_listed(olds.get("owned")))
        old_ids = _mapped(olds.get("setup_ids"))
        specs = {
            external_id: _spec(setup)
            for external_id, setup in setups.items()
            if external_id not in old_setups
            or external_id in old_failed
            or _differ(old_setups[external_id], setup)
        }
        # What failed to be sent again still has to be, though the state has its new triggers.
        forced = set(olds.get("resend") or ()) & specs.keys()
        forced |= {
            external_id
            for external_id, spec in specs.items()
            if external_id in old_setups and _triggers(old_setups[external_id]) != spec.triggers
        }
        outcome = flush(
            where,
            specs,
            in_place=old_owned,
            forced=forced,
            env_project_id=olds.get("env_project_id"),
            keep_others=news.get("if_exists") == "fail",
        )
        group = resource_name(news["declared_by"])
        if outcome.failed:
            # The group's own error says why; the program may end before, over another resource.
            say(f"{group}: failed: {names(sorted(outcome.failed))}")
        unsettled: dict[str, str] = {}
        if news.get("wait_for_setup"):
            unsettled_before = (olds.get("unsettled") or {}).keys() & setups.keys()
            awaited = (outcome.stored.keys() | unsettled_before) - outcome.failed.keys()
            unsettled = wait(where, awaited, news.get("wait_timeout"), group)
        self._report(news, outcome.stored)
        owned = (old_owned | outcome.stored.keys() | outcome.unknown) & setups.keys()
        setup_ids = {i: s for i, s in old_ids.items() if i in owned}
        setup_ids |= {i: s.id for i, s in outcome.stored.items()}
        projects = (s.env_project_id for s in outcome.stored.values())
        # Kept over several updates: one may have been killed before the membership was told.
        left = {i: old_ids.get(i) for i in old_owned} | _mapped(olds.get("left"))
        left = {i: s for i, s in left.items() if i not in setups and not where.lacks(i)}
        return news | {
            "packed_setups": compressed(news.get("packed_setups")),
            "failed": _without_secrets(outcome.failed, news, setups),
            "unsettled": _without_secrets(unsettled, news, setups),
            "resend": sorted(forced & outcome.failed.keys()) or None,
            "owned": canonical(sorted(owned)),
            "left": canonical(left) if left else None,
            "setup_ids": canonical(setup_ids),
            "env_project_id": olds.get("env_project_id") or next(projects, None),
        }

    @_without_traceback
    def read(self, id: str, props: dict[str, Any]) -> ReadResult:
        """Read all setups that this group owns, with one list request."""
        setups, failed = unpacked(props), props.get("failed") or {}
        shown = dict(props.get("shown") or {})
        owned = _listed(props.get("owned"))
        where = self._project(props)
        there = where.present(owned, props.get("env_project_id"))
        where.expect(props.get("env_project_id"))
        if len(owned) > 1 and not there:
            raise SetupsMissingError(props["declared_by"], len(owned))
        setup_ids = {i: setup.id for i, setup in there.items()}
        alone = props.get("setups") or {}
        changed: dict[str, str] = {}
        drift: list[Change] = []
        before = _shown_of(props, unpacked(props))
        for external_id in owned:
            setup = there.get(external_id)
            if external_id in failed:
                continue  # The user's definition is not in place; the next update tries again.
            if setup is None:
                if setups.pop(external_id, None) is not None:
                    changed[external_id] = "gone"
                    drift.append(Change("delete", external_id, before(external_id)))
                continue
            declared = setups[external_id]
            spec, _ = _parsed(declared)
            if spec is None or spec.meaning != setup.meaning:
                triggers = _triggers(declared)
                kept = {} if triggers is None else {"triggers": triggers}
                found = canonical(setup.as_input() | kept)
                changed[external_id] = setups[external_id] = found
                seen = stand_in_of_other(found, declared, before(external_id))
                drift.append(Change("change", external_id, before(external_id), seen))
                if external_id in shown:
                    shown[external_id] = seen
        report_drift(self._plan(props, drift, []))
        inputs = {k: v for k, v in props.items() if k not in _OUTPUTS} | repacked(setups, props)
        inputs["shown"] = shown or None
        outs = props | inputs
        outs |= {"owned": canonical(sorted(there)), "setup_ids": canonical(setup_ids)}
        drifted = {i: found for i, found in changed.items() if i not in alone}
        if drifted:
            outs |= {"packed_setups": compressed(inputs["packed_setups"]), "drifted": drifted}
        else:
            outs["packed_setups"] = props.get("packed_setups")  # byte for byte: it is no change
        return ReadResult(id, outs, inputs)

    @_without_traceback
    def delete(self, id: str, props: dict[str, Any]) -> None:
        """Delete all that the group owned, but for what the program declares elsewhere now.

        The group goes as a whole: its membership is gone from the state already, so that a program
        which declares the group after all can tell that this did not end well.
        """
        where = self._project(props)
        left = _mapped(props.get("left"))
        known = where.known_to_memberships(props["declared_by"])
        still = [i for i in left if known.get(i)]
        # Where no membership can tell whether it was deleted, it may be somebody else's by now.
        unheard = [i for i in left if i not in known and not where.has_deleted(i)]
        there = where.present(unheard, props.get("env_project_id"))
        still += [i for i, setup in there.items() if left[i] in (None, setup.id)]
        _delete_owned(where, props, [*_listed(props.get("owned")), *still])


class AutoMonitorSetupMembershipProvider(_Provider):
    """Which setups a group owns: deletes what left, and writes none.

    Inputs: ``external_ids`` (what the group declares, as JSON), ``owned``, ``left`` and
    ``env_project_id`` (outputs of its batch). When an owned setup leaves, the engine replaces this
    resource, and deletes the old one last, after the whole program succeeded: only then does the
    setup go. When the whole group goes, the engine deletes this resource before the batch, so where
    the state has a batch alone, the setups may be gone.
    """

    @_without_traceback
    def check(self, olds: dict[str, Any], news: dict[str, Any]) -> CheckResult:
        """Fill in, for a preview, what the batch is expected to own."""
        external_ids, declarer = news["external_ids"], news["declared_by"]
        self._declare(json.loads(external_ids), news)
        # For a replacement the engine checks again, without the old inputs.
        failures = [] if olds or declarer in self._checked else self._gone(news)
        self._checked.update((declarer, olds.get("declared_by", declarer)))
        if isinstance(news.get("left"), Unknown):
            news["left"] = olds.get("left")
        if isinstance(news.get("owned"), Unknown):
            news["owned"] = external_ids
        else:
            # What left before any membership knew of it becomes this one's, to be deleted next.
            known = self._known.setdefault(declarer, set())
            known.update(_listed(olds.get("owned")), _mapped(olds.get("left")))
            unheard = _mapped(news.get("left")).keys() - known
            news["owned"] = canonical(sorted({*_listed(news.get("owned")), *unheard}))
        if isinstance(news.get("env_project_id"), Unknown):
            news["env_project_id"] = olds.get("env_project_id")
        return CheckResult(news, failures)

    def _gone(self, news: Mapping[str, Any]) -> list[CheckFailure]:
        """Return why an update may not go on that takes for granted what is gone.

        Where a batch was left alone, its setups are asked for: nothing else would notice.
        """
        where = self._project(news)
        granted, env_project_id = where.granted(news["declared_by"])
        there = where.present(granted, env_project_id)
        where.expect(env_project_id)
        gone = [i for i in granted if i not in there]
        if not gone:
            return []
        if len(gone) == len(granted) > 1:  # a refresh would refuse
            missing = SetupsMissingError(news["declared_by"], len(gone))
            return [CheckFailure(_at(gone[0]), str(missing))]
        reason = (
            f"Traceloop no longer has {len(gone)} of the group's monitor setups that the state has:"
            f" {names(sorted(gone))}. A `pulumi destroy`, or an update without the group, has ended"
            " half-way. Run `pulumi up --refresh` to create them again, or `pulumi destroy` to"
            " delete the others"
        )
        return [CheckFailure(_at(gone[0]), reason)]

    @_without_traceback
    def diff(self, id: str, olds: dict[str, Any], news: dict[str, Any]) -> DiffResult:
        """Ask for a replacement when a setup that the group owns left it."""
        if olds.get("config_namespace") != news.get("config_namespace"):
            return DiffResult(changes=True, replaces=["config_namespace"])
        if not set(_listed(olds.get("owned"))) <= set(json.loads(news["external_ids"])):
            return DiffResult(changes=True, replaces=["external_ids"])
        properties = ("external_ids", "owned", "env_project_id")
        return DiffResult(changes=any(olds.get(key) != news.get(key) for key in properties))

    def create(self, props: dict[str, Any]) -> CreateResult:
        """Take note; no request."""
        return CreateResult(props["declared_by"], props)

    def update(self, id: str, olds: dict[str, Any], news: dict[str, Any]) -> UpdateResult:
        """Take note; no request."""
        return UpdateResult(news)

    @_without_traceback
    def delete(self, id: str, props: dict[str, Any]) -> None:
        """Delete the setups that left the group and that the program declares no more."""
        where, owned = self._project(props), _listed(props.get("owned"))
        if props["declared_by"] in self._checked:
            _delete_owned(where, props, owned)
        else:
            where.leave_to_batch(props["declared_by"], owned, _mapped(props.get("left")))


def _delete_owned(where: Project, props: Mapping[str, Any], owned: Iterable[str]) -> None:
    """Delete the setups that a resource owned, but for those that the program declares now."""
    from .._flush import delete_all

    gone = [i for i in owned if not where.declarer(i) and not where.has_deleted(i)]
    delete_all(where, gone, props.get("env_project_id"))
    if gone:
        say(deleted(props["declared_by"], gone))


# The setups' two spellings: an `AutoMonitorSetup` has nested inputs, a batch has JSON strings.


def _spec_inputs(props: Mapping[str, Any]) -> dict[str, Any]:
    return {key: props[key] for key in _SPEC if props.get(key) is not None}


@cache
def _models() -> ModuleType:
    """Return the module of the models: the program, which needs none, does not load it."""
    from .. import _models as models

    return models


def _spec(setup: str | Mapping[str, Any]) -> SetupSpec:
    return _read(setup if isinstance(setup, str) else canonical(_spec_inputs(setup)))


@lru_cache(maxsize=16_384)
def _read(text: str) -> SetupSpec:
    # Cached, since what is checked is also compared and sent.
    return cast("SetupSpec", _models().SetupSpec.model_validate_json(text))


def _parsed(setup: str | Mapping[str, Any]) -> tuple[SetupSpec | None, list[Problem]]:
    """Validate a setup; what is not known yet is not held against it."""
    models = _models()
    try:
        return _spec(setup if isinstance(setup, str) else _supposed(setup)), []
    except models.ValidationError as error:
        return None, models.problems(error)


def _supposed(value: Any, name: str = "", number: Iterator[int] | None = None) -> Any:
    """Return *value* with what is not known yet replaced by something that would do there."""
    number = number or count()
    if isinstance(value, Unknown):
        one = f"unknown-{next(number)}"
        rule = {"key": one, "source": "span_attributes", "operator": "exists"}
        lists: dict[str, list[Any]] = {
            "selector": [rule],
            "evaluators": [one],
            "evaluator_configs": [{"slug": one}],
            "values": [one],
            "triggers": [one],
        }
        elements = {"selector[]": rule, "evaluator_configs[]": {"slug": one}}
        known = {"source": "span_attributes", "scope": "span"}
        return lists.get(name) or elements.get(name) or known.get(name, one)
    if isinstance(value, Mapping):
        value = dict(value)
        if isinstance(value.get("operator"), Unknown):
            value["operator"] = (
                "in" if "values" in value else "equals" if "value" in value else "exists"
            )
        return {key: _supposed(item, key, number) for key, item in value.items()}
    if isinstance(value, list):
        return [_supposed(item, f"{name}[]", number) for item in value]
    return value


def _differ(old: str | Mapping[str, Any], new: object) -> bool:
    """Whether two setups differ in meaning or triggers; what is not known yet may."""
    if old == new:
        return False
    if not isinstance(new, (str, Mapping)):
        return True
    old_spec, _ = _parsed(old)
    new_spec, _ = _parsed(new)
    if old_spec is None or new_spec is None or _holds_unknown(new):
        return True
    return old_spec.meaning != new_spec.meaning or old_spec.triggers != new_spec.triggers


def _holds_unknown(value: object) -> bool:
    if isinstance(value, Mapping):
        return any(map(_holds_unknown, value.values()))
    if isinstance(value, list):
        return any(map(_holds_unknown, value))
    return isinstance(value, Unknown)


def _with_stand_ins(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _with_stand_ins(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_with_stand_ins(item) for item in value]
    return UNKNOWN if isinstance(value, Unknown) else value


def _triggers(setup: str) -> Any:
    return json.loads(setup).get("triggers")


def _listed(text: str | None) -> list[str]:
    """Return the external_ids that a property holds as JSON."""
    return json.loads(text) if text else []


def _mapped(text: str | None) -> dict[str, Any]:
    return json.loads(text) if text else {}


def _identity(setup: Setup) -> dict[str, Any]:
    # Only what does not change by itself: a status in the state would be drift at every refresh.
    return {"setup_id": setup.id, "env_project_id": setup.env_project_id}


def _at(external_id: str, path: str = "") -> str:
    return f'setups["{external_id}"]' + (f".{path}" if path else "")


def _option_failures(news: Mapping[str, Any]) -> list[CheckFailure]:
    failures = []
    if news.get("if_exists", "replace") not in ("replace", "fail"):
        failures.append(CheckFailure("if_exists", "must be 'replace' or 'fail'"))
    timeout = news.get("wait_timeout", 1)
    if not isinstance(timeout, Unknown) and (not isinstance(timeout, (int, float)) or timeout <= 0):
        failures.append(CheckFailure("wait_timeout", "must be a number of seconds above 0"))
    return failures


def _too_many_deletes(
    news: Mapping[str, Any], old: Collection[str], left: Sequence[str]
) -> list[CheckFailure]:
    """Return why an update may not go on, if more setups leave a group than it allows."""
    limit = news.get("max_deletes")
    if limit is None or isinstance(limit, Unknown):
        return []
    match = re.fullmatch(r"(\d+)(?:\.0)?(%?)", str(limit))
    if not match or (match[2] and int(match[1]) > 100):
        return [CheckFailure("max_deletes", 'must be a number, or a percentage such as "10%"')]
    allowed = len(old) * int(match[1]) // 100 if match[2] else int(match[1])
    if len(left) <= allowed:
        return []
    reason = (
        f"this update would delete {len(left)} of the group's {len(old)} monitor setups, and"
        f" max_deletes allows {allowed}: {names(sorted(left))}. Nothing of the group was written."
        " Raise the limit for this update if they are meant to go; setups that move to a resource"
        " which the program declares after the group count too"
    )
    return [CheckFailure("max_deletes", reason)]


# What is shown of a setup: its stand-in, where the program passed one on.


def _shown(props: Mapping[str, Any]) -> str:
    if isinstance(stand_in := props.get("shown"), str):
        return stand_in
    return canonical(_with_stand_ins(_spec_inputs(props)))


def _shown_of(batch: Mapping[str, Any], setups: Mapping[str, Any]) -> Callable[[str], str]:
    """Return what tells how a setup of the batch is shown."""
    stand_ins = batch.get("shown") or {}

    def shown(external_id: str) -> str:
        setup = stand_ins.get(external_id) or setups.get(external_id)
        return setup if isinstance(setup, str) else UNKNOWN

    return shown


def _secrets(props: Mapping[str, Any]) -> set[str]:
    """Return the secret values of an `AutoMonitorSetup`."""
    return secret_values(_spec_inputs(props), json.loads(_shown(props)))


def _secrets_of(batch: Mapping[str, Any], external_id: str, setup: object) -> set[str]:
    """Return the secret values of a setup of the batch."""
    shown = (batch.get("shown") or {}).get(external_id)
    if not isinstance(shown, str) or not isinstance(setup, str):
        return set()
    return secret_values(json.loads(setup), json.loads(shown))


def _without_secrets(
    reasons: Mapping[str, str], batch: Mapping[str, Any], setups: Mapping[str, str]
) -> dict[str, str]:
    """Return *reasons* without the secrets of the setups that they are about."""
    return {i: masked(why, _secrets_of(batch, i, setups[i])) for i, why in reasons.items()}


def _new(
    where: Project,
    there: Setup | None,
    external_id: str,
    setup: str | Mapping[str, Any] | Unknown,
    shown: str,
) -> Change:
    """Return what happens to a setup that is not in the state of its resource."""
    if there is None:
        return Change("create", external_id, after=shown)
    if isinstance(setup, Unknown) or _holds_unknown(setup):
        # Nobody can tell which values of what is there are the declared ones.
        before = stand_in_of_other(canonical(there.as_input()), "{}", "{}")
    else:
        spec, _ = _parsed(setup)
        if spec is not None and spec.meaning == there.meaning:
            return Change("adopt", external_id, after=shown)
        declared = setup if isinstance(setup, str) else canonical(_spec_inputs(setup))
        before = stand_in_of_other(canonical(there.as_input()), declared, shown)
    action: Action = "change" if where.manages(external_id) else "replace"
    return Change(action, external_id, before, shown)


def _changed(external_id: str, old: Any, new: Any, shown_old: str, shown_new: str) -> Change:
    """Return the change of a setup that is in the state."""
    before, after = (
        value if isinstance(value, str) else canonical(_with_stand_ins(_spec_inputs(value)))
        for value in (old, UNKNOWN if isinstance(new, Unknown) else new)
    )
    unseen = unseen_change(before, after, shown_old, shown_new)
    return Change("change", external_id, shown_old, shown_new, secret_changes=unseen)
