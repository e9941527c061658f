"""What a preview will do to each monitor setup, read from `pulumi preview --json`.

What the CLI writes, as far as this module relies on it (seen on the Pulumi CLI 3.260):

- one step for each resource, with its old and new state; a replacement is one step, ``replace``.
  Unchanged resources are left out, except for the stack, unless `--show-sames` is given.
- a secret property is ``[secret]`` as a whole; one that is not known yet is a fixed UUID.
- each line that a provider prints is a diagnostic of its own, of the severity ``info``, and without
  the resource's URN.
- a preview that failed has a diagnostic of the severity ``error``. Its steps, if it has any, are
  those up to then, without deletes.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple, get_args

from .._codec import unpacked
from .._plan import OPERATORS
from ..errors import TraceloopError, printable

__all__ = ["ACTIONS", "Action", "Change", "Definition", "Plan", "PreviewError", "read"]

#: What happens to a setup, the most dangerous first.
Action = Literal[
    "delete",
    "replace",
    "change",
    "unclear",
    "recheck",
    "create",
    "adopt",
    "move",
    "release",
]

#: The actions in that order: a cut-off list loses its end.
ACTIONS: tuple[Action, ...] = get_args(Action)

_TYPES = "pulumi-python:dynamic/traceloop:"
_COMPONENT = "traceloop:index:AutoMonitorSetupGroup"
_SECRET = "[secret]"  # noqa: S105 - the CLI's mask
_UNKNOWN = "04da6b54-80e4-46f7-96ec-b56ff0331ba9"
#: How the CLI, and the package in `masking`, spell what is not to be seen or not known yet.
_PLACEHOLDERS = {_SECRET: "[secret]", _UNKNOWN: "<unknown>", "<unknown>": "<unknown>"}
_CREATES = ("create", "create-replacement")
_DELETES = ("delete", "delete-replaced")
_OVERWRITES = "replaces a setup that this stack does not manage"


class PreviewError(TraceloopError):
    """A file is not the output of `pulumi preview --json`."""


class RuleText(NamedTuple):
    """One rule in the user's terms, in two parts: where the attribute lives may come between."""

    attribute: str
    condition: str = ""

    def __str__(self) -> str:
        return f"{self.attribute} {self.condition}".rstrip()


@dataclass(frozen=True)
class Definition:
    """A setup as it is declared, in the user's terms.

    Rules and evaluators are texts by what they mean: two definitions with the same keys are equal.
    """

    #: A rule's key begins with its source and its attribute.
    rules: Mapping[tuple[Hashable, ...], RuleText] = field(default_factory=dict)
    evaluators: Mapping[tuple[Hashable, ...], str] = field(default_factory=dict)
    triggers: str = ""
    #: Whether a part of it is secret or not known yet, so that nobody can compare it.
    hidden: bool = False

    def same_as(self, other: Definition) -> bool:
        """Whether the two are equal as far as one can see."""
        mine = self.rules.keys(), self.evaluators.keys(), self.triggers
        return mine == (other.rules.keys(), other.evaluators.keys(), other.triggers)


@dataclass(frozen=True)
class Change:
    """What happens to one setup."""

    external_id: str
    action: Action
    #: What Traceloop has; ``None`` if it has none, or if the preview does not know it.
    before: Definition | None = None
    after: Definition | None = None
    #: What a reviewer should know besides.
    note: str = ""


@dataclass(frozen=True)
class Plan:
    """What a preview will do to the setups of one stack."""

    stack: str
    project: str
    #: The most dangerous first, then by external_id. Without those that stay as they are.
    changes: tuple[Change, ...]
    #: How many setups stay as they are; ``None`` if the preview does not list all of them.
    unchanged: int | None
    #: Whether the preview broke off, so that the changes are not all.
    failed: bool
    errors: tuple[str, ...]
    warnings: tuple[str, ...]

    def counts(self) -> dict[Action, int]:
        """Return how many setups each action is for, without the actions that none is for."""
        found = [change.action for change in self.changes]
        return {action: found.count(action) for action in ACTIONS if action in found}


def read(text: bytes | str, source: str) -> Plan:
    """Read what `pulumi preview --json` wrote.

    Args:
        text: the JSON; bytes may be UTF-8 or, as PowerShell writes them, UTF-16.
        source: what to call it in an error.

    Raises:
        PreviewError: it is something else.

    """
    if not text.strip():
        raise PreviewError(f"{source} is empty: write it with `pulumi preview --json`")
    try:
        preview = json.loads(text)
    except ValueError as error:
        raise PreviewError(
            f"{source} is not what `pulumi preview --json` writes: {printable(str(error))}"
        ) from None
    if not isinstance(preview, dict) or not preview.keys() & {"steps", "diagnostics", "duration"}:
        raise PreviewError(f"{source} is not what `pulumi preview --json` writes")
    return _Reader(preview).plan()


class _Key(NamedTuple):
    #: The configuration of the Traceloop project that a setup is in, where a stack has several.
    namespace: str
    external_id: str


class _Found(NamedTuple):
    definition: Definition | None
    declarer: str
    note: str = ""
    retained: bool = False


class _Reader:
    """Sorts the steps by setup: a setup may leave one resource and appear in another."""

    def __init__(self, preview: Mapping[str, Any]) -> None:
        self._preview = preview
        self._steps = [s for s in _list(preview.get("steps")) if isinstance(s, Mapping)]
        self._created: dict[_Key, _Found] = {}
        self._removed: dict[_Key, _Found] = {}
        self._changes: dict[_Key, Change] = {}
        #: What stays declared, so that it is not deleted, whatever leaves.
        self._kept: set[_Key] = set()
        self._same = 0
        #: The name of the group that declared a setup before and still does.
        self._groups: dict[_Key, str] = {}
        #: Why a setup that is written did not come up.
        self._unsettled: dict[_Key, str] = {}
        #: What the groups' batches said before, for the setups that leave a group.
        self._batches: dict[str, Mapping[str, Any]] = {}

    def plan(self) -> Plan:
        """Read all steps and diagnostics."""
        for step in self._steps:
            kind = _type(step).removeprefix(_TYPES)
            if kind == "AutoMonitorSetup":
                self._single(step)
            elif kind == "AutoMonitorSetupBatch":
                self._batch(step)
        for step in self._steps:
            kind, op = _type(step).removeprefix(_TYPES), step.get("op")
            if kind == "AutoMonitorSetupMembership" and op in (*_DELETES, "replace"):
                self._leavers(step)
            elif kind == "AutoMonitorSetupBatch" and op == "delete":
                # Its membership may be gone: a run that was to delete the group ended half-way.
                self._leavers(step)
        marks = dict(self._marks())
        for key, found in self._created.items():
            self._changes[key] = self._creation(key, found, marks.get(_label(key)))
        for key, found in self._removed.items():
            if key not in self._created and key not in self._kept:
                action: Action = "release" if found.retained else "delete"
                self._changes[key] = Change(key.external_id, action, found.definition)
        self._clear_up(marks)
        urn = next((str(s["urn"]) for s in self._steps if "urn" in s), "")
        stack, project = (*urn.removeprefix("urn:pulumi:").split("::"), "", "")[:2]
        errors, warnings = self._diagnostics("error"), self._diagnostics("warning")
        return Plan(
            stack=stack,
            project=project,
            changes=tuple(
                sorted(
                    self._changes.values(), key=lambda c: (ACTIONS.index(c.action), c.external_id)
                )
            ),
            unchanged=self._same if self._lists_all() else None,
            failed=bool(errors),
            errors=tuple(e for e in errors if e != "preview failed"),
            warnings=tuple(warnings),
        )

    def _clear_up(self, marks: Mapping[str, tuple[str, str]]) -> None:
        """Let the provider tell which secrets changed: it knows them, and prints a plan."""
        lines = [line for text in self._messages("info") for line in text.splitlines()]
        whole = not any(line.startswith("  ... and ") for line in lines)
        for key, change in list(self._changes.items()):
            if change.action != "unclear":
                continue
            mark, _ = marks.get(_label(key), ("", ""))
            if mark == "~":
                self._changes[key] = replace(change, action="change")
            elif key in self._unsettled and (mark == "?" or key not in self._groups):
                # A change of a single setup would have been told by itself, whatever is cut off.
                self._recheck(key, change.before, change.after)
            elif key in self._groups and whole:
                # It tells all changes of a group, below a line with the group's name.
                head = f"{printable(self._groups[key])}: "
                if any(line.startswith(head) for line in lines):
                    del self._changes[key]
                    self._same += 1

    def _single(self, step: Mapping[str, Any]) -> None:
        op = step.get("op")
        old, new = _old(step), _new(step)
        before, after = _single_found(old, step), _single_found(new, step)
        leaving, coming = _single_key(old, step), _single_key(new, step)
        if op in _CREATES:
            self._created[coming] = after
        elif op in _DELETES:
            self._removed[leaving] = before
        elif op == "replace" and leaving != coming:
            self._removed[leaving] = before
            self._created[coming] = after
        elif op == "replace":
            self._pair(coming, before.definition, after.definition)
        elif op == "update" and (why := old.get("unsettled")):
            self._pair(coming, before.definition, after.definition, str(why))
        elif op == "update":  # the step says that it differs, even if what differs is secret
            self._kept.add(coming)
            self._changes[coming] = Change(
                coming.external_id, "change", before.definition, after.definition
            )
        elif op == "same":
            self._same += 1
            self._kept.add(coming)

    def _batch(self, step: Mapping[str, Any]) -> None:
        old, new = _with_all_setups(_old(step)), _with_all_setups(_new(step))
        self._batches[_group(step)] = old
        op, declarer = step.get("op"), str(new.get("declared_by") or _name(step))
        if op not in (*_CREATES, "update", "replace", "same"):
            return
        namespace = _namespace(new)
        setups, before = new.get("setups"), _mapping(old.get("setups"))
        if not isinstance(setups, Mapping):
            mask = Definition({(): RuleText(_masked(setups))}, hidden=True)
            self._changes[_Key(namespace, declarer)] = Change(
                declarer, "unclear", after=mask, note="all setups of this group"
            )
            return
        failed, owned = _mapping(old.get("failed")), _external_ids(old.get("owned"))
        unsettled = _mapping(old.get("unsettled"))
        for external_id in setups:
            key, after = _Key(namespace, external_id), _member(new, external_id)
            if op == "same":
                self._kept.add(key)
                self._same += 1
                continue
            why = failed.get(external_id)
            note = f"tried again; the last update failed: {printable(str(why))}" if why else ""
            if external_id in before and why is None:
                self._groups[key] = _name(step)
                trouble = unsettled.get(external_id)
                self._pair(key, _member(old, external_id), after, str(trouble) if trouble else "")
            elif external_id in before and external_id in owned:
                self._kept.add(key)
                self._changes[key] = Change(external_id, "change", after=after, note=note)
            else:
                self._created[key] = _Found(after, declarer, note)

    def _pair(
        self, key: _Key, before: Definition | None, after: Definition | None, unsettled: str = ""
    ) -> None:
        self._kept.add(key)
        if unsettled:
            self._unsettled[key] = printable(unsettled)
        if before is None or after is None:
            return
        if not before.same_as(after):
            self._changes[key] = Change(key.external_id, "change", before, after)
        elif before.hidden or after.hidden:
            self._changes[key] = Change(key.external_id, "unclear", before, after)
        elif unsettled:
            self._recheck(key, before, after)
        else:
            self._same += 1

    def _recheck(self, key: _Key, before: Definition | None, after: Definition | None) -> None:
        why = self._unsettled[key]
        self._changes[key] = Change(key.external_id, "recheck", before, after, why)

    def _leavers(self, step: Mapping[str, Any]) -> None:
        old = _old(step)
        owned = _external_ids(old.get("owned"))
        replaced = step.get("op") == "replace"
        stay = set(_external_ids(_new(step).get("external_ids")) if replaced else [])
        batch = self._batches.get(_group(step), {})
        declarer = str(old.get("declared_by"))
        retained = bool(_mapping(step.get("oldState")).get("retainOnDelete"))
        for external_id in owned:
            if external_id not in stay:
                key, definition = _Key(_namespace(old), external_id), _member(batch, external_id)
                self._removed[key] = _Found(definition, declarer, retained=retained)

    def _creation(self, key: _Key, found: _Found, mark: tuple[str, str] | None) -> Change:
        after, note = found.definition, found.note
        if (left := self._removed.get(key)) is not None:
            moved = f"moves from {left.declarer} to {found.declarer}"
            before = left.definition
            equal = before is not None and after is not None and before.same_as(after)
            hidden = before is not None and before.hidden
            action: Action = ("unclear" if hidden else "move") if equal else "change"
            return Change(key.external_id, action, before, after, moved)
        if mark and mark[0] == "=":
            return Change(key.external_id, "adopt", after=after, note=note)
        if mark and mark[0] == "!":
            difference = mark[1].removeprefix(_OVERWRITES).strip(" :;,")
            return Change(key.external_id, "replace", after=after, note=difference or note)
        return Change(key.external_id, "create", after=after, note=note)

    def _marks(self) -> Iterator[tuple[str, tuple[str, str]]]:
        """Yield what the provider's own plan lines say: the external_id, the sign and the rest."""
        for diagnostic in self._messages("info"):
            for line in diagnostic.splitlines():
                sign, _, rest = line.strip().partition(" ")
                if sign in ("=", "!", "~", "?") and rest:
                    label, _, said = rest.partition("  ")
                    yield label, (sign, printable(said))

    def _messages(self, severity: str) -> Iterator[str]:
        for diagnostic in _list(self._preview.get("diagnostics")):
            found = _mapping(diagnostic)
            if str(found.get("severity", "")).partition("#")[0] != severity:
                continue
            # Python's own warnings are no business of a pull request's reader.
            if severity == "warning" and "traceloop" not in str(found.get("urn", "")):
                continue
            yield str(found.get("message", ""))

    def _diagnostics(self, severity: str) -> list[str]:
        found = []
        for message in self._messages(severity):
            lines = [line for line in message.strip().splitlines() if line.strip()]
            if lines:
                # Of a traceback only the last line is about the cause.
                traced = any(line.startswith("Traceback ") for line in lines)
                text = lines[-1] if traced else " ".join(lines)
                found.append(printable(text.removeprefix(f"{severity}: ")))
        return list(dict.fromkeys(found))

    def _lists_all(self) -> bool:
        """Whether no unchanged setup can be missing from the steps."""
        same = _mapping(self._preview.get("changeSummary")).get("same", 0)
        listed = sum(step.get("op") == "same" for step in self._steps)
        groups = {s.get("urn") for s in self._steps if _type(s) == _COMPONENT}
        unlisted = self._batches.keys() - groups  # a group's own component has nothing to change
        return bool(same <= listed + len(unlisted))


def _single_key(properties: Mapping[str, Any], step: Mapping[str, Any]) -> _Key:
    external_id = properties.get("external_id")
    if not isinstance(external_id, str) or external_id in _PLACEHOLDERS:
        external_id = f"{_masked(external_id)} ({_name(step)})"
    return _Key(_namespace(properties), external_id)


def _single_found(properties: Mapping[str, Any], step: Mapping[str, Any]) -> _Found:
    retained = bool(_mapping(step.get("oldState")).get("retainOnDelete"))
    declarer = str(properties.get("declared_by") or _name(step))
    shown = properties.get("shown")
    seen = properties if shown is None or _is_masked(shown) else shown
    return _Found(_definition(seen) if properties else None, declarer, retained=retained)


def _with_all_setups(batch: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a group's batch with all its setups in ``setups``."""
    if batch.get("packed_setups") is None:
        return batch
    try:
        return {**batch, "setups": unpacked(batch)}
    except (AttributeError, TypeError, ValueError, zlib.error):  # the CLI has masked them
        return {**batch, "setups": _SECRET}


def _member(batch: Mapping[str, Any], external_id: str) -> Definition | None:
    """Return a setup of a group's batch, if it has it and knows it.

    Of one that the last update failed for, it has what was refused, not what was there before.
    """
    if external_id in _mapping(batch.get("failed")):
        return None
    setup = _mapping(batch.get("setups")).get(external_id)
    if _is_masked(setup):
        # A secret makes the whole setup one; the group passes on what may be seen of it.
        setup = _mapping(batch.get("shown")).get(external_id, setup)
    return None if setup is None else _definition(setup)


def _definition(setup: Any) -> Definition:
    if isinstance(setup, str) and setup not in _PLACEHOLDERS:
        try:
            setup = json.loads(setup)
        except ValueError:
            setup = None
    if not isinstance(setup, Mapping):
        return Definition({(): RuleText(_masked(setup))}, hidden=True)
    hidden = any(_is_masked(leaf) for leaf in _leaves(setup))
    triggers = setup.get("triggers")
    return Definition(
        dict(_rules(setup.get("selector"))),
        dict(_evaluators(setup)),
        "" if triggers is None else json.dumps(triggers, sort_keys=True),
        hidden,
    )


def _rules(selector: Any) -> Iterator[tuple[tuple[Hashable, ...], RuleText]]:
    if not isinstance(selector, list):
        yield (), RuleText(_masked(selector))
        return
    for rule in selector:
        if not isinstance(rule, Mapping):
            yield (_text(rule),), RuleText(_masked(rule))
            continue
        key, source = _text(rule.get("key")), _text(rule.get("source"))
        operator = _text(rule.get("operator")) or "equals"
        value, values = rule.get("value"), rule.get("values")
        operand = (
            frozenset(map(_text, values)) if isinstance(values, list) else _text(value or values)
        )
        yield (source, key, operator, operand), rule_text(rule)


def rule_text(rule: Mapping[str, Any]) -> RuleText:
    """Return one rule in the user's terms, such as ``gen_ai.provider.name = "openai"``."""
    operator = str(rule.get("operator") or "equals")
    condition = OPERATORS.get(operator, _shown(operator))
    if operator in ("in", "not_in"):
        values = rule.get("values")
        if isinstance(values, list):
            condition += f" ({', '.join(map(_quoted, values))})"
        else:
            condition += f" {_masked(values)}"
    elif operator not in ("exists", "not_exists"):
        condition += f" {_quoted(rule.get('value'))}"
    return RuleText(_shown(rule.get("key")), condition)


def _evaluators(setup: Mapping[str, Any]) -> Iterator[tuple[tuple[Hashable, ...], str]]:
    configs = setup.get("evaluator_configs")
    evaluators = setup.get("evaluators") if configs is None else configs
    if not isinstance(evaluators, list):
        yield (), _masked(evaluators)
        return
    for evaluator in evaluators:
        if isinstance(evaluator, Mapping):
            slug, scope = evaluator.get("slug"), evaluator.get("scope")
            text = _shown(slug) + (f" ({_shown(scope)})" if scope else "")
            yield (_text(slug), _text(scope)), text
        else:
            yield (_text(evaluator), ""), _shown(evaluator)


def _shown(value: Any) -> str:
    return _masked(value) if _is_masked(value) else _text(value)


def _quoted(value: Any) -> str:
    return _masked(value) if _is_masked(value) else json.dumps(_text(value), ensure_ascii=False)


def _is_masked(value: Any) -> bool:
    return isinstance(value, str) and value in _PLACEHOLDERS


def _masked(value: Any) -> str:
    return _PLACEHOLDERS.get(value, "<unknown>") if isinstance(value, str) else "<unknown>"


def _text(value: Any) -> str:
    return "" if value is None else value if isinstance(value, str) else json.dumps(value)


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, Mapping):
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from _leaves(item)
    else:
        yield value


def _old(step: Mapping[str, Any]) -> Mapping[str, Any]:
    state = _mapping(step.get("oldState"))
    return {**_mapping(state.get("inputs")), **_mapping(state.get("outputs"))}


def _new(step: Mapping[str, Any]) -> Mapping[str, Any]:
    # The outputs of an update still have what the state said before.
    return _mapping(_mapping(step.get("newState")).get("inputs"))


def _type(step: Mapping[str, Any]) -> str:
    state = _mapping(step.get("newState")) or _mapping(step.get("oldState"))
    return str(state.get("type", ""))


def _name(step: Mapping[str, Any]) -> str:
    return str(step.get("urn", "")).split("::", 3)[-1]


def _group(step: Mapping[str, Any]) -> str:
    """Return the URN of the component that a batch or a membership belongs to."""
    state = _mapping(step.get("newState")) or _mapping(step.get("oldState"))
    return str(state.get("parent", ""))


def _namespace(properties: Mapping[str, Any]) -> str:
    return _text(properties.get("config_namespace"))


def _label(key: _Key) -> str:
    return printable(key.external_id)


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _external_ids(value: Any) -> list[str]:
    """Return what a property holds as JSON; nothing if it is secret or not known yet."""
    try:
        ids = json.loads(value) if isinstance(value, str) else []
    except ValueError:
        return []
    return [i for i in ids if isinstance(i, str)] if isinstance(ids, list) else []
