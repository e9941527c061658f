"""The test engine's process: one operation on one stack, received on stdin from local.py.

The monitor (monitor.py) turns registrations of the program into steps. The steps without a program,
refreshes and deletes, are here.
"""

from __future__ import annotations

import json
import sys
import threading
import traceback
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import child
from .display import COUNTED, Display
from .driver import STACK_TYPE
from .provider import Provider, ProviderError, mark_secret_outputs
from .state import Record, State, load
from .wire import Bag, plain

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pulumi.runtime.proto.provider_pb2 import DiffResponse

#: The CLI's default; the Python provider host serves four calls at once.
PARALLEL = 16
#: The exit code for a fault of the engine itself.
FAULT = 70


class BailError(Exception):
    """Ends the deployment: the message goes to the user, under the resource if there is one."""

    def __init__(self, message: str, urn: str = "", *, reported: bool = False) -> None:
        super().__init__(message)
        self.urn = urn
        self.reported = reported


def unsupported(what: str, urn: str = "") -> BailError:
    return BailError(f"unsupported: {what} (this test engine does not know it)", urn)


@dataclass(frozen=True)
class Request:
    """One operation, as local.py requests it."""

    kind: str
    project: str
    stack: str
    project_dir: str
    state_file: str
    result_file: str
    config: dict[str, str]
    secret_keys: list[str]
    env: dict[str, str]
    replace: list[str]
    refresh: bool = False
    expect_no_changes: bool = False

    @property
    def preview(self) -> bool:
        return self.kind == "preview"


class Deployment:
    """One operation: its state, its provider, its steps."""

    def __init__(
        self, request: Request, program: child.Forked | None, provider: child.Forked
    ) -> None:
        self.request = request
        self._program = program
        root_name = f"{request.project}-{request.stack}"
        self.root = f"urn:pulumi:{request.stack}::{request.project}::{STACK_TYPE}::{root_name}"
        self.display = Display(request.kind, request.stack, self.root)
        self.provider = Provider(
            provider,
            request.config,
            request.secret_keys,
            lambda line: self.display.diagnostic("info", line),
        )
        file = Path(request.state_file)
        self.state = State(None if request.preview else file, load(file))
        self.steps: list[tuple[str, str]] = []
        self.failed: list[tuple[str, str]] = []
        self.changes: Counter[str] = Counter()
        self.errored = False
        #: A bug of the engine itself, which must not look like a result.
        self.fault = ""
        #: The keys of the registered records; all others are deleted at the end.
        self.kept: set[int] = set()
        self._lock = threading.Lock()

    def run(self) -> int:
        stack = self.state.current(self.root)
        old_outputs = stack.outputs if stack else {}
        new_outputs = old_outputs
        try:
            if self.request.kind == "refresh" or self.request.refresh:
                self.refresh(counted=self.request.kind == "refresh")
            if self.request.kind == "destroy":
                self.delete_unregistered()
                new_outputs = {}
            if self._program is not None:
                from .monitor import run_program

                new_outputs = run_program(self, self._program)
        except BailError as err:
            self.bail(err)
        if self.request.expect_no_changes and set(self.changes) - {"same"}:
            self.error("no changes were expected but changes were found")
        self.provider.close()
        self.display.end(self.changes, old_outputs, new_outputs)
        return 1 if self.errored else 0

    def error(self, message: str, urn: str = "") -> None:
        self.errored = True
        self.display.diagnostic("error", message, urn)

    def bail(self, err: BailError) -> None:
        self.errored = True
        if not err.reported:
            self.error(str(err), err.urn)

    def done(
        self, op: str, urn: str, changed: list[str] | None = None, *, finished: bool = True
    ) -> None:
        """Record a step. A component's step counts now, but is finished when it has its outputs."""
        with self._lock:
            if op in COUNTED:
                self.changes[op] += 1
            if finished:
                self.steps.append((op, urn))
        self.display.step(op, urn, changed or [])

    def finish(self, op: str, urn: str) -> None:
        """Record the end of a component's step."""
        with self._lock:
            self.steps.append((op, urn))

    def fail(self, op: str, urn: str, message: str) -> BailError:
        """Record a failed step."""
        with self._lock:
            self.failed.append((op, urn))
        self.display.failed(op, urn)
        self.error(message, urn)
        return BailError(message, urn, reported=True)

    def diff(self, old: Record, news: Bag, ignored: list[str]) -> DiffResponse:
        """Call the provider's diff; compare the inputs if its result is unknown."""
        response = self.provider.diff(old, news, ignored)
        if response.changes == response.DIFF_UNKNOWN:
            same = plain(old.inputs) == plain(news)
            response.changes = response.DIFF_NONE if same else response.DIFF_SOME
        return response

    def refresh(self, *, counted: bool) -> None:
        """Read every resource, and store the provider's response."""
        records = list(self.state.records.values())
        with ThreadPoolExecutor(PARALLEL) as pool:
            results = list(pool.map(lambda each: self._refresh_one(each, counted), records))
        if not all(results):
            raise BailError("refresh failed")
        self._forget_lost_dependencies()

    def _refresh_one(self, old: Record, counted: bool) -> bool:
        op, new = "same", old
        if old.custom and not old.pending_replacement:
            try:
                op, new = self._read_again(old)
            except ProviderError as err:
                self.fail("refresh", old.urn, str(err))
                return False
        if op == "delete":
            self.state.apply(drop=(old,))
        else:
            self.state.apply(put=(new,))
        if counted:
            self.done(op, old.urn, changed_names(old.inputs, new.inputs) if op == "update" else [])
        else:
            self.done("refresh", old.urn)
        return True

    def _read_again(self, old: Record) -> tuple[str, Record]:
        id_, outputs, inputs = self.provider.read(old.urn, old.id, old.inputs, old.outputs)
        if not id_:
            return "delete", old
        new = replace(old, id=id_, outputs=outputs, inputs=old.inputs if inputs is None else inputs)
        mark_secret_outputs(new)
        if old.external:
            return ("same" if new.outputs == old.outputs else "update"), new
        # As in an `up` of the unchanged program after the refresh.
        response = self.diff(new, old.inputs, [])
        return ("same" if response.changes == response.DIFF_NONE else "update"), new

    def _forget_lost_dependencies(self) -> None:
        """Remove dependencies on resources that the refresh removed."""
        left = {each.urn for each in self.state.records.values()}
        for record in list(self.state.records.values()):
            by_property = record.property_dependencies.items()
            kept = [urn for urn in record.dependencies if urn in left]
            kept_by = {k: [urn for urn in urns if urn in left] for k, urns in by_property}
            if kept != record.dependencies:
                new = replace(record, dependencies=kept, property_dependencies=kept_by)
                self.state.apply(put=(new,))

    def delete_unregistered(self) -> None:
        """Delete unregistered and replaced resources, dependants first."""
        doomed = [each for key, each in self.state.records.items() if key not in self.kept]
        blocked: set[int] = set()
        for group in reversed(list(_by_dependency(doomed))):
            ready = [each for each in group if each.key not in blocked]
            with ThreadPoolExecutor(PARALLEL) as pool:
                outcomes = list(pool.map(self.delete, ready))
            for record, outcome in zip(ready, outcomes, strict=True):
                if outcome == "protected":  # continue with resources that it does not depend on
                    blocked |= _needed_by(record, doomed)
            if "failed" in outcomes:
                raise BailError("the deployment failed", reported=True)

    def delete(self, old: Record) -> str:
        """Delete one resource; return "deleted", "protected" or "failed"."""
        op = "discard" if old.external else "delete"
        op += "-replaced" if old.delete else ""
        if old.pending_replacement:
            op = "remove-pending-replace"
        elif old.protect and not old.delete:
            message = (
                f'resource "{old.urn}" cannot be deleted\nbecause it is protected. To unprotect '
                "the resource, remove the `protect` flag from the resource and run an `up`"
            )
            if self.request.preview:
                self.error(f"Preview failed: {message}", old.urn)
            else:
                self.fail(op, old.urn, message)
            return "protected"
        elif old.custom and not (self.request.preview or old.external or old.retain_on_delete):
            try:
                self.provider.delete(old)
            except ProviderError as err:
                self.fail(op, old.urn, str(err))
                return "failed"
        self.state.apply(drop=(old,))
        self.done(op, old.urn)
        return "deleted"


def changed_names(old: Bag, new: Bag) -> list[str]:
    return sorted(name for name in {*old, *new} if old.get(name) != new.get(name))


def _by_dependency(records: list[Record]) -> Iterator[list[Record]]:
    """Yield groups of records, each of which depends only on earlier groups."""
    left = list(records)
    while left:
        urns = {each.urn for each in left}
        group = [each for each in left if not urns & {*each.dependencies, each.parent} - {each.urn}]
        if not group:
            raise unsupported("resources that depend on each other in a circle")
        yield group
        taken = {each.key for each in group}
        left = [each for each in left if each.key not in taken]


def _needed_by(record: Record, records: list[Record]) -> set[int]:
    """Return the keys of all direct and indirect dependencies of a record."""
    found: dict[int, Record] = {}
    queue = [record]
    for each in queue:
        needs = {*each.dependencies, each.parent}
        more = [one for one in records if one.urn in needs and one.key not in found]
        found |= {one.key: one for one in more}
        queue += more
    return set(found)


def main() -> int:
    request = Request(**json.loads(child.read_line()))
    # Fork before this process has any thread.
    program = None
    if request.kind in ("preview", "up"):
        program = child.fork(request.project_dir, request.env)
        if program is None:
            return child.run_program()
    env = {**request.env, "PULUMI_PROJECT": request.project}
    provider = child.fork(request.project_dir, env)
    if provider is None:
        return child.run_provider()
    child.end_with_parent()
    deployment = Deployment(request, program, provider)
    try:
        exit_code = deployment.run()
    except Exception:  # noqa: BLE001 - see Deployment.fault
        deployment.fault = traceback.format_exc()
    if deployment.fault:
        sys.stdout.write(deployment.fault)
        exit_code = FAULT
    result: dict[str, Any] = {"exit_code": exit_code, "changes": deployment.changes}
    result |= {"steps": deployment.steps, "failed": deployment.failed}
    Path(request.result_file).write_text(json.dumps(result))
    return exit_code
