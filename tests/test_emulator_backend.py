"""Statuses, projects, counters, and changes without a request: `emulator/backend.py`."""

from __future__ import annotations

import json
import threading

import pytest

from pulumi_traceloop.emulator import Emulator
from tests.support.api import (
    BULK,
    CONTENT,
    RULE,
    SETUPS,
    Api,
    item,
    setup,
)
from tests.support.clock import Clock

# -- status --


def test_status_advances_with_the_clock(api: Api, emulator: Emulator, clock: Clock) -> None:
    emulator.settle = 10
    api.upsert("m")
    seen = []
    for _ in range(3):
        seen.append(api.get("m").json["status"])
        clock.advance(5)
    assert seen == ["pending", "in_progress", "completed"]


def test_evaluators_get_their_ids_once_they_are_completed(
    api: Api, emulator: Emulator, clock: Clock
) -> None:
    emulator.settle = 10
    api.upsert("m")
    late = {"evaluator_id", "binding_id", "processed_at"}
    assert not late & set(api.get("m").json["evaluators"][0])
    clock.advance(10)
    evaluator = api.get("m").json["evaluators"][0]
    assert late < set(evaluator)
    assert evaluator["status"] == "completed"
    assert evaluator["processed_at"] == "1970-01-01T00:16:50Z"


def test_failing_evaluator_makes_its_setup_partial_or_failed(api: Api, emulator: Emulator) -> None:
    emulator.fail_evaluator("faithfulness", "no quota")
    api.upsert("alone", {**CONTENT, "evaluators": ["faithfulness"]})
    api.upsert("both", {**CONTENT, "evaluators": ["faithfulness", "word-count"]})
    assert api.get("alone").json["status"] == "failed"
    both = api.get("both").json
    assert both["status"] == "partial"
    assert [e["status"] for e in both["evaluators"]] == ["failed", "completed"]
    assert both["evaluators"][0]["error_message"] == "no quota"
    assert "error_message" not in both["evaluators"][1]


def test_failed_setup_recovers_only_with_the_next_write(api: Api, emulator: Emulator) -> None:
    api.upsert("m")
    emulator.fail_evaluator("answer-relevancy", "no quota")
    assert api.get("m").json["status"] == "failed"
    emulator.heal_evaluator("answer-relevancy")
    assert api.get("m").json["status"] == "failed"
    api.upsert("m")
    assert api.get("m").json["status"] == "completed"


def test_status_can_be_forced_until_it_is_released(api: Api, emulator: Emulator) -> None:
    api.upsert("m")
    emulator.force_status("m", "waiting_for_spans")
    assert api.get("m").json["status"] == "waiting_for_spans"
    assert api.upsert("m").json["status"] == "pending"
    emulator.force_status("m", None)
    assert api.get("m").json["status"] == "completed"


# -- projects --


def test_each_key_sees_only_its_own_project(api: Api, emulator: Emulator) -> None:
    emulator.add_project("key-2", env_project_id="env-2")
    other = Api(emulator.url, "key-2")
    api.upsert("m")
    assert other.list() == []
    assert other.get("m").status == 404
    assert other.call("DELETE", item("m")).status == 404
    theirs = other.upsert("m")
    assert (theirs.status, theirs.json["env_project_id"]) == (201, "env-2")
    assert theirs.json["id"] != emulator.setups["m"]["id"]
    assert emulator.setups_of("key-2")["m"]["env_project_id"] == "env-2"


def test_projects_have_different_environments_by_default(emulator: Emulator) -> None:
    first, second = emulator.add_project("key-2"), emulator.add_project("key-3")
    emulator.revoke_key("key-2")
    third = emulator.add_project("key-4")
    assert len({p.env_project_id for p in (first, second, third)}) == 3
    assert len({p.project_id for p in (first, second, third)}) == 3


def test_second_key_of_an_environment_sees_the_same_setups(api: Api, emulator: Emulator) -> None:
    env = api.upsert("m").json["env_project_id"]
    emulator.add_project("key-2", env_project_id=env)
    assert Api(emulator.url, "key-2").get("m").status == 200


def test_setup_keeps_its_environment_when_another_one_replaces_it(
    api: Api, emulator: Emulator
) -> None:
    env = api.upsert("m").json["env_project_id"]
    emulator.add_project("key-2", env_project_id="staging", same_project_as=emulator.api_key)
    staging = Api(emulator.url, "key-2")
    replaced = staging.upsert("m")
    assert (replaced.status, replaced.json["env_project_id"]) == (200, env)
    assert staging.upsert("n").json["env_project_id"] == "staging"


# -- counters and changes behind the back --


def test_requests_are_counted_by_route(api: Api, emulator: Emulator) -> None:
    api.call("POST", SETUPS, setup("m"))
    api.list()
    api.list("?status=failed")
    api.get("m")
    api.call("PUT", item("m"), CONTENT)
    api.upsert("m")
    api.bulk(setup("m"))
    api.call("DELETE", item("m"))
    assert emulator.requests == {
        "POST /v2/auto-monitor-setups": 1,
        "GET /v2/auto-monitor-setups": 2,
        "GET /v2/auto-monitor-setups/{external_id}": 1,
        "PUT /v2/auto-monitor-setups/{external_id}": 1,
        "PUT /v2/auto-monitor-setups/by-external-id/{external_id}": 1,
        "POST /v2/auto-monitor-setups/bulk": 1,
        "DELETE /v2/auto-monitor-setups/{external_id}": 1,
    }
    assert emulator.writes == {"m": 4}


def test_log_has_the_effect_of_each_request_and_no_key(
    api: Api, emulator: Emulator, clock: Clock
) -> None:
    api.bulk(setup("a"), setup("b", evaluators=["x"]))
    api.call("DELETE", item("a"))
    api.get("a")
    bulk, delete, get = emulator.log
    assert (bulk.method, bulk.raw_path, bulk.status) == ("POST", BULK, 207)
    assert bulk.external_ids == ("a",)
    assert json.loads(bulk.body)["setups"][1]["external_id"] == "b"
    assert (delete.status, delete.external_ids) == (204, ("a",))
    assert (get.route, get.status, get.external_ids) == (f"GET {SETUPS}/{{external_id}}", 404, ())
    assert get.time == clock()
    assert get.headers["Authorization"] == "[hidden]"
    assert emulator.api_key not in repr(emulator.log)


def test_reset_counts_forgets_requests_and_keeps_setups(api: Api, emulator: Emulator) -> None:
    api.upsert("m")
    emulator.reset_counts()
    assert (emulator.requests, emulator.writes, emulator.log) == ({}, {}, [])
    assert set(emulator.setups) == {"m"}


def test_refused_request_counts_as_a_request_and_not_as_a_write(
    api: Api, emulator: Emulator
) -> None:
    api.upsert("m", {})
    assert sum(emulator.requests.values()) == 1
    assert not emulator.writes


def test_out_of_band_changes_are_visible_and_not_counted(api: Api, emulator: Emulator) -> None:
    emulator.put("m", selector=[RULE], evaluators=["word-count"])
    emulator.put("m", evaluator_configs=[{"slug": "faithfulness", "scope": "span"}])
    read = api.get("m").json
    assert read["init_rules"] == [{**RULE, "operator": "equals"}]
    assert [(e["evaluator_type"], e["scope"]) for e in read["evaluators"]] == [
        ("faithfulness", "span")
    ]
    assert emulator.delete("m")
    assert not emulator.delete("m")
    assert api.get("m").status == 404
    assert not emulator.writes
    assert set(emulator.requests) == {f"GET {SETUPS}/{{external_id}}"}


def test_invalid_out_of_band_change_is_a_value_error(emulator: Emulator) -> None:
    with pytest.raises(ValueError, match="unknown evaluator slug"):
        emulator.put("m", selector=[RULE], evaluators=["nope"])


def test_controls_and_requests_from_many_threads_do_not_interfere(
    api: Api, emulator: Emulator
) -> None:
    errors: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for i in range(15):
                emulator.put(f"c-{number}-{i}", **CONTENT)
                assert api.bulk(setup(f"a-{number}-{i}"), setup(f"b-{number}-{i}")).status == 207
                emulator.fail_evaluator("faithfulness", "x")
                assert f"a-{number}-{i}" in emulator.setups
        except BaseException as error:  # noqa: BLE001 - shown below
            errors.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    assert errors == []
    assert len(emulator.setups) == 4 * 15 * 3
