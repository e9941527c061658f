"""Batched upserts, on the emulator with waits that take no time: `_flush.py`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import pytest

from pulumi_traceloop._client import BULK_LIMIT
from pulumi_traceloop._flush import ATTEMPTS, Outcome, flush, upsert
from pulumi_traceloop._models import Setup
from pulumi_traceloop._project import BEFORE_WRITE, READ_BY_ID, WORKERS, Project
from pulumi_traceloop._settings import connection
from pulumi_traceloop.emulator import Emulator, Fault
from pulumi_traceloop.emulator.routes import (
    BULK_ROUTE,
    GET_ROUTE,
    LIST_ROUTE,
    UPSERT_ROUTE,
)
from pulumi_traceloop.errors import (
    AuthenticationError,
    ProjectMismatchError,
    RejectedError,
    TraceloopError,
)
from tests.support import API_KEY
from tests.support.clock import Clock
from tests.support.project import NO_SETTINGS, content, spec, specs


def bulk_sizes(traceloop: Emulator) -> list[int]:
    bodies = [json.loads(record.body) for record in traceloop.log if record.route == BULK_ROUTE]
    return sorted(len(body["setups"]) for body in bodies)


class TestAdoption:
    def test_empty_flush_sends_no_request(self, project: Project, traceloop: Emulator) -> None:
        assert flush(project, {}) == Outcome()
        assert traceloop.requests == {}

    def test_equal_remote_setup_is_not_written(self, project: Project, traceloop: Emulator) -> None:
        remote = traceloop.put("a", **content())
        outcome = flush(project, {"a": spec()})
        assert outcome.stored["a"].id == remote["id"]
        assert traceloop.writes == {}

    def test_only_different_or_missing_setups_are_written(
        self, project: Project, traceloop: Emulator
    ) -> None:
        for external_id in ("equal", "other"):
            traceloop.put(external_id, **content())
        outcome = flush(project, {"equal": spec(), "other": spec("y"), "new": spec()})
        assert set(outcome.stored) == {"equal", "other", "new"}
        assert traceloop.writes == {"other": 1, "new": 1}

    @pytest.mark.parametrize("one_by_one", [True, False])
    def test_what_was_read_long_ago_is_read_again(
        self, traceloop: Emulator, clock: Clock, one_by_one: bool
    ) -> None:
        """The resource may have waited for another one since it was checked."""
        settings = {"traceloop:apiKey": API_KEY, "traceloop:baseUrl": traceloop.url}
        project = Project(connection(settings.get, {}), clock=clock)
        assert project.present(["a"]) == {}
        traceloop.put("a", **content("theirs"))
        clock.advance(BEFORE_WRITE + 1)
        seen: dict[str, Setup] = {}

        def refuse(_: object, remote: Mapping[str, Setup]) -> dict[str, TraceloopError]:
            seen.update(remote)
            return {}

        if one_by_one:
            upsert(project, "a", spec(), refuse=refuse)
        else:
            flush(project, {"a": spec()}, refuse=refuse)
        assert set(seen) == {"a"}

    def test_written_setup_is_adopted_by_the_next_flush(
        self, project: Project, traceloop: Emulator
    ) -> None:
        """Responses to writes update the cached list."""
        flush(project, {"a": spec()})
        flush(project, {"a": spec()})
        assert traceloop.writes == {"a": 1}
        assert traceloop.requests == {GET_ROUTE: 1, BULK_ROUTE: 1}

    def test_owned_setup_that_the_list_lacks_is_read_by_id(
        self, project: Project, traceloop: Emulator
    ) -> None:
        traceloop.put("a", **content())
        traceloop.inject(Fault(route=LIST_ROUTE, hide=["a"], times=None))
        outcome = flush(project, {"a": spec()}, in_place={"a"})
        assert set(outcome.stored) == {"a"}
        assert traceloop.writes == {}

    def test_new_setup_that_the_list_lacks_is_read_by_id(
        self, project: Project, traceloop: Emulator
    ) -> None:
        """The list may be truncated: an equal setup must not be sent again."""
        many = specs(READ_BY_ID + 10)
        for external_id in many:
            traceloop.put(external_id, **content())
        traceloop.inject(Fault(route=LIST_ROUTE, hide=list(many)[5:], times=None))
        outcome = flush(project, many)
        assert set(outcome.stored) == set(many)
        assert traceloop.writes == {}

    def test_nothing_is_read_by_id_in_an_empty_project(
        self, project: Project, traceloop: Emulator
    ) -> None:
        """Else 1,000 new setups would cost as many requests."""
        flush(project, specs(READ_BY_ID + 10))
        assert traceloop.requests == {LIST_ROUTE: 1, BULK_ROUTE: 1}

    def test_unreadable_setup_is_not_missing(self, project: Project, traceloop: Emulator) -> None:
        traceloop.put("a", **content("old"))
        traceloop.inject(Fault(external_id="a", method="GET", body='{"id": 1}', times=None))
        outcome = flush(project, {"a": spec(), "gone": spec()}, in_place={"a", "gone"})
        assert outcome.failed.keys() == {"a"}
        assert "should be a setup" in outcome.failed["a"]

    def test_unreadable_setup_does_not_block_others(
        self, project: Project, traceloop: Emulator
    ) -> None:
        traceloop.put("a", **content("old"))
        traceloop.inject(Fault(external_id="a", method="GET", body='{"id": 1}', times=None))
        outcome = flush(project, {"a": spec(), "b": spec()})
        assert set(outcome.stored) == {"b"}
        assert outcome.failed["a"].startswith("nothing was sent: ")
        assert traceloop.writes == {"b": 1}


class TestForced:
    def test_equal_setup_is_sent_again(self, project: Project, traceloop: Emulator) -> None:
        traceloop.put("a", **content())
        outcome = flush(project, {"a": spec(), "b": spec()}, forced={"a"})
        assert set(outcome.stored) == {"a", "b"}
        assert traceloop.writes == {"a": 1, "b": 1}

    def test_equal_content_does_not_prove_a_write(
        self, project: Project, traceloop: Emulator, clock: Clock
    ) -> None:
        traceloop.put("a", **content())
        traceloop.inject(Fault(route=BULK_ROUTE, status=500, when="after_write"))
        outcome = flush(project, {"a": spec()}, forced={"a"}, sleep=clock.sleep)
        assert set(outcome.stored) == {"a"}
        assert traceloop.writes == {"a": 2}

    def test_changed_content_proves_a_write(
        self, project: Project, traceloop: Emulator, clock: Clock
    ) -> None:
        traceloop.put("a", **content("before"))
        traceloop.inject(Fault(route=BULK_ROUTE, status=500, when="after_write"))
        outcome = flush(project, {"a": spec()}, forced={"a"}, sleep=clock.sleep)
        assert set(outcome.stored) == {"a"}
        assert traceloop.writes == {"a": 1}


class TestUnknownOutcome:
    @pytest.mark.parametrize("drop", ["before", "after"])
    def test_is_read_back_before_it_is_sent_again(
        self, project: Project, traceloop: Emulator, clock: Clock, drop: Any
    ) -> None:
        traceloop.inject(Fault(route=BULK_ROUTE, drop=drop))
        outcome = flush(project, {"a": spec(), "b": spec()}, sleep=clock.sleep)
        assert set(outcome.stored) == {"a", "b"}
        assert traceloop.writes == {"a": 1, "b": 1}

    def test_is_read_by_id_if_the_list_lacks_the_setup(
        self, project: Project, traceloop: Emulator, clock: Clock
    ) -> None:
        traceloop.inject(Fault(route=BULK_ROUTE, drop="after"))
        traceloop.inject(Fault(route=LIST_ROUTE, hide=["a"], times=None))
        outcome = flush(project, {"a": spec()}, sleep=clock.sleep)
        assert set(outcome.stored) == {"a"}
        assert traceloop.writes == {"a": 1}

    def test_only_unknown_outcomes_are_sent_again(
        self, project: Project, traceloop: Emulator, clock: Clock
    ) -> None:
        traceloop.inject(Fault(route=BULK_ROUTE, item_error={"b": "internal error"}))
        outcome = flush(project, {"a": spec(), "b": spec(), "c": spec()}, sleep=clock.sleep)
        assert set(outcome.stored) == {"a", "b", "c"}
        assert bulk_sizes(traceloop) == [1, 3]

    def test_is_reported_after_the_last_attempt(
        self, project: Project, traceloop: Emulator, clock: Clock
    ) -> None:
        traceloop.inject(Fault(route=BULK_ROUTE, status=503, times=None, message="busy"))
        outcome = flush(project, {"a": spec()}, sleep=clock.sleep)
        assert outcome.stored == {}
        assert outcome.failed == {
            "a": "busy (HTTP 503); outcome unknown: the write may have been applied"
        }
        assert outcome.unknown == {"a"}
        assert traceloop.requests[BULK_ROUTE] == ATTEMPTS

    def test_is_reported_if_reading_back_fails(
        self, project: Project, traceloop: Emulator, clock: Clock
    ) -> None:
        traceloop.inject(Fault(route=BULK_ROUTE, status=503, message="busy"))
        traceloop.inject(Fault(route=GET_ROUTE, status=403, skip=1, message="blocked"))
        outcome = flush(project, {"a": spec()}, sleep=clock.sleep)
        assert outcome.unknown == {"a"}
        assert outcome.failed["a"].startswith("busy (HTTP 503); reading it back failed: ")
        assert "blocked" in outcome.failed["a"]
        assert traceloop.requests[BULK_ROUTE] == 1

    def test_refused_setup_has_a_known_outcome(
        self, project: Project, traceloop: Emulator, clock: Clock
    ) -> None:
        outcome = flush(project, {"a": spec("x", "no-such")}, sleep=clock.sleep)
        assert outcome.failed == {"a": 'unknown evaluator slug "no-such"'}
        assert outcome.unknown == set()
        assert clock.waits == []


class TestWaits:
    def test_grow_and_are_jittered_within_bounds(
        self, project: Project, traceloop: Emulator
    ) -> None:
        traceloop.inject(Fault(route=BULK_ROUTE, status=503, times=None))
        seen: list[list[float]] = []
        for _ in range(5):
            clock = Clock()
            flush(project, {"a": spec()}, sleep=clock.sleep)
            seen.append(clock.waits)
        for nth, waits in enumerate(zip(*seen, strict=True), start=1):
            assert all(2**nth / 2 <= wait <= 2**nth for wait in waits)
            assert len(set(waits)) > 1
        assert all(len(waits) == ATTEMPTS - 1 for waits in seen)


class TestBatches:
    def test_hold_at_most_a_hundred(self, project: Project, traceloop: Emulator) -> None:
        outcome = flush(project, specs(250))
        assert len(outcome.stored) == 250
        assert bulk_sizes(traceloop) == [50, 100, 100]

    def test_a_hundred_and_one_setups_are_two(self, project: Project, traceloop: Emulator) -> None:
        flush(project, specs(BULK_LIMIT + 1))
        assert bulk_sizes(traceloop) == [1, 100]

    def test_more_than_run_concurrently_are_all_sent(
        self, project: Project, traceloop: Emulator
    ) -> None:
        count = (WORKERS + 2) * BULK_LIMIT
        assert len(flush(project, specs(count)).stored) == count
        assert traceloop.requests[BULK_ROUTE] == WORKERS + 2

    def test_refused_batch_is_split_until_only_the_culprit_fails(
        self, project: Project, traceloop: Emulator
    ) -> None:
        traceloop.inject(
            Fault(route=BULK_ROUTE, status=400, external_id="m-037", message="bad", times=None)
        )
        outcome = flush(project, specs(100))
        assert outcome.failed == {"m-037": "bad (HTTP 400)"}
        assert len(outcome.stored) == 99
        assert set(traceloop.writes.values()) == {1}
        assert traceloop.requests[BULK_ROUTE] < 20

    def test_refused_batch_does_not_block_the_others(
        self, project: Project, traceloop: Emulator
    ) -> None:
        traceloop.inject(
            Fault(route=BULK_ROUTE, status=400, external_id="m-150", message="bad", times=None)
        )
        outcome = flush(project, specs(250))
        assert set(outcome.failed) == {"m-150"}
        assert len(outcome.stored) == 249

    def test_batch_that_fails_regardless_of_its_setups_is_not_split(
        self, project: Project, traceloop: Emulator
    ) -> None:
        traceloop.inject(Fault(route=BULK_ROUTE, status=401, external_id="m-150", times=None))
        outcome = flush(project, specs(250))
        assert set(outcome.failed) == {f"m-{n:03}" for n in range(100, 200)}
        assert outcome.unknown == set()
        assert set(bulk_sizes(traceloop)) == {50, 100}

    def test_rate_limited_batch_is_not_split(self, project: Project, traceloop: Emulator) -> None:
        """It runs alone: others would wait as long as the moved clock says."""
        traceloop.inject(Fault(route=BULK_ROUTE, status=429, retry_after=0, times=None))
        outcome = flush(project, specs(100))
        assert set(outcome.failed) == set(specs(100))
        assert outcome.unknown == set()
        assert set(bulk_sizes(traceloop)) == {100}


class TestFailures:
    def test_without_an_api_key(self) -> None:
        outcome = flush(Project(connection(NO_SETTINGS.get, {})), {"a": spec(), "b": spec()})
        assert set(outcome.failed) == {"a", "b"}
        assert "pulumi config set --secret traceloop:apiKey" in outcome.failed["a"]

    @pytest.mark.parametrize("count", [1, READ_BY_ID + 1])
    def test_if_nothing_can_be_read(
        self, project: Project, traceloop: Emulator, count: int
    ) -> None:
        traceloop.inject(Fault(method="GET", status=403, message="blocked", times=None))
        outcome = flush(project, {**specs(count - 1), "a": spec()})
        assert outcome.failed["a"].startswith("nothing was sent: ")
        assert "blocked" in outcome.failed["a"]
        assert outcome.unknown == set()
        assert traceloop.requests[BULK_ROUTE] == 0

    def test_with_the_key_of_another_project(self, project: Project, traceloop: Emulator) -> None:
        traceloop.put("a", **content("theirs"))
        outcome = flush(
            project, {"a": spec(), "b": spec()}, in_place={"a"}, env_project_id="state-env"
        )
        assert set(outcome.failed) == {"a", "b"}
        assert '"state-env"' in outcome.failed["a"]
        assert traceloop.writes == {}


class OrganizationWide:
    """An emulator whose list also has the setups of another environment.

    The OpenAPI file says "List auto monitor setups for the organization".
    """

    def __init__(self, traceloop: Emulator) -> None:
        self._traceloop = traceloop
        traceloop.add_project("their-key", env_project_id="their-env")

    def shows(self, **theirs: dict[str, Any]) -> None:
        """From now on the list has the current setups, and *theirs* after them."""
        for external_id, setup in theirs.items():
            self._traceloop.put(external_id, **setup, api_key="their-key")
        listed = [
            *self._traceloop.setups.values(),
            *self._traceloop.setups_of("their-key").values(),
        ]
        self._traceloop.inject(Fault(route=LIST_ROUTE, body=json.dumps(listed), times=None))


class TestOrganizationWideList:
    @pytest.fixture
    def organization(self, traceloop: Emulator) -> OrganizationWide:
        return OrganizationWide(traceloop)

    def test_setup_of_another_environment_is_not_adopted(
        self, project: Project, traceloop: Emulator, organization: OrganizationWide
    ) -> None:
        traceloop.put("own", **content())
        organization.shows(a=content())
        outcome = flush(project, {"a": spec()})
        assert traceloop.writes == {"a": 1}
        assert outcome.stored["a"].id == traceloop.setups["a"]["id"]

    def test_own_setup_counts_if_two_have_one_external_id(
        self, project: Project, traceloop: Emulator, organization: OrganizationWide
    ) -> None:
        own = traceloop.put("a", **content())
        organization.shows(a=content("theirs"))
        outcome = flush(project, {"a": spec()})
        assert outcome.stored["a"].id == own["id"]
        assert traceloop.writes == {}

    def test_list_of_another_environment_is_not_adopted(
        self, project: Project, traceloop: Emulator, organization: OrganizationWide
    ) -> None:
        organization.shows(a=content(), b=content())
        outcome = flush(project, {"a": spec(), "b": spec()})
        assert traceloop.writes == {"a": 1, "b": 1}
        assert {i: s.id for i, s in outcome.stored.items()} == {
            i: s["id"] for i, s in traceloop.setups.items()
        }

    def test_state_is_not_mistaken_for_another_projects(
        self, project: Project, traceloop: Emulator, organization: OrganizationWide
    ) -> None:
        own = traceloop.put("own", **content())
        organization.shows(a=content(), own=content())
        outcome = flush(
            project,
            {"own": spec("y"), "new": spec()},
            in_place={"own"},
            env_project_id=own["env_project_id"],
        )
        assert set(outcome.stored) == {"own", "new"}

    def test_owned_setup_is_not_found_in_another_environment(
        self, project: Project, traceloop: Emulator, organization: OrganizationWide
    ) -> None:
        env = traceloop.put("a", **content())["env_project_id"]
        traceloop.delete("a")
        organization.shows(a=content(), b=content())
        flush(project, {"a": spec()}, in_place={"a"}, env_project_id=env)
        assert traceloop.writes == {"a": 1}

    def test_failed_write_is_not_found_in_another_environment(
        self, project: Project, traceloop: Emulator, organization: OrganizationWide, clock: Clock
    ) -> None:
        organization.shows(a=content())
        traceloop.inject(Fault(route=BULK_ROUTE, status=503))
        flush(project, {"a": spec()}, sleep=clock.sleep)
        assert traceloop.writes == {"a": 1}


class TestUpsert:
    def test_of_a_new_setup_is_a_get_and_a_put(self, project: Project, traceloop: Emulator) -> None:
        setup = upsert(project, "a", spec()).stored["a"]
        assert setup.id == traceloop.setups["a"]["id"]
        assert traceloop.requests == {GET_ROUTE: 1, UPSERT_ROUTE: 1}

    def test_of_an_equal_setup_writes_nothing(self, project: Project, traceloop: Emulator) -> None:
        remote = traceloop.put("a", **content())
        assert upsert(project, "a", spec()).stored["a"].id == remote["id"]
        assert traceloop.requests == {GET_ROUTE: 1}

    def test_of_an_equal_setup_can_be_forced(self, project: Project, traceloop: Emulator) -> None:
        traceloop.put("a", **content())
        upsert(project, "a", spec(), force=True)
        assert traceloop.writes == {"a": 1}

    @pytest.mark.parametrize("drop", ["before", "after"])
    def test_reads_back_an_unknown_outcome(
        self, project: Project, traceloop: Emulator, clock: Clock, drop: Any
    ) -> None:
        traceloop.inject(Fault(route=UPSERT_ROUTE, drop=drop))
        assert set(upsert(project, "a", spec(), sleep=clock.sleep).stored) == {"a"}
        assert traceloop.writes == {"a": 1}

    def test_returns_an_outcome_that_stays_unknown(
        self, project: Project, traceloop: Emulator, clock: Clock
    ) -> None:
        """Outcome unknown: the write may have been applied, so the state must keep it."""
        traceloop.inject(Fault(route=UPSERT_ROUTE, status=500, times=ATTEMPTS - 1))
        traceloop.inject(Fault(route=UPSERT_ROUTE, status=503, message="busy", times=None))
        outcome = upsert(project, "a", spec(), sleep=clock.sleep)
        assert outcome.unknown == {"a"}
        assert "busy" in outcome.failed["a"]
        assert traceloop.requests[UPSERT_ROUTE] == ATTEMPTS
        assert len(clock.waits) == ATTEMPTS - 1

    def test_does_not_repeat_a_refused_write(
        self, project: Project, traceloop: Emulator, clock: Clock
    ) -> None:
        with pytest.raises(RejectedError, match='setup "a": unknown evaluator slug "no-such"'):
            upsert(project, "a", spec("x", "no-such"), sleep=clock.sleep)
        assert traceloop.requests[UPSERT_ROUTE] == 1

    def test_sends_nothing_if_it_cannot_read(self, project: Project, traceloop: Emulator) -> None:
        traceloop.inject(Fault(route=GET_ROUTE, status=403))
        with pytest.raises(AuthenticationError):
            upsert(project, "a", spec())
        assert traceloop.requests[UPSERT_ROUTE] == 0

    @pytest.mark.parametrize("external_id", ["theirs", "not-theirs"])
    def test_sends_nothing_to_another_project(
        self, project: Project, traceloop: Emulator, external_id: str
    ) -> None:
        """Whether or not it has a setup with this external_id."""
        traceloop.put("theirs", **content("theirs"))
        with pytest.raises(ProjectMismatchError):
            upsert(project, external_id, spec(), env_project_id="state-env")
        assert traceloop.writes == {}


class TestAnotherEmptyProject:
    """Before the response to the first write, nothing identifies the key's project."""

    def test_single_upsert_is_rejected(self, project: Project) -> None:
        with pytest.raises(ProjectMismatchError):
            upsert(project, "a", spec(), env_project_id="state-env")

    @pytest.mark.parametrize("call", ["flush", "upsert"])
    def test_written_project_is_not_reported_as_unchanged(
        self, project: Project, traceloop: Emulator, call: str
    ) -> None:
        if call == "flush":
            message = flush(
                project, {"a": spec()}, in_place={"a"}, env_project_id="state-env"
            ).failed["a"]
        else:
            with pytest.raises(ProjectMismatchError) as failure:
                upsert(project, "a", spec(), env_project_id="state-env")
            message = str(failure.value)
        assert not (traceloop.setups and "nothing was changed" in message)
