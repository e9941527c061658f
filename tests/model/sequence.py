"""Runs a plan on one stack and one emulator, and checks the invariants after each operation.

The model has the declared setups, and those that the stack may own and certainly owns. It reads the
stored setups from the emulator directly, without HTTP.
"""

from __future__ import annotations

import copy
import json
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any, cast

from pulumi_traceloop._codec import unpacked
from pulumi_traceloop.emulator import Fault
from pulumi_traceloop.emulator.store import Record
from tests.engine import Kind, ResourceState, Result, Running, Stack, driver, make_stack
from tests.support import API_KEY, REPOSITORY

from .plans import (
    BY_HAND,
    DEADLINE,
    FAULTS,
    LONG_DEADLINE,
    REFUSED,
    SECRET,
    UNMANAGED,
    ByHand,
    Declared,
    Event,
    Gone,
    Kill,
    LoseState,
    Program,
    Step,
    Trouble,
    content_of,
)
from .service import (
    SECOND_KEY,
    Definition,
    Gate,
    WatchedEmulator,
    definition_of,
    stored_definition,
    upper,
)

#: Shortens the waits between retries in the program and the provider, and sets the number of setups
#: that are read by id. Delays of the service and deadlines stay in real time.
_SITE = """\
import time
_sleep = time.sleep
time.sleep = lambda seconds: _sleep(seconds / 50)

from pulumi_traceloop import _project
_project.READ_BY_ID = {read_by_id}
"""

#: An `up` that takes longer hangs.
_UP_SECONDS = 100


class ViolationError(AssertionError):
    """An invariant does not hold."""


class Sequence:
    """One stack, from its creation through a plan to its destruction."""

    def __init__(
        self,
        kind: Kind,
        directory: Path,
        service: WatchedEmulator,
        tally: Counter[str],
        *,
        read_by_id: int,
        normalizes: bool,
    ) -> None:
        self._kind = kind
        self._normalizes = normalizes
        service.normalize = upper if normalizes else None
        self._service = service
        self._tally = tally
        site = directory / "site"
        site.mkdir()
        (site / "sitecustomize.py").write_text(_SITE.format(read_by_id=read_by_id))
        path = [str(site), str(REPOSITORY), os.environ.get("PYTHONPATH", "")]
        environment = {"PYTHONPATH": os.pathsep.join(filter(None, path))}
        self._stack: Stack = make_stack(kind, directory, env=environment)
        self._configure()
        #: The steps so far, for the report of a violation.
        self._story: list[str] = []
        self._last_output = ""
        self._program = Program()
        #: The setups that the stack may own: it declared them, and wrote them or found them
        #: equal. It never deletes others.
        self._may_own: set[str] = set()
        #: The setups that the stack owns since the last good `up`. The next good `up` that does not
        #: declare one deletes it.
        self._owns: set[str] = set()
        #: The setups that only a failed `up` recorded. The first good `up` may keep an undeclared
        #: one, which is then overdue; the second deletes it.
        self._half_owns: set[str] = set()
        self._overdue: set[str] = set()
        #: Whether a refresh may have read a secret into a resource that does not mark it as one.
        self._exposed = False
        #: The setups that changed outside of the stack since its last read.
        self._drifted: set[str] = set()
        #: The triggers of each setup in the declarations since the last good `up`, inclusive.
        self._triggers: dict[str, set[int | None]] = {}
        #: The place and setup of each external_id in the last good `up`, if only reads followed it.
        self._steady: dict[str, tuple[str, Declared]] = {}
        for number, external_id in enumerate(UNMANAGED):
            kind_of_setup = list(BY_HAND)[number]
            service.put(external_id, **BY_HAND[kind_of_setup])

    def _configure(self) -> None:
        self._stack.set_config("traceloop:baseUrl", self._service.url)
        self._stack.set_config("traceloop:apiKey", API_KEY, secret=True)
        self._set_deadline(LONG_DEADLINE)
        for namespace, key in (("renamed", API_KEY), ("second", SECOND_KEY)):
            self._stack.set_config(f"{namespace}:baseUrl", self._service.url)
            self._stack.set_config(f"{namespace}:apiKey", key, secret=True)
        self._stack.set_config("tenant", SECRET, secret=True)

    def _set_deadline(self, seconds: float) -> None:
        """Set the deadline of all namespaces: the others inherit it."""
        self._stack.set_config("traceloop:deadline", str(seconds))

    def run(self, steps: Iterable[Step]) -> None:
        """Run all steps, then settle."""
        for step in steps:
            self._take(step)
        self._settle()

    @property
    def _plain(self) -> bool:
        """Whether the engine supports neither aliases nor transforms nor constrained updates."""
        return self._kind != "cli"

    # The steps.

    def _take(self, step: Step) -> None:
        for event in step.events:
            self._happen(event)
        for edit in step.edits:
            edit.apply(self._program)
        self._service.forget()
        for trouble in step.troubles:
            for fault in _faults(trouble):
                self._service.trouble(trouble.name, fault)
        names = " ".join(trouble.name for trouble in step.troubles)
        endless = "slow" in names or "for good" in names
        if endless:
            self._set_deadline(DEADLINE)
        if step.operation == "refresh":
            self._refresh(f"{step}")
        elif step.operation == "preview":
            self._preview(f"{step}")
        elif step.operation == "destroy":
            self._destroy(f"{step}")
        else:
            raises = step.raises
            if raises is not None and raises > len(self._program.places):
                raises = None
            self._up(
                refresh=step.operation == "up --refresh",
                kill=step.kill,
                raises=raises,
                constraint="" if self._plain else step.operation.removeprefix("up").strip(),
                place=step.place,
                note=f"{step}",
            )
        if endless:
            self._set_deadline(LONG_DEADLINE)

    def _happen(self, event: Event) -> None:
        if isinstance(event, LoseState):
            self._tally["event: state lost"] += 1
            self._stack.lose_state()
            if self._kind == "cli":
                self._configure()
            self._forget()
            self._steady.clear()
        elif isinstance(event, Gone):
            if self._service.delete(event.external_id):
                self._tally["event: deleted outside of the stack"] += 1
                self._drifted.add(event.external_id)
        else:
            assert isinstance(event, ByHand)
            self._tally["event: changed outside of the stack"] += 1
            content = {"evaluators": None, "evaluator_configs": None, **BY_HAND[event.kind]}
            self._service.put(event.external_id, **content)
            self._drifted.add(event.external_id)
        self._story.append(repr(event))

    # The operations, each with its part of the model.

    def _up(
        self,
        *,
        refresh: bool = False,
        kill: Kill | None = None,
        raises: int | None = None,
        replace: tuple[str, ...] = (),
        constraint: str = "",
        place: int = 0,
        note: str = "up",
    ) -> Result:
        program = copy.deepcopy(self._program.until(raises))
        options = _options(constraint, program, place)
        scope = _scope(options, program)
        declared = program.declared
        wanted = {
            i: definition_of(content_of(setup.kind), normalized=self._normalizes)
            for i, setup in declared.items()
        }
        for external_id, setup in declared.items():
            self._triggers.setdefault(external_id, set()).add(setup.triggers)
        steady = {
            i
            for i, setup in declared.items()
            if i in self._steady and self._steady[i][0] == program.place_of(i)
        }
        self._stack.write_program(program.source(raises=raises is not None, plain=self._plain))
        before = self._service.records()
        if kill is None:
            result = self._operate(
                " ".join(["up", *options[:1]]),
                lambda: self._whole_up(replace, refresh, options),
                note,
                refreshes=refresh,
            )
            killed = False
        else:
            result, killed = self._killed_up(kill, refresh, note)
        after = self._service.records()
        good = result.exit_code == 0 and not killed and scope is None
        in_scope = {i for i in declared if scope is None or (program.place_of(i) or "") in scope}

        for touch in self._service.touched:
            i = touch.external_id
            if touch.after is None:
                # The engine does not check a place that it does not update: docs/limitations.md,
                # `--target`.
                self._hold(i not in in_scope, f"{i!r} was deleted though it is declared")
                if i in declared:
                    self._drifted.add(i)
                self._hold(i in self._may_own, f"{i!r} was deleted though it is not this stack's")
                self._hold(raises is None, f"{i!r} was deleted though the program failed")
                continue
            self._hold(i in in_scope, f"{i!r} was written though it is not declared")
            self._hold(touch.after == wanted.get(i), f"{i!r} was written with other content")
            self._hold(
                touch.before != touch.after
                or len(self._triggers[i]) > 1
                # A resource has no baseline before its first write.
                or (self._normalizes and i not in steady),
                f"{i!r} was written though it was equal already",
            )
        adopted = {
            i
            for i, definition in wanted.items()
            if _definition(before, i) == definition or _definition(after, i) == definition
        }
        written = {touch.external_id for touch in self._service.touched if touch.after}
        unsure = self._service.sent if killed else self._service.uncertain & self._service.sent
        self._check_untouched(before, after, declared.keys() | self._may_own)
        self._may_own |= written | (adopted & in_scope) | (unsure & in_scope)
        self._hold(
            not good or (raises is None and not any(s.kind == REFUSED for s in declared.values())),
            "an `up` that cannot succeed did",
        )
        self._drifted -= written
        if good:
            if refresh:
                self._drifted.clear()
            for i in declared:
                if i not in self._drifted:
                    self._hold(i in after, f"{i!r} is declared and missing after a good `up`")
                    self._hold(_definition(after, i) == wanted[i], f"{i!r} is not as declared")
                same_place = i in steady and self._steady[i][1].triggers != declared[i].triggers
                self._hold(
                    not same_place or i in written, f"{i!r} was not sent again for its triggers"
                )
            for i in (self._owns | self._overdue) - declared.keys():
                self._hold(i not in after, f"{i!r} still exists though it is no longer declared")
            self._overdue = (self._half_owns - declared.keys()) & after.keys()
            self._half_owns = set()
            self._owns = set(declared)
            self._drifted &= declared.keys()
            self._triggers = {i: {setup.triggers} for i, setup in declared.items()}
            self._steady = {i: (program.place_of(i) or "", s) for i, s in declared.items()}
        else:
            self._steady = {}
            self._half_owns |= self._recorded() - self._owns
        return result

    def _refresh(self, note: str = "refresh") -> Result:
        before = self._service.records()
        result = self._operate("refresh", self._stack.refresh, note, refreshes=True)
        self._hold(not self._service.touched, "a refresh wrote or deleted")
        if result.exit_code == 0:
            self._drifted.clear()
            # A refresh does not read a resource with a pending delete, which may list gone setups.
            if not any(each.delete for each in self._stack.state()):
                for each in (self._owns, self._half_owns, self._overdue, self._may_own):
                    each.intersection_update(before)
        return result

    def _preview(self, note: str = "preview") -> Result:
        self._stack.write_program(self._program.source(raises=False, plain=self._plain))
        result = self._operate("preview", self._stack.preview, note)
        self._hold(not self._service.touched, "a preview wrote or deleted")
        return result

    def _destroy(self, note: str = "destroy") -> Result:
        before = self._service.records()
        result = self._operate("destroy", self._stack.destroy, note)
        after = self._service.records()
        for touch in self._service.touched:
            self._hold(touch.after is None, f"{touch.external_id!r} was written by a destroy")
        self._check_untouched(before, after, self._may_own)
        self._steady = {}
        if result.exit_code == 0:
            for i in self._owns | self._half_owns | self._overdue:
                self._hold(i not in after, f"{i!r} still exists after a destroy")
            self._hold(not self._stack.state(), "the state is not empty after a destroy")
            self._forget()
        return result

    def _forget(self) -> None:
        """The stack owns nothing."""
        for each in (self._owns, self._half_owns, self._overdue, self._may_own, self._drifted):
            each.clear()
        self._triggers.clear()

    # The end.

    def _settle(self) -> None:
        """Check that without faults two `up`s suffice, and that a destroy deletes everything."""
        for members in self._program.places.values():
            for i, setup in members.items():
                if setup.kind == REFUSED:
                    members[i] = Declared("one", setup.triggers)
        self._service.forget()
        result = self._up(refresh=bool(self._drifted), note="settle: the first up")
        if result.exit_code or self._overdue or not self._is_settled():
            replace: tuple[str, ...] = ()
            if result.exit_code and "`pulumi up --replace <URN" in result.output:
                replace = self._vanished_batches()
            self._service.forget()
            advised = "Run `pulumi up --refresh`" in result.output
            refresh = (bool(self._drifted) or advised) and not replace
            result = self._up(refresh=refresh, replace=replace, note="settle: the second up")
            self._hold(result.exit_code == 0, "two `up`s without faults do not suffice")
            self._hold(self._is_settled(), "a preview after the last `up` is not empty")
        self._service.forget()
        destroy = self._destroy()
        self._hold(destroy.exit_code == 0, "a destroy without faults fails")

    def _is_settled(self) -> bool:
        self._service.forget()
        preview = self._preview()
        return preview.exit_code == 0 and set(preview.changes) <= {"same"}

    def _vanished_batches(self) -> tuple[str, ...]:
        """Return the batches whose setups are all gone: the error advises to replace them."""
        remote = self._service.records()
        urns = []
        for each in self._stack.state():
            owned = _owned(each)
            gone = len(owned) > 1 and not owned & remote.keys()
            if each.type.endswith(":AutoMonitorSetupBatch") and gone:
                urns.append(each.urn)
        self._hold(
            bool(urns), "the error says that all setups of a group are gone; none has lost all"
        )
        return tuple(urns)

    # Helpers.

    def _operate(
        self, name: str, operation: Callable[[], Result], note: str, *, refreshes: bool = False
    ) -> Result:
        self._story.append(note)
        self._exposed |= refreshes and self._holds_a_secret_of_another()
        hits = Counter(self._service.hits)
        result = operation()
        self._tally[f"operation: {name}"] += 1
        for fault, count in (self._service.hits - hits).items():
            self._tally[f"fault: {fault}"] += count
        touched = [
            f"{touch.external_id} {'written' if touch.after else 'deleted'}"
            for touch in self._service.touched
        ]
        self._story.append(f"  -> {result.exit_code}, {touched}")
        self._last_output = result.output
        hidden = SECRET not in result.output or self._exposed
        self._hold(hidden, f"{SECRET!r} is in the output")
        self._hold(API_KEY not in result.output, f"{API_KEY!r} is in the output")
        self._hold("violates plan" not in result.output, "an update violates its plan")
        state = self._stack.state_text()
        self._hold(SECRET not in state or self._exposed, f"{SECRET!r} is in the state")
        self._hold(API_KEY not in state, f"{API_KEY!r} is in the state")
        return result

    def _holds_a_secret_of_another(self) -> bool:
        """Whether a resource still has a setup into which another resource wrote a secret.

        A refresh reads that secret in plain text and prints it: see SECURITY.md.
        """
        secret = {i for i, record in self._service.records().items() if SECRET in record.rules}
        for each in self._stack.state():
            if each.type.endswith(":AutoMonitorSetupBatch"):
                setups = unpacked(each.inputs)
                if any(SECRET not in setups.get(i, "") for i in _owned(each) & secret):
                    return True
            elif each.id in secret and SECRET not in json.dumps(each.inputs):
                return True
        return False

    def _whole_up(
        self, replace: tuple[str, ...], refresh: bool, options: tuple[str, ...]
    ) -> Result:
        if options == ("--plan",):
            plan = str(self._stack.project_dir / "plan.json")
            preview = self._stack.operate("preview", "--save-plan", plan)
            self._hold(not self._service.touched, "a preview wrote or deleted")
            if preview.exit_code:
                return preview
            options = ("--plan", plan)
        running = self._stack.start_up(*options, replace=replace, refresh=refresh)
        with ThreadPoolExecutor(1) as pool:
            return self._ended(running, pool.submit(running.wait))

    def _ended(self, running: Running, ended: Future[Result]) -> Result:
        done, _ = wait([ended], timeout=_UP_SECONDS)
        if not done:
            running.kill()
            self._last_output = ended.result().output
        self._hold(bool(done), f"an `up` has not ended after {_UP_SECONDS} s")
        return ended.result()

    def _killed_up(self, kill: Kill, refresh: bool, note: str) -> tuple[Result, bool]:
        killed: list[str] = []

        def operation() -> Result:
            gate = Gate(kill.nth, lost=kill.moment == "lost")
            if kill.moment != "recorded":
                self._service.gate = gate
            running = self._stack.start_up(refresh=refresh)
            with ThreadPoolExecutor(1) as pool:
                ended = pool.submit(running.wait)
                if kill.moment == "recorded":
                    changes, last = 0, self._stack.state_text()
                    while not ended.done() and changes < kill.nth:
                        text = self._stack.state_text()
                        changes, last = changes + (text != last), text
                        wait([ended], timeout=0.001)
                    due = not ended.done()
                else:
                    wait(
                        cast("list[Future[Any]]", [ended, gate.reached]),
                        return_when=FIRST_COMPLETED,
                    )
                    due = gate.reached.done()
                if due:
                    killed.append(_kill(running, kill))
                gate.released.set()
                result = self._ended(running, ended)
            if killed:
                self._service.drain()
            return result

        result = self._operate("up", operation, note, refreshes=refresh)
        for what in killed:
            self._tally[f"kill: {what} {kill.moment}"] += 1
        return result, bool(killed)

    def _recorded(self) -> set[str]:
        """Return the owned setups according to the state."""
        found: set[str] = set()
        for each in self._stack.state():
            if each.type.endswith((":AutoMonitorSetupBatch", ":AutoMonitorSetupMembership")):
                found |= _owned(each)
            elif each.type.endswith(":AutoMonitorSetup"):
                found.add(each.id)
        return found

    def _check_untouched(
        self, before: dict[str, Record], after: dict[str, Record], may_change: set[str]
    ) -> None:
        for i in (before.keys() | after.keys()) - may_change:
            self._hold(before.get(i) == after.get(i), f"{i!r} is not this stack's, but has changed")

    def _hold(self, holds: bool, otherwise: str) -> None:
        if not holds:
            story = "\n".join(self._story)
            raise ViolationError(
                f"{otherwise}\n\nWhat happened:\n{story}\n\nThe last output:\n{self._last_output}"
            )


def _options(constraint: str, program: Program, place: int) -> tuple[str, ...]:
    """Return the options of a constrained `up`; none if the program has no place to target."""
    if constraint in ("--target", "--exclude") and program.places:
        name = list(program.places)[place % len(program.places)]
        return constraint, f"urn:**::{name}"
    return (constraint,) if constraint == "--plan" else ()


def _scope(options: tuple[str, ...], program: Program) -> set[str] | None:
    """Return the places that the engine updates; ``None`` for all."""
    if len(options) < 2:
        return None
    option, urn = options
    named = {urn.rpartition("::")[2]}
    return named if option == "--target" else program.places.keys() - named


def _owned(resource: ResourceState) -> set[str]:
    return set(json.loads(resource.outputs.get("owned") or "[]"))


def _definition(records: dict[str, Record], external_id: str) -> Definition | None:
    record = records.get(external_id)
    return stored_definition(record) if record else None


_METHODS = {"any": (None,), "read": ("GET",), "write": ("PUT", "POST"), "DELETE": ("DELETE",)}


def _faults(trouble: Trouble) -> list[Fault]:
    arguments = dict(FAULTS[trouble.name])
    if "hide" in arguments:
        return [Fault(**{**arguments, "hide": trouble.external_ids})]
    if text := arguments.get("item_error"):
        return [Fault(**{**arguments, "item_error": dict.fromkeys(trouble.external_ids, text)})]
    return [Fault(**arguments, method=method, skip=trouble.skip) for method in _METHODS[trouble.of]]


def _kill(running: Running, kill: Kill) -> str:
    """Kill all processes or only the provider's; return which."""
    process = running._process  # type: ignore[attr-defined]
    provider = _provider_of(process.pid) if kill.who == "provider" else None
    if provider is None:
        running.kill()
        return "up"
    driver.kill_tree(provider)
    return "provider"


def _provider_of(pid: int) -> int | None:
    """Return the dynamic provider's process among the descendants of *pid*."""
    if not sys.platform.startswith("linux"):
        return None
    for each in driver.descendants(pid):
        command = Path(f"/proc/{each}/cmdline").read_bytes().split(b"\0")
        name = Path(f"/proc/{each}/comm").read_text().strip()
        if b"pulumi.dynamic" in command or name == "provider":
            return each
    return None
