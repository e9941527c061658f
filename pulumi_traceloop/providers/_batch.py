"""The provider of `AutoMonitorSetupBatch`: writes a group's setups through the bulk endpoint."""

from __future__ import annotations

import json
import uuid
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from pulumi.dynamic import (
    CheckFailure,
    CheckResult,
    CreateResult,
    DiffResult,
    ReadResult,
    UpdateResult,
)
from pulumi.output import Unknown

from .._codec import compressed, repacked, unpacked
from .._deployment import Granted
from .._masking import masked
from .._naming import external_id_problem, resource_name
from .._ownership import flushed, group_deletes, refreshed
from .._plan import Change, report_drift
from .._text import names, say
from .._validation import option_problems, problems_in_json
from ..args import canonical
from ..errors import SetupsMissingError, TraceloopError
from . import _display as display
from ._baseline import baseline, differs_from_declaration, report_normalized
from ._host import (
    HostedProvider,
    at,
    listed,
    mapped,
    namespace_changed,
    ownership_of,
    without_traceback,
)
from ._membership import delete_owned
from ._options import exists_error, too_many_deletes
from ._specs import differ, parsed

if TYPE_CHECKING:
    from .._models import Setup, SetupSpec
    from .._project import Project

__all__ = ["AutoMonitorSetupBatchProvider"]

#: What the provider adds to the inputs.
_OUTPUTS = (
    "drifted",
    "env_project_id",
    "failed",
    "left",
    "normalized",
    "owned",
    "resend",
    "setup_ids",
    "unsettled",
)

#: How many removed setups an update asks for at most, to forget those that are gone.
_FORGOTTEN_AT_ONCE = 100


class _Changes(NamedTuple):
    """What differs between a group's setups in the state and those that the program declares."""

    added: Sequence[str]
    removed: Sequence[str]
    changed: Sequence[str]
    #: What failed before and is tried again.
    again: Sequence[str]


class AutoMonitorSetupBatchProvider(HostedProvider):
    """The setups of a group: writes them; leaves deletes to the group's membership.

    Inputs: ``setups``, ``{external_id: the setup as canonical JSON}``, and ``packed_setups``, which
    is how `_codec` encodes many. `check` adds ``external_ids``, which setups these are. Outputs
    beside them:

    - ``failed``, ``unsettled``: ``{external_id: why}`` of what is not in place, did not come up;
    - ``owned``, ``left``: the group's `Ownership`: what is owned, and
      ``{external_id: the server's id, or null}`` of what was removed;
    - ``setup_ids``: ``{external_id: the server's id}``;
    - ``resend``: what is still to be sent although it is equal;
    - ``normalized``: ``{external_id: digest}`` of what the service stores in its own spelling;
    - ``env_project_id``: the project that all are in;
    - ``drifted``: ``{external_id: the setup as the last refresh found it, or "gone"}`` of those in
      ``packed_setups`` that it found changed: the outputs' ``packed_setups`` are compressed.

    ``external_ids``, ``owned``, ``left`` and ``setup_ids`` are JSON: the SDK walks every nested
    value several times.
    """

    @without_traceback
    def check(self, olds: dict[str, Any], news: dict[str, Any]) -> CheckResult:
        """Validate the setups that are new or spelled differently than before."""
        self._take_preview(news)
        setups, old = unpacked(news), unpacked(olds)
        project = self._project(news)
        twice = self._declare(setups, news)
        failures = [CheckFailure(at(i), str(error)) for i, error in twice.items()]
        for external_id, setup in setups.items():
            if reason := external_id_problem(external_id):
                failures.append(CheckFailure(at(external_id), f"the external_id {reason}"))
            if isinstance(setup, Unknown) or setup == old.get(external_id):
                continue
            if problems := problems_in_json(setup):
                secrets = display.secrets_of(news, external_id, setup)
                failures += [
                    CheckFailure(at(external_id, p.path), masked(p.reason, secrets))
                    for p in problems
                ]
        failures += [CheckFailure(*problem) for problem in option_problems(news, Unknown)]
        self._checked.add(news["declared_by"])
        self._deployment.grant(news["declared_by"], Granted())
        self._deployment.manage(old, self._project(olds))
        removed = [i for i in old if i not in setups]
        expected = self._deployment.expected_declarer
        failures += too_many_deletes(news, old, [i for i in removed if not expected(i, project)])
        if not failures:
            failures += self._too_many_evaluations(news)
        if not failures and news.get("if_exists") in ("adopt", "fail"):
            failures += self._exist_already(news, setups, setups.keys() - old.keys())
        if not failures:
            self._present(news, [] if olds else self._new_changes(news, setups, setups), setups)
        # What the membership takes: also of a program whose transforms add or remove setups.
        return CheckResult(news | {"external_ids": canonical(sorted(setups))}, failures)

    def _setups(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        return unpacked(inputs)

    def _secrets(self, inputs: Mapping[str, Any], external_id: str, setup: Any) -> set[str]:
        return display.secrets_of(inputs, external_id, setup)

    def _exist_already(
        self, inputs: Mapping[str, Any], setups: Mapping[str, Any], external_ids: Collection[str]
    ) -> list[CheckFailure]:
        reading = self._project(inputs).look(external_ids)
        there = reading.setups if reading else {}
        refused = self._refused(inputs, setups, there, ask=False)
        return [CheckFailure(at(i), str(error)) for i, error in sorted(refused.items())]

    def _refused(
        self,
        inputs: Mapping[str, Any],
        setups: Mapping[str, Any],
        there: Mapping[str, Setup],
        *,
        ask: bool = True,
    ) -> dict[str, TraceloopError]:
        """Return which setups ``if_exists`` keeps as Traceloop has them, and why."""
        refused: dict[str, TraceloopError] = {}
        if inputs.get("if_exists") not in ("adopt", "fail"):
            return refused
        project, shown = self._project(inputs), display.shown_of(inputs, setups)
        for i, setup in there.items():
            if self._deployment.manages(i, project, ask=ask):
                continue
            change = display.new_change(self._deployment, project, setup, i, setups[i], shown(i))
            if error := exists_error(inputs["if_exists"], change):
                refused[i] = error
        return refused

    def _new_changes(
        self, news: Mapping[str, Any], setups: Mapping[str, Any], external_ids: Iterable[str]
    ) -> list[Change]:
        """Return what happens to setups that are not in the state."""
        new = list(external_ids)
        project = self._project(news)
        reading = project.look(new) if new else None
        there = reading.setups if reading else {}
        shown = display.shown_of(news, setups)
        return [
            display.new_change(self._deployment, project, there.get(i), i, setups[i], shown(i))
            for i in new
        ]

    @without_traceback
    def diff(self, id: str, olds: dict[str, Any], news: dict[str, Any]) -> DiffResult:
        """Compare by definition, and ask for an update while a setup is not in place."""
        if self._moves(olds, news, listed(olds.get("owned"))):
            return DiffResult(changes=True, replaces=["config_namespace"])
        old, new = unpacked(olds), unpacked(news)
        failed = olds.get("failed") or {}
        changes = _Changes(
            added=[i for i in new if i not in old],
            removed=[i for i in old if i not in new],
            again=[i for i in failed if i in new],
            changed=[i for i in new if i in old and i not in failed and differ(old[i], new[i])],
        )
        changed = bool(changes.added or changes.removed or changes.changed)
        # A refresh compares too, without a check: it announces nothing, and what is still to be
        # done is no drift.
        if news["declared_by"] not in self._checked:
            return DiffResult(changes=changed)
        owned = listed(olds.get("owned"))
        self._project(news).made_in(olds.get("env_project_id"), owned)
        sent = {*changes.added, *changes.again, *changes.changed}
        granted = [i for i in owned if i in new and i not in sent]
        self._deployment.grant(news["declared_by"], Granted(granted, olds.get("env_project_id")))
        pending = self._pending_deletes(olds, news, new) if self._preview else []
        if changed or failed or olds.get("unsettled"):
            self._announce_changes(olds, old, news, new, changes, pending)
            return DiffResult(changes=True)
        if pending:
            self._present(news, pending, new)
        # Another connection to the same project: nothing is sent, and the state has to name it.
        return DiffResult(changes=namespace_changed(olds, news))

    def _pending_deletes(
        self, olds: Mapping[str, Any], news: Mapping[str, Any], setups: Mapping[str, Any]
    ) -> list[Change]:
        """Return what an earlier update removed and did not get to delete: the next one does."""
        removed, project = mapped(olds.get("left")), self._project(news)
        expected = self._deployment.expected_declarer
        asked = [i for i in removed if i not in setups and not expected(i, project)]
        reading = project.look(asked[:_FORGOTTEN_AT_ONCE]) if asked else None
        there = reading.setups.items() if reading else ()
        pending = [i for i, setup in there if removed[i] in (None, setup.id)]
        for external_id in pending:
            self._deployment.leave(external_id, news["declared_by"])
        note = "(the last update did not get to delete it)"
        return [Change("delete", external_id, note=note) for external_id in pending]

    def _announce_changes(
        self,
        olds: Mapping[str, Any],
        old: Mapping[str, Any],
        news: Mapping[str, Any],
        new: Mapping[str, Any],
        changes: _Changes,
        pending: Sequence[Change],
    ) -> None:
        project = self._project(news)
        before, after = display.shown_of(olds, old), display.shown_of(news, new)
        owned = set(listed(olds.get("owned")))
        failed, unsettled = olds.get("failed") or {}, olds.get("unsettled") or {}
        # What was never owned may be foreign, as what is new may be.
        unmanaged = [i for i in changes.again if i not in owned]
        self._deployment.disown(unmanaged, project)
        if unmanaged and news.get("if_exists") in ("adopt", "fail"):
            reading = project.look(unmanaged)
            refused = self._refused(news, new, reading.setups if reading else {}, ask=False)
            for _, error in sorted(refused.items()):
                raise error
        told = self._new_changes(news, new, changes.added)
        told += [display.change_of(i, old[i], new[i], before(i), after(i)) for i in changes.changed]
        told += [
            change
            if change.action == "adopt"
            or (change.action == "replace" and change.external_id in unmanaged)
            else change._replace(action="retry", note=failed[change.external_id])
            for change in self._new_changes(news, new, changes.again)
        ]
        sent = {*changes.again, *changes.changed}
        told += [
            Change("recheck", i, after=after(i), note=why)
            for i, why in unsettled.items()
            if i in new and i not in sent
        ]
        for external_id in changes.removed:
            # What failed is not what is there.
            shown = None if external_id in failed else before(external_id)
            if declarer := self._deployment.expected_declarer(external_id, project):
                told.append(Change("move", external_id, shown, note=f"to {declarer}"))
            elif external_id in owned:
                told.append(Change("delete", external_id, shown))
                if self._preview:
                    self._deployment.leave(external_id, news["declared_by"])
        self._present(news, [*told, *pending], new)

    @without_traceback
    def create(self, props: dict[str, Any]) -> CreateResult:
        """Put all setups in place.

        The id names the group for as long as the batch lives, whatever it is renamed to.
        """
        group_id = f"{props['declared_by']} {uuid.uuid4().hex[:12]}"
        return CreateResult(group_id, self._flush(props, {}))

    @without_traceback
    def update(self, id: str, olds: dict[str, Any], news: dict[str, Any]) -> UpdateResult:
        """Put in place what the state does not say is in place already."""
        return UpdateResult(self._flush(news, olds))

    def _flush(self, inputs: dict[str, Any], state: dict[str, Any]) -> dict[str, Any]:
        from .._flush import flush, wait

        project, name = self._project(inputs), resource_name(inputs["declared_by"])
        setups, before = unpacked(inputs), ownership_of(state)
        specs, invalid = _to_send(setups, state)
        forced = _forced(specs, state) & specs.keys()

        def refuse(
            specs: Mapping[str, SetupSpec], there: Mapping[str, Setup]
        ) -> dict[str, TraceloopError]:
            foreign = {i: s for i, s in there.items() if i not in before.owned}
            rivals = self._deployment.rivals(specs, inputs["declared_by"], project)
            return self._refused(inputs, setups, foreign) | self._declared_twice(
                rivals, inputs["declared_by"]
            )

        outcome = flush(
            project,
            specs,
            in_place=before.owned,
            forced=forced,
            env_project_id=state.get("env_project_id"),
            refuse=refuse,
        )
        outcome.failed.update(invalid)
        if outcome.failed:
            # The group's own error says why; the program may end before, over another resource.
            say(f"{name}: failed: {names(sorted(outcome.failed))}")
        self._report(inputs, outcome.stored)
        unsettled: dict[str, str] = {}
        if inputs.get("wait_for_setup"):
            unsettled_before = (state.get("unsettled") or {}).keys() & setups.keys()
            awaited = (outcome.stored.keys() | unsettled_before) - outcome.failed.keys()
            unsettled = wait(
                project,
                awaited,
                inputs.get("wait_timeout"),
                name,
                accepted=inputs.get("wait_for") == "accepted",
            )
        old_ids = mapped(state.get("setup_ids"))
        gone = self._gone(project, before.removed, setups, state.get("env_project_id"))
        after = flushed(before, setups.keys(), outcome.stored, outcome.unknown, old_ids, gone)
        setup_ids = {i: s for i, s in old_ids.items() if i in after.owned}
        setup_ids |= {i: s.id for i, s in outcome.stored.items()}
        projects = (s.env_project_id for s in outcome.stored.values())
        return inputs | {
            "packed_setups": compressed(inputs.get("packed_setups")),
            "failed": display.without_secrets(outcome.failed, inputs, setups),
            "unsettled": display.without_secrets(unsettled, inputs, setups),
            "resend": sorted(forced & outcome.failed.keys()) or None,
            "owned": canonical(sorted(after.owned)),
            "left": canonical(after.removed) if after.removed else None,
            "setup_ids": canonical(setup_ids),
            "env_project_id": state.get("env_project_id") or next(projects, None),
            "normalized": self._normalized(inputs, state, setups, specs, outcome.stored),
        }

    def _gone(
        self,
        project: Project,
        removed: Iterable[str],
        setups: Collection[str],
        env_project_id: str | None,
    ) -> frozenset[str]:
        """Return which removed setups are gone for certain; what cannot be asked is not."""
        deleted = project.deleted
        asked = [
            i
            for i in removed
            if not (i in setups or i in deleted)
            and not self._deployment.expected_declarer(i, project)
        ][:_FORGOTTEN_AT_ONCE]
        try:
            reading = project.read(asked, env_project_id)
        except TraceloopError:
            return deleted  # the next update asks again
        return deleted | {i for i in asked if i not in reading.setups | reading.unreadable}

    def _normalized(
        self,
        inputs: Mapping[str, Any],
        state: Mapping[str, Any],
        setups: Mapping[str, str],
        specs: Mapping[str, SetupSpec],
        stored: Mapping[str, Setup],
    ) -> dict[str, str] | None:
        """Return the digests of what the service spells in its own way, and say what is new."""
        shown = display.shown_of(inputs, setups)
        secret = inputs.get("shown") or {}
        found = {
            i: digest
            for i, setup in stored.items()
            if (digest := differs_from_declaration(setup, specs[i], secret=i in secret))
        }
        if lines := report_normalized({i: stored[i] for i in found}, {i: shown(i) for i in found}):
            say("\n".join([resource_name(inputs["declared_by"]) + ":", *lines]))
        kept = {
            i: digest
            for i, digest in (state.get("normalized") or {}).items()
            if i in setups and i not in stored
        }
        return kept | found or None

    @without_traceback
    def read(self, id: str, props: dict[str, Any]) -> ReadResult:
        """Read all setups that this group owns.

        A setup that the response shows in a way that cannot be read stays as the state has it.

        Raises:
            SetupsMissingError: none of several is in Traceloop any more.

        """
        setups, failed = unpacked(props), props.get("failed") or {}
        shown = dict(props.get("shown") or {})
        before = ownership_of(props)
        project = self._project(props)
        there, unreadable = project.read(sorted(before.owned), props.get("env_project_id"))
        project.expect(props.get("env_project_id"))
        if len(before.owned) > 1 and not there and not unreadable:
            raise SetupsMissingError(props["declared_by"], len(before.owned))
        for _, error in sorted(unreadable.items()):
            say(f"{resource_name(props['declared_by'])}: not compared: {error}")
        after = refreshed(before, there.keys() | unreadable.keys())
        old_ids = mapped(props.get("setup_ids"))
        setup_ids = {i: old_ids[i] for i in unreadable if i in old_ids}
        setup_ids |= {i: setup.id for i, setup in there.items()}
        alone, normalized = props.get("setups") or {}, props.get("normalized") or {}
        changed: dict[str, str] = {}
        drift: list[Change] = []
        shown_of = display.shown_of(props, unpacked(props))
        for external_id in sorted(before.owned):
            setup = there.get(external_id)
            if external_id in failed or external_id in unreadable:
                continue  # The user's definition is not in place; the next update tries again.
            if setup is None:
                if (state := setups.pop(external_id, None)) is not None:
                    changed[external_id] = "gone"
                    drift.append(display.drift_of(external_id, state, None, shown_of(external_id)))
                continue
            declared = setups[external_id]
            spec = parsed(declared)
            if spec is not None and spec.meaning == setup.meaning:
                continue
            if normalized.get(external_id) == baseline(setup):
                continue
            triggers = _triggers(declared)
            kept = {} if triggers is None else {"triggers": triggers}
            found = canonical(setup.as_input() | kept)
            changed[external_id] = setups[external_id] = found
            drift.append(display.drift_of(external_id, declared, found, shown_of(external_id)))
            if external_id in shown:
                shown[external_id] = drift[-1].after
        report_drift(self._plan(props, drift))
        inputs = {k: v for k, v in props.items() if k not in _OUTPUTS} | repacked(setups, props)
        inputs["shown"] = shown or None
        if props.get("external_ids") is not None:
            inputs["external_ids"] = canonical(sorted(setups))
        outs = props | inputs
        outs |= {"owned": canonical(sorted(after.owned)), "setup_ids": canonical(setup_ids)}
        drifted = {i: found for i, found in changed.items() if i not in alone}
        if drifted:
            outs |= {"packed_setups": compressed(inputs["packed_setups"]), "drifted": drifted}
        else:
            outs["packed_setups"] = props.get("packed_setups")  # byte for byte: it is no change
        return ReadResult(id, outs, inputs)

    @without_traceback
    def delete(self, id: str, props: dict[str, Any]) -> None:
        """Delete all that the group owned, but for what the program declares elsewhere now.

        The group goes as a whole: its membership is gone from the state already, so that a program
        which declares the group after all can tell that this did not end well.
        """
        project = self._project(props)
        # A state of version 0.1.0 has memberships that know their group by its name only.
        handed_over = self._deployment.handed_over(id, props["declared_by"])
        certain, if_same = group_deletes(ownership_of(props), handed_over, project.deleted)
        there = project.present(list(if_same), props.get("env_project_id"))
        same = [i for i, setup in there.items() if if_same[i] in (None, setup.id)]
        delete_owned(self._deployment, project, props, [*certain, *same])


def _to_send(
    setups: Mapping[str, str], state: Mapping[str, Any]
) -> tuple[dict[str, SetupSpec], dict[str, str]]:
    """Return the setups that the state does not say are in place, and which of them are not valid.

    A setup that failed before and did not change is not checked again, so that one which a newer
    version refuses stops none of the others.
    """
    before, failed = unpacked(state), state.get("failed") or {}
    specs: dict[str, SetupSpec] = {}
    invalid: dict[str, str] = {}
    for external_id, setup in setups.items():
        known = external_id in before and external_id not in failed
        if known and not differ(before[external_id], setup):
            continue
        spec = parsed(setup)
        problems = problems_in_json(setup) if spec is None or external_id in failed else []
        if spec is None or problems:
            invalid[external_id] = "; ".join(f"{p.path} {p.reason}" for p in problems)
        else:
            specs[external_id] = spec
    return specs, invalid


def _forced(specs: Mapping[str, SetupSpec], state: Mapping[str, Any]) -> set[str]:
    """Return what is sent even if it is equal: what has new triggers, now or in a failed update."""
    before = unpacked(state)
    changed = {
        i for i, spec in specs.items() if i in before and _triggers(before[i]) != spec.triggers
    }
    return changed | set(state.get("resend") or ())


def _triggers(setup: str) -> Any:
    return json.loads(setup).get("triggers")
