"""Reads the changes of each monitor setup from `pulumi preview --json`.

It reads the plans that the providers print as data (see `_plan`), and the steps that delete a
resource, for which a preview calls no provider.

The module relies on this behaviour (seen on the Pulumi CLI 3.260):

- one step for each resource, with its old and new state; a replacement is one step, ``replace``,
  and with ``--show-replacement-steps`` three. Unchanged resources are left out, except for the
  stack, unless ``--show-sames`` is given. With ``--refresh`` the steps of the refresh come first.
- a delete that an earlier update left pending is a step ``delete-replaced``, whose old state has
  ``delete``. It is written only with ``--show-replacement-steps``. The old state of a replacement
  has ``delete`` too, but there is a step ``replace``.
- a resource that ``--target`` or ``--exclude`` leaves out is a step ``same``, also a new one; no
  provider is called for it, so a new one has no ``declared_by``.
- a resource that is only read, with ``get``, has a step ``read``, ``read-replacement``, ``discard``
  or ``discard-replaced``; its state has ``external``, and its provider prints no plan.
- a secret property is ``[secret]`` as a whole; an unknown one is a fixed UUID.
- each line that a provider prints is a separate diagnostic of the severity ``info``, without the
  resource's URN.
- a failed preview has a diagnostic of the severity ``error``. Its steps, if any, end before the
  failure, and contain no deletes.
- ``--output json`` and ``PULUMI_ENABLE_STREAMING_JSON_PREVIEW`` write other documents.
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from .._codec import encoded, spec_inputs, unpacked
from .._describe import display_json
from .._plan import (
    ACTIONS,
    LEAVES,
    RELEASED,
    SECRET,
    UNKNOWN,
    Action,
    Change,
    ResourcePlan,
    by_harm,
    decoded,
    with_renames,
)
from .._settings import DEFAULT_NAMESPACE
from .._text import names
from ..errors import TraceloopError, printable

__all__ = ["COMMAND", "READS", "Entry", "Plan", "PreviewError", "json_document", "read"]

#: The command whose output `read` reads.
COMMAND = (
    "TRACELOOP_PLAN=json pulumi preview --json --show-sames --show-replacement-steps > preview.json"
)

_TYPES = "pulumi-python:dynamic/traceloop:"
_KINDS = ("AutoMonitorSetup", "AutoMonitorSetupBatch", "AutoMonitorSetupMembership")
_STACK = "pulumi:pulumi:Stack"
_UNKNOWN = "04da6b54-80e4-46f7-96ec-b56ff0331ba9"
_WRITES = ("create", "create-replacement", "update", "replace")
_DELETES = ("delete", "delete-replaced", "replace")
#: The steps of a setup that is only read.
READS = ("read", "read-replacement", "discard", "discard-replaced")


class PreviewError(TraceloopError):
    """A file is not the output of `pulumi preview --json`, or has no plan."""


class Entry(NamedTuple):
    """A change, with its resource and project."""

    change: Change
    #: The resource or group that declares the setup, or declared it.
    owner: str
    #: The Traceloop project: its ``env_project_id``, or the configuration's namespace.
    project: str


@dataclass(frozen=True)
class Plan:
    """The planned changes to the setups of one stack."""

    stack: str
    project: str
    #: The most harmful first, then by external_id. Unchanged setups are left out.
    changes: tuple[Entry, ...]
    unchanged: int
    #: Whether the preview failed, so that the changes are incomplete.
    failed: bool
    errors: tuple[str, ...]
    warnings: tuple[str, ...]

    def counts(self) -> dict[Action, int]:
        """Return the number of setups by action, without zeros."""
        found = [entry.change.action for entry in self.changes]
        return {action: found.count(action) for action in ACTIONS if action in found}


def read(text: bytes | str, source: str) -> Plan:
    """Read the output of `pulumi preview --json`.

    Args:
        text: the JSON; bytes may be UTF-8 or, as PowerShell writes them, UTF-16.
        source: the file's name in errors.

    Raises:
        PreviewError: the text is not a preview, or not the output of `COMMAND`.

    """
    try:
        if isinstance(text, bytes):
            text = text.decode(json.detect_encoding(text))
        return _Reader(json_document(text)).plan()
    except (UnicodeError, PreviewError) as error:
        reason = str(error) if isinstance(error, PreviewError) else "is not text"
        raise PreviewError(f"{source} {reason}. Write it with: {COMMAND}") from None


def json_document(text: str) -> Mapping[str, Any]:
    """Return the preview in *text*, without other output before and after it."""
    decoder, others = json.JSONDecoder(), 0
    for match in re.finditer(r"^\ufeff?\{", text, re.MULTILINE):
        try:
            found, _ = decoder.raw_decode(text, match.end() - 1)
        except (ValueError, RecursionError):
            continue
        if found.keys() & {"steps", "changeSummary", "diagnostics"} and "result" not in found:
            return found  # type: ignore[no-any-return]
        others += 1
        if "sequence" in found and "timestamp" in found:
            raise PreviewError("is a stream of events, not one document of `pulumi preview --json`")
        if "result" in found and "summary" in found:
            raise PreviewError("is a summary of `--output json`, which does not say what changes")
    if not text.strip():
        raise PreviewError("is empty")
    raise PreviewError("is not what `pulumi preview --json` writes")


class _Reader:
    """Combines plans and steps by setup: one may leave a resource and enter another."""

    def __init__(self, preview: Mapping[str, Any]) -> None:
        self._preview = preview
        self._steps = _without_refresh([_Step(s) for s in _list(preview.get("steps")) if _is(s)])
        self._plans = list(self._printed())
        #: The ``env_project_id`` of each namespace, if a resource has it.
        self._projects = {p.namespace: p.project for p in self._plans if p.project}
        for step in self._steps:
            if found := step.text("env_project_id"):
                self._projects.setdefault(step.namespace, found)

    def plan(self) -> Plan:
        """Return the changes that the providers and the steps report."""
        errors = self._diagnostics("error")
        unchecked = [] if errors else self._unchecked()
        declared = {(self._project(p), i) for p in self._plans for i in p.declares}
        entries = self._entries(declared)
        stack, project = next((s.stack for s in self._steps if s.stack), ("", ""))
        ours = [e for e in entries if e.change.action not in LEAVES]
        return Plan(
            stack=stack,
            project=project,
            changes=tuple(sorted(entries, key=lambda entry: by_harm(entry.change))),
            unchanged=max(0, len(declared) - len(ours)),
            failed=bool(errors),
            errors=tuple(e for e in errors if e != "preview failed"),
            warnings=(
                *unchecked,
                *dict.fromkeys((*self._blind(), *self._notes())),
                *self._diagnostics("warning"),
            ),
        )

    def _printed(self) -> Iterator[ResourcePlan]:
        """Yield the plans that the providers printed, once each: every call prints one."""
        seen = set()
        for message in self._messages("info"):
            for line in message.splitlines():
                try:
                    plan = None if line in seen else decoded(line)
                except ValueError as error:
                    raise PreviewError(f"cannot be used: {error}") from None
                if plan is not None:
                    seen.add(line)
                    yield plan

    def _unchecked(self) -> list[str]:
        """Return the warning about resources without a plan: silence is not "no changes".

        Raises:
            PreviewError: the plans are missing for another reason than ``--target``.

        """
        owners = {plan.owner for plan in self._plans}
        declaring = [step for step in self._steps if step.declares]
        if not declaring and not self._plans and not any(step.kind for step in self._steps):
            raise PreviewError("has no plan of monitor setups: the stack has none, or it is hidden")
        silent = [step for step in declaring if step.new.get("declared_by") not in owners]
        if silent and (not self._plans or any(step.op != "same" for step in silent)):
            raise PreviewError("does not have the plan of its monitor setups")
        found = {step.name for step in silent}
        why = "not checked, because --target or --exclude leaves them out"
        return [f"{why}: {names(sorted(found))}"] if found else []

    def _entries(self, declared: set[tuple[str, str]]) -> list[Entry]:
        """Return one change for each setup, also for one that leaves a resource for another."""
        owned = {(s.text("declared_by"), i) for s in self._steps if s.kind for i in s.owned}
        stays: dict[tuple[str, str], Entry] = {}
        leaves: dict[tuple[str, str], Entry] = {}
        for plan in self._plans:
            for change in plan.changes:
                key = (self._project(plan), change.external_id)
                entry = Entry(change, plan.owner, key[0])
                if change.action in LEAVES:
                    leaves[key] = entry
                    continue
                if change.action == "replace" and (plan.owner, change.external_id) in owned:
                    # With --replace the provider does not see the resource's old state.
                    entry = entry._replace(change=change._replace(action="change"))
                stays[key] = entry
        for entry in self._deleted():
            key = (entry.project, entry.change.external_id)
            known = leaves.setdefault(key, entry)
            if known.change.before is None:
                change = known.change._replace(before=entry.change.before)
                leaves[key] = known._replace(change=change)
        for key, entry in leaves.items():
            if key in stays and entry.owner != stays[key].owner:
                new = stays[key]
                moved = f"moves here from {entry.owner}"
                note = "; ".join(filter(None, (new.change.note, moved)))
                stays[key] = new._replace(change=new.change._replace(note=note))
        removed = [e for key, e in leaves.items() if key not in stays and key not in declared]
        by_project: dict[str, list[Entry]] = {}
        for entry in [*stays.values(), *removed]:
            by_project.setdefault(entry.project, []).append(entry)
        return [
            entry._replace(change=change)
            for entries in by_project.values()
            for entry, change in zip(
                entries, with_renames([e.change for e in entries]), strict=True
            )
        ]

    def _deleted(self) -> Iterator[Entry]:
        """Yield the deletes of the steps; another resource may declare some of the setups."""
        batches = {s.parent: s for s in self._steps if s.kind == "AutoMonitorSetupBatch"}
        replaced = {(s.urn, s.id) for s in self._steps if s.op == "replace"}
        for step in (s for s in self._steps if s.op in _DELETES and s.kind):
            pending = step.pending and (step.urn, step.id) not in replaced
            note = "(the last update did not get to delete it)" if pending else ""
            action: Action = "delete"
            if step.retained:
                action, note = "release", RELEASED
            single = step.kind == "AutoMonitorSetup"
            batch = batches.get(step.parent)
            owner, project = step.text("declared_by"), self._identity(step.namespace)
            project = step.text("env_project_id") or project
            for external_id in step.owned:
                known = batch.member(external_id) if batch else None
                before = step.definition() if single else known
                yield Entry(Change(action, external_id, before, note=note), owner, project)

    def _project(self, plan: ResourcePlan) -> str:
        return plan.project or self._identity(plan.namespace)

    def _identity(self, namespace: str) -> str:
        return self._projects.get(namespace) or namespace

    def _blind(self) -> Iterator[str]:
        for plan in self._plans:
            if plan.blind:
                yield f"the plan is not compared with what Traceloop has: {printable(plan.blind)}"

    def _notes(self) -> Iterator[str]:
        for plan in self._plans:
            yield from map(printable, plan.notes.splitlines())

    def _messages(self, severity: str) -> Iterator[str]:
        for diagnostic in _list(self._preview.get("diagnostics")):
            found = _mapping(diagnostic)
            if str(found.get("severity", "")).partition("#")[0] != severity:
                continue
            # Python's own warnings do not help in a pull request.
            if severity == "warning" and "traceloop" not in str(found.get("urn", "")):
                continue
            yield str(found.get("message", ""))

    def _diagnostics(self, severity: str) -> list[str]:
        found = []
        for message in self._messages(severity):
            lines = [line for line in message.strip().splitlines() if line.strip()]
            if lines:
                # The last line of a traceback has the cause.
                traced = any(line.startswith("Traceback ") for line in lines)
                text = lines[-1] if traced else " ".join(lines)
                found.append(printable(text.removeprefix(f"{severity}: ")))
        return list(dict.fromkeys(found))


class _Step:
    """One step of the preview."""

    def __init__(self, step: Mapping[str, Any]) -> None:
        old, new = _mapping(step.get("oldState")), _mapping(step.get("newState"))
        state = new or old
        self.op = str(step.get("op"))
        self.type = str(state.get("type", ""))
        kind = self.type.removeprefix(_TYPES)
        ours = self.type.startswith(_TYPES) and kind in _KINDS and self.op not in READS
        self.kind = kind if ours else ""
        #: Whether the program declares setups here. `get` makes a state external: a setup that the
        #: stack does not own.
        self.declares = (
            self.kind in _KINDS[:2]
            and self.op not in _DELETES[:2]
            and new.get("external") is not True
        )
        self._external = old.get("external") is True
        self.urn = str(step.get("urn", ""))
        urn = self.urn.removeprefix("urn:pulumi:").split("::")
        self.stack = (urn[0], urn[1]) if len(urn) > 1 else None
        self.name = urn[-1]
        self.parent = str(state.get("parent", ""))
        self.id = str(old.get("id", ""))
        self.pending = old.get("delete") is True
        self.retained = old.get("retainOnDelete") is True
        self._old = {**_mapping(old.get("inputs")), **_mapping(old.get("outputs"))}
        self.new = _mapping(new.get("inputs"))
        self.namespace = self.text("config_namespace") or DEFAULT_NAMESPACE

    def text(self, key: str) -> str:
        """Return a property of the old state; of a resource without one, of the new state."""
        value = self._old.get(key) if self._old else self.new.get(key)
        return value if isinstance(value, str) and value not in (SECRET, _UNKNOWN) else ""

    @property
    def owned(self) -> list[str]:
        """The external_ids that the resource owned; none if they are secret."""
        if self._external:
            return []
        if self.kind == "AutoMonitorSetup":
            return [self.id] if self.id else []
        try:
            ids = json.loads(self.text("owned") or "[]")
        except ValueError:
            return []
        return [i for i in ids if isinstance(i, str)] if isinstance(ids, list) else []

    def definition(self) -> str | None:
        """Return the display JSON of a single resource's old setup."""
        shown = self._old.get("shown")
        if isinstance(shown, str) and shown != SECRET:
            return _readable(shown)
        return _readable(encoded(spec_inputs(self._old)))

    def member(self, external_id: str) -> str | None:
        """Return the display JSON of an old setup of a batch, if the batch knows it.

        Where the last update failed, the batch has the refused setup, not the one in Traceloop.
        """
        if external_id in _mapping(self._old.get("failed")):
            return None
        setup = self._setups().get(external_id)
        masked = setup == SECRET
        if masked:
            # A secret makes the whole setup secret; the group adds its display JSON.
            setup = _mapping(self._old.get("shown")).get(external_id, setup)
        return _readable(setup, literal=not masked) if isinstance(setup, str) else None

    def _setups(self) -> Mapping[str, Any]:
        try:
            return unpacked(self._old)
        except (AttributeError, TypeError, ValueError, zlib.error):  # the CLI has masked them
            return {}


def _readable(setup: str, *, literal: bool = False) -> str | None:
    """Return a setup as display JSON, or ``None`` if it is not a setup.

    Args:
        setup: the setup as the CLI writes it.
        literal: whether it contains no placeholder.

    """
    try:
        text = (display_json(setup) if literal else setup).replace(_UNKNOWN, UNKNOWN)
        return text if text in (SECRET, UNKNOWN) or isinstance(json.loads(text), dict) else None
    except ValueError:
        return None


def _without_refresh(steps: list[_Step]) -> list[_Step]:
    """Return the steps of a preview without those of the refresh before it."""
    stacks = [n for n, step in enumerate(steps) if step.type == _STACK]
    if not any(steps[n].op == "refresh" for n in stacks):
        return steps
    if steps[stacks[-1]].op == "refresh":
        raise PreviewError("is a refresh, not a preview of an update")
    return steps[stacks[-1] :]


def _is(value: Any) -> bool:
    return isinstance(value, Mapping)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _list(value: Any) -> Iterable[Any]:
    return value if isinstance(value, list) else []
