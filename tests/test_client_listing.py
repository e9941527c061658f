"""The list of setups, read while it arrives."""

from __future__ import annotations

import gzip
import json
import re
import tracemalloc
from collections.abc import Callable
from contextlib import closing
from typing import Any

import pytest

from pulumi_traceloop._client import TraceloopClient
from pulumi_traceloop._client._listing import ListStream
from pulumi_traceloop._models import UNREADABLE_LIMIT
from pulumi_traceloop._settings import connection
from pulumi_traceloop.errors import ConfigurationError, MalformedResponseError
from tests.support import API_KEY
from tests.support.service import Service, response
from tests.support.setups import RULE
from tests.test_models import stored

MIB = 1024 * 1024


def dump(*items: object) -> bytes:
    return json.dumps(items).encode()


def stream_of(body: bytes, size: int = 65_536, of_project: str | None = None) -> ListStream:
    stream = ListStream(of_project)
    for start in range(0, len(body), size):
        stream.feed(body[start : start + size])
    stream.feed(b"", last=True)
    return stream


def names(stream: ListStream) -> list[str]:
    assert not stream.failed
    return [setup.external_id for setup in stream.listing().setups]


#: Values of another type than string, and their names in messages.
OTHER_TYPES = {
    "number": (7, "a number"),
    "float": (7.5, "a number"),
    "boolean": (True, "a boolean"),
    "null": (None, "null"),
    "list": (["x"], "a list"),
    "object": ({"x": 1}, "an object"),
}
#: Where such a value may be, with how to put it there, and whether null is allowed.
PLACES: dict[str, tuple[Callable[[Any], dict[str, Any]], bool]] = {
    "id": (lambda value: {"id": value}, False),
    "status": (lambda value: {"status": value}, False),
    "env_project_id": (lambda value: {"env_project_id": value}, True),
    "created_at": (lambda value: {"created_at": value}, True),
    "init_rules[1].key": (lambda value: {"init_rules": [RULE, {**RULE, "key": value}]}, False),
    "init_rules[0].value": (lambda value: {"init_rules": [{**RULE, "value": value}]}, True),
    "init_rules[0].values[1]": (
        lambda value: {"init_rules": [{**RULE, "operator": "in", "values": ["a", value]}]},
        False,
    ),
    "init_rules[0]": (lambda value: {"init_rules": [value]}, False),
    "evaluators[0].evaluator_type": (
        lambda value: {"evaluators": [{"evaluator_type": value}]},
        False,
    ),
    "evaluators[0].status": (
        lambda value: {"evaluators": [{"evaluator_type": "e", "status": value}]},
        False,
    ),
}


class TestList:
    def test_setups_are_read(self) -> None:
        stream = stream_of(dump(stored(), stored(external_id="n")))
        assert names(stream) == ["m", "n"]
        assert stream.listing().unreadable == []

    @pytest.mark.parametrize("size", [1, 2, 3, 7, 100, 65_536])
    @pytest.mark.parametrize("body", [b"[]", b" [ ] \n", b"null", b"\n null "])
    def test_empty_list(self, body: bytes, size: int) -> None:
        assert names(stream_of(body, size)) == []

    @pytest.mark.parametrize("size", [1, 2, 3, 7, 100, 1_000])
    def test_body_may_arrive_in_pieces_of_any_size(self, size: int) -> None:
        """Also where a character, an escape, a number or a bracket in a text is cut in two."""
        setups = [
            stored(external_id="\N{PILE OF POO}é", created_at="]},[{"),
            stored(external_id='\\"', extra=[1.5e-3, 12345, True, None, {"a": []}]),
        ]
        body = json.dumps(setups, ensure_ascii=False, indent=1).encode() + b" \r\n"
        assert names(stream_of(body, size)) == ["\N{PILE OF POO}é", '\\"']

    def test_numbers_between_setups_are_ignored(self) -> None:
        body = dump(12345, stored(), 67890)
        for cut in range(1, len(body)):
            assert names(stream_of(body, cut)) == ["m"]

    def test_item_just_under_the_limit_is_read(self) -> None:
        long = stored(external_id="l", note="x" * (MIB - 2_000))
        assert names(stream_of(dump(stored(), long, stored(external_id="n")))) == ["m", "l", "n"]

    def test_item_over_the_limit_is_an_error(self) -> None:
        stream = ListStream()
        for _ in range(100):
            stream.feed(b'[{"note": "' if not stream.failed and _ == 0 else b"x" * 65_536)
        assert "longer than 1,048,576 characters" in str(stream.problem)

    @pytest.mark.parametrize("kind", OTHER_TYPES)
    @pytest.mark.parametrize("place", PLACES)
    def test_value_of_another_type_is_unreadable(self, place: str, kind: str) -> None:
        """It is named with its project, the place and the type; all others are read."""
        value, named = OTHER_TYPES[kind]
        put, null_is_fine = PLACES[place]
        if (value is None and null_is_fine) or (place == "init_rules[0]" and kind == "object"):
            pytest.skip("that can be read, or is wrong elsewhere")
        foreign = stored(external_id="f", env_project_id="theirs") | put(value)
        stream = stream_of(dump(stored(), foreign, stored(external_id="n")))
        assert names(stream) == ["m", "n"]
        (unreadable,) = stream.listing().unreadable
        assert unreadable.external_id == "f"
        assert unreadable.env_project_id == (None if place == "env_project_id" else "theirs")
        assert re.fullmatch(
            re.escape(place) + r" should be (a string|an object), but is " + named,
            unreadable.reason,
        )

    def test_with_a_number_as_external_id(self) -> None:
        """It may be one of ours that the service spells as a number."""
        (unreadable,) = stream_of(dump(stored(), stored(external_id=7))).listing().unreadable
        assert unreadable.external_id == "7"

    @pytest.mark.parametrize(
        "nameless", [{}, None, [], "x", 7, stored(external_id=None), stored(external_id="\ud800")]
    )
    def test_with_what_has_no_name(self, nameless: object) -> None:
        stream = stream_of(dump(nameless, stored(), nameless))
        assert names(stream) == ["m"]
        assert stream.listing().unreadable == []

    @pytest.mark.parametrize(
        ("body", "wrong"),
        [
            (b"{}", "no array"),
            (b"7", "invalid JSON, or cut off"),
            (b"", "invalid JSON, or cut off"),
            (b"nul", "invalid JSON, or cut off"),
            (b"[", "invalid JSON, or cut off"),
            (b"[,]", "invalid JSON, or cut off"),
            (b"[NaN]", "invalid JSON, or cut off"),
            (b"[1 2]", "invalid JSON"),
            (b"[1}", "invalid JSON"),
            (b"[1,", "invalid JSON, or cut off"),
            (b"[] x", "something follows the array"),
            (b"[1][2]", "something follows the array"),
            (b"\xff", "it is not UTF-8"),
            (b'["\xc3', "it is not UTF-8"),
            (b"[" * 100_000, "an item is nested too deeply"),
            (b"<html>" + b"x" * 100, "no array"),
            (b"[null]", "[0]"),
            (b"[{}]", "[0].id is missing"),
            (b'[{"id": "1"}]', "[0].external_id is missing"),
        ],
    )
    def test_of_nothing_that_is_a_setup(self, body: bytes, wrong: str) -> None:
        for size in (1, 65_536) if len(body) < 1_000 else (65_536,):
            stream = stream_of(body, size)
            assert stream.failed
            if wrong != "no array":  # short pieces may be "null" until they end
                assert (stream.problem or stream.wrong_item or "").startswith(wrong)

    def test_text_that_is_not_unicode_is_unreadable(self) -> None:
        """It could not be written to the state."""
        invalid = stored(external_id="o", init_rules=[{**RULE, "value": "\udcff"}])
        stream = stream_of(dump(stored(external_id="\N{PILE OF POO}"), invalid))
        assert names(stream) == ["\N{PILE OF POO}"]
        assert stream.listing().unreadable == [("o", "e", "it is no Unicode text")]

    def test_too_many_unreadable_items_are_an_error(self) -> None:
        invalid = stored(external_id="f", status=7)
        stream = stream_of(dump(*[invalid] * UNREADABLE_LIMIT))
        assert len(stream.listing().unreadable) == UNREADABLE_LIMIT
        stream = stream_of(dump(*[invalid] * (UNREADABLE_LIMIT + 1)))
        assert "status" in str(stream.wrong_item)


class TestOfOneProject:
    def test_has_one_setup_of_each_other(self) -> None:
        """That one can be asked for by its id, to find out whose project the key belongs to."""
        body = dump(
            *(stored(external_id=f"a{n}", env_project_id="a") for n in range(3)),
            stored(external_id="b0", env_project_id="b", status=7),
            *(stored(external_id=f"b{n}", env_project_id="b") for n in range(1, 4)),
            *(stored(external_id=f"c{n}", env_project_id="c", status=n) for n in range(3)),
            *(stored(external_id=f"mine{n}", env_project_id="mine") for n in range(2)),
            stored(external_id="of nobody", env_project_id=None),
            stored(external_id="of something", env_project_id=["x"]),
        )
        found = stream_of(body, of_project="mine")
        assert names(found) == ["a0", "b1", "mine0", "mine1", "of nobody"]
        assert "of something" in [each.external_id for each in found.listing().unreadable]

    def test_takes_memory_for_that_only(self) -> None:
        item = json.dumps(stored(env_project_id="theirs", note="x" * 2_000)).encode()
        stream = ListStream("mine")
        tracemalloc.start()
        try:
            stream.feed(b"[" + item)
            for _ in range(2_000):
                stream.feed(b"," + item)
            stream.feed(b"]")
            stream.feed(b"", last=True)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert len(names(stream)) == 1
        assert peak < MIB


class TestLimit:
    BIG = json.dumps([stored(note="x" * 1_000) for _ in range(2_000)]).encode()

    def test_is_named_with_the_size_and_the_setting(self) -> None:
        with (
            closing(Service(response(200, self.BIG))) as server,
            TraceloopClient(API_KEY, server.url, list_limit=MIB) as client,
            pytest.raises(MalformedResponseError) as caught,
        ):
            client.list_setups()
        said = str(caught.value)
        assert "should be at most 1 MiB, but is 3 MiB; to read more, run" in said
        assert "`pulumi config set traceloop:maxListSize 3`" in said
        assert "TRACELOOP_MAX_LIST_SIZE=3" in said
        assert len(server.requests) == 1

    def test_holds_for_what_is_uncompressed(self) -> None:
        packed = response(200, gzip.compress(self.BIG), {"Content-Encoding": "gzip"})
        with closing(Service(packed)) as server:
            limited = TraceloopClient(API_KEY, server.url, list_limit=MIB)
            with limited, pytest.raises(MalformedResponseError, match="1 MiB, but is larger; to"):
                limited.list_setups()
            with TraceloopClient(API_KEY, server.url) as client:
                assert len(client.list_setups().setups) == 2_000

    def test_is_a_setting(self) -> None:
        given = connection({"traceloop:apiKey": "key", "traceloop:maxListSize": "512"}.get, {})
        assert TraceloopClient.connect(given)._list_limit == 512 * MIB
        environment = {"TRACELOOP_API_KEY": "key", "TRACELOOP_MAX_LIST_SIZE": "0.5"}
        given = connection(dict[str, str]().get, environment)
        assert TraceloopClient.connect(given)._list_limit == MIB // 2

    @pytest.mark.parametrize("size", ["much", "0", "-1", "nan", "inf", "1 GiB"])
    def test_is_a_number(self, size: str) -> None:
        with pytest.raises(ConfigurationError, match=f'maxListSize must be .* not "{size}"'):
            connection({"traceloop:maxListSize": size}.get, {})
