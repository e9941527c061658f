"""An emulator that records each write and delete, and can stop at the n-th request."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Iterable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import unquote
from urllib.request import urlopen

from pulumi_traceloop.emulator import Emulator, Fault, ManualClock, Project, RequestRecord
from pulumi_traceloop.emulator.store import Record
from pulumi_traceloop.emulator.validation import Content

from .plans import IDS, SECRET, UNKNOWN_OUTCOME

if TYPE_CHECKING:
    from typing_extensions import Self

#: A second key of the stack's project, and a key of another project of the organization.
SECOND_KEY = "tl-key-the-second-of-the-project-4712"
OTHER_KEY = "tl-key-of-another-project-4713"

#: The longest wait of a request at the gate, in seconds.
_GATE_SECONDS = 60


class Definition(NamedTuple):
    """The semantic key of a setup, independent of the package's own `Definition`."""

    rules: frozenset[tuple[str, str, str, str | None, frozenset[str]]]
    evaluators: frozenset[tuple[str, str | None]]


def upper(rule: dict[str, Any]) -> dict[str, Any]:
    """Normalize a rule as a service may: upper-case its value, except for the secret.

    The package stores no baseline of a setup with a secret, so a normalized one would be drift.
    """
    value = rule.get("value")
    return rule if value in (None, SECRET) else rule | {"value": str(value).upper()}


def definition_of(content: Mapping[str, Any], *, normalized: bool = False) -> Definition:
    """Return the definition of a declared or sent setup, or the one that the service stores."""
    configs = content.get("evaluator_configs") or [
        {"slug": slug} for slug in content.get("evaluators") or ()
    ]
    rules = [upper(rule) if normalized else rule for rule in content["selector"]]
    return _definition(rules, ((c["slug"], c.get("scope")) for c in configs))


def stored_definition(record: Record) -> Definition:
    """Return the definition of a stored setup."""
    stored = json.loads(record.evaluators)
    return _definition(json.loads(record.rules), ((slug, scope) for slug, scope, _ in stored))


def _definition(
    rules: Iterable[Mapping[str, Any]], evaluators: Iterable[tuple[str, str | None]]
) -> Definition:
    return Definition(
        frozenset(
            (
                rule["source"],
                rule["key"],
                rule.get("operator") or "equals",
                rule.get("value"),
                frozenset(rule.get("values") or ()),
            )
            for rule in rules
        ),
        frozenset(evaluators),
    )


class Touch(NamedTuple):
    """A write or delete over HTTP."""

    external_id: str
    #: ``None`` if the setup is new.
    before: Definition | None
    #: ``None`` if it was deleted.
    after: Definition | None


@dataclass
class Gate:
    """Stops the service at the n-th request, and thereby all that wait for a response."""

    nth: int
    #: Whether that request is dropped before the service processes it.
    lost: bool
    #: Done when the request has arrived.
    reached: Future[None] = field(default_factory=Future)
    released: threading.Event = field(default_factory=threading.Event)


class WatchedEmulator(Emulator):
    """An emulator that records each write and delete."""

    def __init__(self, api_key: str) -> None:
        self._moving_clock = ManualClock()
        super().__init__(api_key=api_key, clock=self._moving_clock)
        #: The writes and deletes since `forget`.
        self.touched: list[Touch] = []
        #: The setups in write requests, and those in requests with an unknown outcome.
        self.sent: set[str] = set()
        self.uncertain: set[str] = set()
        #: The number of requests that each fault hit.
        self.hits: Counter[str] = Counter()
        self.gate: Gate | None = None
        self._names: dict[Fault, str] = {}
        self.add_project(OTHER_KEY)
        env_project_id = self._projects[api_key].env_project_id
        self.add_project(SECOND_KEY, env_project_id=env_project_id)
        foreign = {"key": "system", "source": "span_attributes", "value": "foreign"}
        for external_id in (*IDS, "foreign"):
            self.put(external_id, [foreign], ["faithfulness"], api_key=OTHER_KEY)

    def __enter__(self) -> Self:
        self.start()
        return self

    def forget(self) -> None:
        """Start a new operation without faults and records."""
        self.clear_faults()
        self.reset_counts()
        self.touched.clear()
        self.sent.clear()
        self.uncertain.clear()
        self.gate = None
        self._names.clear()

    def drain(self) -> None:
        """Wait until the requests of killed processes have been served."""
        for _ in range(3):  # each takes as many turns of the server's loop as one of those
            with urlopen(f"{self.root_url}/_emulator/requests") as response:
                response.read()

    def records(self) -> dict[str, Record]:
        """Return the stored setups, with the number of their writes."""
        return {r.external_id: r for r in super().listed(self._projects[self.api_key], None)}

    def listed(self, project: Project, external_id: str | None) -> list[Record]:
        """Return the organization's list, with other projects' setups of the same external_ids."""
        foreign = super().listed(self._projects[OTHER_KEY], external_id)
        return [*foreign, *super().listed(project, external_id)]

    def trouble(self, name: str, fault: Fault) -> None:
        """Inject a fault, and count its hits under this name."""
        self._names[self.inject(fault)] = name

    def write(self, project: Project, external_id: str, content: Content) -> tuple[Record, bool]:
        before = self.find(project, external_id)
        self._moving_clock.advance(1)
        record, new = super().write(project, external_id, content)
        if threading.current_thread() is self._thread:  # otherwise it is a `put` of the test
            found = stored_definition(before) if before else None
            self.touched.append(Touch(external_id, found, stored_definition(record)))
        return record, new

    def drop_setup(self, project: Project, external_id: str) -> bool:
        before = self.find(project, external_id)
        if before:
            self.touched.append(Touch(external_id, stored_definition(before), None))
        return super().drop_setup(project, external_id)

    def seen(self, record: RequestRecord) -> None:
        super().seen(record)
        if record.method == "PUT":
            self.sent.add(unquote(record.raw_path.rsplit("/", 1)[-1]))
        elif record.method == "POST":
            self.sent.update(each["external_id"] for each in json.loads(record.body)["setups"])
        gate = self.gate
        if gate is None:
            return
        gate.nth -= 1
        if gate.nth == 0:
            if gate.lost:
                self.inject(Fault(drop="before"))
            gate.reached.set_result(None)
            if not gate.released.wait(_GATE_SECONDS):
                raise TimeoutError("the gate was not opened")

    def take_faults(self, method: str, route: str, external_ids: frozenset[str]) -> list[Fault]:
        if self.gate and self.gate.nth == 0 and self.gate.lost:
            self.gate.nth = -1
            return [Fault(drop="before")]
        hits = super().take_faults(method, route, external_ids)
        for fault in hits:
            name = self._names.get(fault, "")
            self.hits[name] += 1
            if name in UNKNOWN_OUTCOME:
                self.uncertain |= external_ids & set(fault.item_error or external_ids)
        return hits
