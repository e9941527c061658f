"""The provider process of a group's setups: `providers/_batch.py`."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from pulumi_traceloop import _codec
from pulumi_traceloop.args import canonical
from pulumi_traceloop.emulator import Emulator, Fault
from pulumi_traceloop.emulator.routes import (
    BULK_ROUTE,
    DELETE_ROUTE,
    GET_ROUTE,
    LIST_ROUTE,
)
from tests.engine.state import Record
from tests.engine.wire import UNKNOWN
from tests.support.provider import (
    AB,
    BAD_SETUPS,
    BATCH,
    DECLARER,
    DIFF_NONE,
    DIFF_SOME,
    DIFFERENT,
    MEMBERSHIP,
    ONE,
    SAME,
    Host,
    _record,
    _without_provider,
    batch,
    membership,
    one,
    packed,
    setup,
    unpacked,
)


class TestCheckOfABatch:
    def test_valid_inputs_are_returned_unchanged(self, offline: Host) -> None:
        inputs = batch(a=setup(), b=UNKNOWN)
        assert offline.check(BATCH, inputs) == ({**inputs, "external_ids": '["a","b"]'}, [])

    @pytest.mark.parametrize("case", BAD_SETUPS)
    def test_problem_has_its_setup_and_path(self, offline: Host, case: str) -> None:
        content, path, reason = BAD_SETUPS[case]
        _, failures = offline.check(BATCH, batch(good=setup(), bad=content))
        assert failures == [(f'setups["bad"].{path}', reason)]

    @pytest.mark.parametrize("external_id", ["", "  ", ".", ".."])
    def test_invalid_external_id_is_reported(self, offline: Host, external_id: str) -> None:
        ((path, reason),) = offline.check(BATCH, batch(**{external_id: setup()}))[1]
        assert path == f'setups["{external_id}"]'
        assert reason.startswith("the external_id must not be")

    def test_all_problems_of_all_setups_are_reported_at_once(self, offline: Host) -> None:
        declared = batch(a={}, b=setup(selector=[]), **{".": setup("x", ""), "unknown": UNKNOWN})
        _, failures = offline.check(BATCH, declared)
        assert {path for path, _ in failures} == {
            'setups["a"].selector',
            'setups["a"].evaluators',
            'setups["b"].selector',
            'setups["."]',
            'setups["."].evaluators[0]',
        }

    def test_unchanged_setups_are_not_validated_again(self, offline: Host) -> None:
        """A validation rule of a newer version must not block an old stack."""
        declared = batch(a={"from": "an older version"})
        assert offline.check(BATCH, declared, state=declared)[1] == []
        assert offline.check(BATCH, declared, state=batch(a=setup()))[1] != []

    def test_setup_with_another_declarer_is_rejected(self, offline: Host) -> None:
        offline.check(ONE, {**one("in-both"), "declared_by": 'one "m"'})
        ((path, reason),) = offline.check(BATCH, batch(**{"in-both": setup()}))[1]
        assert path == 'setups["in-both"]'
        assert 'by one "m" and by group "g"' in reason


class TestDiffOfABatch:
    @pytest.mark.parametrize("case", SAME)
    def test_equal_definition_is_no_change(self, offline: Host, case: str) -> None:
        assert offline.diff(BATCH, batch(a=AB), batch(a=SAME[case])).changes == DIFF_NONE

    @pytest.mark.parametrize("case", [case for case in DIFFERENT if "unknown" not in case])
    def test_different_definition_is_a_change(self, offline: Host, case: str) -> None:
        diff = offline.diff(BATCH, batch(a=AB, b=AB), batch(a=AB, b=DIFFERENT[case]))
        assert diff.changes == DIFF_SOME
        assert list(diff.replaces) == []

    @pytest.mark.parametrize(
        "declared",
        [batch(a=AB, b=AB), batch(), batch(b=AB), batch(a=UNKNOWN)],
    )
    def test_other_or_unknown_setups_are_a_change(
        self, offline: Host, declared: dict[str, Any]
    ) -> None:
        assert offline.diff(BATCH, batch(a=AB), declared).changes == DIFF_SOME

    def test_failed_setups_are_a_change(self, host: Host) -> None:
        state = {**batch(a=AB, b=AB, gone=AB), "failed": {"b": "no", "gone": "no"}}
        assert host.diff(BATCH, state, batch(a=AB, b=AB)).changes == DIFF_SOME
        assert host.printed() == ""  # a refresh compares too, and prints no plan


class TestLifeOfAGroup:
    def test_create_returns_the_outcome_of_each_setup(
        self, host: Host, traceloop: Emulator
    ) -> None:
        declared = batch(a=setup(), b=setup("x", "no-such"), c=setup("y"))
        record = host.create(BATCH, declared)
        stored = traceloop.setups
        assert re.fullmatch(r'group "g" [0-9a-f]{12}', record.id)
        assert _without_provider(record.outputs) == {
            **declared,
            "failed": {"b": 'unknown evaluator slug "no-such"'},
            "owned": '["a","c"]',
            "unsettled": {},
            "setup_ids": packed({"a": stored["a"]["id"], "c": stored["c"]["id"]}),
            "env_project_id": stored["a"]["env_project_id"],
        }

    def test_create_owns_adopted_setups(self, host: Host, traceloop: Emulator) -> None:
        remote = traceloop.put("a", **setup())
        outputs = unpacked(host.create(BATCH, batch(a=setup())).outputs)
        assert (outputs["owned"], outputs["setup_ids"]) == (["a"], {"a": remote["id"]})
        assert traceloop.writes == {}

    def test_update_sends_changed_and_failed_setups(
        self, host: Host, other_host: Host, traceloop: Emulator
    ) -> None:
        record = host.create(BATCH, batch(a=setup(), b=setup(), c=setup("x", "custom")))
        traceloop.add_evaluator("custom")
        traceloop.reset_counts()
        declared = batch(a=setup(), b=setup("changed"), c=setup("x", "custom"))
        outputs = unpacked(other_host.update(record, declared).outputs)
        assert traceloop.writes == {"b": 1, "c": 1}
        assert (outputs["failed"], outputs["owned"]) == ({}, ["a", "b", "c"])
        assert outputs["setup_ids"] == {i: s["id"] for i, s in traceloop.setups.items()}

    def test_update_reads_an_owned_setup_that_the_list_lacks_by_id(
        self, host: Host, other_host: Host, traceloop: Emulator
    ) -> None:
        record = host.create(BATCH, batch(a=setup()))
        traceloop.put("a", **setup("by hand"))
        traceloop.inject(Fault(route=LIST_ROUTE, hide=["a"], times=None))
        traceloop.reset_counts()
        other_host.update(record, batch(a=setup("by hand")))
        assert traceloop.requests == {GET_ROUTE: 1}

    def test_failed_setup_that_is_now_refused_does_not_block_others(
        self, host: Host, other_host: Host, traceloop: Emulator
    ) -> None:
        """It is unchanged, so `check` does not validate it again."""
        record = host.create(BATCH, batch(a=setup("x", "no-such"), b=setup()))
        old = batch(a=setup(""), b=setup())
        record = _record(BATCH, {**record.outputs, **old}, record.id)
        declared = batch(a=setup(""), b=setup("changed"))
        assert other_host.check(BATCH, declared, old)[1] == []
        outputs = other_host.update(record, declared).outputs
        assert list(outputs["failed"]) == ["a"]
        assert "selector[0].value must not be empty" in outputs["failed"]["a"]
        assert traceloop.writes == {"b": 2}

    def test_update_with_equal_content_sends_no_request(
        self, host: Host, traceloop: Emulator
    ) -> None:
        record = host.create(BATCH, batch(a=AB))
        traceloop.reset_counts()
        host.update(record, batch(a=SAME["rules in another order"]))
        assert traceloop.requests == {}

    def test_update_keeps_owning_a_setup_whose_change_was_refused(
        self, host: Host, traceloop: Emulator
    ) -> None:
        record = host.create(BATCH, batch(a=setup()))
        outputs = unpacked(host.update(record, batch(a=setup("x", "no-such"))).outputs)
        assert set(outputs["failed"]) == {"a"}
        assert outputs["owned"] == ["a"]

    def test_update_disowns_removed_setups_without_deleting_them(
        self, host: Host, traceloop: Emulator
    ) -> None:
        record = host.create(BATCH, batch(a=setup(), b=setup()))
        outputs = unpacked(host.update(record, batch(b=setup())).outputs)
        assert (outputs["owned"], list(outputs["setup_ids"])) == (["b"], ["b"])
        assert set(traceloop.setups) == {"a", "b"}

    def test_unsent_triggers_are_sent_by_the_next_update(
        self, host: Host, other_host: Host, traceloop: Emulator
    ) -> None:
        record = host.create(BATCH, batch(a=setup(triggers=[1])))
        traceloop.inject(Fault(route=BULK_ROUTE, status=400))
        failed = host.update(record, batch(a=setup(triggers=[2])))
        assert set(failed.outputs["failed"]) == {"a"}
        traceloop.reset_counts()
        other_host.update(failed, batch(a=setup(triggers=[2])))
        assert traceloop.writes == {"a": 1}

    def test_read_of_equal_setups_keeps_the_declared_text(
        self, host: Host, other_host: Host, traceloop: Emulator
    ) -> None:
        declared = batch(a=SAME["the default operator left out"], b=setup(triggers=["t"]))
        record = host.create(BATCH, declared)
        id_, outs, inputs = other_host.read(record)
        assert id_ == record.id
        assert outs == _without_provider(record.outputs)
        assert inputs == declared

    def test_read_returns_drift_and_missing_setups(
        self, host: Host, other_host: Host, traceloop: Emulator
    ) -> None:
        record = host.create(BATCH, batch(a=setup(triggers=["t"]), b=setup(), c=setup()))
        traceloop.put("a", **setup("by hand"))
        traceloop.delete("b")
        _, outs, inputs = other_host.read(record)
        assert {i: json.loads(s) for i, s in inputs["setups"].items()} == {
            "a": setup("by hand", triggers=["t"]),
            "c": setup(),
        }
        assert outs["setups"] == inputs["setups"]
        outs = unpacked(outs)
        assert (outs["owned"], set(outs["setup_ids"])) == (["a", "c"], {"a", "c"})

    def test_read_of_a_large_group_names_drifted_setups(
        self, host: Host, other_host: Host, traceloop: Emulator
    ) -> None:
        """Its outputs have the setups compressed, so that no diff could display a change."""
        setups = {f"m-{n}": canonical(setup(str(n), triggers=[n])) for n in range(300)}
        declared = {"setups": {}, "packed_setups": _codec.packed(setups), "declared_by": DECLARER}
        record = host.create(BATCH, declared)
        _, outs, inputs = host.read(record)
        assert (outs, inputs) == (_without_provider(record.outputs), declared)
        assert set(outs["packed_setups"]) == {"zlib"}

        traceloop.put("m-7", **setup("by hand"))
        traceloop.delete("m-8")
        _, outs, inputs = other_host.read(record)
        drifted = {"m-7": canonical(setup("by hand", triggers=[7])), "m-8": "gone"}
        assert outs["drifted"] == drifted
        remote = {i: s for i, s in (setups | drifted).items() if s != "gone"}
        assert _codec.unpacked(inputs) == _codec.unpacked(outs) == remote

    def test_read_leaves_a_failed_setup_to_the_next_update(
        self, host: Host, other_host: Host, traceloop: Emulator
    ) -> None:
        """The remote definition is the previous one, which is not drift."""
        record = host.create(BATCH, batch(a=setup(), b=setup()))
        failed = host.update(record, batch(a=setup("x", "no-such"), b=setup()))
        _, outs, _ = other_host.read(failed)
        assert outs == _without_provider(failed.outputs)

    def test_read_of_a_group_whose_only_setup_is_missing(
        self, host: Host, other_host: Host, traceloop: Emulator
    ) -> None:
        record = host.create(BATCH, batch(a=setup()))
        traceloop.delete("a")
        _, outs, inputs = other_host.read(record)
        outs = unpacked(outs)
        assert (outs["owned"], outs["setup_ids"], inputs["setups"]) == ([], {}, {})

    @pytest.mark.parametrize("next_call", ["read", "update"])
    def test_drift_that_no_program_can_declare_blocks_nothing(
        self, host: Host, other_host: Host, traceloop: Emulator, next_call: str
    ) -> None:
        """The service may add an operator that this version does not know."""
        record = host.create(BATCH, batch(a=setup(), b=setup()))
        remote = traceloop.setups
        remote["a"]["init_rules"][0]["operator"] = "starts_with"
        drifted = json.dumps(remote["a"])
        traceloop.inject(Fault(external_id="a", method="GET", body=drifted, times=None))
        _, record.outputs, record.inputs = other_host.read(record)
        record = _record(BATCH, record.outputs, record.id)
        if next_call == "read":
            assert "starts_with" in other_host.read(record)[1]["setups"]["a"]
        else:
            assert other_host.update(record, batch(a=setup(), b=setup())).outputs["failed"] == {}

    def test_batch_delete_removes_setups_unknown_to_any_membership(
        self, host: Host, traceloop: Emulator
    ) -> None:
        """An update may be killed before the membership is created."""
        record = host.create(BATCH, batch(a=setup(), b=setup("x", "no-such")))
        traceloop.put("b", **setup())
        host.delete(record)
        assert set(traceloop.setups) == {"b"}

    def test_removed_group_is_deleted_by_its_batch(self, host: Host, traceloop: Emulator) -> None:
        """So a missing membership proves that the delete has begun."""
        record = host.create(BATCH, batch(a=setup(), b=setup()))
        host.delete(host.create(MEMBERSHIP, membership(["a", "b"], ["a", "b"])))
        assert set(traceloop.setups) == {"a", "b"}
        host.delete(record)
        assert traceloop.setups == {}

    def test_batch_delete_keeps_a_removed_setup_that_was_recreated(
        self, host: Host, other_host: Host, traceloop: Emulator
    ) -> None:
        """It has another owner now."""
        record = host.create(BATCH, batch(a=setup(), b=setup()))
        setup_id = traceloop.setups["a"]["id"]
        record = host.update(record, batch(b=setup()))
        assert unpacked(record.outputs)["left"] == {"a": setup_id}
        traceloop.delete("a")
        traceloop.put("a", **setup())
        other_host.delete(record)
        assert set(traceloop.setups) == {"a"}

    def without_a(self, host: Host) -> tuple[Record, Record]:
        """Return a batch without "a" but with "b", and the membership that knows it."""
        record = host.create(BATCH, batch(a=setup(), b=setup()))
        record = host.update(record, batch(b=setup()))
        left = record.outputs["left"]
        return record, host.create(MEMBERSHIP, {**membership(["b"], ["b"]), "left": left})

    def test_batch_delete_sends_nothing_for_setups_known_to_its_membership(
        self, host: Host, other_host: Host, traceloop: Emulator
    ) -> None:
        record, now = self.without_a(host)
        traceloop.reset_counts()
        other_host.delete(now)
        other_host.delete(record)
        assert traceloop.requests == {GET_ROUTE: 1, DELETE_ROUTE: 1}
        assert set(traceloop.setups) == {"a"}

    def test_batch_delete_finishes_the_deletes_of_an_older_membership(
        self, host: Host, other_host: Host, traceloop: Emulator
    ) -> None:
        """An update was killed before it could delete."""
        record, now = self.without_a(host)
        other_host.delete(now)
        other_host.delete(host.create(MEMBERSHIP, membership(["a", "b"], ["a", "b"])))
        other_host.delete(record)
        assert traceloop.setups == {}

    def test_batch_delete_removes_setups_whose_removal_no_membership_knew(
        self, host: Host, traceloop: Emulator
    ) -> None:
        record = host.create(BATCH, batch(a=setup(), b=setup()))
        host.delete(host.update(record, batch(b=setup())))
        assert traceloop.setups == {}

    def test_removed_setups_are_remembered_until_the_list_lacks_them(
        self, host: Host, other_host: Host, traceloop: Emulator
    ) -> None:
        record = host.create(BATCH, batch(a=setup(), b=setup()))
        record = other_host.update(record, batch(b=setup()))
        record = other_host.update(record, batch(b=setup("y")))
        assert set(unpacked(record.outputs)["left"]) == {"a"}
        host.check(MEMBERSHIP, membership([], []), membership(["a"], ["a"]))
        host.delete(host.create(MEMBERSHIP, membership(["a"], ["a"])))
        record = host.update(record, batch(b=setup("z")))
        assert record.outputs.get("left") is None

    def test_new_membership_takes_over_setups_removed_before(self, offline: Host) -> None:
        """The next update deletes it: in this one, no resource could."""
        declared = {**membership(["b"], ["b"]), "left": packed({"a": "id"})}
        inputs, _ = offline.check(MEMBERSHIP, declared)
        assert unpacked(inputs)["owned"] == ["a", "b"]
        again, _ = offline.check(MEMBERSHIP, declared, inputs)
        assert unpacked(again)["owned"] == ["b"]
        assert list(offline.diff(MEMBERSHIP, inputs, again).replaces) == ["external_ids"]

    def test_membership_does_not_take_over_known_removed_setups(self, offline: Host) -> None:
        old = membership(["a", "b"], ["a", "b"])
        declared = {**membership(["b"], ["b"]), "left": packed({"a": "id"})}
        inputs, _ = offline.check(MEMBERSHIP, declared, old)
        assert unpacked(inputs)["owned"] == ["b"]
        again, _ = offline.check(MEMBERSHIP, declared, inputs)
        assert unpacked(again)["owned"] == ["b"]

    def test_membership_sends_no_request_until_it_is_deleted(
        self, host: Host, traceloop: Emulator
    ) -> None:
        declared = membership(["a"], ["a"], "env")
        record = host.create(MEMBERSHIP, declared)
        assert record.id == 'group "g"'
        assert host.update(record, declared).outputs == record.inputs
        assert traceloop.requests == {}

    def test_membership_delete_removes_owned_undeclared_setups(
        self, host: Host, other_host: Host, traceloop: Emulator
    ) -> None:
        outputs = host.create(BATCH, batch(a=setup(), b=setup(), c=setup())).outputs
        declared = membership(["a", "b", "c"], ["a", "b"], outputs["env_project_id"])
        record = host.create(MEMBERSHIP, declared)
        other_host.check(MEMBERSHIP, membership(["b"], ["b"]), declared)
        other_host.delete(record)
        assert set(traceloop.setups) == {"b", "c"}
