"""Stores the setups in SQLite, and renders them for responses.

The status is not stored: it follows from the time of the last write and the number of spans matched
since, so there is no background work.
"""

from __future__ import annotations

import hashlib
import sqlite3
import threading
from contextlib import contextmanager
from datetime import datetime, timezone
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic_core import from_json, to_json

from ..spans.matching import Rule

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from .validation import Content, Evaluator

#: The data file's version, unlikely in files of other programs. The older one lacks the last two
#: columns.
_VERSION, _WITHOUT_SPANS = 740602, 740601

# AUTOINCREMENT never reuses a number, so a recreated setup has another id. External ids are unique
# in a space. Times are seconds since the epoch. `revision` counts writes. `rules` is JSON as in
# init_rules, `evaluators` is JSON: [[slug, scope, failure]] with nulls. `matched` counts the spans
# matched since the last write, `last_match` is the time of the last one.
_SCHEMA = f"""
CREATE TABLE IF NOT EXISTS setups (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    space TEXT NOT NULL,
    external_id TEXT NOT NULL,
    id TEXT NOT NULL,
    org_id TEXT NOT NULL,
    project_id TEXT NOT NULL,
    env_project_id TEXT NOT NULL,
    rules TEXT NOT NULL,
    evaluators TEXT NOT NULL,
    created REAL NOT NULL,
    written REAL NOT NULL,
    revision INTEGER NOT NULL,
    matched INTEGER NOT NULL DEFAULT 0,
    last_match REAL NOT NULL DEFAULT 0,
    UNIQUE (space, external_id)
);
CREATE TABLE IF NOT EXISTS evaluators (slug TEXT PRIMARY KEY);
PRAGMA user_version = {_VERSION};
"""

_ADD_SPANS = """
ALTER TABLE setups ADD COLUMN matched INTEGER NOT NULL DEFAULT 0;
ALTER TABLE setups ADD COLUMN last_match REAL NOT NULL DEFAULT 0;
"""


#: The two schemas on the "Create" page; other slugs get one text and one score.
_SCHEMAS: dict[str, tuple[list[dict[str, str]], list[dict[str, str]]]] = {
    "answer-relevancy": (
        [
            {"type": "string", "name": "completion", "description": "The LLM response to evaluate"},
            {"type": "string", "name": "context", "description": "The context for the answer"},
            {"type": "string", "name": "question", "description": "The original question"},
        ],
        [
            {
                "type": "float",
                "name": "answer_relevancy_score",
                "description": "Relevancy score (0-1)",
            }
        ],
    ),
    "toxicity-detector": (
        [{"type": "string", "name": "text", "description": "The text to analyze for toxicity"}],
        [{"type": "boolean", "name": "is_toxic", "description": "Whether the text is toxic"}],
    ),
}


class Record(NamedTuple):
    """One stored setup: a row of the table `setups`, column by column."""

    seq: int
    space: str
    external_id: str
    id: str
    org_id: str
    project_id: str
    env_project_id: str
    rules: str
    evaluators: str
    created: float
    written: float
    revision: int
    matched: int = 0
    last_match: float = 0

    @property
    def slugs(self) -> list[str]:
        """The evaluators' slugs, in the order of the request."""
        return [slug for slug, _, _ in from_json(self.evaluators)]


class Store:
    """The setups and custom evaluators of every project. Thread-safe.

    Args:
        path: a file, created if missing, which survives restarts and SIGKILL; or `:memory:`.
        seed: the seed of generated ids, which are the same in each run.
    """

    def __init__(self, path: str = ":memory:", *, seed: int = 0) -> None:
        self._seed = seed
        self._lock = threading.RLock()
        problem = f"{path} is not a data file of this emulator"
        try:
            self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
        except sqlite3.DatabaseError as error:
            raise ValueError(f"{problem}: {error}") from error
        try:
            self._prepare(path)
        except (sqlite3.DatabaseError, ValueError) as error:
            self._db.close()
            raise ValueError(f"{problem}: {error}") from error

    def _prepare(self, path: str) -> None:
        """Create the tables in a new file; refuse foreign files."""
        version = self._db.execute("PRAGMA user_version").fetchone()[0]
        tables = self._db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
        if tables and version not in (_VERSION, _WITHOUT_SPANS):
            raise ValueError("it has other content")
        if path != ":memory:":
            # Commits survive the process; only a power failure could lose them.
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = NORMAL")
        if version == _WITHOUT_SPANS:
            self._db.executescript(_ADD_SPANS)
        self._db.executescript(_SCHEMA)
        last = "SELECT ifnull(max(seq), 0) FROM sqlite_sequence WHERE name = 'setups'"
        self._last: int = self._db.execute(last).fetchone()[0]

    def close(self) -> None:
        """Close the file; data in `:memory:` are lost."""
        with self._lock:
            self._db.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Apply all writes inside, or none."""
        with self._lock:
            if self._db.in_transaction:
                yield
                return
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    def get(self, space: str, external_id: str) -> Record | None:
        """Return one setup."""
        query = "SELECT * FROM setups WHERE space = ? AND external_id = ?"
        with self._lock:
            row = self._db.execute(query, (space, external_id)).fetchone()
        return Record(*row) if row else None

    def all(self, space: str | None = None, external_id: str | None = None) -> list[Record]:
        """Return the setups in creation order (the service's order is undocumented)."""
        query = (
            "SELECT * FROM setups WHERE ifnull(space = ?, 1) AND ifnull(external_id = ?, 1)"
            " ORDER BY seq"
        )
        with self._lock:
            return [Record(*row) for row in self._db.execute(query, (space, external_id))]

    def insert(
        self,
        space: str,
        external_id: str,
        identity: tuple[str, str, str],
        rules: list[dict[str, Any]],
        evaluators: list[list[str | None]],
        now: float,
    ) -> Record | None:
        """Add a setup; None if it exists.

        `identity` is (org_id, project_id, env_project_id), which never changes.
        """
        texts = _text(rules), _text(evaluators)
        with self._lock:
            seq = self._last + 1
            setup_id = _token("cmm", self._seed, seq)
            row = (seq, space, external_id, setup_id, *identity, *texts, now, now, 1, 0, 0.0)
            added = self._db.execute(
                "INSERT INTO setups VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
                " ON CONFLICT (space, external_id) DO NOTHING",
                row,
            )
            if not added.rowcount:
                return None
            self._last = seq
        return Record(*row)

    def update(
        self,
        space: str,
        external_id: str,
        rules: list[dict[str, Any]] | None,
        evaluators: list[list[str | None]] | None,
        now: float,
    ) -> Record:
        """Replace the given parts; the identity stays ("Upsert by External ID" page)."""
        with self.transaction():
            self._db.execute(
                "UPDATE setups SET rules = ifnull(?, rules), evaluators = ifnull(?, evaluators),"
                " written = ?, revision = revision + 1, matched = 0, last_match = 0"
                " WHERE space = ? AND external_id = ?",
                (
                    None if rules is None else _text(rules),
                    None if evaluators is None else _text(evaluators),
                    now,
                    space,
                    external_id,
                ),
            )
        return self._must_get(space, external_id)

    def unmatched(self, space: str, env_project_id: str, matched: int) -> list[Record]:
        """Return the environment's setups with fewer than `matched` matching spans."""
        query = "SELECT * FROM setups WHERE space = ? AND env_project_id = ? AND matched < ?"
        with self._lock:
            rows = self._db.execute(query, (space, env_project_id, matched))
            return [Record(*row) for row in rows]

    def add_matches(self, matches: Iterable[tuple[Record, int]], now: float) -> None:
        """Count spans that matched these setups."""
        with self.transaction():
            self._db.executemany(
                "UPDATE setups SET matched = matched + ?, last_match = ? WHERE seq = ?",
                [(count, now, record.seq) for record, count in matches],
            )

    def delete(self, space: str, external_id: str) -> bool:
        """Remove a setup; False if it does not exist."""
        query = "DELETE FROM setups WHERE space = ? AND external_id = ?"
        with self._lock:
            return self._db.execute(query, (space, external_id)).rowcount > 0

    def fail_evaluator(self, slug: str, message: str) -> None:
        """Record in every setup that this evaluator failed."""
        with self.transaction():
            for record in self.all():
                if slug in record.slugs:
                    evaluators = [
                        [name, scope, message if name == slug else failure]
                        for name, scope, failure in from_json(record.evaluators)
                    ]
                    self._db.execute(
                        "UPDATE setups SET evaluators = ? WHERE space = ? AND external_id = ?",
                        (_text(evaluators), record.space, record.external_id),
                    )

    def add_evaluator(self, slug: str) -> None:
        """Store a custom evaluator."""
        with self._lock:
            self._db.execute("INSERT OR IGNORE INTO evaluators VALUES (?)", (slug,))

    def evaluators(self) -> list[str]:
        """Return the slugs of the custom evaluators."""
        with self._lock:
            return [row[0] for row in self._db.execute("SELECT slug FROM evaluators")]

    def _must_get(self, space: str, external_id: str) -> Record:
        record = self.get(space, external_id)
        if record is None:
            raise LookupError(external_id)
        return record


def stored_evaluators(content: Content, failing: dict[str, str]) -> list[list[str | None]] | None:
    """Return the evaluators of a request as stored in the table."""

    def stored(evaluator: Evaluator) -> list[str | None]:
        return [evaluator.slug, evaluator.scope, failing.get(evaluator.slug)]

    return None if content.evaluators is None else [stored(e) for e in content.evaluators]


def selector_of(record: Record) -> list[Rule]:
    """Return a setup's rules for the matcher."""
    return [Rule(**rule) for rule in from_json(record.rules)]


def phase_of(record: Record, now: float, settle: float, spans_needed: int) -> str:
    """Return the phase of processing.

    It is pending for half of `settle` seconds, then in_progress, then "ready and waiting for enough
    spans" ("Create" page) until `spans_needed` spans have matched since the last write.
    """
    age = now - record.written
    if age >= settle:
        return "completed" if record.matched >= spans_needed else "waiting_for_spans"
    return "in_progress" if age >= settle / 2 else "pending"


def status_of(record: Record, phase: str) -> str:
    """Return the status of the setup (table on the "Create" page)."""
    if phase != "completed":
        return phase
    failures = [failure is not None for _, _, failure in from_json(record.evaluators)]
    if not any(failures):
        return "completed"
    return "failed" if all(failures) else "partial"


# Cached: a list of 10,000 setups is read much more often than it changes.
@lru_cache(maxsize=65536)
def render(record: Record, phase: str, status: str, processed: float) -> str:
    """Return the JSON of a setup in responses.

    Args:
        record: the setup.
        phase: its phase, also the status of its evaluators. The documentation shows "pending" only,
            which is used while waiting for spans.
        status: its status.
        processed: the end of processing, in seconds since the epoch, for the phase completed.
    """
    if phase == "completed":
        evaluators = _completed(record, processed)
    else:
        waiting = phase == "waiting_for_spans"
        evaluators = _in_progress(record.evaluators, "pending" if waiting else phase)
    head = {
        "id": record.id,
        "external_id": record.external_id,
        "org_id": record.org_id,
        "project_id": record.project_id,
        "env_project_id": record.env_project_id,
    }
    tail = {
        "status": status,
        "created_at": rfc3339(record.created),
        "updated_at": rfc3339(record.written),
    }
    lists = f'{{"init_rules":{record.rules},"evaluators":[{evaluators}]}}'
    return _joined(_text(head), lists, _text(tail))


@lru_cache(maxsize=1024)
def _in_progress(evaluators: str, phase: str) -> str:
    """Return the JSON of evaluators in progress, without brackets.

    The examples with status "pending" lack the fields of completed evaluators, which openapi.json
    makes optional.
    """
    return ",".join(
        _evaluator(slug, scope, {"status": phase}) for slug, scope, _ in from_json(evaluators)
    )


def _completed(record: Record, processed: float) -> str:
    """Return the JSON of completed or failed evaluators, without brackets."""
    texts = []
    for index, (slug, scope, failure) in enumerate(from_json(record.evaluators)):
        found = {"evaluator_id": _token("cme", slug), "processed_at": rfc3339(processed)}
        if failure is None:
            found |= {
                "status": "completed",
                "binding_id": _token("cmb", record.id, record.revision, index),
            }
        else:
            found |= {"status": "failed", "error_message": failure}
        texts.append(_evaluator(slug, scope, found))
    return ",".join(texts)


def _evaluator(slug: str, scope: str | None, found: dict[str, str]) -> str:
    return _joined(_schemas(slug), _text(found | ({} if scope is None else {"scope": scope})))


@lru_cache(maxsize=1024)
def _schemas(slug: str) -> str:
    """Return the JSON of an evaluator's type and schemas."""
    inputs, outputs = _SCHEMAS.get(slug) or (
        [{"type": "string", "name": "text"}],
        [{"type": "float", "name": "score"}],
    )
    return _text({"evaluator_type": slug, "input_schema": inputs, "output_schema": outputs})


def _text(value: object) -> str:
    return to_json(value).decode()


def _joined(*objects: str) -> str:
    """Merge the JSON texts of several non-empty objects."""
    return f"{{{','.join(text[1:-1] for text in objects)}}}"


def rfc3339(seconds: float) -> str:
    """Format seconds since the epoch as in the documentation: `2026-01-15T10:30:00Z`."""
    return _rfc3339(int(seconds))


@lru_cache(maxsize=1024)
def _rfc3339(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def _token(prefix: str, *parts: object) -> str:
    """Return an id in the service's format, 25 characters derived from the parts."""
    digest = hashlib.sha256(":".join(map(str, parts)).encode("utf-8", "surrogatepass"))
    return prefix + digest.hexdigest()[:22]
