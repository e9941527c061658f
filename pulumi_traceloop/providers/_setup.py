"""The provider of `AutoMonitorSetup`: one setup, upserted by its external_id."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any

from pulumi.dynamic import (
    CheckFailure,
    CheckResult,
    CreateResult,
    DiffResult,
    ReadResult,
    UpdateResult,
)
from pulumi.output import Unknown

from .._masking import masked
from .._naming import external_id_problem
from .._plan import UNKNOWN, Change, deleted, report_drift
from .._text import names, say
from .._validation import option_problems, problems
from ..args import canonical
from ..errors import GoneError, TraceloopError
from . import _display as display
from ._baseline import baseline, differs_from_declaration, report_normalized
from ._host import HostedProvider, identity, listed, namespace_changed, without_traceback
from ._options import exists_error
from ._specs import differ, parsed, spec_inputs, spec_of

if TYPE_CHECKING:
    from .._models import Setup, SetupSpec
    from .._project import Project

__all__ = ["AutoMonitorSetupProvider"]

#: What the provider adds to the inputs.
_OUTPUTS = ("env_project_id", "failed", "normalized", "setup_id", "unsettled")


class AutoMonitorSetupProvider(HostedProvider):
    """One setup, upserted by its external_id.

    Outputs beside the inputs:

    - ``setup_id``, ``env_project_id``: which setup of which project it is;
    - ``unsettled``: why it did not come up, where the update waited for that;
    - ``failed``: why it is not known whether the setup is in place. It is in the state all the
      same: a setup that may have been written must not be forgotten;
    - ``normalized``: the digest of what the service made of it, where that differs.
    """

    _announced: set[tuple[str, str, str]]
    #: What the program declares and the engine has not asked to check yet, in its order.
    _upcoming: dict[Project, dict[str, None]]
    #: How many of the checked setups are in no state.
    _new: int

    def configure(self, req: Any) -> None:
        """Keep the stack's configuration."""
        super().configure(req)
        self._announced = set()
        self._upcoming = {}
        self._new = 0

    @without_traceback
    def check(self, olds: dict[str, Any], news: dict[str, Any]) -> CheckResult:
        """Validate the inputs; every problem is reported, with the path of its property."""
        self._take_preview(news)
        upcoming = self._upcoming.setdefault(self._project(news), {})
        # As `preview`, it is no part of the inputs.
        upcoming |= dict.fromkeys(listed(news.pop("upcoming", None)))
        external_id = news.get("external_id")
        if isinstance(external_id, str):
            upcoming.pop(external_id, None)
        # First of all, valid or not: what is declared must not be deleted.
        twice = self._declare([external_id], news)
        failures = [CheckFailure("external_id", str(error)) for error in twice.values()]
        if not isinstance(external_id, Unknown) and (reason := external_id_problem(external_id)):
            failures.append(CheckFailure("external_id", reason))
        secrets = display.secrets(news)
        # The engine prints the value of a path that leads to one.
        prefix = "setup." if secrets else ""
        failures += [
            CheckFailure(prefix + p.path, masked(p.reason, secrets))
            for p in problems(spec_inputs(news), Unknown)
        ]
        failures += [CheckFailure(*problem) for problem in option_problems(news, Unknown)]
        if not failures:
            failures += self._too_many_evaluations(news)
        self._checked.add(news["declared_by"])
        if olds:
            self._deployment.manage([olds.get("external_id", "")], self._project(olds))
        if not failures and (not olds or olds.get("external_id") != external_id):
            failures += self._announce_new(news)
        elif not failures:
            self._announce(news)
        return CheckResult(news, failures)

    def _setups(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        external_id = inputs["external_id"]
        return {UNKNOWN if isinstance(external_id, Unknown) else external_id: inputs}

    def _secrets(self, inputs: Mapping[str, Any], external_id: str, setup: Any) -> set[str]:
        return display.secrets(inputs)

    def _announce_new(self, news: dict[str, Any]) -> list[CheckFailure]:
        """Print the plan for a setup that is not in the state; return why it must not be made."""
        external_id = news["external_id"]
        shown = display.shown(news)
        if isinstance(external_id, Unknown):
            self._announce(news, Change("create", UNKNOWN, after=shown))
            return []
        project = self._project(news)
        reading = project.look([external_id, *self._ahead(project, external_id)])
        if reading and (error := reading.unreadable.get(external_id)):
            return [CheckFailure("external_id", str(error))]
        there = reading.setups.get(external_id) if reading else None
        if there and (refused := self._refused(news, there, ask=False)):
            return [CheckFailure("external_id", str(refused))]
        change = display.new_change(self._deployment, project, there, external_id, news, shown)
        self._announce(news, change)
        return []

    def _ahead(self, project: Project, external_id: str) -> list[str]:
        """Return which setups to read beside a new one: as many of the next as were new so far.

        The engine checks one resource after another, so to read each at its turn would take as long
        as all reads together. What is in the state is not read; which ones are, is not known here.
        So at most every second read is in vain, and a thousand new ones take ten rounds.
        """
        count, self._new = self._new, self._new + 1
        if project.knows(external_id):
            return []
        following = (i for i in list(self._upcoming[project]) if not project.knows(i))
        return list(islice(following, count))

    def _refused(
        self, inputs: Mapping[str, Any], there: Setup, *, ask: bool = True
    ) -> TraceloopError | None:
        """Return why ``if_exists`` keeps what Traceloop has."""
        external_id, project = inputs["external_id"], self._project(inputs)
        if self._deployment.manages(external_id, project, ask=ask):
            return None
        shown = display.shown(inputs)
        change = display.new_change(self._deployment, project, there, external_id, inputs, shown)
        return exists_error(inputs.get("if_exists"), change)

    def _announce(self, news: Mapping[str, Any], *changes: Change) -> None:
        """Print the plan, once: for a replacement the engine checks twice."""
        reported = {(news["declared_by"], c.action, c.external_id) for c in changes}
        if not changes or reported - self._announced:
            self._announced |= reported
            external_id = news["external_id"]
            declares = [] if isinstance(external_id, Unknown) else [external_id]
            self._present(news, changes, declares, group=False)

    @without_traceback
    def diff(self, id: str, olds: dict[str, Any], news: dict[str, Any]) -> DiffResult:
        """Compare by definition: neither order nor a left-out default is a change."""
        replaces = ["external_id"] if olds.get("external_id") != news.get("external_id") else []
        replaces += ["config_namespace"] if self._moves(olds, news, [id]) else []
        # A refresh compares too, without a check: it announces nothing, and what is still to be
        # done is no drift.
        checked = news["declared_by"] in self._checked
        where = self._project(olds)
        if checked:
            where.made_in(olds.get("env_project_id"), [id])
        if replaces:
            if checked and not self._deployment.expected_declarer(id, where):
                if self._preview:
                    self._deployment.leave(id, news["declared_by"])
                self._announce(news, Change("delete", id, display.shown(olds)))
            return DiffResult(changes=True, replaces=replaces)
        changed = differ(spec_inputs(olds), spec_inputs(news))
        if not checked:
            return DiffResult(changes=changed)
        pending = olds.get("failed") or olds.get("unsettled")
        shown = display.shown(news)
        if changed:
            before = display.shown(olds)
            self._announce(news, display.change_of(id, olds, news, before, shown))
        elif why := olds.get("failed"):
            reading = where.look([id])
            there = reading.setups.get(id) if reading else None
            change = display.new_change(self._deployment, where, there, id, news, shown)
            # What the last update wrote after all is not sent again.
            written = change.action == "adopt"
            self._announce(news, change if written else Change("retry", id, after=shown, note=why))
        elif why := olds.get("unsettled"):
            self._announce(news, Change("recheck", id, after=shown, note=why))
        return DiffResult(changes=changed or bool(pending) or namespace_changed(olds, news))

    @without_traceback
    def create(self, props: dict[str, Any]) -> CreateResult:
        """Put the setup in place: adopt what is equal, else upsert it.

        Where it is not known whether that happened, the resource is recorded with ``failed``.
        """
        return CreateResult(props["external_id"], self._put(props, {}))

    @without_traceback
    def update(self, id: str, olds: dict[str, Any], news: dict[str, Any]) -> UpdateResult:
        """Put the setup in place; changed triggers send it even if it is equal.

        Raises:
            TraceloopError: it is not in place, or not known to be; the state stays as it was.

        """
        return UpdateResult(self._put(news, olds))

    def _put(self, inputs: dict[str, Any], state: dict[str, Any]) -> dict[str, Any]:
        from .._flush import upsert, wait

        project, external_id, spec = self._project(inputs), inputs["external_id"], spec_of(inputs)
        secrets = display.secrets(inputs)
        declarer = inputs["declared_by"]

        def refuse(
            _: Mapping[str, SetupSpec], there: Mapping[str, Setup]
        ) -> dict[str, TraceloopError]:
            rivals = self._deployment.rivals([external_id], declarer, project)
            if rivals:
                return self._declared_twice(rivals, declarer)
            setup = there.get(external_id)
            refused = self._refused(inputs, setup) if setup and not state else None
            return {external_id: refused} if refused else {}

        unchanged = bool(state) and not differ(spec_inputs(state), spec_inputs(inputs))
        normalized = state.get("normalized") if unchanged else None
        try:
            outcome = upsert(
                project,
                external_id,
                spec,
                force=bool(state) and state.get("triggers") != inputs.get("triggers"),
                accepted=lambda setup: normalized is not None and baseline(setup) == normalized,
                env_project_id=state.get("env_project_id"),
                refuse=refuse,
            )
        except TraceloopError as error:
            error.args = (masked(str(error), secrets),)
            raise
        if why := outcome.failed.get(external_id):
            why = masked(why, secrets)
            if state and not state.get("failed"):
                # The engine keeps the state, so the next update compares with it again.
                raise TraceloopError(f"setup {names([external_id])}: {why}")
            return inputs | dict.fromkeys(_OUTPUTS) | {"failed": why}
        self._report(inputs, outcome.stored)
        setup = outcome.stored[external_id]
        found = differs_from_declaration(setup, spec, secret=bool(secrets))
        if found and found != normalized:
            shown = {external_id: display.shown(inputs)}
            say("\n".join(report_normalized({external_id: setup}, shown)))
        reason = None
        if inputs.get("wait_for_setup"):
            waited = wait(
                project,
                [external_id],
                inputs.get("wait_timeout"),
                external_id,
                accepted=inputs.get("wait_for") == "accepted",
            )
            reason = waited.get(external_id)
        return (
            inputs
            | identity(setup)
            | {
                "failed": None,
                "unsettled": reason and masked(reason, secrets),
                "normalized": found,
            }
        )

    @without_traceback
    def read(self, id: str, props: dict[str, Any]) -> ReadResult:
        """Read the setup; what is equal by definition keeps the user's own spelling.

        Raises:
            GoneError: a program reads a setup, with ``get``, that Traceloop does not have.

        """
        project = self._project(props)
        setup = project.present([id], props.get("env_project_id")).get(id)
        project.expect(props.get("env_project_id"))
        if setup is None:
            if not (props.get("setup_id") or props.get("failed")):
                raise GoneError(id)  # no state: a program's `get`
            drift = display.drift_of(id, props, None, display.shown(props))
            report_drift(self._plan(props, [drift], group=False))
            return ReadResult("", {})
        declared = {key: value for key, value in props.items() if key not in _OUTPUTS}
        spec = parsed(spec_inputs(props))
        same = spec is not None and spec.meaning == setup.meaning
        normalized = props.get("normalized")
        if not same and (normalized is None or baseline(setup) != normalized):
            for key in ("selector", "evaluators", "evaluator_configs"):
                declared.pop(key, None)
            there = setup.as_input()
            declared |= {"external_id": id, **there}
            if props.get("setup_id"):  # else a program reads it, with `get`
                drift = display.drift_of(id, props, canonical(there), display.shown(props))
                report_drift(self._plan(props, [drift], group=False))
                if props.get("shown") is not None:
                    declared["shown"] = drift.after
        outs = declared | {key: props.get(key) for key in _OUTPUTS} | identity(setup)
        return ReadResult(id, outs, declared)

    @without_traceback
    def delete(self, id: str, props: dict[str, Any]) -> None:
        """Delete the setup, unless another resource of the program declares it now."""
        project = self._project(props)
        if declarer := self._deployment.declarer(id, project):
            say(f"kept the monitor setup {names([id])}: {declarer} declares it")
            return
        project.expect(props.get("env_project_id"), [id])
        project.delete(id)
        say(deleted(props["declared_by"], [id]))
