"""The wait for setups: `_flush.wait`."""

from __future__ import annotations

import pytest

from pulumi_traceloop._flush import wait
from pulumi_traceloop._project import Project
from pulumi_traceloop.emulator import Emulator, Fault
from tests.support.clock import Clock
from tests.support.project import content, specs


class TestWaiting:
    @pytest.mark.parametrize(
        ("second", "printed"),
        [
            ("completed", ["monitors: 2 of 3 are set up", "monitors: 3 of 3 are set up"]),
            (
                "failed",
                ["monitors: 2 of 3 are done, 1 failed", "monitors: 3 of 3 are done, 1 failed"],
            ),
        ],
    )
    def test_progress_does_not_count_failed_setups_as_ready(
        self,
        project: Project,
        traceloop: Emulator,
        clock: Clock,
        capsys: pytest.CaptureFixture[str],
        second: str,
        printed: list[str],
    ) -> None:
        for external_id, status in zip(specs(3), ["completed", second, "pending"], strict=True):
            traceloop.put(external_id, **content())
            traceloop.force_status(external_id, status)

        def sleep(seconds: float) -> None:
            clock.sleep(seconds)
            traceloop.force_status("m-002", "completed")

        wait(project, ["m-000", "m-001", "m-002"], None, "monitors", clock=clock, sleep=sleep)
        assert capsys.readouterr().out.splitlines() == printed

    @pytest.mark.parametrize(("accepted", "why"), [(False, "no spans have matched it"), (True, "")])
    def test_waiting_for_spans_counts_as_ready_on_request_only(
        self, project: Project, traceloop: Emulator, clock: Clock, accepted: bool, why: str
    ) -> None:
        traceloop.put("a", **content())
        traceloop.force_status("a", "waiting_for_spans")
        found = wait(project, ["a"], 60, "m", accepted=accepted, clock=clock, sleep=clock.sleep)
        assert why in found.get("a", "")
        assert (sum(clock.waits) == 60) is not accepted

    def test_status_that_is_not_documented_is_not_ready(
        self, project: Project, traceloop: Emulator, clock: Clock
    ) -> None:
        traceloop.put("a", **content())
        traceloop.force_status("a", "disabled")
        found = wait(project, ["a"], 60, "m", clock=clock, sleep=clock.sleep)
        assert found == {"a": "is still not set up after 60 s: disabled"}

    def test_unreadable_setup_does_not_block_others(
        self, project: Project, traceloop: Emulator, clock: Clock
    ) -> None:
        for external_id in ("a", "b"):
            traceloop.put(external_id, **content())
        traceloop.inject(Fault(external_id="a", method="GET", body='{"id": 1}', times=None))
        found = wait(project, ["a", "b"], 60, "m", clock=clock, sleep=clock.sleep)
        assert list(found) == ["a"]
        assert found["a"].startswith("its status is unknown: ")

    def test_setup_that_is_listed_late_is_waited_for(
        self, project: Project, traceloop: Emulator, clock: Clock
    ) -> None:
        traceloop.put("a", **content())
        traceloop.inject(Fault(external_id="a", method="GET", status=404, times=2))
        assert wait(project, ["a"], 60, "m", clock=clock, sleep=clock.sleep) == {}

    def test_time_limit_is_exact(self, project: Project, traceloop: Emulator, clock: Clock) -> None:
        traceloop.put("a", **content())
        traceloop.force_status("a", "pending")
        began = clock()
        found = wait(project, ["a"], 20, "m", clock=clock, sleep=clock.sleep)
        assert found == {"a": "is still not set up after 20 s: pending"}
        assert clock() - began == 20
