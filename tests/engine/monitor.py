"""Serves the program, and turns its registrations into steps, as the CLI's engine does."""

from __future__ import annotations

import json
import re
import threading
import traceback
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, TypeVar

import grpc
from google.protobuf import empty_pb2
from pulumi.runtime.proto import engine_pb2, engine_pb2_grpc, resource_pb2, resource_pb2_grpc

from .child import ALREADY_REPORTED, Forked
from .deployment import PARALLEL, BailError, Deployment, changed_names, unsupported
from .driver import STACK_TYPE
from .provider import GRPC_OPTIONS, ProviderError, follow, mark_secret_outputs
from .state import Record
from .wire import UNKNOWN, Bag, from_struct, masked, to_struct

if TYPE_CHECKING:
    from collections.abc import Callable

_T = TypeVar("_T")
_SEVERITIES = {1: "info", 2: "warning", 3: "error"}
_DYNAMIC = "pulumi-python:dynamic"
#: The seconds that a program may take to end after the deployment failed.
_LAST_WORDS = 10.0


def run_program(deployment: Deployment, process: Forked) -> Bag:
    """Run the program to its end, then the deletes; return the stack's new outputs."""
    request = deployment.request
    events: SimpleQueue[str] = SimpleQueue()
    monitor = Monitor(deployment, events)
    pool = ThreadPoolExecutor(64)  # one thread for each call that waits for a step
    server = grpc.server(pool, options=GRPC_OPTIONS)
    resource_pb2_grpc.add_ResourceMonitorServicer_to_server(monitor, server)
    engine_pb2_grpc.add_EngineServicer_to_server(Engine(deployment, monitor), server)
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()

    settings = {
        "monitor": address,
        "engine": address,
        "project": request.project,
        "stack": request.stack,
        "parallel": PARALLEL,
        "dry_run": request.preview,
        "organization": "organization",
        "root_directory": request.project_dir,
    }
    order = {"config": request.config, "secret_keys": request.secret_keys, "settings": settings}
    process.stdin.write(json.dumps({**order, "program": request.project_dir}) + "\n")
    process.stdin.flush()
    reader = follow(process, lambda line: deployment.display.diagnostic("info", line))
    exit_code: list[int] = []

    def wait() -> None:
        exit_code.append(process.wait())
        events.put("ended")

    waiter = threading.Thread(target=wait, daemon=True)
    waiter.start()

    # "complete": the program waits for the engine. With an old SDK it ends instead.
    event = events.get()
    if event == "complete" or (event == "ended" and exit_code == [0]):
        try:
            monitor.finish()
        except BailError as err:
            deployment.bail(err)
    monitor.released.set()
    waiter.join(_LAST_WORDS)
    if not exit_code:
        process.terminate()
        waiter.join()
    reader.join(_LAST_WORDS)  # a process that the program left running may hold its stdout
    server.stop(None)
    pool.shutdown(wait=True)  # finish the steps that ran when another failed
    if exit_code != [0] and not monitor.aborted.is_set():
        deployment.errored = True
        if exit_code != [ALREADY_REPORTED]:
            deployment.error(f"program exited with non-zero exit code: {exit_code[0]}")
    return monitor.write_stack_outputs()


class Monitor(resource_pb2_grpc.ResourceMonitorServicer):
    """The ResourceMonitor service. Checks and diffs run one at a time, the rest in parallel."""

    def __init__(self, deployment: Deployment, events: SimpleQueue[str]) -> None:
        self.aborted = threading.Event()
        #: Set when the program may end.
        self.released = threading.Event()
        self._deployment = deployment
        self._events = events
        self._deciding = threading.Lock()
        self._seen: set[str] = set()
        self._options: dict[str, tuple[bool, bool]] = {}
        #: By new URN: the old URN that an alias found.
        self._renamed: dict[str, str] = {}
        #: By URN: components that have not registered their outputs, and the op of their step.
        self._open: dict[str, tuple[str, Record]] = {}
        self._stack_outputs: Bag | None = None
        for urn in deployment.request.replace:
            if "*" in urn:
                raise unsupported("wildcards in replace")
            if deployment.state.current(urn) is None:
                raise BailError(f"Target '{urn}' could not be found in the stack.")

    # The calls of the program

    def SupportsFeature(self, request: Any, context: Any) -> Any:  # noqa: N802
        # Without "aliasSpecs" the SDK resolves a resource's own aliases to URNs.
        return resource_pb2.SupportsFeatureResponse(hasSupport=request.id == "secrets")

    def RegisterResource(self, request: Any, context: Any) -> Any:  # noqa: N802
        new = self._serve(context, lambda: self._register(request))
        outputs = new.outputs if new.custom else {}
        return resource_pb2.RegisterResourceResponse(
            urn=new.urn, id=new.id, object=to_struct(outputs)
        )

    def RegisterResourceOutputs(self, request: Any, context: Any) -> Any:  # noqa: N802
        self._serve(context, lambda: self._outputs(request.urn, from_struct(request.outputs)))
        return empty_pb2.Empty()

    def ReadResource(self, request: Any, context: Any) -> Any:  # noqa: N802
        new = self._serve(context, lambda: self._read(request))
        return resource_pb2.ReadResourceResponse(urn=new.urn, properties=to_struct(new.outputs))

    def Invoke(self, request: Any, context: Any) -> Any:  # noqa: N802
        self._serve(context, lambda: self._refuse(f"invoke of {request.tok}"))

    def Call(self, request: Any, context: Any) -> Any:  # noqa: N802
        self._serve(context, lambda: self._refuse(f"call of {request.tok}"))

    def RegisterPackage(self, request: Any, context: Any) -> Any:  # noqa: N802
        self._serve(context, lambda: self._refuse(f"package {request.name}"))

    def SignalAndWaitForShutdown(self, request: Any, context: Any) -> Any:  # noqa: N802
        self._events.put("complete")
        self.released.wait()
        return empty_pb2.Empty()

    def _refuse(self, what: str) -> None:
        raise unsupported(what)

    def _serve(self, context: Any, action: Callable[[], _T]) -> _T:
        """Run *action*, or end the deployment: the SDK takes UNAVAILABLE for the engine's end."""
        if not self.aborted.is_set():
            try:
                return action()
            except BailError as err:
                self._deployment.bail(err)
            except ProviderError as err:
                self._deployment.error(str(err))
            except Exception:  # noqa: BLE001 - see Deployment.fault
                self._deployment.fault = traceback.format_exc()
            self.aborted.set()
            self._events.put("aborted")
        context.abort(grpc.StatusCode.UNAVAILABLE, "the deployment has failed")
        raise AssertionError("abort raises")

    # From a registration to its step

    def _register(self, request: Any) -> Record:
        with self._deciding:
            urn = self._urn(request)
            _refuse_unknown_options(request, urn)
            new = self._goal(request, urn)
            old = self._old(urn, request)
            self._seen.add(urn)
            try:
                take = self._decide(request, new, old)
            except ProviderError as err:
                raise BailError(str(err), urn) from None
        return take()

    def _urn(self, request: Any) -> str:
        asked, parent = self._deployment.request, request.parent
        parents = parent.split("::", 3)[2] if parent else ""
        kinds = request.type if parents in ("", STACK_TYPE) else f"{parents}${request.type}"
        urn = f"urn:pulumi:{asked.stack}::{asked.project}::{kinds}::{request.name}"
        if urn in self._seen:
            raise BailError(f"Duplicate resource URN '{urn}'; try giving it a unique name", urn)
        return urn

    def _goal(self, request: Any, urn: str) -> Record:
        """Return the registered record. A child inherits its parent's protection."""
        protect, retain = self._options.get(request.parent, (False, False))
        protect = _option(request, "protect", protect)
        retain = _option(request, "retainOnDelete", retain)
        self._options[urn] = (protect, retain)
        by_property = request.propertyDependencies.items()
        return Record(
            urn=urn,
            type=request.type,
            custom=request.custom,
            inputs=from_struct(request.object),
            parent=request.parent,
            dependencies=sorted(request.dependencies),
            property_dependencies={name: sorted(each.urns) for name, each in by_property},
            secret_outputs=list(request.additionalSecretOutputs),
            protect=protect,
            retain_on_delete=retain,
        )

    def _old(self, urn: str, request: Any) -> Record | None:
        for candidate in (urn, *request.aliasURNs, *self._inherited_alias(request)):
            old = self._deployment.state.current(candidate)
            if old is not None and old.key not in self._deployment.kept:
                self._deployment.kept.add(old.key)
                if old.urn != urn:
                    self._renamed[urn] = old.urn
                return old
        return None

    def _inherited_alias(self, request: Any) -> list[str]:
        """Return the child's URN under its parent's old name, often a prefix of its own."""
        if request.parent not in self._renamed:
            return []
        old_parent = self._renamed[request.parent].split("::", 3)
        new_name, name = request.parent.split("::", 3)[3], request.name
        if name.startswith(new_name):
            name = old_parent[3] + name[len(new_name) :]
        return ["::".join([*old_parent[:2], f"{old_parent[2]}${request.type}", name])]

    def _decide(self, request: Any, new: Record, old: Record | None) -> Callable[[], Record]:
        """Check and diff; return the step, which runs outside the lock."""
        if not new.custom:
            return lambda: self._component(new, old)
        goal = new.inputs
        external = old is not None and old.external
        asked = old is not None and old.urn in self._deployment.request.replace
        fresh = old is None or external or asked
        inputs = goal if old is None else _keep_ignored(goal, old.inputs, request)
        new.inputs = self._check(new, {}, goal) if fresh else self._check(new, old.inputs, inputs)  # type: ignore[union-attr]
        if old is None:
            return lambda: self._create(new)
        if external:
            return lambda: self._replace(new, old, [])
        before = False
        changed: list[str] = changed_names(old.inputs, new.inputs)
        if not asked:
            response = self._deployment.diff(old, new.inputs, list(request.ignoreChanges))
            some = response.changes == response.DIFF_SOME
            replaced = old.pending_replacement or (some and bool(response.replaces))
            before = response.deleteBeforeReplace
            if not replaced:
                return (
                    (lambda: self._update(new, old, changed))
                    if some
                    else (lambda: self._same(new, old))
                )
            new.inputs = self._check(new, {}, goal)
            changed = changed_names(old.inputs, new.inputs)
        self._refuse_protected(new, old)
        if request.deleteBeforeReplaceDefined:
            before = request.deleteBeforeReplace
        if before or old.pending_replacement:
            self._refuse_dependants(old)
            return lambda: self._delete_then_create(new, old, changed)
        return lambda: self._replace(new, old, changed)

    def _check(self, new: Record, olds: Bag, news: Bag) -> Bag:
        inputs, failures = self._deployment.provider.check(new.urn, olds, news)
        for name, reason in failures:
            what = f": property {name} value {{{masked(news.get(name))}}}" if name else ""
            self._deployment.error(
                f"{new.type} resource '{new.name}'{what} has a problem: {reason}", new.urn
            )
        if failures:
            raise BailError("check failed", new.urn, reported=True)
        return inputs

    def _refuse_protected(self, new: Record, old: Record) -> None:
        if not (new.protect and old.protect):
            return
        message = (
            f'unable to replace resource "{new.urn}"\nas it is currently marked for protection. '
            "To unprotect the resource, remove the `protect` flag from the resource and run an `up`"
        )
        self._deployment.error(message, new.urn)
        if not self._deployment.request.preview:  # a preview continues, to display the rest
            raise BailError(message, new.urn, reported=True)

    def _refuse_dependants(self, old: Record) -> None:
        for each in self._deployment.state.records.values():
            if any(old.urn in urns for urns in each.property_dependencies.values()):
                raise unsupported("delete before replace of what others use", old.urn)

    # The steps

    def _component(self, new: Record, old: Record | None) -> Record:
        op = "create"
        if old is not None:
            op = "same" if old.inputs == new.inputs else "update"
            new.key, new.outputs = old.key, old.outputs
        self._keep(new)
        self._open[new.urn] = (op, new)
        changed = changed_names(old.inputs, new.inputs) if old else []
        self._deployment.done(op, new.urn, changed, finished=self._deployment.request.preview)
        return new

    def _create(self, new: Record) -> Record:
        self._make("create", new)
        self._keep(new)
        self._deployment.done("create", new.urn)
        return new

    def _same(self, new: Record, old: Record) -> Record:
        new.key, new.id, new.outputs = old.key, old.id, old.outputs
        self._keep(new)
        self._deployment.done("same", new.urn)
        return new

    def _update(self, new: Record, old: Record, changed: list[str]) -> Record:
        new.key, new.id = old.key, old.id
        if self._deployment.request.preview:
            new.outputs = dict(new.inputs)
        else:
            try:
                self._deployment.provider.update(old, new)
            except ProviderError as err:
                raise self._deployment.fail("update", new.urn, str(err)) from None
        self._keep(new)
        self._deployment.done("update", new.urn, changed)
        return new

    def _replace(self, new: Record, old: Record, changed: list[str]) -> Record:
        """Create the new resource; the old one is deleted at the end, if the program succeeds."""
        self._make("create-replacement", new)
        self._keep(new, replace(old, delete=True))
        self._deployment.kept.discard(old.key)
        self._deployment.done("create-replacement", new.urn, changed)
        self._deployment.done("replace", new.urn, changed)
        return new

    def _delete_then_create(self, new: Record, old: Record, changed: list[str]) -> Record:
        if not old.pending_replacement:
            outcome = self._deployment.delete(replace(old, delete=True))
            if outcome != "deleted":
                raise BailError("the deletion failed", new.urn, reported=True)
            self._deployment.state.apply(put=(replace(old, pending_replacement=True),))
        self._deployment.done("replace", new.urn, changed)
        self._make("create-replacement", new)
        new.key = old.key
        self._keep(new)
        self._deployment.done("create-replacement", new.urn, changed)
        return new

    def _make(self, op: str, new: Record) -> None:
        """Call the provider's create, except in a preview."""
        if self._deployment.request.preview:
            new.outputs = dict(new.inputs)
            return
        try:
            self._deployment.provider.create(new)
        except ProviderError as err:
            raise self._deployment.fail(op, new.urn, str(err)) from None

    def _keep(self, new: Record, *others: Record) -> None:
        mark_secret_outputs(new)
        self._deployment.state.apply(put=(new, *others))
        self._deployment.kept.add(new.key)

    def _read(self, request: Any) -> Record:
        with self._deciding:
            urn = self._urn(request)
            new = Record(
                urn=urn,
                type=request.type,
                custom=True,
                id=request.id,
                inputs=from_struct(request.properties),
                parent=request.parent,
                dependencies=sorted(request.dependencies),
                secret_outputs=list(request.additionalSecretOutputs),
                external=True,
            )
            if not request.type.startswith(_DYNAMIC):
                raise unsupported(f"a resource of type {request.type}", urn)
            old = self._deployment.state.current(urn)
            self._seen.add(urn)
        op, others = "read", list[Record]()
        if old is not None and not old.external and old.id != new.id:
            op, others = "read-replacement", [replace(old, delete=True)]
        elif old is not None:
            new.key = old.key
        if new.id != UNKNOWN:
            try:
                id_, new.outputs, _ = self._deployment.provider.read(
                    urn, new.id, new.inputs, new.inputs
                )
            except ProviderError as err:
                raise self._deployment.fail(op, urn, str(err)) from None
            new.id = id_ or new.id
        self._keep(new, *others)
        self._deployment.done(op, urn)
        if others:
            self._deployment.done("replace", urn)
        return new

    def _outputs(self, urn: str, outputs: Bag) -> None:
        if urn == self._deployment.root:
            self._stack_outputs = outputs  # written at the end, when the outcome is known
            return
        op, record = self._open.pop(urn)
        record.outputs = outputs
        self._deployment.state.apply(put=(record,))
        if not self._deployment.request.preview:
            self._deployment.finish(op, urn)

    # The end

    def finish(self) -> None:
        """Delete the unregistered resources."""
        self._deployment.delete_unregistered()

    def write_stack_outputs(self) -> Bag:
        """Write the stack's outputs. After a failure, keep missing ones, which may be late."""
        op, record = self._open.pop(self._deployment.root, ("", None))
        if record is None or self._stack_outputs is None:
            return record.outputs if record else {}
        kept = record.outputs if self._deployment.errored else {}
        record.outputs = {**kept, **self._stack_outputs}
        self._deployment.state.apply(put=(record,))
        if not self._deployment.request.preview:
            self._deployment.finish(op, record.urn)
        return record.outputs


class Engine(engine_pb2_grpc.EngineServicer):
    """The Engine service: the program's log, and its root resource."""

    def __init__(self, deployment: Deployment, monitor: Monitor) -> None:
        self._deployment = deployment
        self._monitor = monitor
        self._root = ""

    def Log(self, request: Any, context: Any) -> Any:  # noqa: N802
        severity = _SEVERITIES.get(request.severity)
        # After a failure the SDK only reports that the engine is gone.
        if severity and not request.ephemeral and not self._monitor.aborted.is_set():
            self._deployment.display.diagnostic(severity, request.message, request.urn)
        return empty_pb2.Empty()

    def SetRootResource(self, request: Any, context: Any) -> Any:  # noqa: N802
        self._root = request.urn
        return engine_pb2.SetRootResourceResponse()

    def GetRootResource(self, request: Any, context: Any) -> Any:  # noqa: N802
        return engine_pb2.GetRootResourceResponse(urn=self._root)


def _option(request: Any, option: str, inherited: bool) -> bool:
    """Return an option, or the parent's if it is not set: an old SDK never sets a false one."""
    is_set = any(field.name == option for field, _ in request.ListFields())
    return bool(getattr(request, option)) if is_set else inherited


def _keep_ignored(goal: Bag, olds: Bag, request: Any) -> Bag:
    """Return the inputs with the old values of the properties in `ignore_changes`."""
    inputs = dict(goal)
    for name in request.ignoreChanges:
        if not re.fullmatch(r"\w+", name):
            raise unsupported(f"ignoreChanges of the path {name}")
        if name in olds and name in goal:
            inputs[name] = olds[name]
    return inputs


def _refuse_unknown_options(request: Any, urn: str) -> None:
    if request.custom and not request.type.startswith(_DYNAMIC):
        raise unsupported(f"a resource of type {request.type}", urn)
    if request.remote:
        raise unsupported("a remote component", urn)
    options = ("provider", "providers", "importId", "deletedWith", "replaceOnChanges")
    newer = ("transforms", "replace_with", "replacement_trigger", "state_migrations")
    given = {field.name: value for field, value in request.ListFields()}
    hooks = given.get("hooks")
    for option in (*options, *newer):
        if option in given:
            raise unsupported(f"the option {option}", urn)
    if hooks is not None and hooks.ListFields():
        raise unsupported("the option hooks", urn)
    if request.aliases:
        raise unsupported("alias specs", urn)
