"""What a provider process reports when a call fails: `providers/_host.py`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pulumi_traceloop.emulator import Emulator, Fault
from pulumi_traceloop.emulator.routes import (
    DELETE_ROUTE,
    GET_ROUTE,
)
from tests.engine.provider import ProviderError
from tests.support import API_KEY
from tests.support.provider import (
    BATCH,
    MEMBERSHIP,
    ONE,
    Host,
    batch,
    ends_with,
    membership,
    one,
    setup,
    unpacked,
)


class TestPrinting:
    def test_broken_pipe_costs_no_record_of_a_write(self, host: Host, traceloop: Emulator) -> None:
        """The engine reads what is printed from a pipe; writing to a broken one is an error."""
        host.stop_reading()
        host.check(BATCH, batch(a=setup(), b=setup("x", "nope")))
        record = host.create(BATCH, batch(a=setup(), b=setup("x", "nope")))
        outputs = unpacked(record.outputs)
        assert (outputs["owned"], outputs["failed"]) == (
            ["a"],
            {"b": 'unknown evaluator slug "nope"'},
        )
        assert host.create(ONE, one()).outputs["setup_id"] == traceloop.setups["m"]["id"]


class TestErrors:
    def test_error_is_one_message_without_frames_of_the_package(
        self, host: Host, traceloop: Emulator
    ) -> None:
        with pytest.raises(ProviderError) as failure:
            host.create(ONE, one("m", **setup("x", "no-such")))
        ends_with(
            failure, "RejectedError", 'setup "m": unknown evaluator slug "no-such" (HTTP 400)'
        )

    @pytest.mark.parametrize("call", ["create", "update", "read", "delete"])
    def test_rejected_key_is_in_no_response(
        self, host: Host, tmp_path: Path, traceloop: Emulator, call: str
    ) -> None:
        record = host.create(ONE, one())
        config = {"traceloop:baseUrl": traceloop.url, "traceloop:apiKey": API_KEY + "-revoked"}
        foreign = Host(tmp_path, config)
        calls: dict[str, Callable[[], object]] = {
            "create": lambda: foreign.create(ONE, one()),
            "update": lambda: foreign.update(record, one(**setup("other"))),
            "read": lambda: foreign.read(record),
            "delete": lambda: foreign.delete(record),
        }
        with pytest.raises(ProviderError) as failure:
            calls[call]()
        ends_with(failure, "AuthenticationError", "traceloop:apiKey", "(HTTP 401)")
        assert API_KEY not in foreign.printed()

    def test_batch_reports_failures_in_its_outputs(self, host: Host, traceloop: Emulator) -> None:
        """An exception would lose the successful setups."""
        traceloop.inject(Fault(route=GET_ROUTE, status=403, message=f"key {API_KEY} is blocked"))
        outputs = host.create(BATCH, batch(a=setup())).outputs
        assert "nothing was sent: http://127.0.0.1:" in outputs["failed"]["a"]
        assert "does not accept the API key" in outputs["failed"]["a"]
        assert API_KEY not in str(outputs)
        assert outputs["owned"] == "[]"

    def test_missing_key_is_reported_when_needed(self, offline: Host) -> None:
        with pytest.raises(ProviderError) as failure:
            offline.create(ONE, one())
        ends_with(failure, "ConfigurationError", "no Traceloop API key")

    def test_all_setups_of_a_group_missing_at_once(
        self, host: Host, other_host: Host, traceloop: Emulator
    ) -> None:
        record = host.create(BATCH, batch(a=setup(), b=setup()))
        traceloop.delete("a")
        traceloop.delete("b")
        with pytest.raises(ProviderError) as failure:
            other_host.read(record)
        ends_with(failure, "SetupsMissingError", 'none of the 2 monitor setups of group "g"')

    def test_failed_deletes_are_named(
        self, host: Host, other_host: Host, traceloop: Emulator
    ) -> None:
        outputs = host.create(BATCH, batch(a=setup(), b=setup())).outputs
        declared = membership(["a", "b"], ["a", "b"], outputs["env_project_id"])
        traceloop.inject(Fault(route=DELETE_ROUTE, external_id="b", status=400, message="in use"))
        other_host.check(MEMBERSHIP, membership([], []), declared)
        with pytest.raises(ProviderError) as failure:
            other_host.delete(host.create(MEMBERSHIP, declared))
        ends_with(failure, "DeletionError", "1 of 2 setups", '"b": in use')
        assert set(traceloop.setups) == {"b"}

    @pytest.mark.parametrize("call", ["update", "read", "delete"])
    def test_key_of_another_project_changes_nothing(
        self, host: Host, tmp_path: Path, traceloop: Emulator, call: str
    ) -> None:
        record = host.create(ONE, one())
        traceloop.add_project("key-of-another-project", env_project_id="other-env")
        traceloop.put("m", **setup("theirs"), api_key="key-of-another-project")
        config = {
            "traceloop:baseUrl": traceloop.url,
            "traceloop:apiKey": "key-of-another-project",
        }
        foreign = Host(tmp_path, config)
        calls: dict[str, Callable[[], object]] = {
            "update": lambda: foreign.update(record, one(**setup("other"))),
            "read": lambda: foreign.read(record),
            "delete": lambda: foreign.delete(record),
        }
        before = traceloop.setups_of("key-of-another-project")
        with pytest.raises(ProviderError) as failure:
            calls[call]()
        ends_with(failure, "ProjectMismatchError", '"other-env"')
        assert traceloop.setups_of("key-of-another-project") == before
        foreign.printed()

    def test_invalid_configuration_is_one_message(self, tmp_path: Path) -> None:
        host = Host(tmp_path, {"traceloop:deadline": "soon"})
        try:
            with pytest.raises(ProviderError) as failure:
                host.check(ONE, one())
        finally:
            host.printed()
        ends_with(failure, "ConfigurationError", "traceloop:deadline")
