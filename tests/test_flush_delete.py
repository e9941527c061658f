"""Deletes of many setups: `_flush.delete_all`."""

from __future__ import annotations

import pytest

from pulumi_traceloop._flush import delete_all
from pulumi_traceloop._project import WORKERS, Project
from pulumi_traceloop.emulator import Emulator, Fault
from pulumi_traceloop.emulator.routes import (
    DELETE_ROUTE,
)
from pulumi_traceloop.errors import (
    DeletionError,
    ProjectMismatchError,
)
from tests.support.project import content


class TestDeleteAll:
    @pytest.fixture
    def env(self, traceloop: Emulator) -> str:
        """The environment of the emulated project, which has 20 setups."""
        for n in range(20):
            traceloop.put(f"m-{n:02}", **content())
        return str(traceloop.setups["m-00"]["env_project_id"])

    def test_of_nothing_sends_no_request(self, project: Project, traceloop: Emulator) -> None:
        delete_all(project, [], "any-env")
        assert traceloop.requests == {}

    def test_deletes_only_the_given_setups(
        self, project: Project, traceloop: Emulator, env: str
    ) -> None:
        delete_all(project, [f"m-{n:02}" for n in range(15)], env)
        assert set(traceloop.setups) == {f"m-{n}" for n in range(15, 20)}

    def test_missing_setup_is_deleted(
        self, project: Project, traceloop: Emulator, env: str
    ) -> None:
        delete_all(project, ["gone-1", "m-00", "gone-2"], env)
        assert "m-00" not in traceloop.setups

    def test_names_failed_deletes_and_deletes_the_others(
        self, project: Project, traceloop: Emulator, env: str
    ) -> None:
        for external_id in ("m-03", "m-07"):
            traceloop.inject(
                Fault(route=DELETE_ROUTE, external_id=external_id, status=400, message="in use")
            )
        with pytest.raises(DeletionError) as failure:
            delete_all(project, list(traceloop.setups), env)
        assert failure.value.failed == dict.fromkeys(["m-03", "m-07"], "in use (HTTP 400)")
        assert set(traceloop.setups) == {"m-03", "m-07"}

    def test_stops_after_a_fatal_failure_and_names_all_setups(
        self, project: Project, traceloop: Emulator, env: str
    ) -> None:
        traceloop.inject(Fault(route=DELETE_ROUTE, status=403, message="blocked", times=None))
        external_ids = list(traceloop.setups)
        with pytest.raises(DeletionError) as failure:
            delete_all(project, external_ids, env)
        assert set(failure.value.failed) == set(external_ids)
        assert {"blocked" in why for why in failure.value.failed.values()} == {True}
        assert traceloop.requests[DELETE_ROUTE] <= WORKERS

    @pytest.mark.parametrize("external_ids", [["m-00"], ["not-there", "m-00"]])
    def test_deletes_nothing_in_another_project(
        self, project: Project, traceloop: Emulator, env: str, external_ids: list[str]
    ) -> None:
        with pytest.raises(ProjectMismatchError):
            delete_all(project, external_ids, "state-env")
        assert traceloop.requests[DELETE_ROUTE] == 0

    def test_deleted_setup_leaves_the_cached_list(
        self, project: Project, traceloop: Emulator, env: str
    ) -> None:
        assert "m-00" in project.setups()
        delete_all(project, ["m-00"], env)
        assert "m-00" not in project.setups()
