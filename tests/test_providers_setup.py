"""A single setup's provider process: `providers/_setup.py`."""

from __future__ import annotations

import json
from typing import Any

import pytest

from pulumi_traceloop._project import READ_BY_ID
from pulumi_traceloop.emulator import Emulator, Fault
from pulumi_traceloop.emulator.routes import (
    DELETE_ROUTE,
    GET_ROUTE,
    LIST_ROUTE,
    UPSERT_ROUTE,
)
from tests.engine.wire import UNKNOWN
from tests.support.provider import (
    AB,
    BAD_SETUPS,
    BATCH,
    DIFF_NONE,
    DIFF_SOME,
    DIFFERENT,
    EXISTS,
    ONE,
    RULE,
    SAME,
    Host,
    _without_provider,
    batch,
    one,
    setup,
)


class TestCheckOfASetup:
    def test_valid_inputs_are_returned_unchanged(self, offline: Host) -> None:
        inputs = one(**setup(triggers=["2026-01", 1]))
        assert offline.check(ONE, inputs) == (inputs, [])

    @pytest.mark.parametrize("case", BAD_SETUPS)
    def test_problem_has_its_path(self, offline: Host, case: str) -> None:
        content, path, reason = BAD_SETUPS[case]
        assert offline.check(ONE, one(**content))[1] == [(path, reason)]

    @pytest.mark.parametrize(
        ("external_id", "reason"),
        [
            ("", "must not be empty"),
            (" \t", "must not be empty"),
            (".", 'must not be ".": no URL can carry it'),
            ("..", 'must not be "..": no URL can carry it'),
            (5, "must be a string"),
        ],
    )
    def test_invalid_external_id_is_reported(
        self, offline: Host, external_id: object, reason: str
    ) -> None:
        assert offline.check(ONE, one(external_id))[1] == [("external_id", reason)]

    def test_all_problems_are_reported_at_once(self, offline: Host) -> None:
        content = setup(selector=[{**RULE, "operator": "like"}, {**EXISTS, "value": "x"}, {}])
        _, failures = offline.check(ONE, one(" ", **content))
        assert [path for path, _ in failures] == [
            "external_id",
            "selector[0].operator",
            "selector[1].value",
            "selector[2].key",
            "selector[2].source",
            "selector[2].value",
        ]

    def test_second_declarer_is_rejected_with_both_names(self, offline: Host) -> None:
        first = one("twice")
        assert offline.check(ONE, first)[1] == []
        assert offline.check(ONE, first)[1] == []  # the same one, checked again
        ((path, reason),) = offline.check(ONE, {**first, "declared_by": 'another "o"'})[1]
        assert path == "external_id"
        assert 'declared twice: by group "g" and by another "o"' in reason

    def test_invalid_setup_counts_as_declared(self, offline: Host) -> None:
        """A declared setup must not be deleted, valid or not."""
        assert offline.check(ONE, one("bad-but-declared", **setup(selector=[])))[1]
        failures = offline.check(ONE, {**one("bad-but-declared"), "declared_by": "other"})[1]
        assert "declared twice" in failures[0][1]


class TestCheckOfUnknowns:
    @pytest.mark.parametrize(
        "inputs",
        [
            one(UNKNOWN),
            one(**setup(selector=UNKNOWN)),
            one(**setup(selector=[UNKNOWN])),
            one(**setup(UNKNOWN)),
            one(**setup(selector=[{**RULE, "key": UNKNOWN}])),
            one(**setup(selector=[{**RULE, "source": UNKNOWN}])),
            one(**setup(selector=[{**RULE, "operator": UNKNOWN}])),
            one(**setup(selector=[{**EXISTS, "operator": UNKNOWN, "values": ["x"]}])),
            one(**setup(selector=[{**EXISTS, "operator": "in", "values": UNKNOWN}])),
            one(**setup(selector=[{**EXISTS, "operator": "in", "values": ["a", UNKNOWN]}])),
            one(**setup(evaluators=UNKNOWN)),
            one(**setup(evaluators=[UNKNOWN, UNKNOWN])),
            one(selector=[RULE], evaluator_configs=UNKNOWN),
            one(selector=[RULE], evaluator_configs=[UNKNOWN]),
            one(selector=[RULE], evaluator_configs=[{"slug": UNKNOWN, "scope": UNKNOWN}]),
            one(**setup(triggers=UNKNOWN)),
            one(**setup(triggers=[UNKNOWN])),
        ],
    )
    def test_are_valid_and_stay_unknown(self, offline: Host, inputs: dict[str, Any]) -> None:
        assert offline.check(ONE, inputs) == (inputs, [])

    def test_do_not_hide_known_problems(self, offline: Host) -> None:
        content = setup(
            selector=[{**RULE, "key": UNKNOWN, "operator": "like"}, {**RULE, "value": UNKNOWN}],
            evaluators=[UNKNOWN, ""],
        )
        _, failures = offline.check(ONE, one("..", **content))
        assert [path for path, _ in failures] == [
            "external_id",
            "selector[0].operator",
            "evaluators[1]",
        ]

    def test_two_unknown_slugs_are_not_duplicates(self, offline: Host) -> None:
        configs = [{"slug": UNKNOWN}, {"slug": UNKNOWN}]
        assert offline.check(ONE, one(selector=[RULE], evaluator_configs=configs))[1] == []

    def test_unknown_evaluators_do_not_hide_an_empty_selector(self, offline: Host) -> None:
        failures = offline.check(ONE, one(selector=[], evaluators=UNKNOWN))[1]
        assert [path for path, _ in failures] == ["selector"]


class TestDiffOfASetup:
    @pytest.mark.parametrize("case", SAME)
    def test_equal_definition_is_no_change(self, offline: Host, case: str) -> None:
        diff = offline.diff(ONE, one(**AB), one(**SAME[case]))
        assert diff.changes == DIFF_NONE
        assert list(diff.replaces) == []

    @pytest.mark.parametrize("case", DIFFERENT)
    def test_different_definition_is_a_change(self, offline: Host, case: str) -> None:
        diff = offline.diff(ONE, one(**AB), one(**DIFFERENT[case]))
        assert diff.changes == DIFF_SOME
        assert list(diff.replaces) == []

    @pytest.mark.parametrize("external_id", ["other", UNKNOWN])
    def test_another_external_id_replaces_it(self, offline: Host, external_id: str) -> None:
        diff = offline.diff(ONE, one("m"), one(external_id))
        assert diff.changes == DIFF_SOME
        assert list(diff.replaces) == ["external_id"]

    def test_another_declarer_is_no_change(self, offline: Host) -> None:
        """Else a resource that is moved to another parent would be sent again."""
        diff = offline.diff(ONE, one(), {**one(), "declared_by": "a parent's"})
        assert diff.changes == DIFF_NONE


class TestLifeOfASetup:
    def test_create_returns_the_id_of_the_service(self, host: Host, traceloop: Emulator) -> None:
        record = host.create(ONE, one())
        stored = traceloop.setups["m"]
        assert record.id == "m"
        assert _without_provider(record.outputs) == {
            **one(),
            "setup_id": stored["id"],
            "env_project_id": stored["env_project_id"],
        }

    def test_create_adopts_an_equal_setup(self, host: Host, traceloop: Emulator) -> None:
        remote = traceloop.put("m", **setup())
        assert host.create(ONE, one()).outputs["setup_id"] == remote["id"]
        assert traceloop.writes == {}

    def test_create_replaces_a_different_setup(self, host: Host, traceloop: Emulator) -> None:
        remote = traceloop.put("m", **setup("by hand"))
        assert host.create(ONE, one()).outputs["setup_id"] == remote["id"]
        assert traceloop.writes == {"m": 1}

    def test_update_with_equal_content_writes_nothing(
        self, host: Host, other_host: Host, traceloop: Emulator
    ) -> None:
        record = host.create(ONE, one(**AB))
        traceloop.reset_counts()
        other_host.update(record, one(**SAME["rules in another order"]))
        assert traceloop.requests == {GET_ROUTE: 1}

    def test_update_with_other_triggers_writes(
        self, host: Host, other_host: Host, traceloop: Emulator
    ) -> None:
        record = host.create(ONE, one(**setup(triggers=[1])))
        traceloop.reset_counts()
        other_host.update(record, one(**setup(triggers=[2])))
        assert traceloop.requests == {GET_ROUTE: 1, UPSERT_ROUTE: 1}

    def test_read_of_an_equal_setup_keeps_the_declared_text(
        self, host: Host, traceloop: Emulator
    ) -> None:
        declared = one(**SAME["the default operator left out"], triggers=["t"])
        record = host.create(ONE, declared)
        id_, outs, inputs = host.read(record)
        assert id_ == "m"
        assert outs == _without_provider(record.outputs)
        assert inputs == declared

    def test_read_returns_drift_in_inputs_and_outputs(
        self, host: Host, other_host: Host, traceloop: Emulator
    ) -> None:
        record = host.create(ONE, one(**setup(triggers=["t"])))
        traceloop.put("m", **setup("by hand"))
        _, outs, inputs = other_host.read(record)
        assert inputs == one(**setup("by hand", triggers=["t"]))
        assert outs == {**_without_provider(record.outputs), **inputs}

    def test_read_returns_scopes_if_slugs_were_declared(
        self, host: Host, other_host: Host, traceloop: Emulator
    ) -> None:
        record = host.create(ONE, one())
        configs = [{"slug": "perplexity", "scope": "trace"}, {"slug": "word-count"}]
        traceloop.put("m", evaluator_configs=configs)
        _, _, inputs = other_host.read(record)
        assert "evaluators" not in inputs
        assert sorted(inputs["evaluator_configs"], key=lambda c: str(c["slug"])) == configs

    @pytest.mark.parametrize("external_id", [" blanks ", "x" * 2500])
    def test_external_id_of_an_earlier_version_is_read_compared_and_deleted(
        self, host: Host, other_host: Host, traceloop: Emulator, external_id: str
    ) -> None:
        """A program may no longer declare it, but a state may still have it."""
        inputs = one(external_id, **setup())
        record = host.create(ONE, inputs)
        assert host.check(ONE, inputs)[1] != []
        assert host.diff(ONE, record.outputs, inputs).changes == DIFF_NONE
        empty = one(external_id, **setup(""))
        assert host.diff(ONE, empty, empty).changes == DIFF_NONE
        assert host.diff(ONE, empty, inputs).changes == DIFF_SOME
        assert host.read(record)[2]["selector"] == inputs["selector"]
        other_host.delete(record)
        assert traceloop.setups == {}

    def test_read_of_a_missing_setup_has_no_id(
        self, host: Host, other_host: Host, traceloop: Emulator
    ) -> None:
        record = host.create(ONE, one())
        traceloop.delete("m")
        assert other_host.read(record) == ("", {}, {})

    def test_read_ignores_a_setup_of_another_environment(
        self, host: Host, other_host: Host, traceloop: Emulator
    ) -> None:
        """The OpenAPI file says that the list is the organization's."""
        record = host.create(ONE, one())
        traceloop.delete("m")
        traceloop.add_project("their-key", env_project_id="their-env")
        theirs = traceloop.put("m", **setup(), api_key="their-key")
        traceloop.inject(Fault(route=LIST_ROUTE, body=json.dumps([theirs]), times=None))
        assert other_host.read(record)[0] == ""

    def test_many_reads_share_one_list(
        self, host: Host, other_host: Host, traceloop: Emulator
    ) -> None:
        """A few are read one by one: the list may be long."""
        records = [host.create(ONE, one(f"m-{n}")) for n in range(READ_BY_ID + 5)]
        traceloop.reset_counts()
        assert [other_host.read(record)[0] for record in records] == [r.id for r in records]
        assert traceloop.requests == {LIST_ROUTE: 1, GET_ROUTE: READ_BY_ID}

    def test_delete_deletes(self, host: Host, other_host: Host, traceloop: Emulator) -> None:
        other_host.delete(host.create(ONE, one()))
        assert traceloop.setups == {}

    def test_delete_of_a_missing_setup_succeeds(self, host: Host, traceloop: Emulator) -> None:
        record = host.create(ONE, one())
        traceloop.delete("m")
        host.delete(record)
        assert traceloop.requests[DELETE_ROUTE] == 1

    def test_delete_keeps_a_declared_setup_and_says_so(
        self, host: Host, traceloop: Emulator
    ) -> None:
        record = host.create(ONE, one("moved"))
        host.check(BATCH, batch(moved=setup()))
        host.delete(record)
        assert set(traceloop.setups) == {"moved"}
        assert 'kept the monitor setup "moved": group "g" declares it' in host.printed()
