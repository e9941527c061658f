"""Monitor setups in a YAML or JSON file.

Attributes compare as texts, so a value that YAML takes for a number, a boolean or a date is
refused, never converted.
"""

from __future__ import annotations

import difflib
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import pulumi
import yaml

from ._naming import external_id_problem
from ._validation import problems, setup_path
from ._yaml import Node, Place, UnreadableError, compose, is_null, meaning, merges, place_of, shown
from .errors import TraceloopError, printable

__all__ = ["SCHEMA", "FileError", "FileProblem", "load_setups"]

#: The JSON Schema of these files, for editors.
SCHEMA: Final = Path(__file__).with_name("monitors.schema.json")

#: How many problems an error's message names; its attribute has them all.
_NAMED = 50


class FileProblem(NamedTuple):
    """What is wrong in a file: in which line, with which property, and why."""

    #: Counted from 1; ``None`` if the file as a whole is meant.
    line: int | None
    #: Such as ``setups["openai"].selector[0].value``; empty if the file as a whole is meant.
    path: str
    reason: str


class FileError(TraceloopError, pulumi.RunError):
    """A file of setups that cannot be used; the message names all that is wrong with it.

    It is a `pulumi.RunError`, which ends a program with its message and no traceback.

    Attributes:
        file: the file's name, as it was given.
        problems: what is wrong, in the order of the lines.

    """

    def __init__(self, file: str, problems: list[FileProblem]) -> None:
        self.file = file
        self.problems = sorted(problems, key=lambda problem: problem.line or 0)
        lines = [self._line(problem) for problem in self.problems[:_NAMED]]
        if len(self.problems) > 1:
            lines.insert(0, f"{len(self.problems)} problems in {printable(file)}:")
        if (rest := len(self.problems) - _NAMED) > 0:
            lines.append(f"and {rest} more")
        super().__init__("\n  ".join(lines))

    def _line(self, problem: FileProblem) -> str:
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


class _File:
    def __init__(self, name: str) -> None:
        self._name = name
        self._problems: dict[tuple[object, ...], FileProblem] = {}

    def setups(self) -> dict[str, dict[str, Any]]:
        setups: dict[str, dict[str, Any]] = {}
        try:
            setups = dict(self._read(compose(self._name, self._wrong)))
        except UnreadableError as error:
            self._wrong(error.place, "", error.reason)
        if self._problems:
            raise FileError(self._name, list(self._problems.values()))
        return setups

    def _wrong(self, place: Place | None, path: str, reason: str) -> None:
        # What an alias brings to many setups is wrong in one place, and named once.
        once = (place, re.split(r"[.\[]", path)[-1], reason)
        line = place[0] + 1 if place else None
        self._problems.setdefault(once, FileProblem(line, path, reason))

    # From the file to nodes.
    # From nodes to setups.

    def _read(self, root: Node) -> Iterator[tuple[str, dict[str, Any]]]:
        if not isinstance(root, yaml.MappingNode):
            raise UnreadableError(
                place_of(root.start_mark),
                "the file must be a mapping with the key `setups`, such as `setups: {}`",
            )
        entries = self._entries(root, "")
        for name, (key, node) in entries.items():
            if name == "$schema":
                if not isinstance(self._value(node, name, {}), str):
                    reason = "must be a string: the schema's path or URL"
                    self._wrong(place_of(node.start_mark), name, reason)
            elif name != "setups" and not name.startswith("x-"):
                near = difflib.get_close_matches(name, ["setups", "$schema"], 1)
                cure = (
                    f'did you mean "{near[0]}"?'
                    if near
                    else "setups belong under `setups`, shared parts under `x-...`"
                )
                self._wrong(place_of(key.start_mark), shown(name), f"is not a known key; {cure}")
        if "setups" not in entries:
            reason = "has no `setups`; to declare none: `setups: {}`"
            raise UnreadableError(place_of(root.start_mark), reason)
        key, node = entries["setups"]
        if not isinstance(node, yaml.MappingNode):
            reason = (
                "is empty; to declare none: `setups: {}`"
                if is_null(node)
                else "must map each external_id to its setup"
            )
            self._wrong(place_of(key.start_mark), "setups", reason)
            return
        for external_id, (key, setup) in self._entries(node, "setups").items():
            path = setup_path(external_id)
            if reason_against := external_id_problem(external_id):
                self._wrong(place_of(key.start_mark), path, f"the external_id {reason_against}")
            yield external_id, self._setup(key, setup, path)

    def _setup(self, key: yaml.ScalarNode, node: Node, path: str) -> dict[str, Any]:
        nodes: dict[str, tuple[Place, Node]] = {"": (place_of(key.start_mark), node)}
        value = self._value(node, path, nodes)
        for at, reason in problems(value):
            nearest = at
            while nearest not in nodes:
                nearest = nearest[: max(nearest.rfind("."), nearest.rfind("["), 0)]
            place, wrong = nodes[nearest]
            quoted = nearest == at and is_null(wrong) and wrong.value
            hint = f'; if the text is meant, put it in quotes, "{quoted}"' if quoted else ""
            self._wrong(place, f"{path}.{at}" if at else path, reason + hint)
        if not isinstance(value, dict):
            return {}
        return {name: item for name, item in value.items() if item is not None}

    def _value(
        self, node: Node, path: str, nodes: dict[str, tuple[Place, Node]], at: str = ""
    ) -> Any:
        """Return what a node stands for.

        Args:
            node: the node.
            path: the path of the whole, for what is wrong.
            nodes: gets the place and the node of each property below the whole.
            at: the property's path there.

        """
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, f"{path}.{at}" if at else path, at)
        if isinstance(node, yaml.SequenceNode):
            items = []
            for index, item in enumerate(node.value):
                below = f"{at}[{index}]"
                nodes[below] = place_of(item.start_mark), item
                items.append(self._value(item, path, nodes, below))
            return items
        mapping = {}
        for name, (key, item) in self._entries(node, f"{path}.{at}" if at else path).items():
            below = f"{at}.{name}" if at else name
            nodes[below] = place_of(key.start_mark), item
            mapping[name] = self._value(item, path, nodes, below)
        return mapping

    def _scalar(self, node: yaml.ScalarNode, path: str, at: str) -> Any:
        text: str = node.value
        if is_null(node):
            return None
        meant = meaning(node)
        if meant is None:
            return text
        # Only triggers may be numbers and booleans.
        if at.startswith("triggers") and _JSON_SCALAR.fullmatch(text):
            value = json.loads(text)
            if json.dumps(value) == text:
                return value
        written = shown(text)
        reason = f'YAML takes {written} for {meant}; put it in quotes, "{written}"'
        self._wrong(place_of(node.start_mark), path, reason)
        return text

    def _entries(
        self, node: yaml.MappingNode, path: str
    ) -> dict[str, tuple[yaml.ScalarNode, Node]]:
        """Return the entries, those of merged mappings included, and check the keys."""
        merged: dict[str, tuple[yaml.ScalarNode, Node]] = {}
        own: dict[str, tuple[yaml.ScalarNode, Node]] = {}
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue  # `_survey` has said so
            name = key.value
            if merges(key):
                sources = value.value if isinstance(value, yaml.SequenceNode) else [value]
                for source in reversed(sources):  # the first one wins
                    if isinstance(source, yaml.MappingNode):
                        merged |= self._entries(source, path)
                    else:
                        reason = (
                            "`<<` merges mappings only, such as `<<: *name` with an anchor &name"
                        )
                        self._wrong(place_of(source.start_mark), path, reason)
            elif meant := "nothing" if is_null(key) else meaning(key):
                written = shown(name)
                reason = f'YAML takes the key {written} for {meant}; put it in quotes, "{written}"'
                self._wrong(place_of(key.start_mark), path, reason)
            else:
                own.setdefault(name, (key, value))
        # The order is that of the file, with what is merged in first.
        return merged | own


_JSON_SCALAR = re.compile(r"true|false|-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?")
