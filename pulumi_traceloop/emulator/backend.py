"""The emulated service without HTTP: projects, clock, counters, and the controls that tests use."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter, deque
from dataclasses import dataclass, field, replace
from itertools import count
from math import ceil
from typing import TYPE_CHECKING, Any

from ..spans.matching import SpanIndex
from . import validation
from .faults import Fault, FaultBox
from .organization import foreign_setups
from .span_log import SpanLog
from .store import Record, Store, phase_of, render, selector_of, status_of, stored_evaluators
from .validation import Content, InvalidRequestError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from .otlp import ReceivedSpan

DEFAULT_API_KEY = "emulator-key"
DEFAULT_ENV_PROJECT_ID = "cm9v2ga9i0000emulatorenv0"

#: What `Emulator.log` keeps at most.
LOG_SIZE = 20_000


class ManualClock:
    """A clock that stands still until it is told to move, in seconds since the epoch.

    ::

        clock = ManualClock()
        with Emulator(clock=clock, settle=10) as emulator:
            ...
            clock.advance(10)  # every setup written so far is completed
    """

    def __init__(self, start: float = 1_780_000_000.0) -> None:
        self._now = start

    def __call__(self) -> float:
        """Return the time."""
        return self._now

    def advance(self, seconds: float) -> None:
        """Move on. Can stand in for a client's `sleep`."""
        self._now += seconds


@dataclass(frozen=True)
class Project:
    """What an API key belongs to: one project and environment ("Authentication" page)."""

    org_id: str
    project_id: str
    env_project_id: str
    #: Where its setups are kept. Two environments with the same space see and replace each other's
    #: setups.
    space: str


@dataclass
class RequestRecord:
    """One request as the emulator saw it."""

    method: str
    #: Path and query as they came, still percent-encoded.
    raw_path: str
    #: Template, "PUT /v2/auto-monitor-setups/by-external-id/{external_id}"; "unmatched" when there
    #: is none.
    route: str
    #: By the emulator's clock, seconds since the epoch.
    time: float
    #: Without the API key: `Authorization` reads "[hidden]".
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    #: None: the connection was dropped, or there is no response yet.
    status: int | None = None
    #: What this request wrote or deleted.
    external_ids: tuple[str, ...] = ()


class Backend:
    """State and controls of the emulator; every method is safe to call from any thread.

    Its arguments are described at `Emulator`.
    """

    def __init__(
        self,
        *,
        api_key: str = DEFAULT_API_KEY,
        env_project_id: str = DEFAULT_ENV_PROJECT_ID,
        data: str | None = None,
        evaluators: Iterable[str] = (),
        settle: float = 0,
        latency: float = 0,
        rate_limit: int | None = None,
        spans_needed: int = 0,
        foreign_setups: int = 0,
        clock: Callable[[], float] = time.time,
        seed: int = 0,
    ) -> None:
        self.api_key = api_key
        self.settle = settle
        self.spans_needed = spans_needed
        self.latency = latency
        self.rate_limit = rate_limit
        #: How many setups of other projects of the organization the list has as well, 2 kB each.
        self.foreign_setups = foreign_setups
        self.clock = clock
        #: A function from a rule to the rule that the service stores, such as one that lower-cases
        #: values; ``None`` to store rules as they are.
        self.normalize: Callable[[dict[str, Any]], dict[str, Any]] | None = None
        self._lock = threading.RLock()
        self._store = Store(data or ":memory:", seed=seed)
        self._spans = SpanLog()
        self._faults = FaultBox()
        self._projects: dict[str, Project] = {}
        self._numbers = count()
        self._failing: dict[str, str] = {}
        self._forced: dict[str, str] = {}
        self._recent: dict[str, deque[float]] = {}
        self._requests: Counter[str] = Counter()
        self._writes: Counter[str] = Counter()
        self._log: deque[RequestRecord] = deque(maxlen=LOG_SIZE)
        self.add_project(api_key, env_project_id=env_project_id)
        for slug in evaluators:
            self.add_evaluator(slug)

    # -- what tests read --

    @property
    def requests(self) -> Counter[str]:
        """Requests since `reset_counts`, refused ones included, by route template.

        "unmatched" counts those for a path or method that the service does not have.
        """
        with self._lock:
            return Counter(self._requests)

    @property
    def writes(self) -> Counter[str]:
        """How often each external id was written over HTTP; a delete is no write."""
        with self._lock:
            return Counter(self._writes)

    @property
    def log(self) -> list[RequestRecord]:
        """The last requests, oldest first."""
        with self._lock:
            return [replace(record) for record in self._log]

    def reset_counts(self) -> None:
        """Empty `requests`, `writes` and `log`."""
        with self._lock:
            self._requests.clear()
            self._writes.clear()
            self._log.clear()

    @property
    def setups(self) -> dict[str, dict[str, Any]]:
        """The default project's setups by external id, each as the service would return it now."""
        return self.setups_of(self.api_key)

    def setups_of(self, api_key: str) -> dict[str, dict[str, Any]]:
        """Like `setups`, for another project."""
        records = self._store.all(self._projects[api_key].space)
        return {record.external_id: json.loads(self.answer(record)) for record in records}

    @property
    def spans(self) -> list[dict[str, Any]]:
        """The default project's latest spans, oldest first, each as the service returns it."""
        return self._spans.all(self._projects[self.api_key].env_project_id)

    # -- what tests change --

    def add_project(
        self,
        api_key: str,
        *,
        env_project_id: str | None = None,
        same_project_as: str | None = None,
    ) -> Project:
        """Make another key valid, by default for a project of its own.

        Args:
            api_key: the new key. Given again, it moves to the project named now.
            env_project_id: its environment; that of an existing key makes this a second key for the
                same setups.
            same_project_as: a key whose project this one shares while its environment differs.
                External ids are unique "for the org/project" ("Upsert by External ID" page), so
                either key can replace the other's setup, which then keeps its env_project_id.
        """
        with self._lock:
            number = next(self._numbers)
            env = env_project_id or f"cm9v2ga9i{number:04}emulatorenv0"
            known = [
                project for project in self._projects.values() if project.env_project_id == env
            ]
            if same_project_as is not None:
                project = replace(self._projects[same_project_as], env_project_id=env)
            elif known:
                project = known[0]
            else:
                project = Project(
                    org_id="c108269c-0000-4000-8000-000000000000",
                    project_id=f"cm9v2g95l{number:04}emulatorprj0",
                    env_project_id=env,
                    space=env,
                )
            self._projects[api_key] = project
            return project

    def revoke_key(self, api_key: str) -> None:
        """Make a key invalid: 401 from now on. Its setups stay."""
        with self._lock:
            self._projects.pop(api_key, None)

    def add_evaluator(self, slug: str) -> None:
        """Add a custom evaluator, to every project."""
        self._store.add_evaluator(slug)

    def fail_evaluator(self, slug: str, message: str) -> None:
        """Let this evaluator fail, in setups that exist and in those written from now on.

        Seen once the set-up has settled: the evaluator is `failed` with this `error_message`, its
        setup `partial`, or `failed` if it has no other evaluator.
        """
        with self._lock:
            self._failing[slug] = message
            self._store.fail_evaluator(slug, message)

    def heal_evaluator(self, slug: str) -> None:
        """End `fail_evaluator`. A setup that failed stays so until it is written again."""
        with self._lock:
            self._failing.pop(slug, None)

    def force_status(self, external_id: str, status: str | None) -> None:
        """Let reads of a setup return another status: "waiting_for_spans", or an unknown one.

        None ends it. An answer to a write says "pending" all the same.
        """
        with self._lock:
            if status is None:
                self._forced.pop(external_id, None)
            else:
                self._forced[external_id] = status

    def put(
        self,
        external_id: str,
        selector: Sequence[Mapping[str, Any]] | None = None,
        evaluators: Sequence[str] | None = None,
        evaluator_configs: Sequence[Mapping[str, Any]] | None = None,
        *,
        api_key: str | None = None,
    ) -> dict[str, Any]:
        """Create or change a setup by hand: not counted, not hit by faults.

        Only what is given changes in an existing one. Returns the setup, raises ValueError on
        invalid content.
        """
        given = {
            "selector": selector,
            "evaluators": evaluators,
            "evaluator_configs": evaluator_configs,
        }
        project = self._projects[api_key or self.api_key]
        try:
            with self._lock, self._store.transaction():
                check = (
                    validation.for_update
                    if self.find(project, external_id)
                    else validation.for_upsert
                )
                content = check(json.loads(json.dumps(given)), self.known_evaluators())
                record, _ = self.write(project, external_id, content)
        except InvalidRequestError as error:
            raise ValueError(str(error)) from None
        setup: dict[str, Any] = json.loads(self.answer(record))
        return setup

    def delete(self, external_id: str, *, api_key: str | None = None) -> bool:
        """Delete a setup by hand; False when there was none."""
        return self._store.delete(self._projects[api_key or self.api_key].space, external_id)

    def clear_spans(self) -> None:
        """Remove the spans of every project. What they completed stays completed."""
        self._spans.clear()

    def inject(self, fault: Fault) -> Fault:
        """Let something go wrong from now on; keep the result to `remove` it."""
        return self._faults.inject(fault)

    def remove(self, fault: Fault) -> None:
        """Remove a fault."""
        self._faults.remove(fault)

    def clear_faults(self) -> None:
        """Remove every fault."""
        self._faults.clear()

    @property
    def faults(self) -> list[Fault]:
        """The faults that are not used up."""
        return self._faults.pending()

    # -- what the routes use --

    def project_of(self, authorization: str) -> Project | None:
        """Return the project of an `Authorization` header, None if that is missing or wrong."""
        scheme, _, key = authorization.partition(" ")
        return self._projects.get(key.strip()) if scheme.lower() == "bearer" else None

    def known_evaluators(self) -> frozenset[str]:
        """Return every slug that a request may name."""
        return validation.DOCUMENTED_EVALUATORS.union(self._store.evaluators())

    def find(self, project: Project, external_id: str) -> Record | None:
        """Return one setup."""
        return self._store.get(project.space, external_id)

    def listed(self, project: Project, external_id: str | None) -> list[Record]:
        """Return the project's setups, or only this one."""
        return self._store.all(project.space, external_id)

    def foreign(self, project: Project, status: str | None, external_id: str | None) -> str:
        """Return the JSON texts of other projects' setups that a list with these filters has."""
        if external_id or status not in (None, "", "completed"):
            return ""
        return foreign_setups(self.foreign_setups, project.org_id)

    def write(self, project: Project, external_id: str, content: Content) -> tuple[Record, bool]:
        """Create a setup or replace what is given; True if it is new."""
        now = self.clock()
        with self._lock, self._store.transaction():
            evaluators = stored_evaluators(content, self._failing)
            if self.normalize and content.rules is not None:
                content = replace(content, rules=[self.normalize(r) for r in content.rules])
            identity = (project.org_id, project.project_id, project.env_project_id)
            new = self._store.insert(
                project.space, external_id, identity, content.rules or [], evaluators or [], now
            )
            if new is not None:
                return new, True
            record = self._store.update(project.space, external_id, content.rules, evaluators, now)
            return record, False

    def write_all(self, work: Callable[[], None]) -> None:
        """Run several writes as one transaction (a bulk is one commit instead of a hundred)."""
        with self._lock, self._store.transaction():
            work()

    def drop_setup(self, project: Project, external_id: str) -> bool:
        """Delete a setup; False when there was none."""
        return self._store.delete(project.space, external_id)

    def receive(self, spans: Sequence[ReceivedSpan], project: Project) -> None:
        """Keep spans, and count which setups of their environment they match.

        Only what comes after a setup's last write counts ("incoming spans", "Create" page).
        """
        environment = project.env_project_id
        now = self.clock()
        with self._lock, self._store.transaction():
            self._spans.add(environment, spans)
            lacking = self._store.lacking(project.space, environment, self.spans_needed)
            if not lacking:
                return
            index = SpanIndex(span.attributes for span in spans)
            matched = [(r, index.survey(selector_of(r)).matched) for r in lacking]
            self._store.add_matches([(r, count) for r, count in matched if count], now)

    def find_spans(self, project: Project, query: Mapping[str, str]) -> dict[str, Any]:
        """Return a page of the project's spans."""
        return self._spans.find(project.env_project_id, query)

    def answer(self, record: Record, *, written_now: bool = False) -> str:
        """Return a setup's JSON text; that of a write says `pending` even if `settle` is 0."""
        phase, status = ("pending", "pending") if written_now else self._state(record)
        return render(record, phase, status, max(record.written + self.settle, record.last_match))

    def status(self, record: Record) -> str:
        """Return a setup's status now."""
        return self._state(record)[1]

    def _state(self, record: Record) -> tuple[str, str]:
        forced = self._forced.get(record.external_id)
        phase = phase_of(record, self.clock(), self.settle, self.spans_needed)
        if forced is not None:
            return (forced if forced == "waiting_for_spans" else phase), forced
        return phase, status_of(record, phase)

    def over_limit(self, authorization: str) -> int | None:
        """Count a request against the rate limit; return when to retry (seconds) if too many."""
        limit = self.rate_limit
        if limit is None:
            return None
        now = self.clock()
        with self._lock:
            recent = self._recent.setdefault(authorization, deque())
            while recent and recent[0] <= now - 1:
                recent.popleft()
            if len(recent) < limit:
                recent.append(now)
                return None
            return max(1, ceil(recent[0] + 1 - now)) if recent else 1

    def take_faults(self, method: str, route: str, external_ids: frozenset[str]) -> list[Fault]:
        """Return the faults that hit this request."""
        return self._faults.take(method, route, external_ids)

    def seen(self, record: RequestRecord) -> None:
        """Note a request, before anything is done about it."""
        with self._lock:
            self._requests[record.route] += 1
            self._log.append(record)

    def wrote(self, record: RequestRecord, external_ids: Iterable[str]) -> None:
        """Note what a request wrote."""
        with self._lock:
            record.external_ids = tuple(external_ids)
            self._writes.update(record.external_ids)
