"""How setups reach Traceloop: read, send only what differs, and never repeat a write blindly.

An upsert of an existing setup restarts its processing on production traffic (reference page "Bulk
Upsert": status reset to pending, evaluators replaced wholesale), even if nothing changed. So what
Traceloop already has is adopted, and a write whose outcome is unknown is read back before it is
sent again.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Set
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ._client import BULK_LIMIT, BulkOutcome
from ._project import Reading, in_parallel
from ._text import printable, say
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

#: How often a setup is sent at most while the outcome is unknown.
ATTEMPTS = 4

#: How many bulk requests are under way at once.
BULK_WORKERS = 6

#: How long `wait` waits if nobody says, and between two looks, in seconds.
WAIT_TIMEOUT = 600.0
FIRST_LOOK, LONGEST_LOOK = 1.0, 15.0

#: Statuses of a setup that Traceloop still works on, and of one that has no monitor before spans
#: match (reference page "Create").
_UNSETTLED = ("pending", "in_progress")
_WAITING = "waiting_for_spans"


@dataclass
class Outcome:
    """What became of the setups that were to be in place."""

    #: What is in place now, written or adopted.
    stored: dict[str, Setup] = field(default_factory=dict)
    #: What is not, and why.
    failed: dict[str, str] = field(default_factory=dict)
    #: Those of *failed* whose write may have been applied.
    unknown: set[str] = field(default_factory=set)
    #: What ended the flush early, if anything did.
    error: TraceloopError | None = None


#: What refuses setups before the first write: it is given the setups to write and what Traceloop
#: has of them, and returns why not, by external_id.
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
    """Put many setups in place: read them, then bulk requests for what differs.

    Args:
        project: where to.
        specs: the setups by external_id.
        in_place: those that the state says are there.
        forced: those to send even if they are equal to what is there.
        env_project_id: the project that the state was made in, if it says.
        refuse: which setups must not be written, given what Traceloop has of them.
        sleep: how to wait, in seconds, before another attempt.

    Returns:
        What became of each. Nothing is raised, not even without an API key: what did work has to
        reach the state, and an exception in a dynamic provider reaches the user as a traceback.

    """
    if not specs:
        return Outcome()

    def read(pending: Collection[str], attempt: int) -> Reading:
        reading = project.read(pending, env_project_id, fresh=attempt > 0)
        if attempt == 0:
            project.expect(env_project_id)
            missing = any(i in in_place and i not in reading.setups for i in pending)
            if missing and len(in_place) > 1 and not project.read(in_place, env_project_id).setups:
                raise SetupsMissingError("this group", len(in_place))
        return reading

    def send(pending: Mapping[str, SetupSpec]) -> BulkOutcome:
        items = list(pending.items())
        batches = [dict(items[n : n + BULK_LIMIT]) for n in range(0, len(items), BULK_LIMIT)]
        answers = in_parallel(
            lambda batch: _send_batch(project.client, batch), batches, BULK_WORKERS
        )
        return _merged(answers)

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
    """Put one setup in place: one GET, then a PUT if it differs.

    Args:
        project: where to.
        external_id: the setup's key.
        spec: the setup.
        force: send it even if it is equal to what is there.
        accepted: whether what is there counts as equal, though it is not.
        env_project_id: the project that the state was made in, if it says.
        refuse: as of `flush`.
        sleep: how to wait, in seconds, before another attempt.

    Returns:
        What became of it, unless nothing was written for certain.

    Raises:
        TraceloopError: it is not in place, and nothing was written.

    """
    last: list[TraceloopError] = []

    def read(_: Collection[str], attempt: int) -> Reading:
        reading = project.read([external_id], env_project_id, fresh=attempt > 0)
        if attempt == 0:
            project.expect(env_project_id, [external_id])
            last.extend(reading.unreadable.values())
        return reading

    def refuse_and_keep(*given: Any) -> Mapping[str, TraceloopError]:
        refused = refuse(*given)
        last.extend(refused.values())
        return refused

    def send(_: Mapping[str, SetupSpec]) -> BulkOutcome:
        try:
            return BulkOutcome(stored={external_id: project.client.upsert_setup(external_id, spec)})
        except RequestError as error:
            last.append(error)
            return _failure(error, [external_id])

    forced = {external_id} if force else set[str]()
    specs = {external_id: spec}
    outcome = _reconcile(
        project, specs, forced, env_project_id, refuse_and_keep, read, send, sleep, accepted
    )
    if outcome.failed and not outcome.unknown:
        raise outcome.error or last[-1]
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
    why: dict[str, str] = {}
    before: Mapping[str, Setup] = {}
    resend: Set[str] = set()
    for attempt in range(ATTEMPTS):
        if attempt:
            sleep(random.uniform(0.5, 1.0) * 2**attempt)  # noqa: S311 - jitter is no secret
        try:
            there, unreadable = read(pending, attempt)
            refused = refuse(specs, there) if attempt == 0 else {}
        except TraceloopError as error:
            if attempt == 0:
                reason = str(error)
                if isinstance(error, RequestError):
                    reason = f"nothing was sent: {error.summary}"
                return Outcome(failed=dict.fromkeys(specs, reason), error=error)
            why = {i: f"{text}; reading it back failed: {error}" for i, text in why.items()}
            break
        if attempt == 0:
            before = there
            outcome.failed.update((i, str(error)) for i, error in refused.items())
            outcome.failed.update(
                (i, f"nothing was sent: {unread.summary}") for i, unread in unreadable.items()
            )
        else:
            for external_id, unread in unreadable.items():
                why[external_id] += f"; reading it back failed: {unread.summary}"
                outcome.failed[external_id] = _unknown(why[external_id])
                outcome.unknown.add(external_id)
        pending = {i: spec for i, spec in pending.items() if i not in outcome.failed}
        equal = {
            i
            for i, spec in pending.items()
            if (setup := there.get(i))
            and (
                setup.meaning == spec.meaning
                or accepted(setup)
                or (attempt > 0 and _landed(setup, before.get(i)))
            )
        }
        if attempt == 0:
            # What was equal from the start can't tell by its content whether the write happened.
            resend = forced & equal
        for external_id in equal - resend:
            outcome.stored[external_id] = there[external_id]
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
        why = sent.outcome_unknown
        pending = {external_id: pending[external_id] for external_id in why}
        if not pending:
            break
    outcome.failed.update((i, _unknown(why[i])) for i in pending)
    outcome.unknown.update(pending)
    return outcome


def _unknown(why: str) -> str:
    return f"{why}; outcome unknown: the write may have been applied"


def _landed(setup: Setup, before: Setup | None) -> bool:
    """Whether a write of unknown outcome shows in what is there now, spelled by the service."""
    return before is None or before.meaning != setup.meaning


def _send_batch(client: TraceloopClient, batch: Mapping[str, SetupSpec]) -> BulkOutcome:
    try:
        return client.bulk_upsert(batch)
    except RejectedError as error:
        # The whole batch was refused and nothing written: one setup must not stop the others.
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
    """Delete setups, several at a time; one that is gone already is fine.

    Raises:
        ProjectMismatchError: the key belongs to another project; nothing was deleted.
        DeletionError: some could not be deleted.

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
    """Wait until Traceloop has set up *external_ids*, and print how far it is.

    Args:
        project: where they are.
        external_ids: what to wait for.
        timeout: for how long at most, in seconds; `WAIT_TIMEOUT` if ``None``.
        name: whose setups they are, for what is printed.
        accepted: whether a setup that waits for spans is good enough.
        clock: a monotonic clock, in seconds.
        sleep: how to wait, in seconds.

    Returns:
        Which are not ready, and why: ``{external_id: why}``. They are written.

    """
    timeout = WAIT_TIMEOUT if timeout is None else timeout
    end = clock() + timeout
    pending, unsettled = set(external_ids), dict[str, str]()
    unsettled_statuses = _UNSETTLED if accepted else (*_UNSETTLED, _WAITING)
    pause, told = FIRST_LOOK, len(pending)
    there: dict[str, Setup] = {}
    while pending:
        try:
            there |= project.present(pending, fresh=True)
        except TraceloopError as error:
            reason = error.summary if isinstance(error, RequestError) else str(error)
            return unsettled | dict.fromkeys(pending, f"its status is not known: {reason}")
        for external_id in list(pending):
            setup = there.get(external_id)
            # One that was just written may take some seconds to show.
            if setup is not None and setup.status not in unsettled_statuses:
                pending.discard(external_id)
                if trouble := _trouble(setup):
                    unsettled[external_id] = trouble
        if len(pending) != told and len(external_ids) > 1:
            done = f"{len(external_ids) - len(pending):,} of {len(external_ids):,}"
            so_far = f"done, {len(unsettled):,} failed" if unsettled else "set up"
            say(f"{name}: {done} are {so_far}")
            told = len(pending)
        left = end - clock()
        if pending and left <= 0:
            return unsettled | {i: _late(there.get(i), timeout) for i in pending}
        if pending:
            sleep(min(pause, left))
            pause = min(2 * pause, LONGEST_LOOK)
    return unsettled


def _late(setup: Setup | None, timeout: float) -> str:
    if setup is None:
        return f"Traceloop has no such setup after {timeout:g} s: it was deleted while waiting"
    if setup.status == _WAITING:
        return (
            f"no spans have matched it within {timeout:g} s, so no monitor exists yet:"
            ' `pulumi-traceloop match` shows why; wait_for="accepted" does not wait for spans'
        )
    return f"is still not set up after {timeout:g} s: {printable(setup.status)}"


def _trouble(setup: Setup) -> str | None:
    """Return why a setup failed to provision, in the words of its evaluators."""
    if setup.status not in ("failed", "partial"):
        return None
    said = "; ".join(
        printable(f"{evaluator.evaluator_type}: {evaluator.error_message}")
        for evaluator in setup.evaluators
        if evaluator.error_message
    )
    return f"Traceloop could not set it up ({setup.status}): {said or 'no reason given'}"
