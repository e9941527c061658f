"""The provider of `AutoMonitorSetup`: one setup, upserted by its external_id."""

from __future__ import annotations

from collections.abc import Mapping
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

from .._codec import spec_inputs
from .._masking import masked
from .._naming import external_id_problem
from .._plan import UNKNOWN, Change, deleted, report_drift
from .._project import READ_BY_ID
from .._text import names, say
from .._validation import option_problems, problems
from ..args import canonical
from ..errors import GoneError, MalformedResponseError, TraceloopError
from . import _display as display
from ._baseline import baseline, differs_from_declaration, report_normalized
from ._host import HostedProvider, identity, listed, settings_changed, without_traceback
from ._options import exists_error, waits_for_more
from ._specs import differ, parsed, spec_of

if TYPE_CHECKING:
    from .._models import Setup, SetupSpec
    from .._project import Project

__all__ = ["AutoMonitorSetupProvider"]

#: The outputs that are not inputs.
_OUTPUTS = ("env_project_id", "failed", "normalized", "setup_id", "unsettled")


class AutoMonitorSetupProvider(HostedProvider):
    """One setup, upserted by its external_id.

    Outputs beside the inputs:

    - ``setup_id``, ``env_project_id``: the setup's server id and project;
    - ``unsettled``: why the setup is not ready, if the update waited for it;
    - ``failed``: why the outcome of the write is unknown. The resource is in the state
      nevertheless: the setup may exist;
    - ``normalized``: the digest of the setup as the service normalized it.
    """

    _announced: set[tuple[str, str, str]]
    #: The declared external_ids that the engine has not checked yet, in the program's order.
    _upcoming: dict[Project, dict[str, None]]
    #: The number of checked setups that are not in the state.
    _new: int
    #: Whether a checked setup is in the state.
    _in_state: bool

    def configure(self, req: Any) -> None:
        """Keep the stack's configuration."""
        super().configure(req)
        self._announced = set()
        self._upcoming = {}
        self._new = 0
        self._in_state = False

    @without_traceback
    def check(self, olds: dict[str, Any], news: dict[str, Any]) -> CheckResult:
        """Validate the inputs; report every problem with its property path."""
        self._take_preview(news)
        upcoming = self._upcoming.setdefault(self._project(news), {})
        # Like `preview`, it must not reach the state.
        upcoming |= dict.fromkeys(listed(news.pop("upcoming", None)))
        external_id = news.get("external_id")
        if isinstance(external_id, str):
            upcoming.pop(external_id, None)
        # Before validation: a declared setup, valid or not, must not be deleted.
        duplicates = self._declare([external_id], news)
        failures = [CheckFailure("external_id", str(error)) for error in duplicates.values()]
        if not isinstance(external_id, Unknown) and (reason := external_id_problem(external_id)):
            failures.append(CheckFailure("external_id", reason))
        secrets = display.secrets(news)
        # The engine prints the value at a path that exists in the inputs.
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
            self._in_state = True
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
        """Print the plan of a setup that is not in the state; return a failure if refused."""
        external_id = news["external_id"]
        displayed = display.text(news)
        if isinstance(external_id, Unknown):
            self._announce(news, Change("create", UNKNOWN, after=displayed))
            return []
        project = self._project(news)
        reading = project.try_read([external_id, *self._ahead(project, external_id)])
        error = reading.unreadable.get(external_id) if reading else None
        if isinstance(error, MalformedResponseError):
            return [CheckFailure("external_id", str(error))]
        remote = reading.setups.get(external_id) if reading else None
        if remote and (refused := self._refused(news, remote, ask=False)):
            return [CheckFailure("external_id", str(refused))]
        change = display.new_change(self._deployment, project, remote, external_id, news, displayed)
        self._announce(news, change)
        return []

    def _ahead(self, project: Project, external_id: str) -> list[str]:
        """Return the declared setups to read together with a new one.

        The engine checks one resource after another, so reading each setup at its check would be
        sequential. Which declared setups are in the state, and need no read, is unknown here. So it
        reads as many as were new so far: at most half of the reads are needless, and a thousand new
        setups take ten rounds. A small program whose setups all seem new takes one round.
        """
        count, self._new = self._new, self._new + 1
        if project.knows(external_id):
            return []
        following = [i for i in list(self._upcoming[project]) if not project.knows(i)]
        if not self._in_state and len(following) < READ_BY_ID:
            return following
        return following[:count]

    def _refused(
        self, inputs: Mapping[str, Any], remote: Setup, *, ask: bool = True
    ) -> TraceloopError | None:
        """Return the error if ``if_exists`` protects the remote setup, else ``None``."""
        external_id, project = inputs["external_id"], self._project(inputs)
        if self._deployment.manages(external_id, project, ask=ask):
            return None
        displayed = display.text(inputs)
        change = display.new_change(
            self._deployment, project, remote, external_id, inputs, displayed
        )
        return exists_error(inputs.get("if_exists"), change)

    def _announce(self, news: Mapping[str, Any], *changes: Change) -> None:
        """Print the plan once: for a replacement the engine calls `check` twice."""
        reported = {(news["declared_by"], c.action, c.external_id) for c in changes}
        if not changes or reported - self._announced:
            self._announced |= reported
            external_id = news["external_id"]
            declares = [] if isinstance(external_id, Unknown) else [external_id]
            self._present(news, changes, declares, group=False)

    @without_traceback
    def diff(self, id: str, olds: dict[str, Any], news: dict[str, Any]) -> DiffResult:
        """Compare by definition, ignoring order and omitted defaults."""
        replaces = ["external_id"] if olds.get("external_id") != news.get("external_id") else []
        replaces += ["config_namespace"] if self._moves(olds, news, [id]) else []
        # A refresh calls diff without check: it prints no plan, and pending work is no drift.
        checked = news["declared_by"] in self._checked
        project = self._project(olds)
        if checked:
            project.note_state(olds.get("env_project_id"), [id])
        if replaces:
            if checked and not self._deployment.known_declarer(id, project):
                if self._preview:
                    self._deployment.announce_delete(id, news["declared_by"])
                self._announce(news, Change("delete", id, display.text(olds)))
            return DiffResult(changes=True, replaces=replaces)
        changed = differ(spec_inputs(olds), spec_inputs(news))
        if not checked:
            return DiffResult(changes=changed)
        pending = olds.get("failed") or olds.get("unsettled") or waits_for_more(olds, news)
        displayed = display.text(news)
        if changed:
            before = display.text(olds)
            self._announce(news, display.change_of(id, olds, news, before, displayed))
        elif why := olds.get("failed"):
            reading = project.try_read([id])
            remote = reading.setups.get(id) if reading else None
            change = display.new_change(self._deployment, project, remote, id, news, displayed)
            # If the last update wrote the setup after all, it is not sent again.
            if change.action != "adopt":
                change = Change("retry", id, after=displayed, note=why)
            self._announce(news, change)
        elif pending:
            why = olds.get("unsettled") or ""
            self._announce(news, Change("recheck", id, after=displayed, note=why))
        return DiffResult(changes=changed or bool(pending) or settings_changed(olds, news))

    @without_traceback
    def create(self, props: dict[str, Any]) -> CreateResult:
        """Adopt an equal setup, else upsert it.

        If the outcome is unknown, the state records the resource with ``failed``.
        """
        return CreateResult(props["external_id"], self._put(props, {}))

    @without_traceback
    def update(self, id: str, olds: dict[str, Any], news: dict[str, Any]) -> UpdateResult:
        """Upsert the setup if it differs or its triggers changed.

        Raises:
            TraceloopError: the write failed or its outcome is unknown; the state is unchanged.

        """
        return UpdateResult(self._put(news, olds))

    def _put(self, inputs: dict[str, Any], state: dict[str, Any]) -> dict[str, Any]:
        from .._flush import upsert, wait

        project, external_id, spec = self._project(inputs), inputs["external_id"], spec_of(inputs)
        secrets = display.secrets(inputs)
        declarer = inputs["declared_by"]

        def refuse(
            _: Mapping[str, SetupSpec], remote: Mapping[str, Setup]
        ) -> dict[str, TraceloopError]:
            rivals = self._deployment.rivals([external_id], declarer, project)
            if rivals:
                return self._declared_twice(rivals, declarer)
            setup = remote.get(external_id)
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
                # The engine keeps the old state, so the next update compares and sends again.
                raise TraceloopError(f"setup {names([external_id])}: {why}")
            return inputs | dict.fromkeys(_OUTPUTS) | {"failed": why}
        self._report(inputs, outcome.stored)
        setup = outcome.stored[external_id]
        found = differs_from_declaration(setup, spec, secret=bool(secrets))
        if found and found != normalized:
            displayed = {external_id: display.text(inputs)}
            say("\n".join(report_normalized({external_id: setup}, displayed)))
        not_ready = None
        if inputs.get("wait_for_setup"):
            reasons = wait(
                project,
                [external_id],
                inputs.get("wait_timeout"),
                external_id,
                accepted=inputs.get("wait_for") == "accepted",
            )
            not_ready = reasons.get(external_id)
        return (
            inputs
            | identity(setup)
            | {
                "failed": None,
                "unsettled": not_ready and masked(not_ready, secrets),
                "normalized": found,
            }
        )

    @without_traceback
    def read(self, id: str, props: dict[str, Any]) -> ReadResult:
        """Read the setup; keep the declared inputs if the definition is equal.

        Raises:
            GoneError: the setup of a ``get`` does not exist.

        """
        project = self._project(props)
        setup = project.present([id], props.get("env_project_id")).get(id)
        project.expect(props.get("env_project_id"))
        if setup is None:
            if not (props.get("setup_id") or props.get("failed")):
                raise GoneError(id)  # without state: a `get`
            drift = display.drift_of(id, props, None, display.text(props))
            report_drift(self._plan(props, [drift], group=False))
            return ReadResult("", {})
        declared = {key: value for key, value in props.items() if key not in _OUTPUTS}
        spec = parsed(spec_inputs(props))
        same = spec is not None and spec.definition == setup.definition
        normalized = props.get("normalized")
        if not same and (normalized is None or baseline(setup) != normalized):
            for key in ("selector", "evaluators", "evaluator_configs"):
                declared.pop(key, None)
            found = setup.as_input()
            declared |= {"external_id": id, **found}
            if props.get("setup_id"):  # else it is a `get`
                drift = display.drift_of(id, props, canonical(found), display.text(props))
                report_drift(self._plan(props, [drift], group=False))
                if props.get("shown") is not None:
                    declared["shown"] = drift.after
        outs = declared | {key: props.get(key) for key in _OUTPUTS} | identity(setup)
        return ReadResult(id, outs, declared)

    @without_traceback
    def delete(self, id: str, props: dict[str, Any]) -> None:
        """Delete the setup, unless another resource of the program declares it."""
        project = self._project(props)
        if declarer := self._deployment.declarer(id, project):
            say(f"kept the monitor setup {names([id])}: {declarer} declares it")
            return
        project.expect(props.get("env_project_id"), [id])
        project.delete(id)
        say(deleted(props["declared_by"], [id]))
