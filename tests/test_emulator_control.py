"""The emulator's own routes, for other processes: `emulator/control.py`."""

from __future__ import annotations

from typing import Any

import pytest

from pulumi_traceloop.emulator import Emulator
from tests.support.api import (
    CONTENT,
    SETUPS,
    Api,
    control,
)


def test_another_process_can_add_an_evaluator(api: Api, emulator: Emulator) -> None:
    assert control(emulator, "POST", "/evaluators", {"slug": "my-judge"}).status == 204
    assert api.upsert("m", {**CONTENT, "evaluators": ["my-judge"]}).status == 201


def test_another_process_can_inject_and_clear_faults(api: Api, emulator: Emulator) -> None:
    fault = {"status": 503, "retry_after": 2, "times": None, "external_id": "m"}
    assert control(emulator, "POST", "/faults", fault).status == 204
    assert api.get("m").headers["Retry-After"] == "2"
    assert control(emulator, "DELETE", "/faults").status == 204
    assert api.get("m").status == 404


@pytest.mark.parametrize("body", [{}, {"stats": 503}, {"status": "x"}, [], {"hide": 7}])
def test_invalid_fault_is_a_400(emulator: Emulator, body: Any) -> None:
    assert control(emulator, "POST", "/faults", body).status == 400
    assert emulator.faults == []


def test_another_process_can_read_and_reset_the_counters(api: Api, emulator: Emulator) -> None:
    api.upsert("m")
    seen = control(emulator, "GET", "/requests").json
    assert seen["requests"] == {f"PUT {SETUPS}/by-external-id/{{external_id}}": 1}
    assert seen["writes"] == {"m": 1}
    assert seen["log"][0]["external_ids"] == ["m"]
    assert control(emulator, "DELETE", "/requests").status == 204
    assert emulator.requests == {}


def test_another_process_can_change_a_setup_out_of_band(api: Api, emulator: Emulator) -> None:
    assert control(emulator, "PUT", "/setups/a%2Fb", CONTENT).json["external_id"] == "a/b"
    assert set(emulator.setups) == {"a/b"}
    assert control(emulator, "DELETE", "/setups/a%2Fb").json == {"deleted": True}
    assert emulator.setups == {}
    assert emulator.requests == {}
