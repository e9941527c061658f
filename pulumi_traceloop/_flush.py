"""Writes setups: reads them, sends only those that differ, never repeats a write blindly.

An upsert restarts a setup's processing of production traffic even if nothing changed (reference
page "Bulk Upsert": status reset to pending, evaluators replaced wholesale). So equal setups are
adopted without a write, and a write of unknown outcome is read back before it is sent again.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Set
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ._client import BULK_LIMIT, BulkOutcome
from ._project import BEFORE_WRITE, Reading, in_parallel
from ._text import printable, say
from ._validation import FINAL, WAITING
from .errors import (
    AuthenticationError,
    DeletionError,
    RejectedError,
    RequestError,
    SetupsMissingError,
    TraceloopError,
    TransportError,
)

if TYPE_CHECKING:
    from ._client import TraceloopClient
    from ._models import Setup, SetupSpec
    from ._project import Project

__all__ = ["Outcome", "Refusal", "delete_all", "flush", "upsert", "wait"]

#: Attempts per setup while the outcome is unknown.
ATTEMPTS = 4

#: Concurrent bulk requests.
BULK_WORKERS = 6

#: The default timeout of `wait`, its first poll interval and its longest, in seconds.
WAIT_TIMEOUT = 600.0
FIRST_INTERVAL, LONGEST_INTERVAL = 1.0, 15.0


@dataclass
class Outcome:
    """The result of a flush or upsert, by external_id."""

    #: The setups that were written or adopted.
    stored: dict[str, Setup] = field(default_factory=dict)
    #: The setups that failed, and why.
    failed: dict[str, str] = field(default_factory=dict)
    #: The failed setups whose write may have been applied.
    unknown: set[str] = field(default_factory=set)
    #: The error that ended the flush early, if any.
    error: TraceloopError | None = None


#: Refuses setups before the first write: takes the declared and the remote setups, returns an error
#: for each refused one.
Refusal = Callable[[Mapping[str, "SetupSpec"], Mapping[str, "Setup"]], Mapping[str, TraceloopError]]


def _nothing(*_: object) -> Mapping[str, TraceloopError]:
    return {}


def flush(
    project: Project,
    specs: Mapping[str, SetupSpec],
    *,
    in_place: Set[str] = frozenset(),
    forced: Set[str] = frozenset(),
    env_project_id: str | None = None,
    refuse: Refusal = _nothing,
    sleep: Callable[[float], None] = time.sleep,
) -> Outcome:
    """Read many setups, and send those that differ in bulk requests.

    Args:
        project: the project to write to.
        specs: the setups by external_id.
        in_place: the external_ids that exist according to the state.
        forced: the external_ids to send even if equal.
        env_project_id: the project of the state, if known.
        refuse: refuses setups before the first write.
        sleep: waits between attempts, in seconds.

    Returns:
        The outcome of each setup. It never raises, not even without an API key: successful writes
        have to reach the state, and the host shows an exception as a traceback.

    """
    if not specs:
        return Outcome()

    def read(pending: Collection[str], attempt: int) -> Reading:
        reading = project.read(pending, env_project_id, max_age=0 if attempt else BEFORE_WRITE)
        if attempt == 0:
            project.expect(env_project_id)
            found = reading.setups.keys() | reading.unreadable.keys()
            missing = any(i in in_place and i not in found for i in pending)
            if missing and len(in_place) > 1 and not any(project.read(in_place, env_project_id)):
                raise SetupsMissingError("this group", len(in_place))
        return reading

    def send(pending: Mapping[str, SetupSpec]) -> BulkOutcome:
        items = list(pending.items())
        batches = [dict(items[n : n + BULK_LIMIT]) for n in range(0, len(items), BULK_LIMIT)]
        outcomes = in_parallel(
            lambda batch: _send_batch(project.client, batch), batches, BULK_WORKERS
        )
        return _merged(outcomes)

    return _reconcile(project, specs, forced, env_project_id, refuse, read, send, sleep)


def upsert(
    project: Project,
    external_id: str,
    spec: SetupSpec,
    *,
    force: bool = False,
    accepted: Callable[[Setup], bool] = lambda _: False,
    env_project_id: str | None = None,
    refuse: Refusal = _nothing,
    sleep: Callable[[float], None] = time.sleep,
) -> Outcome:
    """Read one setup with a GET, and send a PUT if it differs.

    Args:
        project: the project to write to.
        external_id: the setup's key.
        spec: the setup.
        force: whether to send it even if equal.
        accepted: whether a remote setup that differs counts as equal.
        env_project_id: the project of the state, if known.
        refuse: as in `flush`.
        sleep: waits between attempts, in seconds.

    Returns:
        The outcome: stored, or unknown.

    Raises:
        TraceloopError: nothing was written.

    """
    errors: list[TraceloopError] = []

    def read(_: Collection[str], attempt: int) -> Reading:
        reading = project.read(
            [external_id], env_project_id, max_age=0 if attempt else BEFORE_WRITE
        )
        if attempt == 0:
            project.expect(env_project_id, [external_id])
            errors.extend(reading.unreadable.values())
        return reading

    def refuse_and_keep(*given: Any) -> Mapping[str, TraceloopError]:
        refused = refuse(*given)
        errors.extend(refused.values())
        return refused

    def send(_: Mapping[str, SetupSpec]) -> BulkOutcome:
        try:
            return BulkOutcome(stored={external_id: project.client.upsert_setup(external_id, spec)})
        except RequestError as error:
            errors.append(error)
            return _failure(error, [external_id])

    forced = {external_id} if force else set[str]()
    specs = {external_id: spec}
    outcome = _reconcile(
        project, specs, forced, env_project_id, refuse_and_keep, read, send, sleep, accepted
    )
    if outcome.failed and not outcome.unknown:
        raise outcome.error or errors[-1]
    return outcome


def _reconcile(
    project: Project,
    specs: Mapping[str, SetupSpec],
    forced: Set[str],
    env_project_id: str | None,
    refuse: Refusal,
    read: Callable[[Collection[str], int], Reading],
    send: Callable[[Mapping[str, SetupSpec]], BulkOutcome],
    sleep: Callable[[float], None],
    accepted: Callable[[Setup], bool] = lambda _: False,
) -> Outcome:
    outcome = Outcome()
    pending = dict(specs)
    reasons: dict[str, str] = {}
    before: Mapping[str, Setup] = {}
    resend: Set[str] = set()
    for attempt in range(ATTEMPTS):
        if attempt:
            sleep(random.uniform(0.5, 1.0) * 2**attempt)  # noqa: S311 - jitter is no secret
        try:
            remote, unreadable = read(pending, attempt)
            refused = refuse(specs, remote) if attempt == 0 else {}
        except TraceloopError as error:
            if attempt == 0:
                reason = str(error)
                if isinstance(error, RequestError):
                    reason = f"nothing was sent: {error.summary}"
                return Outcome(failed=dict.fromkeys(specs, reason), error=error)
            reasons = {i: f"{why}; reading it back failed: {error}" for i, why in reasons.items()}
            break
        if attempt == 0:
            before = remote
            outcome.failed.update((i, str(error)) for i, error in refused.items())
            outcome.failed.update(
                (i, f"nothing was sent: {unread.summary}") for i, unread in unreadable.items()
            )
        else:
            for external_id, unread in unreadable.items():
                reasons[external_id] += f"; reading it back failed: {unread.summary}"
                outcome.failed[external_id] = _unknown(reasons[external_id])
                outcome.unknown.add(external_id)
        pending = {i: spec for i, spec in pending.items() if i not in outcome.failed}
        equal = {
            i
            for i, spec in pending.items()
            if (setup := remote.get(i))
            and (
                setup.definition == spec.definition
                or accepted(setup)
                or (attempt > 0 and _was_applied(setup, before.get(i)))
            )
        }
        if attempt == 0:
            # A later read cannot show whether an equal setup was sent again: send those always.
            resend = forced & equal
        for external_id in equal - resend:
            outcome.stored[external_id] = remote[external_id]
            del pending[external_id]
        if not pending:
            break
        sent = send(pending)
        project.note(*sent.stored.values())
        try:
            project.expect(env_project_id, written=sent.stored)
        except TraceloopError as error:
            outcome.failed.update(dict.fromkeys(pending, str(error)))
            outcome.error = error
            return outcome
        outcome.stored.update(sent.stored)
        outcome.failed.update(sent.refused)
        reasons = sent.outcome_unknown
        pending = {external_id: pending[external_id] for external_id in reasons}
        if not pending:
            break
    outcome.failed.update((i, _unknown(reasons[i])) for i in pending)
    outcome.unknown.update(pending)
    return outcome


def _unknown(why: str) -> str:
    return f"{why}; outcome unknown: the write may have been applied"


def _was_applied(setup: Setup, before: Setup | None) -> bool:
    """Whether a write of unknown outcome changed the remote setup, perhaps normalized."""
    return before is None or before.definition != setup.definition


def _send_batch(client: TraceloopClient, batch: Mapping[str, SetupSpec]) -> BulkOutcome:
    try:
        return client.bulk_upsert(batch)
    except RejectedError as error:
        # Nothing of the batch was written. Split it, so that one setup does not block the others.
        items = list(batch.items())
        if len(items) == 1 or error.status not in (400, 413, 422):
            return _failure(error, batch)
        half = len(items) // 2
        return _merged(_send_batch(client, dict(part)) for part in (items[:half], items[half:]))
    except RequestError as error:
        return _failure(error, batch)


def _failure(error: RequestError, external_ids: Iterable[str]) -> BulkOutcome:
    failed = dict.fromkeys(external_ids, error.summary)
    if error.outcome_unknown:
        return BulkOutcome(outcome_unknown=failed)
    return BulkOutcome(refused=failed)


def _merged(outcomes: Iterable[BulkOutcome]) -> BulkOutcome:
    merged = BulkOutcome()
    for outcome in outcomes:
        merged.stored.update(outcome.stored)
        merged.refused.update(outcome.refused)
        merged.outcome_unknown.update(outcome.outcome_unknown)
    return merged


def delete_all(project: Project, external_ids: Collection[str], env_project_id: str | None) -> None:
    """Delete setups concurrently; a missing setup counts as deleted.

    Raises:
        ProjectMismatchError: the key belongs to another project; nothing was deleted.
        DeletionError: some setups could not be deleted.

    """
    if not external_ids:
        return
    project.expect(env_project_id, external_ids)
    fatal: list[RequestError] = []
    failed: dict[str, str] = {}

    def delete(external_id: str) -> None:
        if fatal:
            failed[external_id] = fatal[0].summary
            return
        try:
            project.delete(external_id)
        except RequestError as error:
            failed[external_id] = error.summary
            if isinstance(error, AuthenticationError | TransportError):
                fatal.append(error)

    in_parallel(delete, external_ids)
    if failed:
        raise DeletionError(failed, len(external_ids))


def wait(
    project: Project,
    external_ids: Collection[str],
    timeout: float | None,
    name: str,
    *,
    accepted: bool = False,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> dict[str, str]:
    """Wait until Traceloop has provisioned *external_ids*, and print the progress.

    Args:
        project: the project of the setups.
        external_ids: the setups to wait for.
        timeout: the longest wait, in seconds; `WAIT_TIMEOUT` if ``None``.
        name: the group or setup to name in the progress.
        accepted: whether a setup that waits for spans is ready.
        clock: a monotonic clock, in seconds.
        sleep: waits between polls, in seconds.

    Returns:
        ``{external_id: why}`` of the setups that are not ready, although written.

    """
    timeout = WAIT_TIMEOUT if timeout is None else timeout
    end = clock() + timeout
    pending, not_ready = set(external_ids), dict[str, str]()
    final = (*FINAL, WAITING) if accepted else FINAL
    interval, reported = FIRST_INTERVAL, len(pending)
    remote: dict[str, Setup] = {}
    while pending:
        try:
            found, unreadable = project.read(pending, max_age=0)
        except TraceloopError as error:
            reason = error.summary if isinstance(error, RequestError) else str(error)
            return not_ready | dict.fromkeys(pending, f"its status is unknown: {reason}")
        remote |= found
        for external_id, unread in unreadable.items():
            pending.discard(external_id)
            not_ready[external_id] = f"its status is unknown: {unread.summary}"
        for external_id in list(pending):
            setup = remote.get(external_id)
            # A new setup may appear some seconds after its write.
            if setup is not None and setup.status in final:
                pending.discard(external_id)
                if failure := _provisioning_failure(setup):
                    not_ready[external_id] = failure
        if len(pending) != reported and len(external_ids) > 1:
            done = f"{len(external_ids) - len(pending):,} of {len(external_ids):,}"
            so_far = f"done, {len(not_ready):,} failed" if not_ready else "set up"
            say(f"{name}: {done} are {so_far}")
            reported = len(pending)
        remaining = end - clock()
        if pending and remaining <= 0:
            return not_ready | {i: _timeout_reason(remote.get(i), timeout) for i in pending}
        if pending:
            sleep(min(interval, remaining))
            interval = min(2 * interval, LONGEST_INTERVAL)
    return not_ready


def _timeout_reason(setup: Setup | None, timeout: float) -> str:
    if setup is None:
        return f"Traceloop has no such setup after {timeout:g} s: it was deleted while waiting"
    if setup.status == WAITING:
        return (
            f"no spans have matched it within {timeout:g} s, so no monitor exists yet:"
            ' `pulumi-traceloop match` shows why; wait_for="accepted" does not wait for spans'
        )
    return f"is still not set up after {timeout:g} s: {printable(setup.status)}"


def _provisioning_failure(setup: Setup) -> str | None:
    """Return the evaluators' error messages if a setup failed to provision, else ``None``."""
    if setup.status not in ("failed", "partial"):
        return None
    messages = "; ".join(
        printable(f"{evaluator.evaluator_type}: {evaluator.error_message}")
        for evaluator in setup.evaluators
        if evaluator.error_message
    )
    return f"Traceloop could not set it up ({setup.status}): {messages or 'no reason given'}"
