"""The client's calls, against the emulator and a scripted service: `_client/__init__.py`."""

from __future__ import annotations

import json
import logging
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from pulumi_traceloop._client import BULK_LIMIT, BulkOutcome, TraceloopClient
from pulumi_traceloop._settings import DEFAULT_BASE_URL
from pulumi_traceloop.emulator import Emulator, Fault
from pulumi_traceloop.emulator.routes import BULK_ROUTE, UPSERT_ROUTE
from pulumi_traceloop.errors import (
    AuthenticationError,
    ConfigurationError,
    NotFoundError,
    RejectedError,
    RequestError,
    ServerError,
)

if TYPE_CHECKING:
    pass
from tests.support import API_KEY
from tests.support.client import (
    ABSENT,
    CALLS,
    OK_BULK,
    SPEC,
    Clients,
    Serve,
    stored,
)
from tests.support.service import Received, response


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    with Emulator(api_key=API_KEY, base_path="/api") as emulator:
        yield emulator


class TestCalls:
    def test_upsert_creates_then_replaces(self, emulator: Emulator, client_of: Clients) -> None:
        client = client_of(emulator.url)
        created = client.upsert_setup("m", SPEC)
        assert created.definition == SPEC.definition
        changed = replace(SPEC, evaluators=["word-count"])
        assert client.upsert_setup("m", changed).id == created.id
        assert emulator.writes == {"m": 2}

    def test_get_returns_the_setup(self, emulator: Emulator, client_of: Clients) -> None:
        client = client_of(emulator.url)
        client.upsert_setup("m", SPEC)
        setup = client.get_setup("m")
        assert setup is not None
        assert (setup.external_id, setup.definition) == ("m", SPEC.definition)

    def test_get_returns_none_for_an_unknown_setup(
        self, emulator: Emulator, client_of: Clients
    ) -> None:
        assert client_of(emulator.url).get_setup("m") is None

    def test_list_returns_all_setups(self, emulator: Emulator, client_of: Clients) -> None:
        client = client_of(emulator.url)
        assert client.list_setups().setups == []
        client.bulk_upsert({"a": SPEC, "b": SPEC})
        assert {setup.external_id for setup in client.list_setups().setups} == {"a", "b"}

    def test_list_filters_by_external_id_and_status(
        self, emulator: Emulator, client_of: Clients
    ) -> None:
        client = client_of(emulator.url)
        client.bulk_upsert({"a&b=c": SPEC, "b": SPEC})
        emulator.force_status("b", "failed")
        by_id = client.list_setups(external_id="a&b=c").setups
        assert [setup.external_id for setup in by_id] == ["a&b=c"]
        by_status = client.list_setups(status="failed").setups
        assert [setup.external_id for setup in by_status] == ["b"]

    def test_delete_returns_whether_the_setup_existed(
        self, emulator: Emulator, client_of: Clients
    ) -> None:
        client = client_of(emulator.url)
        client.upsert_setup("m", SPEC)
        assert client.delete_setup("m") is True
        assert client.delete_setup("m") is False
        assert emulator.setups == {}

    def test_bulk_has_one_outcome_per_setup(self, emulator: Emulator, client_of: Clients) -> None:
        specs = {f"m{n}": SPEC for n in range(BULK_LIMIT)}
        emulator.inject(Fault(item_error={"m7": 'unknown evaluator slug "x"'}))
        outcome = client_of(emulator.url).bulk_upsert(specs)
        assert outcome.refused == {"m7": 'unknown evaluator slug "x"'}
        assert set(outcome.stored) == set(specs) - {"m7"} == set(emulator.setups)
        assert outcome.outcome_unknown == {}

    @pytest.mark.parametrize(
        "external_id", ["a/b", "%2F", "50%", "a b", "~é漢🙂", "?#:&=+", "a/../b"]
    )
    def test_any_external_id_survives_the_round_trip(
        self, emulator: Emulator, client_of: Clients, external_id: str
    ) -> None:
        client = client_of(emulator.url)
        client.upsert_setup(external_id, SPEC)
        assert list(emulator.setups) == [external_id]
        setup = client.get_setup(external_id)
        assert setup is not None
        assert setup.external_id == external_id
        assert client.delete_setup(external_id) is True

    def test_rejected_key_names_the_setting(self, emulator: Emulator, client_of: Clients) -> None:
        client = client_of(emulator.url, api_key="tl-another-key")
        with pytest.raises(
            AuthenticationError, match=r"does not accept the API key.*traceloop:apiKey"
        ):
            client.list_setups()

    def test_threads_share_a_client_and_its_connections(
        self, emulator: Emulator, client_of: Clients, caplog: pytest.LogCaptureFixture
    ) -> None:
        client = client_of(emulator.url, pool_size=8)
        names = [f"m{n}" for n in range(64)]
        with ThreadPoolExecutor(8) as pool:
            setups = list(pool.map(lambda name: client.upsert_setup(name, SPEC), names))
            read = list(pool.map(client.get_setup, names))
        assert [setup.external_id for setup in setups] == names
        assert [setup and setup.external_id for setup in read] == names
        assert emulator.writes == dict.fromkeys(names, 1)
        # urllib3 warns of a connection that the pool has no room for.
        assert [record for record in caplog.records if record.levelno > logging.DEBUG] == []


class TestBulk:
    def bulk(
        self, client_of: Clients, serve: Serve, items: list[dict[str, Any]], *names: str
    ) -> BulkOutcome:
        server = serve(response(207, {"setups": items}))
        return client_of(server.url).bulk_upsert(dict.fromkeys(names, SPEC))

    def ok(self, external_id: str, **more: object) -> dict[str, Any]:
        return {"external_id": external_id, "status": "ok", "result": stored(external_id, **more)}

    def error(self, external_id: str, message: str) -> dict[str, Any]:
        return {"external_id": external_id, "status": "error", "error": message}

    def test_items_are_matched_by_external_id(self, client_of: Clients, serve: Serve) -> None:
        items = [self.ok("c"), self.error("a", "setups[0]: no"), self.ok("b")]
        outcome = self.bulk(client_of, serve, items, "a", "b", "c")
        assert {key: value.external_id for key, value in outcome.stored.items()} == {
            "b": "b",
            "c": "c",
        }
        assert outcome.refused == {"a": "no"}

    def test_omitted_item_has_an_unknown_outcome(self, client_of: Clients, serve: Serve) -> None:
        outcome = self.bulk(client_of, serve, [self.ok("b")], "a", "b")
        assert outcome.outcome_unknown == {"a": "the service's response leaves it out"}
        assert list(outcome.stored) == ["b"]

    def test_shortened_and_reordered_response_of_the_emulator(
        self, emulator: Emulator, client_of: Clients
    ) -> None:
        emulator.inject(Fault(reorder=True, shorten=1))
        outcome = client_of(emulator.url).bulk_upsert(dict.fromkeys("abcd", SPEC))
        assert len(outcome.stored) == 3
        assert set(outcome.stored) | set(outcome.outcome_unknown) == set("abcd")
        assert all(key == value.external_id for key, value in outcome.stored.items())

    def test_unreadable_item_has_an_unknown_outcome(self, client_of: Clients, serve: Serve) -> None:
        items = [self.ok("a"), self.ok("b", created_at=True), {"external_id": None}, self.ok("c")]
        outcome = self.bulk(client_of, serve, items, "a", "b", "c")
        assert list(outcome.stored) == ["a", "c"]
        assert outcome.outcome_unknown == {
            "b": "its response cannot be read: result.created_at should be a string, but is a"
            " boolean"
        }

    def test_unrequested_item_is_ignored(self, client_of: Clients, serve: Serve) -> None:
        outcome = self.bulk(client_of, serve, [self.ok("x"), self.ok("a")], "a")
        assert (list(outcome.stored), outcome.refused, outcome.outcome_unknown) == (["a"], {}, {})

    def test_last_of_two_items_for_one_setup_counts(self, client_of: Clients, serve: Serve) -> None:
        items = [self.error("a", "no"), self.ok("a", status="failed"), self.ok("a")]
        outcome = self.bulk(client_of, serve, items, "a")
        assert outcome.stored["a"].status == "unknown"
        assert outcome.refused == {}

    @pytest.mark.parametrize(
        ("message", "expected"),
        [
            ('setups[1]: unknown evaluator slug "x"', 'unknown evaluator slug "x"'),
            ("setups[1]:no", "no"),
            ("no index", "no index"),
            ("setups[0]: duplicate (also at setups[1])", 'duplicate (also at setup "b")'),
            ("setups[1]: see setups[7]", "see another setup"),
            ("setups[1]: see setups[%s]" % ("9" * 5000), "see another setup"),
            ("setups[1]: \x1b[31mred\n", "[31mred"),
        ],
    )
    def test_message_has_no_index(
        self, client_of: Clients, serve: Serve, message: str, expected: str
    ) -> None:
        outcome = self.bulk(client_of, serve, [self.error("b", message), self.ok("a")], "a", "b")
        assert outcome.refused == {"b": expected}

    @pytest.mark.parametrize("message", ["setups[0]: internal error", "Internal server error."])
    def test_internal_error_leaves_the_outcome_unknown(
        self, client_of: Clients, serve: Serve, message: str
    ) -> None:
        outcome = self.bulk(client_of, serve, [self.error("a", message)], "a")
        assert outcome.refused == {}
        assert outcome.outcome_unknown["a"].lower().startswith("internal")

    @pytest.mark.parametrize(
        ("item", "why"),
        [
            ({"status": "ok"}, '"ok" and nothing else'),
            ({"status": "ok", "result": None}, '"ok" and nothing else'),
            ({"status": "error"}, '"error" and nothing else'),
            ({"status": "error", "result": stored("a")}, '"error" and nothing else'),
            ({"status": "queued"}, '"queued" and nothing else'),
            ({"status": "ok", "result": stored("z")}, 'has setup "z" instead'),
        ],
    )
    def test_ambiguous_item_has_an_unknown_outcome(
        self, client_of: Clients, serve: Serve, item: dict[str, Any], why: str
    ) -> None:
        outcome = self.bulk(client_of, serve, [{"external_id": "a", **item}], "a")
        assert why in outcome.outcome_unknown["a"]
        assert (outcome.stored, outcome.refused) == ({}, {})

    def test_refused_batch_names_setups_instead_of_indices(
        self, client_of: Clients, serve: Serve
    ) -> None:
        message = 'setups[1]: duplicate external_id "b" (also at setups[0])'
        client = client_of(serve(response(400, {"error": message})).url)
        with pytest.raises(RejectedError) as caught:
            client.bulk_upsert(dict.fromkeys("ab", SPEC))
        assert caught.value.server_message == 'duplicate external_id "b" (also at setup "a")'
        assert caught.value.external_id is None
        assert not caught.value.outcome_unknown

    @pytest.mark.parametrize("count", [0, BULK_LIMIT + 1])
    def test_batch_of_an_invalid_size_is_not_sent(
        self, client_of: Clients, serve: Serve, count: int
    ) -> None:
        server = serve(OK_BULK)
        with pytest.raises(ValueError, match=f"takes 1 to 100 setups, not {count}"):
            client_of(server.url).bulk_upsert({f"m{n}": SPEC for n in range(count)})
        assert server.requests == []


MISSING = {
    "gateway": response(404, {"message": "no Route matched with those values"}),
    "text": response(404, b"404 page not found\n"),
    "empty": response(404),
    "method": response(405, {"error": "method not allowed"}),
}


def lacking(route: str, reply: bytes = MISSING["gateway"]) -> Callable[[Received], bytes]:
    """Return the responses of a service without the route "PUT" or "POST", or without both: "P"."""

    def respond(request: Received) -> bytes:
        line, _, body = request
        if line.startswith(route):
            return reply
        if line.startswith("PUT"):
            return response(200, stored(line.split(" ")[1].rpartition("/")[2]))
        items = [
            {"external_id": s["external_id"], "status": "ok", "result": stored(s["external_id"])}
            for s in json.loads(body)["setups"]
        ]
        return response(207, {"setups": items})

    return respond


class TestMissingRoutes:
    """Writes need either of the two upsert routes."""

    @pytest.mark.parametrize("reply", MISSING.values(), ids=MISSING)
    def test_upserts_switch_to_the_bulk_route(
        self, client_of: Clients, serve: Serve, reply: bytes
    ) -> None:
        server = serve(lacking("PUT", reply))
        client = client_of(server.url)
        assert [client.upsert_setup(i, SPEC).external_id for i in "ab"] == ["a", "b"]
        assert [r.line.split(" ")[0] for r in server.requests] == ["PUT", "POST", "POST"]
        assert json.loads(server.requests[1].body) == {
            "setups": [{"external_id": "a", **SPEC.request_body()}]
        }

    @pytest.mark.parametrize("reply", MISSING.values(), ids=MISSING)
    def test_batches_switch_to_single_upserts(
        self, client_of: Clients, serve: Serve, reply: bytes
    ) -> None:
        server = serve(lacking("POST", reply))
        client = client_of(server.url)
        for _ in range(2):
            assert list(client.bulk_upsert(dict.fromkeys("ab", SPEC)).stored) == ["a", "b"]
        methods = [r.line.split(" ")[0] for r in server.requests]
        assert methods == ["POST", "PUT", "PUT", "PUT", "PUT"]

    @pytest.mark.parametrize("name", ["upsert", "bulk"])
    def test_service_with_neither_route_is_not_found(
        self, client_of: Clients, serve: Serve, name: str
    ) -> None:
        server = serve(lacking("P"))
        client = client_of(server.url)
        for _ in range(2):
            with pytest.raises(NotFoundError, match="check the base URL") as caught:
                CALLS[name].run(client)
            assert not caught.value.outcome_unknown
        methods = [r.line.split(" ")[0] for r in server.requests]
        assert methods == (["PUT", "POST"] if name == "upsert" else ["POST", "PUT"]) * 2

    def test_404_of_the_api_is_not_a_missing_route(self, client_of: Clients, serve: Serve) -> None:
        server = serve(response(404, ABSENT), OK_BULK)
        with pytest.raises(NotFoundError, match="not found"):
            client_of(server.url).upsert_setup("m", SPEC)
        assert len(server.requests) == 1

    @pytest.mark.parametrize(
        ("item", "error"),
        [
            ({"status": "error", "error": "setups[0]: no such evaluator"}, RejectedError),
            ({"status": "error", "error": "setups[0]: internal error"}, ServerError),
            ({"status": "ok", "result": stored(status=7)}, ServerError),
        ],
    )
    def test_upsert_over_the_bulk_route_fails_as_its_item_does(
        self, client_of: Clients, serve: Serve, item: dict[str, Any], error: type[RequestError]
    ) -> None:
        reply = response(207, {"setups": [{"external_id": "m", **item}]})
        with pytest.raises(error, match=r'^setup "m": ') as caught:
            client_of(serve(MISSING["text"], reply).url).upsert_setup("m", SPEC)
        assert caught.value.outcome_unknown == (error is ServerError)
        assert "setups[0]" not in str(caught.value)

    def test_refused_batch_of_one_names_the_setup(self, client_of: Clients, serve: Serve) -> None:
        server = serve(MISSING["text"], response(400, {"error": "setups[0]: bad"}))
        with pytest.raises(RejectedError, match=r'^setup "m": bad'):
            client_of(server.url).upsert_setup("m", SPEC)

    def test_single_upserts_have_one_outcome_each(self, client_of: Clients, serve: Serve) -> None:
        server = serve(
            MISSING["text"],
            response(200, stored("a")),
            response(400, {"error": "no filter"}),
            response(503, {"error": "down"}),
            response(201, stored("d")),
        )
        outcome = client_of(server.url).bulk_upsert(dict.fromkeys("abcd", SPEC))
        assert list(outcome.stored) == ["a", "d"]
        assert outcome.refused == {"b": "no filter (HTTP 400)"}
        assert outcome.outcome_unknown == {"c": "down (HTTP 503)"}

    @pytest.mark.parametrize("route", [UPSERT_ROUTE, BULK_ROUTE])
    def test_one_of_the_two_routes_is_enough(
        self, emulator: Emulator, client_of: Clients, route: str
    ) -> None:
        emulator.inject(Fault(route=route, status=404, body_kind="text", times=None))
        client = client_of(emulator.url)
        client.upsert_setup("a", SPEC)
        client.bulk_upsert(dict.fromkeys("bc", SPEC))
        assert emulator.writes == {"a": 1, "b": 1, "c": 1}


class TestConfiguration:
    def test_public_service_is_the_default(self) -> None:
        assert DEFAULT_BASE_URL == "https://api.traceloop.com"
        with TraceloopClient(API_KEY) as client:
            assert DEFAULT_BASE_URL in repr(client)

    @pytest.mark.parametrize(
        ("key", "said"),
        [
            ("", "is empty"),
            (" \n", "is empty"),
            ("tl-secret\n", "contains a space or a line break"),
            ("tl secret", "contains a space or a line break"),
            ("tl-secret\x00", "contains a character that no HTTP header can carry"),
            ("tl-secret…", "contains a character that no HTTP header can carry"),
        ],
    )
    def test_invalid_key_is_reported_without_the_key(self, key: str, said: str) -> None:
        with pytest.raises(ConfigurationError, match=f"key {said}.*traceloop:apiKey") as caught:
            TraceloopClient(key)
        assert "secret" not in str(caught.value).replace("--secret", "")

    @pytest.mark.parametrize(
        ("url", "said"),
        [
            ("", "must begin with https://"),
            ("api.traceloop.com", "must begin with https://"),
            ("localhost:8080", "must begin with https://"),
            ("ftp://api.traceloop.com", "must begin with https://"),
            ("https://", "has no host name"),
            ("https:///v2", "has no host name"),
            ("https://:443", "has no host name"),
            ("https://api.traceloop.com/ ", "a space or a control character"),
            ("https://api.traceloop.com\n", "a space or a control character"),
            ("https://api.traceloop.com?pw=hunter2", "a query or a fragment"),
            ("https://api.traceloop.com/#", "a query or a fragment"),
            ("https://api.traceloop.com:99999", "is not a valid URL"),
            ("https://api.traceloop.com:0", "has an unusable port"),
            ("https://api.traceloop.com:hunter2", "is not a valid URL"),
            ("https://[::1", "is not a valid URL"),
            ("https://*.traceloop.com", "is not a valid URL"),
            ("https://me:hunter2@api.traceloop.com", "a user name or password"),
            ("https://hunter2@api.traceloop.com", "a user name or password"),
        ],
    )
    def test_invalid_base_url_is_reported_without_its_password(self, url: str, said: str) -> None:
        with pytest.raises(ConfigurationError, match=f"traceloop:baseUrl.* {said}") as caught:
            TraceloopClient(API_KEY, url)
        assert "hunter2" not in "".join(traceback.format_exception(caught.value))

    @pytest.mark.parametrize(
        "url",
        [
            "http://[::1]:8080",
            "HTTPS://Example.COM",
            "https://a.example/b/c//",
            "http://127.0.0.2:1",
        ],
    )
    def test_valid_base_url(self, url: str) -> None:
        TraceloopClient(API_KEY, url).close()
