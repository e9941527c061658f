"""Monitor setups in a YAML or JSON file.

A file is read as events, which the YAML library makes without building any object: so no tag can
run code, every value keeps its line, and aliases are bounded before they are expanded. What follows
is this module's own, for the library knows YAML 1.1, where ``on`` is a boolean, ``1.10`` the number
1.1 and ``12:30`` the number 750: such a value is refused, never converted.
"""

from __future__ import annotations

import difflib
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeAlias

import pulumi
import yaml
from pydantic import BaseModel, ValidationError

from ._models import EvaluatorConfig, Problem, Rule, SetupSpec, problems
from ._naming import external_id_problem
from .errors import TraceloopError, printable

__all__ = ["SCHEMA", "FileError", "FileProblem", "load_setups"]

#: The JSON Schema of these files, for editors.
SCHEMA: Final = Path(__file__).with_name("monitors.schema.json")

#: A longer file, in bytes, is not a list of monitors: 20,000 setups are shorter.
_FILE_LIMIT = 10 * 1024 * 1024

#: How many values a file may have once its aliases are expanded, and how deep they may be nested.
_VALUE_LIMIT = 1_000_000
_DEPTH_LIMIT = 100

#: How many problems an error's message tells; its attribute has them all.
_SHOWN = 50

_Parser: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_YAML = "tag:yaml.org,2002:"


class FileProblem(NamedTuple):
    """What is wrong in a file: in which line, with which property, and why."""

    #: Counted from 1; ``None`` if the file as a whole is meant.
    line: int | None
    #: Such as ``setups["openai"].selector[0].value``; empty if the file as a whole is meant.
    path: str
    reason: str


class FileError(TraceloopError, pulumi.RunError):
    """A file of setups that cannot be used. All that is wrong with it is told at once.

    It is a `pulumi.RunError`, which ends a program with its message and no traceback.

    Attributes:
        file: the file's name, as it was given.
        problems: what is wrong, in the order of the lines.

    """

    def __init__(self, file: str, problems: list[FileProblem]) -> None:
        self.file = file
        self.problems = sorted(problems, key=lambda problem: problem.line or 0)
        told = [self._told(problem) for problem in self.problems[:_SHOWN]]
        if len(self.problems) > 1:
            told.insert(0, f"{len(self.problems)} problems in {printable(file)}:")
        if rest := len(self.problems) - _SHOWN:
            told += [f"and {rest} more"] if rest > 0 else []
        super().__init__("\n  ".join(told))

    def _told(self, problem: FileProblem) -> str:
        line = f":{problem.line}" if problem.line else ""
        path = f"{printable(problem.path)}: " if problem.path else ""
        return f"{printable(self.file)}{line}: {path}{problem.reason}"


def load_setups(path: str | os.PathLike[str]) -> dict[str, dict[str, Any]]:
    """Return the setups of a file, as `AutoMonitorSetupGroup` takes them: by external_id.

    Example::

        # yaml-language-server: $schema=monitors.schema.json
        setups:
          openai:
            selector:
              - {key: gen_ai.provider.name, source: span_attributes, value: openai}
            evaluators: [faithfulness]

    Anchors, aliases and merge keys may be used, and top-level keys that begin with ``x-`` may hold
    what is shared. JSON is YAML, so a JSON file does as well.

    Args:
        path: the file; a relative path begins at the working directory, which under ``pulumi up``
            is the project's folder.

    Raises:
        FileError: the file cannot be read, or something in it is wrong.

    """
    return _File(os.fspath(path)).setups()


@dataclass(frozen=True)
class _Scalar:
    place: tuple[int, int]
    text: str
    #: Written without quotes and without a tag: what it means is for YAML's rules to say.
    plain: bool
    size: int = 1
    depth: int = 1


@dataclass
class _List:
    place: tuple[int, int]
    items: list[_Node] = field(default_factory=list)
    size: int = 1
    depth: int = 1


@dataclass
class _Map:
    place: tuple[int, int]
    entries: dict[str, tuple[_Scalar, _Node]] = field(default_factory=dict)
    merged: _Node | None = None
    size: int = 1
    depth: int = 1
    #: The key that waits for its value.
    key: _Node | None = None
    #: Where the merge key is, if there is one.
    merge_place: tuple[int, int] | None = None


_Node: TypeAlias = _Scalar | _List | _Map


#: The lists and mappings that are open, each with its anchor.
_Stack: TypeAlias = list[tuple[_List | _Map, str | None]]


class _UnreadableError(Exception):
    """The file cannot be read beyond this: the problem is noted already."""


class _File:
    def __init__(self, name: str) -> None:
        self._name = name
        self._problems: dict[tuple[object, ...], FileProblem] = {}

    def setups(self) -> dict[str, dict[str, Any]]:
        setups: dict[str, dict[str, Any]] = {}
        try:
            root = self._compose(self._text())
            setups = dict(self._read(root))
        except _UnreadableError:
            pass
        if self._problems:
            raise FileError(self._name, list(self._problems.values()))
        return setups

    def _wrong(self, place: tuple[int, int] | None, path: str, reason: str) -> None:
        # What an alias brings to many setups is wrong in one place, and told once.
        once = (place, re.split(r"[.\[]", path)[-1], reason)
        line = place[0] + 1 if place else None
        self._problems.setdefault(once, FileProblem(line, path, reason))

    def _unreadable(self, place: tuple[int, int] | None, reason: str) -> _UnreadableError:
        self._wrong(place, "", reason)
        return _UnreadableError()

    # The file's text.

    def _text(self) -> str:
        try:
            with Path(self._name).open("rb") as file:
                content = file.read(_FILE_LIMIT + 1)
        except FileNotFoundError:
            where = "" if Path(self._name).is_absolute() else f" in {Path.cwd()}"
            raise self._unreadable(
                None,
                f"there is no such file{where}; a relative path begins at the working directory,"
                " which under `pulumi up` is the project's folder",
            ) from None
        except OSError as error:
            raise self._unreadable(None, f"cannot be read: {error.strerror}") from None
        if len(content) > _FILE_LIMIT:
            raise self._unreadable(
                None,
                f"is longer than {_FILE_LIMIT // 1024**2} MiB, which no list of monitors is; split"
                " it into several files, each with a group of its own, if it is one",
            )
        try:
            text = content.decode("utf-8")  # PyYAML skips a byte order mark
        except UnicodeDecodeError as error:
            place = (content[: error.start].count(b"\n"), 0)
            raise self._unreadable(place, "is not UTF-8 text; save the file as UTF-8") from None
        if bad := yaml.reader.Reader.NON_PRINTABLE.search(text):
            raise self._unreadable(
                (text.count("\n", 0, bad.start()), 0),
                f"the character U+{ord(bad[0]):04X} is not allowed; remove it, or write it as an"
                " escape in double quotes",
            )
        if self._name.lower().endswith(".json"):
            # JSON's two spellings that YAML does not have: an indentation of tabs, and characters
            # beyond the first 65,536 as two escapes.
            text = _PAIR.sub(
                lambda pair: pair[1] + json.loads(f'"{pair[2]}"'), text.replace("\t", " ")
            )
        return text

    # From text to nodes.

    def _compose(self, text: str) -> _Node:
        """Return the root; duplicate keys are noted, and what makes no sense ends it."""
        anchors: dict[str, _Node] = {}
        stack: _Stack = []
        root: _Node | None = None
        try:
            for event in yaml.parse(text, _Parser):
                place = _place(event.start_mark) or (0, 0)
                node: _Node
                if isinstance(event, yaml.DocumentStartEvent) and root is not None:
                    raise self._unreadable(place, "begins a second document; keep one in the file")
                if isinstance(event, (yaml.SequenceStartEvent, yaml.MappingStartEvent)):
                    kind = "seq" if isinstance(event, yaml.SequenceStartEvent) else "map"
                    self._check_tag(event.tag, kind, place, stack)
                    if len(stack) >= _DEPTH_LIMIT:
                        raise self._too_deep(place)
                    if event.anchor:
                        anchors.pop(event.anchor, None)  # until it is whole
                    opened = _List(place) if kind == "seq" else _Map(place)
                    stack.append((opened, event.anchor))
                    continue
                if isinstance(event, yaml.ScalarEvent):
                    self._check_tag(event.tag, "str", place, stack)
                    node = _Scalar(place, event.value, event.implicit[0])
                    if event.anchor:
                        anchors[event.anchor] = node
                elif isinstance(event, yaml.AliasEvent):
                    if event.anchor not in anchors:
                        inside = any(anchor == event.anchor for _, anchor in stack)
                        raise self._unreadable(
                            place,
                            f"the alias *{event.anchor} "
                            + (
                                "stands inside of what it stands for"
                                if inside
                                else f"needs an anchor &{event.anchor} before it"
                            ),
                        )
                    node = anchors[event.anchor]
                elif isinstance(event, (yaml.SequenceEndEvent, yaml.MappingEndEvent)):
                    node, anchor = stack.pop()
                    if anchor:
                        anchors[anchor] = node
                else:
                    continue
                if stack:
                    self._add(stack, node, place)
                else:
                    root = node
        except yaml.MarkedYAMLError as error:
            raise self._syntax(error, text) from None
        if root is None or (isinstance(root, _Scalar) and root.plain and not root.text):
            raise self._unreadable(
                None, "is empty; a file that declares no monitors says so: `setups: {}`"
            )
        return root

    def _add(self, stack: _Stack, node: _Node, place: tuple[int, int]) -> None:
        parent = stack[-1][0]
        parent.size += node.size
        parent.depth = max(parent.depth, node.depth + 1)
        if parent.size > _VALUE_LIMIT:
            raise self._unreadable(
                place,
                f"has more than {_VALUE_LIMIT:,} values with its aliases expanded; use fewer"
                " aliases, or split the file",
            )
        if parent.depth > _DEPTH_LIMIT:
            raise self._too_deep(place)
        if isinstance(parent, _List):
            parent.items.append(node)
        elif parent.key is None:
            parent.key = node
        else:
            key, parent.key = parent.key, None
            self._add_entry(parent, key, node, _path(stack))

    def _add_entry(self, parent: _Map, key: _Node, node: _Node, path: str) -> None:
        if not isinstance(key, _Scalar):
            self._wrong(
                key.place,
                path,
                "a list or mapping is no key; put a text that begins with [ or { in quotes",
            )
            return
        merges = key.plain and key.text == "<<"
        first = parent.merge_place if merges else None
        if not merges and key.text in parent.entries:
            first = parent.entries[key.text][0].place
        if first:
            cure = "merge both with `<<: [*one, *other]`" if merges else "remove or rename one"
            self._wrong(
                key.place,
                path,
                f'the key "{_shown(key.text)}" is there twice: in line {first[0] + 1} and in line'
                f" {key.place[0] + 1}; {cure}",
            )
        elif merges:
            parent.merged, parent.merge_place = node, key.place
        else:
            parent.entries[key.text] = key, node

    def _check_tag(self, tag: str | None, kind: str, place: tuple[int, int], stack: _Stack) -> None:
        if tag not in (None, "!", _YAML + kind):
            shown = tag.replace(_YAML, "!!") if tag else ""
            reason = f"the tag {_shown(shown)} is not allowed here; remove it"
            self._wrong(place, _path(stack), reason)

    def _too_deep(self, place: tuple[int, int]) -> _UnreadableError:
        return self._unreadable(
            place, f"is nested more than {_DEPTH_LIMIT} deep; no setup is: check the brackets"
        )

    def _syntax(self, error: yaml.MarkedYAMLError, text: str) -> _UnreadableError:
        place = _place(error.problem_mark or error.context_mark)
        problem, line = error.problem or "", ""
        if place and place[0] < len(lines := text.split("\n")):
            line = lines[place[0]]
        if "cannot start any token" in problem and place and line[place[1] : place[1] + 1]:
            found = line[place[1]]
            if found == "\t":
                return self._unreadable(place, "begins with a tab; YAML is indented with spaces")
            return self._unreadable(
                place, f'a value cannot begin with {found}; put it in quotes, "{found}..."'
            )
        if "mapping values are not allowed" in problem:
            return self._unreadable(
                place,
                'is not valid YAML: there is a ":" too many; check the indentation, and put a text'
                ' that holds ": " in quotes',
            )
        context = f" {error.context}" if error.context else ""
        begun = _place(error.context_mark)
        if begun and place and begun[0] != place[0]:
            context += f" that begins in line {begun[0] + 1}"
        return self._unreadable(
            place,
            f"is not valid YAML:{context}{',' if context else ''} {_shown(problem, 200)}; check the"
            " quotes, brackets and indentation there",
        )

    # From nodes to setups.

    def _read(self, root: _Node) -> Iterator[tuple[str, dict[str, Any]]]:
        if not isinstance(root, _Map):
            raise self._unreadable(
                root.place, "the file must be a mapping with the key `setups`, such as `setups: {}`"
            )
        entries = self._entries(root, "")
        for name, (key, node) in entries.items():
            if name == "$schema":
                if not isinstance(self._value(node, name, []), str):
                    self._wrong(node.place, name, "must be a string: the schema's path or URL")
            elif name != "setups" and not name.startswith("x-"):
                near = difflib.get_close_matches(name, ["setups", "$schema"], 1)
                cure = (
                    f'did you mean "{near[0]}"?'
                    if near
                    else "setups belong under `setups`, shared parts under `x-...`"
                )
                self._wrong(key.place, _shown(name), f"is not a known key; {cure}")
        if "setups" not in entries:
            raise self._unreadable(root.place, "has no `setups`; to declare none: `setups: {}`")
        key, node = entries["setups"]
        if not isinstance(node, _Map):
            empty = isinstance(node, _Scalar) and _is_null(node)
            self._wrong(
                key.place,
                "setups",
                "is empty; to declare none: `setups: {}`"
                if empty
                else "must map each external_id to its setup",
            )
            return
        for external_id, (key, setup) in self._entries(node, "setups").items():
            path = _join("setups", external_id)
            if reason := external_id_problem(external_id):
                self._wrong(key.place, path, f"the external_id {reason}")
            yield external_id, self._setup(key, setup, path)

    def _setup(self, key: _Scalar, node: _Node, path: str) -> dict[str, Any]:
        nodes: list[tuple[str, tuple[int, int], _Node]] = [("", key.place, node)]
        value = self._value(node, path, nodes)
        places = {p.removeprefix(path).lstrip("."): (place, n) for p, place, n in nodes}
        for problem in _all_problems(value):
            at = problem.path
            while at not in places:
                at = at[: max(at.rfind("."), at.rfind("["), 0)]
            place, wrong = places[at]
            reason = problem.reason
            if at == problem.path and isinstance(wrong, _Scalar) and _is_null(wrong) and wrong.text:
                reason += f'; if the text is meant, put it in quotes, "{wrong.text}"'
            at = "" if problem.path == "setup" else problem.path
            self._wrong(place, f"{path}.{at}" if at else path, reason)
        if not isinstance(value, dict):
            return {}
        return {name: item for name, item in value.items() if item is not None}

    def _value(
        self,
        node: _Node,
        path: str,
        nodes: list[tuple[str, tuple[int, int], _Node]],
        *,
        free: bool = False,
    ) -> Any:
        """Return what *node* stands for.

        Args:
            node: the node.
            path: the property's path, for what is wrong.
            nodes: gets each property's path, place and node.
            free: whether numbers and booleans are fine, as in triggers.

        """
        if isinstance(node, _Scalar):
            return self._scalar(node, path, free=free)
        if isinstance(node, _List):
            items = []
            for index, item in enumerate(node.items):
                at = f"{path}[{index}]"
                nodes.append((at, item.place, item))
                items.append(self._value(item, at, nodes, free=free))
            return items
        mapping = {}
        for name, (key, item) in self._entries(node, path).items():
            at = _join(path, name)
            nodes.append((at, key.place, item))
            inside = free or (name == "triggers" and path.endswith('"]'))
            mapping[name] = self._value(item, at, nodes, free=inside)
        return mapping

    def _scalar(self, node: _Scalar, path: str, *, free: bool) -> Any:
        if any("\ud800" <= char <= "\udfff" for char in node.text):
            self._wrong(node.place, path, "must be valid Unicode text")
            return "?"
        if _is_null(node):
            return None
        meant = _meaning(node)
        if meant is None:
            return node.text
        if free and _JSON_SCALAR.fullmatch(node.text):
            value = json.loads(node.text)
            if json.dumps(value) == node.text:
                return value
        self._wrong(
            node.place,
            path,
            f'YAML takes {_shown(node.text)} for {meant}; put it in quotes, "{_shown(node.text)}"',
        )
        return node.text

    def _entries(self, node: _Map, path: str) -> dict[str, tuple[_Scalar, _Node]]:
        """Return the entries, those of merged mappings included, and check the keys."""
        entries: dict[str, tuple[_Scalar, _Node]] = {}
        if node.merged is not None:
            several = isinstance(node.merged, _List)
            sources = node.merged.items if isinstance(node.merged, _List) else [node.merged]
            for source in reversed(sources):  # the first one wins
                if isinstance(source, _Map):
                    entries |= self._entries(source, path)
                else:
                    self._wrong(
                        source.place if several else node.merge_place,
                        path,
                        "`<<` merges mappings only, such as `<<: *name` with an anchor &name",
                    )
        for name, (key, _) in node.entries.items():
            meant = "nothing" if _is_null(key) else _meaning(key)
            if meant:
                self._wrong(
                    key.place,
                    path,
                    f"YAML takes the key {_shown(name)} for {meant}; put it in quotes,"
                    f' "{_shown(name)}"',
                )
        # The order is that of the file, with what is merged in first.
        return entries | node.entries


#: JSON's two escapes of a character beyond the first 65,536, and the backslashes before them.
_PAIR = re.compile(
    r"(?<!\\)((?:\\\\)*)(\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2})"
)

_JSON_SCALAR = re.compile(r"true|false|-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?")

#: What the library does not take for anything but other readers of YAML do: 1.1 says that ``y`` is
#: a boolean, 1.2 that ``0o17`` and ``1e3`` are numbers.
_OTHERS = (
    (re.compile(r"[yYnN]"), "a boolean"),
    (re.compile(r"0o[0-7]+|[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?"), "a number"),
)

_MEANT = {"bool": "a boolean", "int": "a number", "float": "a number", "timestamp": "a date"}


def _join(path: str, key: str) -> str:
    if path == "setups":
        return f"setups[{json.dumps(key, ensure_ascii=False)}]"
    return f"{path}.{key}" if path else key


def _path(stack: _Stack) -> str:
    """Return the path of what is read next into the innermost list or mapping."""
    path = ""
    for node, _ in stack:
        if isinstance(node, _List):
            path += f"[{len(node.items)}]"
        elif isinstance(node.key, _Scalar):
            path = _join(path, node.key.text)
    return path


def _place(mark: Any) -> tuple[int, int] | None:
    return (mark.line, mark.column) if mark else None


def _is_null(node: _Scalar) -> bool:
    return node.plain and node.text in ("", "~", "null", "Null", "NULL")


def _meaning(node: _Scalar) -> str | None:
    """Return what YAML takes a plain text for, or ``None`` if that is a string."""
    if not node.plain:
        return None
    for tag, pattern in yaml.SafeLoader.yaml_implicit_resolvers.get(node.text[:1], []):
        if pattern.match(node.text):
            return _MEANT.get(tag.removeprefix(_YAML), "something else")
    return next((meant for pattern, meant in _OTHERS if pattern.fullmatch(node.text)), None)


def _shown(text: str, limit: int = 60) -> str:
    return printable(text, limit)


# The models tell what is wrong with a setup as a whole only once its parts are right, so what they
# found is put right until they find nothing more.

_GOOD_RULE: Final = {"key": "k", "source": "span_attributes", "operator": "exists"}


def _all_problems(setup: Any) -> list[Problem]:
    try:
        SetupSpec.model_validate(setup)
    except ValidationError:
        pass  # What follows changes the setup, which is of no use any more.
    else:
        return []
    found: list[Problem] = []
    if isinstance(setup, dict):
        found += _drop_unknown(setup, SetupSpec, "")
        for name, model in (("selector", Rule), ("evaluator_configs", EvaluatorConfig)):
            items = setup.get(name)
            for index, item in enumerate(items if isinstance(items, list) else []):
                if isinstance(item, dict):
                    found += _drop_unknown(item, model, f"{name}[{index}].")
    for round_ in range(20):
        try:
            SetupSpec.model_validate(setup)
        except ValidationError as error:
            new = problems(error)
        else:
            break
        found += [problem for problem in new if problem not in found]
        if not isinstance(setup, dict):
            break
        # An operator last: with another one, other values would be right.
        new.sort(key=lambda problem: problem.path.endswith(".operator"))
        for number, problem in enumerate(new):
            _repair(setup, problem, f"repaired-{round_}-{number}")
    return found


def _drop_unknown(given: dict[str, Any], model: type[BaseModel], path: str) -> list[Problem]:
    known = list(model.model_fields)
    found = []
    for name in [name for name in given if name not in known]:
        value = given.pop(name)
        near = difflib.get_close_matches(name, known, 1)
        if near:
            given.setdefault(near[0], value)  # it is not missing
        cure = f'did you mean "{near[0]}"?' if near else f"known are {', '.join(known)}"
        found.append(Problem(f"{path}{name}", f"is not a known property; {cure}"))
    return found


def _repair(setup: dict[str, Any], problem: Problem, unique: str) -> None:
    """Put something in the place of what is wrong that is certainly right."""
    match [int(part) if part.isdigit() else part for part in re.findall(r"\w+", problem.path)]:
        case ["selector"]:
            setup["selector"] = [dict(_GOOD_RULE)]
        case ["selector", int(index), ("key" | "source" | "value" | "values") as name, *_]:
            rule = setup["selector"][index]
            if name in ("value", "values") and problem.reason.startswith('operator "'):
                if " takes " in problem.reason:
                    del rule[name]
                else:
                    rule[name] = "v" if name == "value" else ["v"]
            else:
                rule[name] = {"source": "span_attributes", "values": ["v"]}.get(name, "v")
        case ["selector", int(index), *_]:
            setup["selector"][index] = dict(_GOOD_RULE)
        case ["evaluators", int(index)]:
            setup["evaluators"][index] = unique
        case ["evaluator_configs", int(index), *_] if "evaluator_configs" in setup:
            setup["evaluator_configs"][index] = {"slug": unique}
        case ["evaluators" | "evaluator_configs", *_]:
            setup.pop("evaluator_configs", None)
            setup["evaluators"] = [unique]
        case ["triggers", *_]:
            del setup["triggers"]
