"""What protects the API key and the terminal."""

from __future__ import annotations

import json
import logging
import re
import traceback
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from pulumi_traceloop._client import TraceloopClient
from pulumi_traceloop._settings import Settings
from pulumi_traceloop.emulator import Emulator
from pulumi_traceloop.errors import (
    AuthenticationError,
    ConfigurationError,
    ConnectionFailedError,
    NotFoundError,
    RejectedError,
    RequestError,
    TransportError,
)

if TYPE_CHECKING:
    from pathlib import Path
import ast
import socket
import ssl
from pathlib import Path

import trustme

import pulumi_traceloop
from pulumi_traceloop._plan import Change, ResourcePlan, lines
from pulumi_traceloop.emulator.__main__ import _parser
from tests.support import API_KEY
from tests.support.client import (
    CALLS,
    SPEC,
    Call,
    Clients,
    Serve,
)
from tests.support.clock import Clock
from tests.support.service import Proxy, response, unused_port

pytestmark = pytest.mark.usefixtures("plain_environment")

EMPTY_LIST = response(200, [])
PACKAGE = Path(pulumi_traceloop.__file__).parent


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def bundle(authority: trustme.CA, tmp_path: Path) -> str:
    path = tmp_path / "authority.pem"
    authority.cert_pem.write_to_path(str(path))
    return str(path)


def certificate(authority: trustme.CA, name: str = "localhost") -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    return context


def ask(url: str) -> object:
    with TraceloopClient(API_KEY, url, deadline=3.0, sleep=lambda _: None) as client:
        return client.list_setups().setups


class TestCertificates:
    @pytest.mark.parametrize(
        "environment",
        [
            {},
            {"REQUESTS_CA_BUNDLE": ""},
            {"CURL_CA_BUNDLE": ""},
            {"REQUESTS_CA_BUNDLE": "", "CURL_CA_BUNDLE": ""},
            {"PYTHONHTTPSVERIFY": "0"},
        ],
        ids=str,
    )
    def test_unknown_authority_is_rejected_in_any_environment(
        self,
        authority: trustme.CA,
        serve: Serve,
        monkeypatch: pytest.MonkeyPatch,
        environment: dict[str, str],
    ) -> None:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        server = serve(EMPTY_LIST, tls=certificate(authority))
        with pytest.raises(ConnectionFailedError, match=r"not trusted.*set REQUESTS_CA_BUNDLE"):
            ask(f"https://localhost:{server.port}")
        assert server.raw == b""

    @pytest.mark.parametrize("word", ["0", "false", "no"])
    def test_bundle_is_a_file_and_not_a_switch(
        self, authority: trustme.CA, serve: Serve, monkeypatch: pytest.MonkeyPatch, word: str
    ) -> None:
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", word)
        server = serve(EMPTY_LIST, tls=certificate(authority))
        with pytest.raises(ConnectionFailedError, match="bundle"):
            ask(f"https://localhost:{server.port}")
        assert server.raw == b""

    @pytest.mark.parametrize("variable", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
    def test_private_authority_of_the_environment_is_trusted(
        self,
        authority: trustme.CA,
        serve: Serve,
        bundle: str,
        monkeypatch: pytest.MonkeyPatch,
        variable: str,
    ) -> None:
        monkeypatch.setenv(variable, bundle)
        server = serve(EMPTY_LIST, tls=certificate(authority))
        assert ask(f"https://localhost:{server.port}") == []
        assert f"Authorization: Bearer {API_KEY}".encode() in server.raw

    def test_certificate_of_another_host_is_rejected(
        self,
        authority: trustme.CA,
        serve: Serve,
        bundle: str,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", bundle)
        server = serve(EMPTY_LIST, tls=certificate(authority, "other.example"))
        with pytest.raises(ConnectionFailedError, match="not trusted"):
            ask(f"https://localhost:{server.port}")
        assert server.raw == b""

    def test_dripping_response_over_tls_ends_at_the_deadline(
        self,
        authority: trustme.CA,
        serve: Serve,
        bundle: str,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", bundle)
        server = serve(b"HTTP/1.1 200 OK\r\n", tls=certificate(authority))
        url = f"https://localhost:{server.port}"
        with (
            TraceloopClient(API_KEY, url, deadline=4.0, clock=Clock(tick=1.0)) as client,
            pytest.raises(TransportError, match="did not come in time"),
        ):
            client.delete_setup("m")


class TestProxies:
    def test_proxy_tunnels_tls_and_never_sees_the_key(
        self,
        authority: trustme.CA,
        serve: Serve,
        bundle: str,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        server = serve(EMPTY_LIST, tls=certificate(authority, "traceloop.invalid"))
        with Proxy(server.port) as proxy:
            monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.port}")
            monkeypatch.setenv("REQUESTS_CA_BUNDLE", bundle)
            assert ask("https://traceloop.invalid") == []
        assert API_KEY.encode() in server.raw
        (connect,) = proxy.requests
        assert connect.line.startswith("CONNECT traceloop.invalid:443 ")
        assert API_KEY.encode() not in proxy.raw

    def test_host_in_no_proxy_is_reached_directly(
        self,
        authority: trustme.CA,
        serve: Serve,
        bundle: str,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        server = serve(EMPTY_LIST, tls=certificate(authority))
        with Proxy(server.port) as proxy:
            monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.port}")
            monkeypatch.setenv("NO_PROXY", "localhost")
            monkeypatch.setenv("REQUESTS_CA_BUNDLE", bundle)
            assert ask(f"https://localhost:{server.port}") == []
        assert proxy.connections == 0

    @pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
    def test_plain_http_on_this_machine_uses_no_proxy(
        self, serve: Serve, monkeypatch: pytest.MonkeyPatch, host: str
    ) -> None:
        server, proxy = serve(EMPTY_LIST), serve(EMPTY_LIST)
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        assert ask(f"http://{host}:{server.port}") == []
        assert proxy.raw == b""


class TestPlainHttp:
    @pytest.mark.parametrize(
        "host", ["localhost", "LOCALHOST:8787", "127.0.0.1", "127.8.9.10:1", "[::1]", "[::1]:80"]
    )
    def test_is_accepted_for_this_machine(self, host: str) -> None:
        TraceloopClient(API_KEY, f"http://{host}/api").close()

    @pytest.mark.parametrize(
        "host",
        [
            "api.traceloop.com",
            "10.0.0.1",
            "0.0.0.0",
            "[::]",
            "[fe80::1]",
            "localhost.example.com",
            "127.0.0.1.example.com",
            "localhost.",
            "127.1",
            "2130706433",
            "1270.0.0.1",
        ],
    )
    @pytest.mark.parametrize("scheme", ["http", "HTTP"])
    def test_is_rejected_for_any_other_host(self, scheme: str, host: str) -> None:
        with pytest.raises(ConfigurationError, match="lets anyone on the network read") as caught:
            TraceloopClient(API_KEY, f"{scheme}://{host}/api")
        assert "`pulumi config set traceloop:allowHttp true`" in str(caught.value)
        assert "TRACELOOP_ALLOW_HTTP=true" in str(caught.value)

    @pytest.mark.parametrize(
        "url",
        [
            r"http://evil.example\@localhost",
            r"http://evil.example\.localhost",
            "http://localhost%2eevil",
        ],
    )
    def test_host_that_only_looks_like_this_machine_is_rejected(self, url: str) -> None:
        with pytest.raises(ConfigurationError):
            TraceloopClient(API_KEY, url)

    def test_is_accepted_for_any_host_on_request(self) -> None:
        TraceloopClient(API_KEY, "http://10.0.0.1", allow_http=True).close()


class TestNamesOfSettings:
    def test_error_names_the_namespace_and_no_environment_variable(self, serve: Serve) -> None:
        for key, url in [
            ("", "https://a.example"),
            (API_KEY, "ftp://x"),
            (API_KEY, "http://a.example"),
        ]:
            with pytest.raises(ConfigurationError) as caught:
                TraceloopClient(key, url, settings=Settings("traceloop-staging"))
            assert "traceloop-staging:" in str(caught.value)
            assert "TRACELOOP_" not in str(caught.value)
        for status, error, setting in [
            (401, AuthenticationError, "apiKey"),
            (302, RejectedError, "baseUrl"),
            (404, NotFoundError, "baseUrl"),
        ]:
            server = serve(f"HTTP/1.1 {status} X\r\nContent-Length: 1\r\n\r\nx".encode())
            url = f"http://127.0.0.1:{server.port}"
            with (
                TraceloopClient(API_KEY, url, settings=Settings("traceloop-staging")) as client,
                pytest.raises(error, match=f"traceloop-staging:{setting}") as refused,
            ):
                client.list_setups()
            assert "TRACELOOP_" not in str(refused.value)


ESCAPES = "a\x1b]0;title\x07b\x1b[2J\r\nc\x9b1m\u202ed\u2066"


class TestTerminalEscapes:
    def test_in_an_error_of_the_service(self, serve: Serve) -> None:
        body = json.dumps({"error": ESCAPES}).encode()
        head = b"HTTP/1.1 400 No\r\nContent-Length: %d\r\n\r\n" % len(body)
        with pytest.raises(RejectedError) as caught:
            ask(f"http://127.0.0.1:{serve(head + body).port}")
        assert str(caught.value).isprintable()

    def test_in_a_plan(self) -> None:
        rule = {"key": ESCAPES, "source": "span_attributes", "value": ESCAPES}
        old = json.dumps({"selector": [rule], "evaluators": [ESCAPES]})
        new = json.dumps({"selector": [{**rule, "value": "x" + ESCAPES}], "evaluators": ["x"]})
        changes = [
            Change("create", ESCAPES, after=old),
            Change("replace", "m", old, new, note=ESCAPES),
            Change("retry", "r", old, new, note=ESCAPES),
            Change("move", "x", note=ESCAPES),
        ]
        printed = lines(ResourcePlan(ESCAPES, changes))
        assert len(printed) == 7
        assert all(line.isprintable() for line in printed)


class TestSource:
    """The package neither executes input nor disables a check."""

    FORBIDDEN = re.compile(
        r"^(eval|exec|compile|__import__|os\.(system|popen)|subprocess\.getoutput"
        r"|(pickle|cPickle|marshal|dill|shelve|cloudpickle)\..*"
        r"|yaml\.(load|load_all|unsafe_load\w*|full_load\w*|Loader|UnsafeLoader|FullLoader|CLoader)"
        r"|ssl\._create_unverified_context|ssl\.CERT_NONE|tempfile\.mktemp"
        r"|urllib3\.disable_warnings)$"
    )

    def offences(self, source: str) -> list[str]:
        found = []
        for node in ast.walk(ast.parse(source)):
            if isinstance(node, (ast.Name, ast.Attribute)):
                found += [ast.unparse(node)] * bool(self.FORBIDDEN.match(ast.unparse(node)))
            elif isinstance(node, ast.Import):
                found += [a.name for a in node.names if self.FORBIDDEN.match(f"{a.name}.x")]
            elif isinstance(node, ast.ImportFrom):
                names = [f"{node.module}.{alias.name}" for alias in node.names]
                found += [name for name in names if self.FORBIDDEN.match(name)]
            elif isinstance(node, ast.keyword) and node.arg in ("shell", "verify"):
                found += [ast.unparse(node)]
            elif isinstance(node, ast.Assign):
                targets = {t.attr for t in node.targets if isinstance(t, ast.Attribute)}
                found += [ast.unparse(node)] * bool(targets & {"verify", "check_hostname"})
        return found

    @pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: path.name)
    def test_has_no_unsafe_calls(self, path: Path) -> None:
        assert self.offences(path.read_text("utf-8")) == []

    @pytest.mark.parametrize(
        "source",
        [
            "eval('1')",
            "import pickle",
            "from pickle import loads",
            "import yaml\nyaml.load(text, Loader=yaml.Loader)",
            "from yaml import unsafe_load",
            "subprocess.run('x', shell=True)",
            "requests.get(url, verify=False)",
            "session.verify = False",
            "os.system('x')",
        ],
    )
    def test_unsafe_call_would_be_found(self, source: str) -> None:
        assert self.offences(source)


def test_emulator_listens_on_this_machine_only() -> None:
    assert _parser().parse_args([]).host == "127.0.0.1"
    with Emulator() as emulator:
        port = int(emulator.url.rpartition(":")[2])
        assert emulator.url == f"http://127.0.0.1:{port}"
        # If it listened on all addresses, this one would be in use.
        with socket.socket() as other:
            other.bind(("127.0.0.2", port))


def chain(error: BaseException) -> Iterator[BaseException]:
    for linked in (error.__cause__, error.__context__):
        if linked is not None:
            yield from chain(linked)
    yield error


class TestSecretKey:
    @pytest.mark.parametrize(
        "reply",
        [
            b"",
            b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 99\r\n\r\n[",
            response(200, f"key {API_KEY}".encode()),
            response(200, f'{{"id": "{API_KEY}"'.encode()),
            response(400, {"error": f"bad header: Bearer {API_KEY}"}),
            response(401, {"error": f"unknown key {API_KEY}"}),
            response(302, b"", {"Location": f"http://127.0.0.1/{API_KEY}"}),
            response(429, {"error": API_KEY}),
            response(502, b"<html><title>" + API_KEY.encode()),
            response(207, f'{{"setups": [{{"external_id": "{API_KEY}"'.encode()),
            None,
        ],
    )
    @pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
    def test_in_errors_and_logs(
        self,
        client_of: Clients,
        serve: Serve,
        caplog: pytest.LogCaptureFixture,
        call: Call,
        reply: bytes | None,
    ) -> None:
        caplog.set_level(logging.DEBUG)
        url = serve(reply).url if reply is not None else f"http://127.0.0.1:{unused_port()}"
        with pytest.raises(RequestError) as caught:
            call.run(client_of(url))
        links = list(chain(caught.value))
        # No exception of requests is linked: those have the request with its headers.
        assert links == [caught.value]
        texts = [str(link) + repr(link) + repr(link.args) + repr(vars(link)) for link in links]
        texts += traceback.format_exception(caught.value)
        assert not [text for text in texts if API_KEY in text]
        assert API_KEY not in caplog.text

    def test_in_bulk_messages(self, client_of: Clients, serve: Serve) -> None:
        item = {"external_id": "m", "status": "error", "error": f"setups[0]: {API_KEY}"}
        outcome = client_of(serve(response(207, {"setups": [item]})).url).bulk_upsert({"m": SPEC})
        assert outcome.refused == {"m": "[secure]"}

    def test_in_reprs(self, client_of: Clients) -> None:
        client = client_of("https://example.com/api/")
        assert repr(client) == (
            "TraceloopClient(base_url='https://example.com/api', api_key=[secure])"
        )
        assert API_KEY not in repr(client._transport)

    def test_short_key_does_not_garble_messages(self, client_of: Clients, serve: Serve) -> None:
        client = client_of(serve(response(400, {"error": "broken"})).url, api_key="k")
        with pytest.raises(RejectedError, match="broken"):
            client.list_setups()
