"""The provider process as the engine sees it: gRPC to the real `python -m pulumi.dynamic`."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from pulumi.dynamic.dynamic import serialize_provider
from pulumi.runtime.proto import provider_pb2

from pulumi_traceloop import _codec, providers
from pulumi_traceloop._project import READ_BY_ID
from pulumi_traceloop.args import canonical
from pulumi_traceloop.emulator import Emulator, Fault
from pulumi_traceloop.emulator.routes import (
    BULK_ROUTE,
    DELETE_ROUTE,
    GET_ROUTE,
    LIST_ROUTE,
    UPSERT_ROUTE,
)
from tests.conftest import API_KEY, REPOSITORY
from tests.engine.provider import Provider, ProviderError, start_provider
from tests.engine.state import Record
from tests.engine.wire import UNKNOWN

ONE = "AutoMonitorSetup"
BATCH = "AutoMonitorSetupBatch"
MEMBERSHIP = "AutoMonitorSetupMembership"

DIFF_NONE = provider_pb2.DiffResponse.DIFF_NONE
DIFF_SOME = provider_pb2.DiffResponse.DIFF_SOME

RULE = {"key": "gen_ai.system", "source": "span_attributes", "operator": "equals", "value": "x"}
EXISTS = {"key": "a", "source": "resource_attributes", "operator": "exists"}


#: The same for all: two different ones must not declare one external_id in a process.
DECLARER = 'group "g"'


def setup(value: object = "x", *evaluators: str, **more: object) -> dict[str, Any]:
    return {
        "selector": [{**RULE, "value": value}],
        "evaluators": list(evaluators or ["faithfulness"]),
        **more,
    }


def one(external_id: object = "m", **content: object) -> dict[str, Any]:
    """The inputs of a single setup."""
    given = {**(content or setup()), "external_id": external_id, "declared_by": DECLARER}
    return {key: value for key, value in given.items() if value is not None}


def batch(**setups: Any) -> dict[str, Any]:
    """The inputs of a group's batch."""
    spelled = {i: s if isinstance(s, str) else canonical(s) for i, s in setups.items()}
    return {"setups": spelled, "declared_by": DECLARER}


def packed(value: object) -> object:
    """A list or a mapping as the JSON that a property holds."""
    return canonical(value) if isinstance(value, (list, dict)) else value


def unpacked(outputs: Mapping[str, Any]) -> dict[str, Any]:
    """The outputs with what they hold as JSON."""
    names = outputs.keys() & {"owned", "left", "setup_ids", "external_ids"}
    return {**outputs, **{name: json.loads(outputs[name]) for name in names if outputs[name]}}


def membership(
    external_ids: object, owned: object, env_project_id: object = None
) -> dict[str, Any]:
    """The inputs of a group's membership."""
    return {
        "external_ids": packed(external_ids),
        "owned": packed(owned),
        "env_project_id": env_project_id,
        "declared_by": DECLARER,
    }


class Host:
    """One provider process. What it prints can be read once it has ended."""

    def __init__(self, folder: Path, config: Mapping[str, str]) -> None:
        self._lines: list[str] = []
        env = {k: v for k, v in os.environ.items() if not k.startswith(("TRACELOOP_", "PULUMI_"))}
        env |= {"PYTHONPATH": str(REPOSITORY), "PULUMI_PROJECT": "project"}
        secrets = ["traceloop:apiKey"]
        self._process = start_provider(str(folder), env)
        self._provider = Provider(self._process, config, secrets, self._lines.append)
        self._ended = False

    def check(
        self, kind: str, news: dict[str, Any], olds: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], list[tuple[str, str]]]:
        """The checked inputs, and what is wrong with them: (property, reason)."""
        record = _record(kind, news)
        inputs, failures = self._provider.check(record.urn, olds or {}, record.inputs)
        return _without_provider(inputs), failures

    def diff(
        self, kind: str, olds: dict[str, Any], news: dict[str, Any]
    ) -> provider_pb2.DiffResponse:
        record = _record(kind, olds, id_="any")
        return self._provider.diff(record, _record(kind, news).inputs, [])

    def create(self, kind: str, news: dict[str, Any]) -> Record:
        record = _record(kind, news)
        self._provider.create(record)
        return record

    def update(self, record: Record, news: dict[str, Any]) -> Record:
        updated = _record(record.type, news, id_=record.id)
        self._provider.update(record, updated)
        return updated

    def read(self, record: Record) -> tuple[str, dict[str, Any], dict[str, Any]]:
        """Id, outputs, inputs; no id when the resource is gone."""
        id_, outs, inputs = self._provider.read(
            record.urn, record.id, record.inputs, record.outputs
        )
        return id_, _without_provider(outs), _without_provider(inputs or {})

    def delete(self, record: Record) -> None:
        self._provider.delete(record)

    def stop_reading(self) -> None:
        """Leave nobody at the other end of the pipe that the process prints to."""
        line = {**one("stop-reading"), "preview": True}
        self.check(ONE, line)
        with Path(os.devnull).open() as nothing:
            os.dup2(nothing.fileno(), self._process.stdout.fileno())
        self.check(ONE, {**line, "external_id": "stopped"})  # what is being read has to end
        assert self._provider._reader is not None
        self._provider._reader.join()

    def printed(self) -> str:
        """End the process; return what it printed, on stdout and stderr."""
        if not self._ended:
            self._ended = True
            self._provider.close()
        return "\n".join(self._lines)


def _record(kind: str, inputs: dict[str, Any], id_: str = "") -> Record:
    blob = serialize_provider(getattr(providers, f"{kind}Provider")())
    inputs = {**inputs, "__provider": blob}
    urn = f"urn:pulumi:stack::project::pulumi-python:dynamic/traceloop:{kind}::name"
    return Record(urn, kind, custom=True, id=id_, inputs=inputs, outputs=inputs)


def _without_provider(bag: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in bag.items() if key != "__provider"}


@pytest.fixture
def host(traceloop: Emulator, tmp_path: Path) -> Iterator[Host]:
    """A process for one deployment, configured for the emulator."""
    host = Host(tmp_path, {"traceloop:baseUrl": traceloop.url, "traceloop:apiKey": API_KEY})
    yield host
    assert API_KEY not in host.printed()


@pytest.fixture
def other_host(traceloop: Emulator, tmp_path: Path) -> Iterator[Host]:
    """The next deployment's process."""
    host = Host(tmp_path, {"traceloop:baseUrl": traceloop.url, "traceloop:apiKey": API_KEY})
    yield host
    assert API_KEY not in host.printed()


@pytest.fixture(scope="module")
def offline(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    """A process without an API key and with nobody at the other end: for what asks nobody."""
    host = Host(tmp_path_factory.mktemp("offline"), {"traceloop:baseUrl": "http://127.0.0.1:1"})
    yield host
    host.printed()


def ends_with(failure: pytest.ExceptionInfo[ProviderError], error: str, *parts: str) -> None:
    """Assert that it is one message, after nothing but the host's and one more frame.

    Before the SDK 3.260 the host passes on the message without the traceback, which has the name.
    """
    details = str(failure.value)
    frames = [line for line in details.splitlines() if line.startswith('  File "')]
    own = [line for line in frames if "dynamic/__main__.py" not in line]
    assert len(own) <= 1, details
    start = f"pulumi_traceloop.errors.{error}: " if frames else "Exception calling application: "
    _, found, message = details.rpartition(start)
    assert found, details
    for part in parts:
        assert part in message
    assert API_KEY not in details


OPERATORS = (
    "'equals', 'not_equals', 'contains', 'not_contains', 'in', 'not_in', 'exists' or 'not_exists'"
)

BAD_SETUPS = {
    "no rules": (setup(selector=[]), "selector", "needs at least one rule"),
    "unknown operator": (
        setup(selector=[{**RULE, "operator": "like"}]),
        "selector[0].operator",
        f'must be one of {OPERATORS}, not "like"; did you mean "contains"?',
    ),
    "in without values": (
        setup(selector=[{"key": "a", "source": "span_attributes", "operator": "in"}]),
        "selector[0].values",
        'operator "in" needs "values"',
    ),
    "in with no values": (
        setup(selector=[{"key": "a", "source": "span_attributes", "operator": "in", "values": []}]),
        "selector[0].values",
        'operator "in" needs at least one value',
    ),
    "exists with a value": (
        setup(selector=[{**EXISTS, "value": "x"}]),
        "selector[0].value",
        'operator "exists" takes neither value nor values',
    ),
    "equals with values": (
        setup(selector=[{**RULE, "values": ["x"]}]),
        "selector[0].values",
        'operator "equals" takes "value" instead',
    ),
    "unknown source": (
        setup(selector=[{**RULE, "source": "span"}]),
        "selector[0].source",
        (
            "must be one of 'span_attributes' or 'resource_attributes', not \"span\"; did you mean"
            ' "span_attributes"?'
        ),
    ),
    "both kinds of evaluators": (
        setup(evaluator_configs=[{"slug": "perplexity"}]),
        "evaluators",
        "give either evaluators or evaluator_configs, not both",
    ),
    "no kind of evaluators": (
        {"selector": [RULE]},
        "evaluators",
        "give either evaluators or evaluator_configs",
    ),
    "no evaluators": (setup(evaluators=[]), "evaluators", "needs at least one evaluator"),
    "an evaluator twice": (
        setup("x", "perplexity", "perplexity"),
        "evaluators[1]",
        '"perplexity" is listed twice',
    ),
    "unknown scope": (
        {"selector": [RULE], "evaluator_configs": [{"slug": "perplexity", "scope": "day"}]},
        "evaluator_configs[0].scope",
        "must be one of 'session', 'trace' or 'span', not \"day\"",
    ),
    "a number for a value": (
        setup(5),
        "selector[0].value",
        'must be a string, such as "5"',
    ),
    "a rule's typing error": (
        setup(selector=[{**RULE, "operater": "equals"}]),
        "selector[0].operater",
        'is not a known property; did you mean "operator"?',
    ),
}


class TestCheckOfASetup:
    def test_good_inputs_come_back_as_they_are(self, offline: Host) -> None:
        inputs = one(**setup(triggers=["2026-01", 1]))
        assert offline.check(ONE, inputs) == (inputs, [])

    @pytest.mark.parametrize("case", BAD_SETUPS)
    def test_a_problem_is_told_with_its_path(self, offline: Host, case: str) -> None:
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
    def test_a_bad_external_id_is_told(
        self, offline: Host, external_id: object, reason: str
    ) -> None:
        assert offline.check(ONE, one(external_id))[1] == [("external_id", reason)]

    def test_all_problems_are_told_at_once(self, offline: Host) -> None:
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

    def test_a_second_declarer_is_refused_with_both_names(self, offline: Host) -> None:
        first = one("twice")
        assert offline.check(ONE, first)[1] == []
        assert offline.check(ONE, first)[1] == []  # the same one, checked again
        ((path, reason),) = offline.check(ONE, {**first, "declared_by": 'another "o"'})[1]
        assert path == "external_id"
        assert 'declared twice: by group "g" and by another "o"' in reason

    def test_an_invalid_setup_counts_as_declared(self, offline: Host) -> None:
        """What is declared must not be deleted, valid or not."""
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
    def test_are_held_against_nobody_and_stay_unknown(
        self, offline: Host, inputs: dict[str, Any]
    ) -> None:
        assert offline.check(ONE, inputs) == (inputs, [])

    def test_do_not_hide_what_is_known_to_be_bad(self, offline: Host) -> None:
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

    def test_two_unknown_slugs_are_not_one_listed_twice(self, offline: Host) -> None:
        configs = [{"slug": UNKNOWN}, {"slug": UNKNOWN}]
        assert offline.check(ONE, one(selector=[RULE], evaluator_configs=configs))[1] == []

    def test_unknown_evaluators_do_not_hide_an_empty_selector(self, offline: Host) -> None:
        failures = offline.check(ONE, one(selector=[], evaluators=UNKNOWN))[1]
        assert [path for path, _ in failures] == ["selector"]


class TestCheckOfABatch:
    def test_good_inputs_come_back_as_they_are(self, offline: Host) -> None:
        inputs = batch(a=setup(), b=UNKNOWN)
        assert offline.check(BATCH, inputs) == ({**inputs, "external_ids": '["a","b"]'}, [])

    @pytest.mark.parametrize("case", BAD_SETUPS)
    def test_a_problem_is_told_with_its_setup_and_path(self, offline: Host, case: str) -> None:
        content, path, reason = BAD_SETUPS[case]
        _, failures = offline.check(BATCH, batch(good=setup(), bad=content))
        assert failures == [(f'setups["bad"].{path}', reason)]

    @pytest.mark.parametrize("external_id", ["", "  ", ".", ".."])
    def test_a_bad_external_id_is_told(self, offline: Host, external_id: str) -> None:
        ((path, reason),) = offline.check(BATCH, batch(**{external_id: setup()}))[1]
        assert path == f'setups["{external_id}"]'
        assert reason.startswith("the external_id must not be")

    def test_all_problems_of_all_setups_are_told_at_once(self, offline: Host) -> None:
        news = batch(a={}, b=setup(selector=[]), **{".": setup("x", ""), "unknown": UNKNOWN})
        _, failures = offline.check(BATCH, news)
        assert {path for path, _ in failures} == {
            'setups["a"].selector',
            'setups["a"].evaluators',
            'setups["b"].selector',
            'setups["."]',
            'setups["."].evaluators[0]',
        }

    def test_what_is_spelled_as_before_is_not_validated_again(self, offline: Host) -> None:
        """A rule that a newer version of this package adds must not stop an old stack."""
        news = batch(a={"from": "an older version"})
        assert offline.check(BATCH, news, olds=news)[1] == []
        assert offline.check(BATCH, news, olds=batch(a=setup()))[1] != []

    def test_what_another_declares_is_refused(self, offline: Host) -> None:
        offline.check(ONE, {**one("in-both"), "declared_by": 'one "m"'})
        ((path, reason),) = offline.check(BATCH, batch(**{"in-both": setup()}))[1]
        assert path == 'setups["in-both"]'
        assert 'by one "m" and by group "g"' in reason


class TestCheckOfAMembership:
    def test_what_is_unknown_in_a_preview_stays_so(self, offline: Host) -> None:
        """A saved plan must hold in the update."""
        news = membership(["a", "b"], UNKNOWN, UNKNOWN)
        olds = membership(["a"], ["a"], "env")
        assert offline.check(MEMBERSHIP, news, olds) == (
            membership(["a", "b"], UNKNOWN, "env"),
            [],
        )

    def test_where_all_is_in_place_nothing_changes(self, offline: Host) -> None:
        olds = membership(["a", "b"], ["a", "b"], "env")
        news = membership(["a", "b"], UNKNOWN, UNKNOWN)
        assert offline.check(MEMBERSHIP, news, olds) == (olds, [])

    def test_what_is_known_stays(self, offline: Host) -> None:
        news = membership(["a", "b"], ["a"], "new")
        assert offline.check(MEMBERSHIP, news, membership(["b"], ["b"], "old")) == (news, [])


A = {"key": "a", "source": "span_attributes", "operator": "equals", "value": "1"}
A_BY_DEFAULT = {"key": "a", "source": "span_attributes", "value": "1"}
B = {"key": "b", "source": "span_attributes", "operator": "in", "values": ["x", "y"]}
B_REVERSED = {**B, "values": ["y", "x"]}
AB = {"selector": [A, B], "evaluators": ["faithfulness", "perplexity"]}

SAME = {
    "itself": AB,
    "rules in another order": {**AB, "selector": [B, A]},
    "values in another order": {**AB, "selector": [A, B_REVERSED]},
    "evaluators in another order": {**AB, "evaluators": ["perplexity", "faithfulness"]},
    "the default operator left out": {**AB, "selector": [A_BY_DEFAULT, B]},
    "configs without options": {
        "selector": [A, B],
        "evaluator_configs": [{"slug": "faithfulness"}, {"slug": "perplexity"}],
    },
}
DIFFERENT = {
    "a value": {**AB, "selector": [{**A, "value": "2"}, B]},
    "a rule less": {**AB, "selector": [A]},
    "an evaluator more": {**AB, "evaluators": ["faithfulness", "perplexity", "word-count"]},
    "a scope": {
        "selector": [A, B],
        "evaluator_configs": [{"slug": "faithfulness", "scope": "span"}, {"slug": "perplexity"}],
    },
    "triggers": {**AB, "triggers": ["2026-02"]},
    "something unknown": {**AB, "selector": [{**A, "value": UNKNOWN}, B]},
    "an unknown selector": {**AB, "selector": UNKNOWN},
}


class TestDiffOfASetup:
    @pytest.mark.parametrize("case", SAME)
    def test_spelling_is_no_change(self, offline: Host, case: str) -> None:
        diff = offline.diff(ONE, one(**AB), one(**SAME[case]))
        assert diff.changes == DIFF_NONE
        assert list(diff.replaces) == []

    @pytest.mark.parametrize("case", DIFFERENT)
    def test_another_meaning_is_a_change(self, offline: Host, case: str) -> None:
        diff = offline.diff(ONE, one(**AB), one(**DIFFERENT[case]))
        assert diff.changes == DIFF_SOME
        assert list(diff.replaces) == []

    @pytest.mark.parametrize("external_id", ["other", UNKNOWN])
    def test_another_external_id_replaces_it(self, offline: Host, external_id: str) -> None:
        diff = offline.diff(ONE, one("m"), one(external_id))
        assert diff.changes == DIFF_SOME
        assert list(diff.replaces) == ["external_id"]

    def test_another_declarer_is_no_change(self, offline: Host) -> None:
        """Else a resource that gets another parent, with an alias, would be sent again."""
        diff = offline.diff(ONE, one(), {**one(), "declared_by": "a parent's"})
        assert diff.changes == DIFF_NONE


class TestDiffOfABatch:
    @pytest.mark.parametrize("case", SAME)
    def test_spelling_is_no_change(self, offline: Host, case: str) -> None:
        assert offline.diff(BATCH, batch(a=AB), batch(a=SAME[case])).changes == DIFF_NONE

    @pytest.mark.parametrize("case", [case for case in DIFFERENT if "unknown" not in case])
    def test_another_meaning_is_a_change(self, offline: Host, case: str) -> None:
        diff = offline.diff(BATCH, batch(a=AB, b=AB), batch(a=AB, b=DIFFERENT[case]))
        assert diff.changes == DIFF_SOME
        assert list(diff.replaces) == []

    @pytest.mark.parametrize(
        "news",
        [batch(a=AB, b=AB), batch(), batch(b=AB), batch(a=UNKNOWN)],
    )
    def test_other_or_unknown_setups_are_a_change(
        self, offline: Host, news: dict[str, Any]
    ) -> None:
        assert offline.diff(BATCH, batch(a=AB), news).changes == DIFF_SOME

    def test_what_failed_is_tried_again(self, host: Host) -> None:
        olds = {**batch(a=AB, b=AB, gone=AB), "failed": {"b": "no", "gone": "no"}}
        assert host.diff(BATCH, olds, batch(a=AB, b=AB)).changes == DIFF_SOME
        assert host.printed() == ""  # a refresh compares too, and announces nothing


class TestDiffOfAMembership:
    @pytest.mark.parametrize(
        ("news", "changes", "replaces"),
        [
            (membership(["a", "b"], ["a"], "env"), DIFF_NONE, []),
            (membership(["a", "b", "c"], ["a"], "env"), DIFF_SOME, []),
            (membership(["a"], ["a"], "env"), DIFF_SOME, []),  # "b" left, but was never owned
            (membership(["a", "b"], ["a", "b"], "env"), DIFF_SOME, []),
            (membership(["a", "b"], ["a"], "other"), DIFF_SOME, []),
            (membership(["b"], ["b"], "env"), DIFF_SOME, ["external_ids"]),
            (membership([], [], "env"), DIFF_SOME, ["external_ids"]),
        ],
    )
    def test_only_an_owned_setup_that_left_replaces_it(
        self, offline: Host, news: dict[str, Any], changes: int, replaces: list[str]
    ) -> None:
        diff = offline.diff(MEMBERSHIP, membership(["a", "b"], ["a"], "env"), news)
        assert diff.changes == changes
        assert list(diff.replaces) == replaces

    def test_an_unchanged_group_is_silent_in_a_preview(self, offline: Host) -> None:
        olds = membership(["a"], ["a"], "env")
        news, _ = offline.check(MEMBERSHIP, membership(["a"], UNKNOWN, UNKNOWN), olds)
        assert offline.diff(MEMBERSHIP, olds, news).changes == DIFF_NONE


class TestLifeOfASetup:
    def test_create_answers_with_the_servers_id(self, host: Host, traceloop: Emulator) -> None:
        record = host.create(ONE, one())
        stored = traceloop.setups["m"]
        assert record.id == "m"
        assert _without_provider(record.outputs) == {
            **one(),
            "setup_id": stored["id"],
            "env_project_id": stored["env_project_id"],
        }

    def test_create_adopts_what_is_equal(self, host: Host, traceloop: Emulator) -> None:
        there = traceloop.put("m", **setup())
        assert host.create(ONE, one()).outputs["setup_id"] == there["id"]
        assert traceloop.writes == {}

    def test_create_replaces_what_differs(self, host: Host, traceloop: Emulator) -> None:
        there = traceloop.put("m", **setup("by hand"))
        assert host.create(ONE, one()).outputs["setup_id"] == there["id"]
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

    def test_read_of_an_equal_setup_keeps_the_users_spelling(
        self, host: Host, traceloop: Emulator
    ) -> None:
        news = one(**SAME["the default operator left out"], triggers=["t"])
        record = host.create(ONE, news)
        id_, outs, inputs = host.read(record)
        assert id_ == "m"
        assert outs == _without_provider(record.outputs)
        assert inputs == news

    def test_read_shows_drift_in_inputs_and_outputs(
        self, host: Host, other_host: Host, traceloop: Emulator
    ) -> None:
        record = host.create(ONE, one(**setup(triggers=["t"])))
        traceloop.put("m", **setup("by hand"))
        _, outs, inputs = other_host.read(record)
        assert inputs == one(**setup("by hand", triggers=["t"]))
        assert outs == {**_without_provider(record.outputs), **inputs}

    def test_read_shows_scopes_where_slugs_were_declared(
        self, host: Host, other_host: Host, traceloop: Emulator
    ) -> None:
        record = host.create(ONE, one())
        configs = [{"slug": "perplexity", "scope": "trace"}, {"slug": "word-count"}]
        traceloop.put("m", evaluator_configs=configs)
        _, _, inputs = other_host.read(record)
        assert "evaluators" not in inputs
        assert sorted(inputs["evaluator_configs"], key=lambda c: str(c["slug"])) == configs

    @pytest.mark.parametrize("external_id", [" blanks ", "x" * 2500])
    def test_what_an_earlier_version_took_is_read_compared_and_deleted(
        self, host: Host, other_host: Host, traceloop: Emulator, external_id: str
    ) -> None:
        """A program may no longer declare it, so that a state may still hold it."""
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

    def test_read_of_what_is_gone_has_no_id(
        self, host: Host, other_host: Host, traceloop: Emulator
    ) -> None:
        record = host.create(ONE, one())
        traceloop.delete("m")
        assert other_host.read(record) == ("", {}, {})

    def test_read_takes_no_other_environments_setup_for_its_own(
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
        """A few are asked for one by one: the list may be long."""
        records = [host.create(ONE, one(f"m-{n}")) for n in range(READ_BY_ID + 5)]
        traceloop.reset_counts()
        assert [other_host.read(record)[0] for record in records] == [r.id for r in records]
        assert traceloop.requests == {LIST_ROUTE: 1, GET_ROUTE: READ_BY_ID}

    def test_delete_deletes(self, host: Host, other_host: Host, traceloop: Emulator) -> None:
        other_host.delete(host.create(ONE, one()))
        assert traceloop.setups == {}

    def test_delete_of_what_is_gone_is_fine(self, host: Host, traceloop: Emulator) -> None:
        record = host.create(ONE, one())
        traceloop.delete("m")
        host.delete(record)
        assert traceloop.requests[DELETE_ROUTE] == 1

    def test_delete_keeps_what_something_declares_and_says_so(
        self, host: Host, traceloop: Emulator
    ) -> None:
        record = host.create(ONE, one("moved"))
        host.check(BATCH, batch(moved=setup()))
        host.delete(record)
        assert set(traceloop.setups) == {"moved"}
        assert 'kept the monitor setup "moved": group "g" declares it' in host.printed()


class TestLifeOfAGroup:
    def test_create_answers_with_what_became_of_each(self, host: Host, traceloop: Emulator) -> None:
        news = batch(a=setup(), b=setup("x", "no-such"), c=setup("y"))
        record = host.create(BATCH, news)
        stored = traceloop.setups
        assert re.fullmatch(r'group "g" [0-9a-f]{12}', record.id)
        assert _without_provider(record.outputs) == {
            **news,
            "failed": {"b": 'unknown evaluator slug "no-such"'},
            "owned": '["a","c"]',
            "unsettled": {},
            "setup_ids": packed({"a": stored["a"]["id"], "c": stored["c"]["id"]}),
            "env_project_id": stored["a"]["env_project_id"],
        }

    def test_create_owns_what_it_adopts(self, host: Host, traceloop: Emulator) -> None:
        there = traceloop.put("a", **setup())
        outputs = unpacked(host.create(BATCH, batch(a=setup())).outputs)
        assert (outputs["owned"], outputs["setup_ids"]) == (["a"], {"a": there["id"]})
        assert traceloop.writes == {}

    def test_update_sends_what_changed_and_what_failed(
        self, host: Host, other_host: Host, traceloop: Emulator
    ) -> None:
        record = host.create(BATCH, batch(a=setup(), b=setup(), c=setup("x", "custom")))
        traceloop.add_evaluator("custom")
        traceloop.reset_counts()
        news = batch(a=setup(), b=setup("changed"), c=setup("x", "custom"))
        outputs = unpacked(other_host.update(record, news).outputs)
        assert traceloop.writes == {"b": 1, "c": 1}
        assert (outputs["failed"], outputs["owned"]) == ({}, ["a", "b", "c"])
        assert outputs["setup_ids"] == {i: s["id"] for i, s in traceloop.setups.items()}

    def test_update_asks_by_id_for_an_owned_setup_that_the_list_lacks(
        self, host: Host, other_host: Host, traceloop: Emulator
    ) -> None:
        record = host.create(BATCH, batch(a=setup()))
        traceloop.put("a", **setup("by hand"))
        traceloop.inject(Fault(route=LIST_ROUTE, hide=["a"], times=None))
        traceloop.reset_counts()
        other_host.update(record, batch(a=setup("by hand")))
        assert traceloop.requests == {GET_ROUTE: 1}

    def test_one_that_failed_and_is_refused_by_now_stops_no_other(
        self, host: Host, other_host: Host, traceloop: Emulator
    ) -> None:
        """It did not change, so that `check` does not validate it again."""
        record = host.create(BATCH, batch(a=setup("x", "no-such"), b=setup()))
        old = batch(a=setup(""), b=setup())
        record = _record(BATCH, {**record.outputs, **old}, record.id)
        news = batch(a=setup(""), b=setup("changed"))
        assert other_host.check(BATCH, news, old)[1] == []
        outputs = other_host.update(record, news).outputs
        assert list(outputs["failed"]) == ["a"]
        assert "selector[0].value must not be empty" in outputs["failed"]["a"]
        assert traceloop.writes == {"b": 2}

    def test_update_with_equal_content_asks_nothing(self, host: Host, traceloop: Emulator) -> None:
        record = host.create(BATCH, batch(a=AB))
        traceloop.reset_counts()
        host.update(record, batch(a=SAME["rules in another order"]))
        assert traceloop.requests == {}

    def test_update_of_a_refused_change_keeps_what_it_owns(
        self, host: Host, traceloop: Emulator
    ) -> None:
        record = host.create(BATCH, batch(a=setup()))
        outputs = unpacked(host.update(record, batch(a=setup("x", "no-such"))).outputs)
        assert set(outputs["failed"]) == {"a"}
        assert outputs["owned"] == ["a"]

    def test_update_owns_no_longer_what_left_but_deletes_nothing(
        self, host: Host, traceloop: Emulator
    ) -> None:
        record = host.create(BATCH, batch(a=setup(), b=setup()))
        outputs = unpacked(host.update(record, batch(b=setup())).outputs)
        assert (outputs["owned"], list(outputs["setup_ids"])) == (["b"], ["b"])
        assert set(traceloop.setups) == {"a", "b"}

    def test_triggers_that_failed_to_go_out_are_sent_by_the_next_update(
        self, host: Host, other_host: Host, traceloop: Emulator
    ) -> None:
        record = host.create(BATCH, batch(a=setup(triggers=[1])))
        traceloop.inject(Fault(route=BULK_ROUTE, status=400))
        failed = host.update(record, batch(a=setup(triggers=[2])))
        assert set(failed.outputs["failed"]) == {"a"}
        traceloop.reset_counts()
        other_host.update(failed, batch(a=setup(triggers=[2])))
        assert traceloop.writes == {"a": 1}

    def test_read_of_equal_setups_keeps_the_users_spelling(
        self, host: Host, other_host: Host, traceloop: Emulator
    ) -> None:
        news = batch(a=SAME["the default operator left out"], b=setup(triggers=["t"]))
        record = host.create(BATCH, news)
        id_, outs, inputs = other_host.read(record)
        assert id_ == record.id
        assert outs == _without_provider(record.outputs)
        assert inputs == news

    def test_read_shows_drift_and_what_is_gone(
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

    def test_read_of_a_large_group_shows_what_drifted(
        self, host: Host, other_host: Host, traceloop: Emulator
    ) -> None:
        """Its outputs have the setups compressed, so that nobody could see a change there."""
        setups = {f"m-{n}": canonical(setup(str(n), triggers=[n])) for n in range(300)}
        news = {"setups": {}, "packed_setups": _codec.packed(setups), "declared_by": DECLARER}
        record = host.create(BATCH, news)
        _, outs, inputs = host.read(record)
        assert (outs, inputs) == (_without_provider(record.outputs), news)
        assert set(outs["packed_setups"]) == {"zlib"}

        traceloop.put("m-7", **setup("by hand"))
        traceloop.delete("m-8")
        _, outs, inputs = other_host.read(record)
        drifted = {"m-7": canonical(setup("by hand", triggers=[7])), "m-8": "gone"}
        assert outs["drifted"] == drifted
        there = {i: s for i, s in (setups | drifted).items() if s != "gone"}
        assert _codec.unpacked(inputs) == _codec.unpacked(outs) == there

    def test_read_leaves_a_failed_setup_to_the_next_update(
        self, host: Host, other_host: Host, traceloop: Emulator
    ) -> None:
        """What is there of it is the definition before, which is no drift."""
        record = host.create(BATCH, batch(a=setup(), b=setup()))
        failed = host.update(record, batch(a=setup("x", "no-such"), b=setup()))
        _, outs, _ = other_host.read(failed)
        assert outs == _without_provider(failed.outputs)

    def test_read_of_the_only_setup_that_is_gone(
        self, host: Host, other_host: Host, traceloop: Emulator
    ) -> None:
        record = host.create(BATCH, batch(a=setup()))
        traceloop.delete("a")
        _, outs, inputs = other_host.read(record)
        outs = unpacked(outs)
        assert (outs["owned"], outs["setup_ids"], inputs["setups"]) == ([], {}, {})

    @pytest.mark.parametrize("next_call", ["read", "update"])
    def test_drift_that_no_user_could_declare_stops_nothing(
        self, host: Host, other_host: Host, traceloop: Emulator, next_call: str
    ) -> None:
        """The service may learn an operator that this version of the package does not know."""
        record = host.create(BATCH, batch(a=setup(), b=setup()))
        there = traceloop.setups
        there["a"]["init_rules"][0]["operator"] = "starts_with"
        drifted = json.dumps(there["a"])
        traceloop.inject(Fault(external_id="a", method="GET", body=drifted, times=None))
        _, record.outputs, record.inputs = other_host.read(record)
        record = _record(BATCH, record.outputs, record.id)
        if next_call == "read":
            assert "starts_with" in other_host.read(record)[1]["setups"]["a"]
        else:
            assert other_host.update(record, batch(a=setup(), b=setup())).outputs["failed"] == {}

    def test_delete_of_the_batch_deletes_what_no_membership_knew(
        self, host: Host, traceloop: Emulator
    ) -> None:
        """An update may be killed before the membership is made."""
        record = host.create(BATCH, batch(a=setup(), b=setup("x", "no-such")))
        traceloop.put("b", **setup())
        host.delete(record)
        assert set(traceloop.setups) == {"b"}

    def test_a_group_that_goes_is_deleted_by_its_batch(
        self, host: Host, traceloop: Emulator
    ) -> None:
        """So that the membership's absence tells that the deletion has begun."""
        record = host.create(BATCH, batch(a=setup(), b=setup()))
        host.delete(host.create(MEMBERSHIP, membership(["a", "b"], ["a", "b"])))
        assert set(traceloop.setups) == {"a", "b"}
        host.delete(record)
        assert traceloop.setups == {}

    def test_delete_of_the_batch_spares_what_was_made_again_after_it_left(
        self, host: Host, other_host: Host, traceloop: Emulator
    ) -> None:
        """It is another's by now."""
        record = host.create(BATCH, batch(a=setup(), b=setup()))
        setup_id = traceloop.setups["a"]["id"]
        record = host.update(record, batch(b=setup()))
        assert unpacked(record.outputs)["left"] == {"a": setup_id}
        traceloop.delete("a")
        traceloop.put("a", **setup())
        other_host.delete(record)
        assert set(traceloop.setups) == {"a"}

    def left_by_a(self, host: Host) -> tuple[Record, Record]:
        """A batch that "a" has left and that still has "b", and the membership that knows it."""
        record = host.create(BATCH, batch(a=setup(), b=setup()))
        record = host.update(record, batch(b=setup()))
        left = record.outputs["left"]
        return record, host.create(MEMBERSHIP, {**membership(["b"], ["b"]), "left": left})

    def test_delete_of_the_batch_asks_nothing_about_what_its_membership_knew(
        self, host: Host, other_host: Host, traceloop: Emulator
    ) -> None:
        record, now = self.left_by_a(host)
        traceloop.reset_counts()
        other_host.delete(now)
        other_host.delete(record)
        assert traceloop.requests == {GET_ROUTE: 1, DELETE_ROUTE: 1}
        assert set(traceloop.setups) == {"a"}

    def test_delete_of_the_batch_takes_what_an_older_membership_had_to_delete(
        self, host: Host, other_host: Host, traceloop: Emulator
    ) -> None:
        """An update was killed before it could delete."""
        record, now = self.left_by_a(host)
        other_host.delete(now)
        other_host.delete(host.create(MEMBERSHIP, membership(["a", "b"], ["a", "b"])))
        other_host.delete(record)
        assert traceloop.setups == {}

    def test_delete_of_the_batch_takes_what_no_membership_knew_to_have_left(
        self, host: Host, traceloop: Emulator
    ) -> None:
        record = host.create(BATCH, batch(a=setup(), b=setup()))
        host.delete(host.update(record, batch(b=setup())))
        assert traceloop.setups == {}

    def test_what_left_is_kept_until_the_list_lacks_it(
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

    def test_what_left_before_a_membership_was_made_is_taken_over(self, offline: Host) -> None:
        """So that the next update deletes it: this one has nothing that could."""
        news = {**membership(["b"], ["b"]), "left": packed({"a": "id"})}
        inputs, _ = offline.check(MEMBERSHIP, news)
        assert unpacked(inputs)["owned"] == ["a", "b"]
        again, _ = offline.check(MEMBERSHIP, news, inputs)
        assert unpacked(again)["owned"] == ["b"]
        assert list(offline.diff(MEMBERSHIP, inputs, again).replaces) == ["external_ids"]

    def test_what_left_and_was_known_is_not_taken_over(self, offline: Host) -> None:
        old = membership(["a", "b"], ["a", "b"])
        news = {**membership(["b"], ["b"]), "left": packed({"a": "id"})}
        inputs, _ = offline.check(MEMBERSHIP, news, old)
        assert unpacked(inputs)["owned"] == ["b"]
        again, _ = offline.check(MEMBERSHIP, news, inputs)
        assert unpacked(again)["owned"] == ["b"]

    def test_the_membership_asks_nothing_until_it_is_deleted(
        self, host: Host, traceloop: Emulator
    ) -> None:
        news = membership(["a"], ["a"], "env")
        record = host.create(MEMBERSHIP, news)
        assert record.id == 'group "g"'
        assert host.update(record, news).outputs == record.inputs
        assert traceloop.requests == {}

    def test_delete_of_the_membership_deletes_what_is_owned_and_not_declared(
        self, host: Host, other_host: Host, traceloop: Emulator
    ) -> None:
        outputs = host.create(BATCH, batch(a=setup(), b=setup(), c=setup())).outputs
        news = membership(["a", "b", "c"], ["a", "b"], outputs["env_project_id"])
        record = host.create(MEMBERSHIP, news)
        other_host.check(MEMBERSHIP, membership(["b"], ["b"]), news)
        other_host.delete(record)
        assert set(traceloop.setups) == {"b", "c"}


class TestPrinting:
    def test_a_reader_that_is_gone_costs_no_record_of_a_write(
        self, host: Host, traceloop: Emulator
    ) -> None:
        """What the engine shows is printed to a pipe; one that broke is an error to write to."""
        host.stop_reading()
        host.check(BATCH, batch(a=setup(), b=setup("x", "nope")))
        record = host.create(BATCH, batch(a=setup(), b=setup("x", "nope")))
        found = unpacked(record.outputs)
        assert (found["owned"], found["failed"]) == (["a"], {"b": 'unknown evaluator slug "nope"'})
        assert host.create(ONE, one()).outputs["setup_id"] == traceloop.setups["m"]["id"]


class TestErrors:
    def test_an_error_is_one_message_without_the_packages_frames(
        self, host: Host, traceloop: Emulator
    ) -> None:
        with pytest.raises(ProviderError) as failure:
            host.create(ONE, one("m", **setup("x", "no-such")))
        ends_with(
            failure, "RejectedError", 'setup "m": unknown evaluator slug "no-such" (HTTP 400)'
        )

    @pytest.mark.parametrize("call", ["create", "update", "read", "delete"])
    def test_a_key_that_is_not_accepted_is_in_no_answer(
        self, host: Host, tmp_path: Path, traceloop: Emulator, call: str
    ) -> None:
        record = host.create(ONE, one())
        config = {"traceloop:baseUrl": traceloop.url, "traceloop:apiKey": API_KEY + "-revoked"}
        stranger = Host(tmp_path, config)
        calls: dict[str, Callable[[], object]] = {
            "create": lambda: stranger.create(ONE, one()),
            "update": lambda: stranger.update(record, one(**setup("other"))),
            "read": lambda: stranger.read(record),
            "delete": lambda: stranger.delete(record),
        }
        with pytest.raises(ProviderError) as failure:
            calls[call]()
        ends_with(failure, "AuthenticationError", "traceloop:apiKey", "(HTTP 401)")
        assert API_KEY not in stranger.printed()

    def test_a_batch_tells_in_its_outputs(self, host: Host, traceloop: Emulator) -> None:
        """An exception would lose what did work."""
        traceloop.inject(Fault(route=GET_ROUTE, status=403, message=f"key {API_KEY} is blocked"))
        outputs = host.create(BATCH, batch(a=setup())).outputs
        assert "nothing was sent: http://127.0.0.1:" in outputs["failed"]["a"]
        assert "does not accept the API key" in outputs["failed"]["a"]
        assert API_KEY not in str(outputs)
        assert outputs["owned"] == "[]"

    def test_a_missing_key_is_told_when_it_is_needed(self, offline: Host) -> None:
        with pytest.raises(ProviderError) as failure:
            offline.create(ONE, one())
        ends_with(failure, "ConfigurationError", "no Traceloop API key")

    def test_all_setups_of_a_group_gone_at_once(
        self, host: Host, other_host: Host, traceloop: Emulator
    ) -> None:
        record = host.create(BATCH, batch(a=setup(), b=setup()))
        traceloop.delete("a")
        traceloop.delete("b")
        with pytest.raises(ProviderError) as failure:
            other_host.read(record)
        ends_with(failure, "SetupsMissingError", 'none of the 2 monitor setups of group "g"')

    def test_what_could_not_be_deleted_is_named(
        self, host: Host, other_host: Host, traceloop: Emulator
    ) -> None:
        outputs = host.create(BATCH, batch(a=setup(), b=setup())).outputs
        news = membership(["a", "b"], ["a", "b"], outputs["env_project_id"])
        traceloop.inject(Fault(route=DELETE_ROUTE, external_id="b", status=400, message="in use"))
        other_host.check(MEMBERSHIP, membership([], []), news)
        with pytest.raises(ProviderError) as failure:
            other_host.delete(host.create(MEMBERSHIP, news))
        ends_with(failure, "DeletionError", "1 of 2 setups", '"b": in use')
        assert set(traceloop.setups) == {"b"}

    @pytest.mark.parametrize("call", ["update", "read", "delete"])
    def test_another_projects_key_touches_nothing(
        self, host: Host, tmp_path: Path, traceloop: Emulator, call: str
    ) -> None:
        record = host.create(ONE, one())
        traceloop.add_project("key-of-another-project", env_project_id="other-env")
        traceloop.put("m", **setup("theirs"), api_key="key-of-another-project")
        config = {
            "traceloop:baseUrl": traceloop.url,
            "traceloop:apiKey": "key-of-another-project",
        }
        stranger = Host(tmp_path, config)
        calls: dict[str, Callable[[], object]] = {
            "update": lambda: stranger.update(record, one(**setup("other"))),
            "read": lambda: stranger.read(record),
            "delete": lambda: stranger.delete(record),
        }
        before = traceloop.setups_of("key-of-another-project")
        with pytest.raises(ProviderError) as failure:
            calls[call]()
        ends_with(failure, "ProjectMismatchError", '"other-env"')
        assert traceloop.setups_of("key-of-another-project") == before
        stranger.printed()

    def test_a_bad_configuration_is_one_message(self, tmp_path: Path) -> None:
        host = Host(tmp_path, {"traceloop:deadline": "soon"})
        try:
            with pytest.raises(ProviderError) as failure:
                host.check(ONE, one())
        finally:
            host.printed()
        ends_with(failure, "ConfigurationError", "traceloop:deadline")
