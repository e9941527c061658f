"""The provider of `AutoMonitorSetupBatch`: writes a group's setups through the bulk endpoint."""

from __future__ import annotations

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
from .._deployment import Assumed
from .._masking import masked
from .._naming import external_id_problem, resource_name
from .._ownership import flushed, group_deletes, refreshed
from .._plan import RELEASED, Change, report_drift
from .._text import names, say
from .._validation import option_problems, problems_in_json
from ..args import canonical
from ..errors import ServerError, SetupsMissingError, TraceloopError
from . import _display as display
from ._baseline import baseline, differs_from_declaration, report_normalized
from ._host import (
    HostedProvider,
    at,
    listed,
    mapped,
    ownership_of,
    settings_changed,
    without_traceback,
)
from ._membership import delete_owned
from ._options import GUARDS, exists_error, too_many_deletes, waits_for_more
from ._specs import differ, forced_of, parsed, to_send, triggers_of

if TYPE_CHECKING:
    from .._models import Setup, SetupSpec
    from .._project import Project

__all__ = ["AutoMonitorSetupBatchProvider"]

#: The outputs that are not inputs.
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

#: The most removed setups that an update reads, to forget those that are gone.
_REMOVED_READ_LIMIT = 100


class _Changes(NamedTuple):
    """The external_ids that differ between a group's state and its inputs."""

    added: Sequence[str]
    removed: Sequence[str]
    changed: Sequence[str]
    #: Failed in an earlier update.
    retried: Sequence[str]


class AutoMonitorSetupBatchProvider(HostedProvider):
    """Writes the setups of a group; the group's membership deletes them.

    Inputs: ``setups``, ``{external_id: canonical JSON of the setup}``, and ``packed_setups``, the
    encoding of many setups by `_codec`. `check` adds their ``external_ids``. Additional outputs:

    - ``failed``, ``unsettled``: ``{external_id: why}`` of setups that were not written, or are not
      ready;
    - ``owned``, ``left``: the group's `Ownership`: the owned external_ids, and
      ``{external_id: server id or null}`` of removed setups;
    - ``setup_ids``: ``{external_id: server id}``;
    - ``resend``: the external_ids to send even if Traceloop has an equal setup;
    - ``normalized``: ``{external_id: digest}`` of setups that the service normalized;
    - ``env_project_id``: the project of all setups;
    - ``drifted``: ``{external_id: the setup as the last refresh found it, or "gone"}`` of changed
      setups in ``packed_setups``, which the outputs store compressed.

    ``external_ids``, ``owned``, ``left`` and ``setup_ids`` are JSON strings: the SDK walks every
    nested value several times.
    """

    #: The declarers whose membership the state retains, so that it deletes no removed setup.
    _retained: set[str]

    def configure(self, req: Any) -> None:
        """Keep the stack's configuration."""
        super().configure(req)
        self._retained = set()

    @without_traceback
    def check(self, olds: dict[str, Any], news: dict[str, Any]) -> CheckResult:
        """Validate new setups and those whose JSON changed."""
        self._take_preview(news)
        setups, old = unpacked(news), unpacked(olds)
        project = self._project(news)
        duplicates = self._declare(setups, news)
        failures = [CheckFailure(at(i), str(error)) for i, error in duplicates.items()]
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
        if olds.get("retain_on_delete"):
            self._retained.add(news["declared_by"])
        self._deployment.assume(news["declared_by"], Assumed())
        self._deployment.manage(old, self._project(olds))
        declarer = self._deployment.known_declarer
        if news["declared_by"] not in self._retained:
            removed = [i for i in old if i not in setups and not declarer(i, project)]
            failures += too_many_deletes(news, old, removed)
        if not failures:
            failures += self._too_many_evaluations(news)
        if not failures:
            new = [i for i in setups if i not in old]
            refused = self._refused_in_preview(news, setups, new)
            failures += [CheckFailure(at(i), str(error)) for i, error in sorted(refused.items())]
        if not failures:
            self._present(news, [] if olds else self._new_changes(news, setups, setups), setups)
        # The membership's input, which includes changes by transforms.
        return CheckResult(news | {"external_ids": canonical(sorted(setups))}, failures)

    def _setups(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        return unpacked(inputs)

    def _secrets(self, inputs: Mapping[str, Any], external_id: str, setup: Any) -> set[str]:
        return display.secrets_of(inputs, external_id, setup)

    def _refused_in_preview(
        self, inputs: Mapping[str, Any], setups: Mapping[str, Any], external_ids: Collection[str]
    ) -> dict[str, TraceloopError]:
        """Return the setups that ``if_exists`` protects; none if Traceloop is unreachable."""
        if not external_ids or inputs.get("if_exists") not in GUARDS:
            return {}
        reading = self._project(inputs).try_read(external_ids)
        return self._refused(inputs, setups, reading.setups if reading else {}, ask=False)

    def _refused(
        self,
        inputs: Mapping[str, Any],
        setups: Mapping[str, Any],
        remote: Mapping[str, Setup],
        *,
        ask: bool = True,
    ) -> dict[str, TraceloopError]:
        """Return an error for each remote setup that ``if_exists`` protects."""
        refused: dict[str, TraceloopError] = {}
        if inputs.get("if_exists") not in GUARDS:
            return refused
        project, display_of = self._project(inputs), display.lookup(inputs, setups)
        for i, setup in remote.items():
            if self._deployment.manages(i, project, ask=ask):
                continue
            change = display.new_change(
                self._deployment, project, setup, i, setups[i], display_of(i)
            )
            if error := exists_error(inputs["if_exists"], change):
                refused[i] = error
        return refused

    def _new_changes(
        self, news: Mapping[str, Any], setups: Mapping[str, Any], external_ids: Iterable[str]
    ) -> list[Change]:
        """Return the changes of setups that are not in the state."""
        new = list(external_ids)
        project = self._project(news)
        reading = project.try_read(new) if new else None
        remote = reading.setups if reading else {}
        display_of = display.lookup(news, setups)
        return [
            display.new_change(
                self._deployment, project, remote.get(i), i, setups[i], display_of(i)
            )
            for i in new
        ]

    @without_traceback
    def diff(self, id: str, olds: dict[str, Any], news: dict[str, Any]) -> DiffResult:
        """Compare by definition; request an update while a setup has failed or is not ready."""
        if self._moves(olds, news, listed(olds.get("owned"))):
            return DiffResult(changes=True, replaces=["config_namespace"])
        old, new = unpacked(olds), unpacked(news)
        failed = olds.get("failed") or {}
        changes = _Changes(
            added=[i for i in new if i not in old],
            removed=[i for i in old if i not in new],
            retried=[i for i in failed if i in new],
            changed=[i for i in new if i in old and i not in failed and differ(old[i], new[i])],
        )
        changed = bool(changes.added or changes.removed or changes.changed)
        # A refresh calls diff without check: it prints no plan, and pending work is no drift.
        if news["declared_by"] not in self._checked:
            return DiffResult(changes=changed)
        owned = listed(olds.get("owned"))
        project = self._project(news)
        project.note_state(olds.get("env_project_id"), owned)
        # Whatever failed before this group owned it may be somebody else's.
        self._deployment.disown(old.keys() - set(owned), project)
        sent = {*changes.added, *changes.retried, *changes.changed}
        kept = [i for i in owned if i in new and i not in sent]
        self._deployment.assume(news["declared_by"], Assumed(kept, olds.get("env_project_id")))
        pending = self._pending_deletes(olds, news, new) if self._preview else []
        if changed or failed or olds.get("unsettled") or waits_for_more(olds, news):
            self._announce_changes(olds, old, news, new, changes, pending)
            return DiffResult(changes=True)
        if pending:
            self._present(news, pending, new)
        return DiffResult(changes=settings_changed(olds, news))

    def _pending_deletes(
        self, olds: Mapping[str, Any], news: Mapping[str, Any], setups: Mapping[str, Any]
    ) -> list[Change]:
        """Return the deletes that an earlier update left pending."""
        removed, project = mapped(olds.get("left")), self._project(news)
        declarer = self._deployment.known_declarer
        undeclared = [i for i in removed if i not in setups and not declarer(i, project)]
        reading = project.try_read(undeclared[:_REMOVED_READ_LIMIT]) if undeclared else None
        pending = sorted(reading.unreadable) if reading else []
        remote = reading.setups.items() if reading else ()
        pending += [i for i, setup in remote if removed[i] in (None, setup.id)]
        for external_id in pending:
            self._deployment.announce_delete(external_id, news["declared_by"])
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
        before, after = display.lookup(olds, old), display.lookup(news, new)
        owned = set(listed(olds.get("owned")))
        failed, not_ready = olds.get("failed") or {}, olds.get("unsettled") or {}
        if waits_for_more(olds, news):
            not_ready = dict.fromkeys(sorted(owned), "") | not_ready
        # A failed setup that was never owned may be unmanaged, as a new one may be.
        unmanaged = [i for i in changes.retried if i not in owned]
        for _, error in sorted(self._refused_in_preview(news, new, unmanaged).items()):
            raise error
        reported = self._new_changes(news, new, changes.added)
        reported += [
            display.change_of(i, old[i], new[i], before(i), after(i)) for i in changes.changed
        ]
        reported += [
            change
            if change.action == "adopt"
            or (change.action == "replace" and change.external_id in unmanaged)
            else change._replace(action="retry", note=failed[change.external_id])
            for change in self._new_changes(news, new, changes.retried)
        ]
        sent = {*changes.retried, *changes.changed}
        reported += [
            Change("recheck", i, after=after(i), note=why)
            for i, why in not_ready.items()
            if i in new and i not in sent
        ]
        for external_id in changes.removed:
            # Traceloop may have another definition of a failed setup.
            displayed = None if external_id in failed else before(external_id)
            if declarer := self._deployment.known_declarer(external_id, project):
                reported.append(Change("move", external_id, displayed, note=f"to {declarer}"))
            elif external_id in owned and news["declared_by"] in self._retained:
                reported.append(Change("release", external_id, displayed, note=RELEASED))
            elif external_id in owned:
                reported.append(Change("delete", external_id, displayed))
                if self._preview:
                    self._deployment.announce_delete(external_id, news["declared_by"])
        self._present(news, [*reported, *pending], new)

    @without_traceback
    def create(self, props: dict[str, Any]) -> CreateResult:
        """Write all setups.

        The id identifies the group for the life of the batch, across renames.
        """
        group_id = f"{props['declared_by']} {uuid.uuid4().hex[:12]}"
        return CreateResult(group_id, self._flush(props, {}))

    @without_traceback
    def update(self, id: str, olds: dict[str, Any], news: dict[str, Any]) -> UpdateResult:
        """Write new, changed and failed setups."""
        return UpdateResult(self._flush(news, olds))

    def _flush(self, inputs: dict[str, Any], state: dict[str, Any]) -> dict[str, Any]:
        from .._flush import flush, wait

        project, name = self._project(inputs), resource_name(inputs["declared_by"])
        setups, before = unpacked(inputs), ownership_of(state)
        specs, invalid = to_send(setups, state)
        forced = forced_of(specs, state) & specs.keys()

        def refuse(
            specs: Mapping[str, SetupSpec], remote: Mapping[str, Setup]
        ) -> dict[str, TraceloopError]:
            foreign = {i: s for i, s in remote.items() if i not in before.owned}
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
            # The group reports the reasons, unless the program fails earlier.
            say(f"{name}: failed: {names(sorted(outcome.failed))}")
        self._report(inputs, outcome.stored)
        not_ready: dict[str, str] = {}
        if inputs.get("wait_for_setup"):
            not_ready_before = (state.get("unsettled") or {}).keys() & setups.keys()
            pending = (outcome.stored.keys() | not_ready_before) - outcome.failed.keys()
            if waits_for_more(state, inputs):
                pending |= before.owned & setups.keys() - outcome.failed.keys()
            not_ready = wait(
                project,
                pending,
                inputs.get("wait_timeout"),
                name,
                accepted=inputs.get("wait_for") == "accepted",
            )
        old_ids = mapped(state.get("setup_ids"))
        gone = self._gone(project, before.removed, setups, state.get("env_project_id"))
        if inputs["declared_by"] in self._retained:
            released = before.owned - setups.keys()
            self._deployment.release(released, project)
            gone |= released
        after = flushed(before, setups.keys(), outcome.stored, outcome.unknown, old_ids, gone)
        setup_ids = {i: s for i, s in old_ids.items() if i in after.owned}
        setup_ids |= {i: s.id for i, s in outcome.stored.items()}
        projects = (s.env_project_id for s in outcome.stored.values())
        return inputs | {
            "packed_setups": compressed(inputs.get("packed_setups")),
            "failed": display.without_secrets(outcome.failed, inputs, setups),
            "unsettled": display.without_secrets(not_ready, inputs, setups),
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
        """Return the removed setups that are certainly gone."""
        deleted = project.deleted
        undeclared = [
            i
            for i in removed
            if not (i in setups or i in deleted) and not self._deployment.known_declarer(i, project)
        ][:_REMOVED_READ_LIMIT]
        try:
            reading = project.read(undeclared, env_project_id)
        except TraceloopError:
            return deleted  # the next update reads them again
        return deleted | {i for i in undeclared if i not in reading.setups | reading.unreadable}

    def _normalized(
        self,
        inputs: Mapping[str, Any],
        state: Mapping[str, Any],
        setups: Mapping[str, str],
        specs: Mapping[str, SetupSpec],
        stored: Mapping[str, Setup],
    ) -> dict[str, str] | None:
        """Return the digests of normalized setups, and print the new ones."""
        display_of = display.lookup(inputs, setups)
        found = {}
        for i, setup in stored.items():
            secret = bool(display.secrets_of(inputs, i, setups[i]))
            if digest := differs_from_declaration(setup, specs[i], secret=secret):
                found[i] = digest
        displayed = {i: display_of(i) for i in found}
        if lines := report_normalized({i: stored[i] for i in found}, displayed):
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

        A setup whose response is malformed stays as the state has it.

        Raises:
            SetupsMissingError: the group owns several setups, and none exists any more.

        """
        setups, failed = unpacked(props), props.get("failed") or {}
        displayed = dict(props.get("shown") or {})
        before = ownership_of(props)
        project = self._project(props)
        remote, unreadable = project.read(sorted(before.owned), props.get("env_project_id"))
        project.expect(props.get("env_project_id"))
        if len(before.owned) > 1 and not remote and not unreadable:
            raise SetupsMissingError(props["declared_by"], len(before.owned))
        for _, error in sorted(unreadable.items()):
            if isinstance(error, ServerError):
                raise error  # probably temporary
            say(f"{resource_name(props['declared_by'])}: not compared: {error}")
        after = refreshed(before, remote.keys() | unreadable.keys())
        old_ids = mapped(props.get("setup_ids"))
        setup_ids = {i: old_ids[i] for i in unreadable if i in old_ids}
        setup_ids |= {i: setup.id for i, setup in remote.items()}
        single, normalized = props.get("setups") or {}, props.get("normalized") or {}
        changed: dict[str, str] = {}
        drift: list[Change] = []
        display_of = display.lookup(props, unpacked(props))
        for external_id in sorted(before.owned):
            setup = remote.get(external_id)
            if external_id in failed or external_id in unreadable:
                continue  # The next update writes the declared definition.
            if setup is None:
                if (state := setups.pop(external_id, None)) is not None:
                    changed[external_id] = "gone"
                    drift.append(
                        display.drift_of(external_id, state, None, display_of(external_id))
                    )
                continue
            declared = setups[external_id]
            spec = parsed(declared)
            if spec is not None and spec.definition == setup.definition:
                continue
            if normalized.get(external_id) == baseline(setup):
                continue
            triggers = triggers_of(declared)
            kept = {} if triggers is None else {"triggers": triggers}
            found = canonical(setup.as_input() | kept)
            changed[external_id] = setups[external_id] = found
            drift.append(display.drift_of(external_id, declared, found, display_of(external_id)))
            if external_id in displayed:
                displayed[external_id] = drift[-1].after
        report_drift(self._plan(props, drift))
        inputs = {k: v for k, v in props.items() if k not in _OUTPUTS} | repacked(setups, props)
        inputs["shown"] = displayed or None
        if props.get("external_ids") is not None:
            inputs["external_ids"] = canonical(sorted(setups))
        outs = props | inputs
        outs |= {"owned": canonical(sorted(after.owned)), "setup_ids": canonical(setup_ids)}
        drifted = {i: found for i, found in changed.items() if i not in single}
        if drifted:
            outs |= {"packed_setups": compressed(inputs["packed_setups"]), "drifted": drifted}
        else:
            outs["packed_setups"] = props.get("packed_setups")  # unchanged bytes: no diff
        return ReadResult(id, outs, inputs)

    @without_traceback
    def delete(self, id: str, props: dict[str, Any]) -> None:
        """Delete all setups that the removed group owned and the program does not declare.

        The membership is gone from the state already. A later program that declares the group
        again can tell from that whether this delete was interrupted.
        """
        project = self._project(props)
        # In a state of version 0.1.0, a membership knows its group by name only.
        handed_over = self._deployment.handed_over(id, props["declared_by"])
        certain, if_same = group_deletes(ownership_of(props), handed_over, project.deleted)
        remote = project.present(list(if_same), props.get("env_project_id"))
        same = [i for i, setup in remote.items() if if_same[i] in (None, setup.id)]
        delete_owned(self._deployment, project, props, [*certain, *same])
