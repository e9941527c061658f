"""The test engine's state: a journal with a JSON line for every step.

A step writes one line, whatever the size of the stack. A run begins with a compaction.
"""

from __future__ import annotations

import json
import os
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .wire import Bag, seal, unseal

if TYPE_CHECKING:
    from pathlib import Path


@dataclass
class Record:
    """One resource in the state."""

    urn: str
    type: str
    custom: bool
    id: str = ""
    inputs: Bag = field(default_factory=dict)
    outputs: Bag = field(default_factory=dict)
    parent: str = ""
    dependencies: list[str] = field(default_factory=list)
    #: The dependencies of each property, as URNs.
    property_dependencies: dict[str, list[str]] = field(default_factory=dict)
    secret_outputs: list[str] = field(default_factory=list)
    protect: bool = False
    retain_on_delete: bool = False
    external: bool = False
    #: Whether it was replaced, and its delete is pending.
    delete: bool = False
    #: Whether it was deleted for a replacement that is not created yet.
    pending_replacement: bool = False
    #: Distinguishes the records of one URN: a replaced one stays until its delete.
    key: int = 0

    @property
    def name(self) -> str:
        return self.urn.split("::", 3)[3]


class State:
    """The records of one stack. Nothing is written when `path` is None, as for a preview."""

    def __init__(self, path: Path | None, records: dict[int, Record] | None = None) -> None:
        self.records = records or {}
        self._path = path
        self._lock = threading.Lock()
        self._next = max(self.records, default=0) + 1
        if path is not None:
            rewritten = path.with_suffix(".new")
            with open(rewritten, "w", opener=_private) as file:
                file.writelines(_put_line(record) for record in self.records.values())
            rewritten.replace(path)

    def apply(self, put: tuple[Record, ...] = (), drop: tuple[Record, ...] = ()) -> None:
        """Change records atomically."""
        with self._lock:
            for record in put:
                if not record.key:
                    record.key, self._next = self._next, self._next + 1
                self.records[record.key] = record
            for record in drop:
                self.records.pop(record.key, None)
            if self._path is not None:
                line = {"put": [_dump(each) for each in put], "drop": [each.key for each in drop]}
                with self._path.open("a") as file:
                    file.write(json.dumps(line) + "\n")

    def current(self, urn: str) -> Record | None:
        """Return the record of a URN whose delete is not pending."""
        found = (each for each in self.records.values() if each.urn == urn and not each.delete)
        return next(found, None)


def load(path: Path) -> dict[int, Record]:
    """Return the records in a journal, without a last line that a kill truncated."""
    records: dict[int, Record] = {}
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            change = json.loads(line)
        except ValueError:
            break
        for each in change["put"]:
            record = Record(**each)
            record.inputs, record.outputs = unseal(record.inputs), unseal(record.outputs)
            records[record.key] = record
        for key in change["drop"]:
            records.pop(key, None)
    return records


def _dump(record: Record) -> dict[str, Any]:
    return {
        **{k: v for k, v in vars(record).items() if k not in ("inputs", "outputs")},
        "inputs": seal(record.inputs),
        "outputs": seal(record.outputs),
    }


def _put_line(record: Record) -> str:
    return json.dumps({"put": [_dump(record)], "drop": []}) + "\n"


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)
