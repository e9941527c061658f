"""What the client sends, byte by byte, and how it connects: `_client/_transport.py`."""

from __future__ import annotations

import gc
import gzip
import json
import re
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from pulumi_traceloop.errors import (
    ConnectionFailedError,
    RejectedError,
)

if TYPE_CHECKING:
    from pathlib import Path
from tests.support import API_KEY
from tests.support.client import (
    ABSENT,
    OK_BULK,
    SETUPS,
    SPEC,
    Clients,
    Serve,
    stored,
)
from tests.support.service import response


class TestRequests:
    @pytest.mark.parametrize(
        ("external_id", "encoded"),
        [
            ("plain-1_2.3~4", "plain-1_2.3~4"),
            ("a/b", "a%2Fb"),
            ("a%2Fb", "a%252Fb"),
            ("%", "%25"),
            ("%7E", "%257E"),
            ("a b", "a%20b"),
            ("a+b", "a%2Bb"),
            ("x:y", "x%3Ay"),
            ("?q=1&r", "%3Fq%3D1%26r"),
            ("#f", "%23f"),
            ("é", "%C3%A9"),
            ("🙂", "%F0%9F%99%82"),
            ("../..", "..%2F.."),
            ("...", "..."),
            ("//", "%2F%2F"),
            ("\\", "%5C"),
            ("a\r\nX: y", "a%0D%0AX%3A%20y"),
            (
                "[{|}]^`\"<>'()*!$,;=@",
                "%5B%7B%7C%7D%5D%5E%60%22%3C%3E%27%28%29%2A%21%24%2C%3B%3D%40",
            ),
        ],
    )
    def test_external_id_is_one_encoded_path_segment(
        self, client_of: Clients, serve: Serve, external_id: str, encoded: str
    ) -> None:
        good = response(200, stored(external_id))
        server = serve(good, good, response(204))
        client = client_of(f"{server.url}/api/")
        client.get_setup(external_id)
        client.upsert_setup(external_id, SPEC)
        client.delete_setup(external_id)
        assert [request.line for request in server.requests] == [
            f"GET /api{SETUPS}/{encoded} HTTP/1.1",
            f"PUT /api{SETUPS}/by-external-id/{encoded} HTTP/1.1",
            f"DELETE /api{SETUPS}/{encoded} HTTP/1.1",
        ]

    @pytest.mark.parametrize("external_id", [".", "..", "", "  ", "\ud800"])
    def test_external_id_that_no_path_can_carry_is_not_sent(
        self, client_of: Clients, serve: Serve, external_id: str
    ) -> None:
        server = serve(response(500))
        client = client_of(server.url)
        calls: list[Callable[[], object]] = [
            lambda: client.get_setup(external_id),
            lambda: client.delete_setup(external_id),
            lambda: client.upsert_setup(external_id, SPEC),
        ]
        for call in calls:
            with pytest.raises(RejectedError, match="the external_id must") as caught:
                call()
            assert not caught.value.outcome_unknown
        assert list(client.bulk_upsert({external_id: SPEC}).refused) == [external_id]
        assert server.requests == []

    def test_bulk_request_omits_ids_that_no_path_can_carry(
        self, client_of: Clients, serve: Serve
    ) -> None:
        server = serve(OK_BULK)
        outcome = client_of(server.url).bulk_upsert({"..": SPEC, "m": SPEC})
        assert (list(outcome.refused), list(outcome.stored)) == ([".."], ["m"])
        sent = json.loads(server.requests[0].body)
        assert [item["external_id"] for item in sent["setups"]] == ["m"]

    def test_filters_are_encoded(self, client_of: Clients, serve: Serve) -> None:
        server = serve(response(200, []))
        client_of(server.url).list_setups(status="failed", external_id="a&b#é")
        assert server.requests[0].line == (
            f"GET {SETUPS}?status=failed&external_id=a%26b%23%C3%A9 HTTP/1.1"
        )

    def test_list_without_filters_has_no_query(self, client_of: Clients, serve: Serve) -> None:
        server = serve(response(200, []))
        client_of(server.url).list_setups()
        assert server.requests[0].line == f"GET {SETUPS} HTTP/1.1"

    def test_headers_of_a_write(self, client_of: Clients, serve: Serve) -> None:
        server = serve(response(200, stored()))
        client_of(server.url).upsert_setup("m", SPEC)
        headers = server.requests[0].headers
        assert headers["authorization"] == f"Bearer {API_KEY}"
        assert re.fullmatch(r"pulumi-traceloop(/\d[\w.+]*)?", headers["user-agent"])
        assert headers["accept"] == "application/json"
        assert "gzip" in headers["accept-encoding"]
        assert headers["content-type"] == "application/json"

    def test_upsert_sends_the_spec(self, client_of: Clients, serve: Serve) -> None:
        server = serve(response(200, stored()))
        client_of(server.url).upsert_setup("m", SPEC)
        assert json.loads(server.requests[0].body) == SPEC.request_body()

    def test_bulk_upsert_sends_specs_with_external_ids(
        self, client_of: Clients, serve: Serve
    ) -> None:
        server = serve(OK_BULK)
        client_of(server.url).bulk_upsert({"m": SPEC, "é/": SPEC})
        assert server.requests[0].line == f"POST {SETUPS}/bulk HTTP/1.1"
        assert json.loads(server.requests[0].body) == {
            "setups": [
                {"external_id": "m", **SPEC.request_body()},
                {"external_id": "é/", **SPEC.request_body()},
            ]
        }

    def test_one_connection_serves_many_calls(self, client_of: Clients, serve: Serve) -> None:
        chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        setup = json.dumps(stored()).encode()
        chunked += b"%x\r\n%b\r\n0\r\n\r\n" % (len(setup), setup)
        packed = response(200, gzip.compress(setup), {"Content-Encoding": "gzip"})
        server = serve(
            response(200, stored()), chunked, packed, response(404, ABSENT), response(204)
        )
        client = client_of(server.url)
        for _ in range(3):
            assert client.get_setup("m") is not None
        assert client.get_setup("m") is None
        assert client.delete_setup("m") is True
        assert len(server.requests) == 5
        assert server.connections == 1

    def test_cookies_are_not_sent_back(self, client_of: Clients, serve: Serve) -> None:
        server = serve(response(200, [], {"Set-Cookie": "a=b; Path=/"}))
        client = client_of(server.url)
        client.list_setups()
        client.list_setups()
        assert "cookie" not in server.requests[1].headers

    def test_netrc_does_not_replace_the_key(
        self, client_of: Clients, serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        netrc = tmp_path / "netrc"
        netrc.write_text("machine 127.0.0.1 login someone password else\n")
        monkeypatch.setenv("NETRC", str(netrc))
        server = serve(response(200, []))
        client_of(server.url).list_setups()
        assert server.requests[0].headers["authorization"] == f"Bearer {API_KEY}"

    def test_proxy_of_the_environment_is_used(
        self, client_of: Clients, serve: Serve, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        proxy = serve(response(200, stored("a/b")))
        monkeypatch.setenv("http_proxy", proxy.url)
        client_of("http://traceloop.invalid/api", allow_http=True).get_setup("a/b")
        assert proxy.requests[0].line == (
            f"GET http://traceloop.invalid/api{SETUPS}/a%2Fb HTTP/1.1"
        )

    def test_no_proxy_is_respected(
        self, client_of: Clients, serve: Serve, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        proxy, server = serve(response(500)), serve(response(200, []))
        monkeypatch.setenv("http_proxy", proxy.url)
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        assert client_of(server.url).list_setups().setups == []
        assert proxy.requests == []

    # Python 3.10's http.client leaves a refused tunnel to the garbage collector, which warns.
    @pytest.mark.filterwarnings("ignore::ResourceWarning")
    def test_proxy_that_refuses_the_tunnel_does_not_see_the_key(
        self, client_of: Clients, serve: Serve, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        proxy = serve(response(407, b"", {"Connection": "close"}))
        monkeypatch.setenv("https_proxy", proxy.url)
        with pytest.raises(ConnectionFailedError, match=r"proxy.*407"):
            client_of("https://traceloop.invalid").upsert_setup("m", SPEC)
        assert proxy.requests[0].line.startswith("CONNECT traceloop.invalid:443 ")
        assert "authorization" not in proxy.requests[0].headers
        gc.collect()
