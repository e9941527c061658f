"""What the client makes of responses, and what its errors say: `_client/_response.py`."""

from __future__ import annotations

import gzip
import re
from typing import TYPE_CHECKING, Any

import pytest

from pulumi_traceloop._client import TraceloopClient
from pulumi_traceloop._client._request import Request
from pulumi_traceloop._client._response import Response
from pulumi_traceloop._settings import Settings
from pulumi_traceloop.emulator import Emulator, Fault
from pulumi_traceloop.errors import (
    AuthenticationError,
    ConflictError,
    ConnectionFailedError,
    MalformedResponseError,
    NotFoundError,
    RejectedError,
    RequestError,
    TransportError,
)

if TYPE_CHECKING:
    pass
from tests.support import API_KEY
from tests.support.client import (
    ABSENT,
    CALLS,
    PAGE,
    SETUPS,
    SPEC,
    Call,
    Clients,
    Serve,
    stored,
)
from tests.support.service import SILENT, response, unused_port


class TestMalformedResponses:
    @pytest.mark.parametrize(
        ("body", "said"),
        [
            (PAGE, r'an HTML page, "502 Bad Gateway"; check the base URL \(traceloop:baseUrl\)'),
            (b"", "but is empty"),
            (b"OK", "but is OK"),
            (b'{"id": "1", "external_id": "m', r"EOF while parsing.*but is \{"),
            (b'"m"', 'but is "m"'),
            (b'{"status": "pending"}', r"a setup, but id is missing"),
            (b'{"id": 1, "external_id": "m"}', "but id should be a string, but is a number"),
            (b"[" * 100_000, "recursion"),
            (b"\x1b[31mred\x1b[0m", r"but is \[31mred \[0m"),
            (b"\xff\xfe", "but is"),
            (b'{"id": "1", "external_id": "n"}', "this setup, not another one"),
        ],
    )
    @pytest.mark.parametrize("call", [CALLS["get"], CALLS["upsert"]], ids=["get", "upsert"])
    def test_response_that_is_not_a_setup_is_quoted(
        self, client_of: Clients, serve: Serve, call: Call, body: bytes, said: str
    ) -> None:
        server = serve(response(200, body))
        with pytest.raises(MalformedResponseError, match=said) as caught:
            call.run(client_of(server.url))
        error = caught.value
        assert (error.status, error.external_id) == (200, "m")
        assert error.outcome_unknown
        assert len(server.requests) == 1
        assert len(str(error)) < 800
        assert str(error).isprintable()

    @pytest.mark.parametrize("body", [b"{}", b'[{"id": "1"}]', b"[null]", PAGE, b"[", b""])
    def test_response_that_is_not_a_list(
        self, client_of: Clients, serve: Serve, body: bytes
    ) -> None:
        with pytest.raises(MalformedResponseError, match="should be a list of setups"):
            client_of(serve(response(200, body)).url).list_setups()

    @pytest.mark.parametrize("body", [b"[]", b"{}", b'{"setups": null}', PAGE, b'{"setups": [{}]}'])
    def test_response_that_is_not_a_bulk_outcome(
        self, client_of: Clients, serve: Serve, body: bytes
    ) -> None:
        with pytest.raises(MalformedResponseError, match="should be one outcome per") as caught:
            client_of(serve(response(207, body)).url).bulk_upsert({"m": SPEC})
        assert caught.value.outcome_unknown

    def test_html_page_does_not_confirm_a_deletion(self, client_of: Clients, serve: Serve) -> None:
        with pytest.raises(MalformedResponseError, match="HTML page"):
            client_of(serve(response(200, PAGE)).url).delete_setup("m")

    @pytest.mark.parametrize("reply", [response(200), response(202, {"ok": True}), response(204)])
    def test_any_other_success_confirms_a_deletion(
        self, client_of: Clients, serve: Serve, reply: bytes
    ) -> None:
        assert client_of(serve(reply).url).delete_setup("m") is True

    @pytest.mark.parametrize("status", [404, 410])
    def test_404_or_410_of_the_api_means_absent(
        self, client_of: Clients, serve: Serve, status: int
    ) -> None:
        client = client_of(serve(response(status, ABSENT)).url)
        assert client.get_setup("m") is None
        assert client.delete_setup("m") is False

    @pytest.mark.parametrize("status", [404, 410])
    @pytest.mark.parametrize(
        "body",
        [
            PAGE,
            b"404 page not found\n",
            b'{"message": "no Route matched with those values"}',
            b'{"message": "no Route matched with those values", "error": null}',
            b'{"detail": "Not Found"}',
            b'["error"]',
            b'{"error": {"code": 5}}',
            b'{"error": "auto monitor setup',
            b"",
            b" \n",
        ],
    )
    def test_other_404_or_410_does_not_mean_absent(
        self, client_of: Clients, serve: Serve, body: bytes, status: int
    ) -> None:
        client = client_of(serve(response(status, body)).url)
        for call in (client.get_setup, client.delete_setup):
            with pytest.raises(NotFoundError, match="check the base URL") as caught:
                call("m")
            assert "does not respond as the Traceloop API: " in str(caught.value)
            assert not caught.value.outcome_unknown

    @pytest.mark.parametrize("kind", ["kong", "text", "html", "empty"])
    def test_gateway_does_not_confirm_a_deletion(
        self, emulator: Emulator, client_of: Clients, kind: Any
    ) -> None:
        client = client_of(emulator.url)
        client.upsert_setup("m", SPEC)
        emulator.inject(Fault(method="DELETE", status=404, body_kind=kind))
        with pytest.raises(NotFoundError, match="check the base URL"):
            client.delete_setup("m")
        assert list(emulator.setups) == ["m"]
        assert client.delete_setup("m") is True

    @pytest.mark.parametrize("name", ["upsert", "bulk"])
    def test_conflict_leaves_the_outcome_of_a_write_unknown(
        self, client_of: Clients, serve: Serve, name: str
    ) -> None:
        server = serve(response(409, {"error": "busy"}))
        with pytest.raises(ConflictError, match="busy") as caught:
            CALLS[name].run(client_of(server.url))
        assert caught.value.outcome_unknown
        assert len(server.requests) == 1

    def test_delete_is_repeated_after_a_conflict(self, client_of: Clients, serve: Serve) -> None:
        server = serve(response(409), response(409), response(204))
        assert client_of(server.url).delete_setup("m") is True
        assert len(server.requests) == 3

    def test_delete_with_lasting_conflicts_fails(self, client_of: Clients, serve: Serve) -> None:
        server = serve(response(409))
        with pytest.raises(ConflictError):
            client_of(server.url).delete_setup("m")
        assert len(server.requests) == 6

    @pytest.mark.parametrize("name", ["list", "upsert", "bulk"])
    def test_404_of_a_route_names_the_base_url(
        self, client_of: Clients, serve: Serve, name: str
    ) -> None:
        with pytest.raises(NotFoundError, match="check the base URL"):
            CALLS[name].run(client_of(serve(response(404, {"error": "not found"})).url))

    @pytest.mark.parametrize(
        ("body", "said"),
        [
            (b'{"error": "selector must have at least 1 filter"}', "selector must have at least 1"),
            (b'{"message": "quota"}', "quota"),
            (b'{"error": {"code": 7}}', r'\{"error": \{"code": 7\}\}'),
            (b'{"error": ""}', r'\{"error": ""\}'),
            (PAGE, 'an HTML page, "502 Bad Gateway"'),
            (b"<html><body>sorry</body></html>", "an HTML page"),
            (b"just\r\ntext \x1b[2J", r"just text \[2J"),
            (b"", "bad request"),
            (b"x" * 100_000, r"x{190}.*\.\.\."),
        ],
    )
    def test_error_quotes_the_service(
        self, client_of: Clients, serve: Serve, body: bytes, said: str
    ) -> None:
        server = serve(response(400, body))
        with pytest.raises(RejectedError, match=said) as caught:
            client_of(server.url).upsert_setup("a/b", SPEC)
        error = caught.value
        assert (error.method, error.path) == ("PUT", f"{SETUPS}/by-external-id/a%2Fb")
        assert (error.status, error.external_id) == (400, "a/b")
        assert str(error).startswith('setup "a/b": ')
        assert len(str(error)) < 800
        assert "<" not in str(error)

    @pytest.mark.parametrize("status", [401, 403])
    def test_rejected_key_names_the_setting(
        self, client_of: Clients, serve: Serve, status: int
    ) -> None:
        with pytest.raises(AuthenticationError, match=r"traceloop:apiKey.*TRACELOOP_API_KEY.*: no"):
            client_of(serve(response(status, {"error": "no"})).url).delete_setup("m")

    def test_body_is_read_up_to_a_limit(self, client_of: Clients, serve: Serve) -> None:
        bomb = gzip.compress(b" " * (65 * 1024 * 1024), compresslevel=1)
        server = serve(response(200, bomb, {"Content-Encoding": "gzip"}))
        with pytest.raises(MalformedResponseError, match="at most 64 MiB, but is larger"):
            client_of(server.url).spans(since=0, limit=1)

    def test_only_the_start_of_an_error_body_is_read(
        self, client_of: Clients, serve: Serve
    ) -> None:
        head = b"HTTP/1.1 400 Bad\r\nContent-Length: 9999999\r\n\r\n"
        with pytest.raises(RejectedError, match="xxx"):
            client_of(serve(head + b"x" * 300_000).url).upsert_setup("m", SPEC)

    @pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
    @pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
    def test_redirect_is_reported_and_not_followed(
        self, client_of: Clients, serve: Serve, call: Call, status: int
    ) -> None:
        elsewhere = serve(call.good)
        target = f"http://who:pw@127.0.0.1:{elsewhere.port}/login?token=t"
        server = serve(response(status, PAGE, {"Location": target}))
        with pytest.raises(RejectedError, match="check the base URL") as caught:
            call.run(client_of(server.url))
        assert f"redirects to http://127.0.0.1:{elsewhere.port}/login, " in str(caught.value)
        assert len(server.requests) == 1
        assert elsewhere.requests == []

    @pytest.mark.parametrize(
        ("location", "said"),
        [("/login", "to /login,"), ("http://[", "to an unusable URL,"), (None, "to nowhere,")],
    )
    def test_redirect_location_is_reported(
        self, client_of: Clients, serve: Serve, location: str | None, said: str
    ) -> None:
        server = serve(response(302, b"", {"Location": location} if location else {}))
        with pytest.raises(RejectedError, match=said):
            client_of(server.url).list_setups()


class TestLiberalReads:
    def test_unknown_fields_and_statuses_are_accepted(
        self, client_of: Clients, serve: Serve
    ) -> None:
        body = stored(status="hibernating", color=["red"], evaluators=None, init_rules=None)
        setup = client_of(serve(response(200, body)).url).get_setup("m")
        assert setup is not None
        assert (setup.status, setup.evaluators, setup.init_rules) == ("hibernating", [], [])

    def test_unreadable_setup_does_not_block_others(self, client_of: Clients, serve: Serve) -> None:
        body = [stored("a"), stored("b", status=7, env_project_id="p"), stored("c")]
        listing = client_of(serve(response(200, body)).url).list_setups()
        assert [setup.external_id for setup in listing.setups] == ["a", "c"]
        (unreadable,) = listing.unreadable
        assert unreadable == ("b", "p", "status should be a string, but is a number")

    def test_unreadable_setup_is_named_with_path_and_type(
        self, client_of: Clients, serve: Serve
    ) -> None:
        body = stored(init_rules=[{"key": "k", "value": "x"}, {"key": "k", "value": 4711}])
        with pytest.raises(MalformedResponseError) as caught:
            client_of(serve(response(200, body)).url).get_setup("m")
        assert str(caught.value).startswith(
            'setup "m": the response should be a setup, but init_rules[1].value should be a string,'
            " but is a number (HTTP 200)"
        )
        assert "4711" not in str(caught.value)

    def test_null_is_an_empty_list(self, client_of: Clients, serve: Serve) -> None:
        assert client_of(serve(response(200, b" null\n")).url).list_setups().setups == []


class TestMessages:
    def test_no_connection(self, client_of: Clients) -> None:
        port = unused_port()
        with pytest.raises(ConnectionFailedError) as caught:
            client_of(f"http://127.0.0.1:{port}/api").get_setup("m")
        assert re.fullmatch(
            rf'setup "m": cannot reach http://127\.0\.0\.1:{port}: connection refused'
            r" \(6 attempts in \d+ s\) \[GET /v2/auto-monitor-setups/m\]",
            str(caught.value),
        )
        assert caught.value.summary == (f"cannot reach http://127.0.0.1:{port}: connection refused")

    def test_no_response(self, client_of: Clients, serve: Serve) -> None:
        url = serve(SILENT).url
        with pytest.raises(TransportError, match=f"no response from {url}: read timed out "):
            client_of(url, read_timeout=0.02).upsert_setup("m", SPEC)

    @pytest.mark.parametrize(
        ("source", "name"),
        [
            ({}, r"traceloop:apiKey \(or TRACELOOP_API_KEY\): "),
            ({"apiKey": "traceloop:apiKey"}, "traceloop:apiKey: "),
            ({"apiKey": "TRACELOOP_API_KEY"}, "TRACELOOP_API_KEY: "),
        ],
    )
    def test_key_is_named_by_the_setting_that_is_set(
        self, client_of: Clients, serve: Serve, source: dict[str, str], name: str
    ) -> None:
        settings = Settings(sources=tuple(source.items()))
        url = serve(response(401, {"error": "Unauthorized"})).url
        with pytest.raises(
            AuthenticationError,
            match=f"{url} does not accept the API key; check {name}Unauthorized",
        ):
            client_of(url, settings=settings).list_setups()

    @pytest.mark.parametrize("stored_key", [True, False])
    def test_key_that_may_be_that_of_the_last_update(
        self, client_of: Clients, serve: Serve, stored_key: bool
    ) -> None:
        url = serve(response(401, {"error": "Unauthorized"})).url
        with pytest.raises(AuthenticationError) as caught:
            client_of(url, key_is_stored=lambda: stored_key).list_setups()
        assert ("use the key of the last `pulumi up`" in str(caught.value)) is stored_key
        assert ("--run-program" in str(caught.value)) is stored_key

    @pytest.mark.parametrize(
        ("source", "hint", "cure"),
        [
            ("TRACELOOP_BASE_URL", "Traceloop SDK sends spans to as well", "; traceloop:baseUrl"),
            ("traceloop:baseUrl", "", ""),
        ],
    )
    @pytest.mark.parametrize("name", ["list", "get", "upsert", "bulk", "delete"])
    def test_404_that_may_come_from_a_collector(
        self, client_of: Clients, serve: Serve, name: str, source: str, hint: str, cure: str
    ) -> None:
        url = serve(response(404, b"404 page not found")).url
        settings = Settings(sources=(("baseUrl", source),))
        with pytest.raises(NotFoundError) as caught:
            CALLS[name].run(client_of(url, settings=settings))
        text = str(caught.value)
        assert f"{url} does not respond as the Traceloop API: 404 page not found" in text
        assert f"check the base URL ({source})" in text
        assert ("OpenTelemetry collector" in text) is bool(hint)
        assert hint in text
        assert cure in text

    @pytest.mark.parametrize("port", [4317, 4318])
    def test_port_of_a_collector(self, port: int) -> None:
        with TraceloopClient(API_KEY, f"http://127.0.0.1:{port}", sleep=lambda _: None) as client:
            missing = Response(404, {}, b"404 page not found", 18)
            request = Request("GET", SETUPS)
            error = client._reader.error(request, missing)
        assert f"port {port} is usually an OpenTelemetry collector's" in str(error)

    @pytest.mark.parametrize("status", [200, 404, 500])
    def test_request_id_for_support(self, client_of: Clients, serve: Serve, status: int) -> None:
        reply = response(status, PAGE, {"X-Kong-Request-Id": "3f2a9c"})
        with pytest.raises(RequestError) as caught:
            client_of(serve(reply).url).get_setup("m")
        assert caught.value.request_id == "3f2a9c"
        assert "request 3f2a9c)" in str(caught.value)
        # The summary is the same for all similar failures.
        assert "3f2a9c" not in caught.value.summary

    @pytest.mark.parametrize("value", ["", "a b", "x" * 65, "\x1b[31m", "é"])
    def test_malformed_request_id_is_dropped(
        self, client_of: Clients, serve: Serve, value: str
    ) -> None:
        reply = response(400, {"error": "no"}, {"X-Kong-Request-Id": value})
        with pytest.raises(RequestError) as caught:
            client_of(serve(reply).url).upsert_setup("m", SPEC)
        assert caught.value.request_id is None

    def test_request_id_that_is_the_key_is_dropped(self, client_of: Clients, serve: Serve) -> None:
        reply = response(400, {"error": "no"}, {"X-Kong-Request-Id": API_KEY})
        with pytest.raises(RequestError) as caught:
            client_of(serve(reply).url).upsert_setup("m", SPEC)
        assert API_KEY not in f"{caught.value} {vars(caught.value)}"
