"""What protects the API key, and what a server's words may do."""

from __future__ import annotations

import ast
import json
import re
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
import trustme

import pulumi_traceloop
from pulumi_traceloop._client import TraceloopClient
from pulumi_traceloop._plan import Change, ResourcePlan, lines
from pulumi_traceloop._settings import Settings
from pulumi_traceloop.emulator import Emulator
from pulumi_traceloop.emulator.__main__ import _parser
from pulumi_traceloop.errors import (
    AuthenticationError,
    ConfigurationError,
    ConnectionFailedError,
    NotFoundError,
    RejectedError,
    TransportError,
)

KEY = "tl-6c1f0e5d9b8a47323a7e"
PACKAGE = Path(pulumi_traceloop.__file__).parent
EMPTY_LIST = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]"


class Server:
    """Answers every request, over TLS if it has a certificate, and keeps what it was sent.

    To CONNECT it becomes a proxy's tunnel to *target*, whatever host was asked for.
    """

    def __init__(
        self,
        answer: bytes = EMPTY_LIST,
        *,
        tls: ssl.SSLContext | None = None,
        target: int | None = None,
    ) -> None:
        self.received = b""
        self.connects: list[str] = []
        self._answer, self._tls, self._target = answer, tls, target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def close(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()

    def _run(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            # A client that refuses the certificate hangs up; ssl.SSLError is an OSError.
            with connection, suppress(OSError):
                connection.settimeout(5)
                if self._target is not None:
                    self._tunnel(connection)
                elif self._tls is not None:
                    with self._tls.wrap_socket(connection, server_side=True) as secure:
                        self._serve(secure)
                else:
                    self._serve(connection)

    def _serve(self, connection: socket.socket) -> None:
        self.received += connection.recv(65536)
        connection.sendall(self._answer)

    def _tunnel(self, connection: socket.socket) -> None:
        request = connection.recv(65536)
        self.received += request
        self.connects.append(request.split(b"\r\n")[0].decode())
        if not request.startswith(b"CONNECT"):
            connection.sendall(self._answer)
            return
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        with socket.create_connection(("127.0.0.1", self._target or 0)) as target:
            back = threading.Thread(target=self._copy, args=(target, connection))
            back.start()
            while data := connection.recv(65536):
                self.received += data
                target.sendall(data)
            with suppress(OSError):
                target.shutdown(socket.SHUT_RDWR)
            back.join()

    @staticmethod
    def _copy(source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)


Servers = Callable[..., Server]


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def serve() -> Iterator[Servers]:
    with ExitStack() as stack:

        def make(*args: object, **kwargs: object) -> Server:
            server = Server(*args, **kwargs)  # type: ignore[arg-type]
            stack.callback(server.close)
            return server

        yield make


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
    with TraceloopClient(KEY, url, deadline=3.0, sleep=lambda _: None) as client:
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
    def test_an_unknown_authority_is_refused_whatever_the_environment_says(
        self,
        authority: trustme.CA,
        serve: Servers,
        monkeypatch: pytest.MonkeyPatch,
        environment: dict[str, str],
    ) -> None:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        server = serve(tls=certificate(authority))
        with pytest.raises(ConnectionFailedError, match=r"not trusted.*set REQUESTS_CA_BUNDLE"):
            ask(f"https://localhost:{server.port}")
        assert server.received == b""

    @pytest.mark.parametrize("word", ["0", "false", "no"])
    def test_a_bundle_is_a_file_and_no_switch(
        self, authority: trustme.CA, serve: Servers, monkeypatch: pytest.MonkeyPatch, word: str
    ) -> None:
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", word)
        server = serve(tls=certificate(authority))
        with pytest.raises(ConnectionFailedError, match="bundle"):
            ask(f"https://localhost:{server.port}")
        assert server.received == b""

    @pytest.mark.parametrize("variable", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
    def test_a_private_authority_is_trusted_where_the_environment_names_it(
        self,
        authority: trustme.CA,
        serve: Servers,
        bundle: str,
        monkeypatch: pytest.MonkeyPatch,
        variable: str,
    ) -> None:
        monkeypatch.setenv(variable, bundle)
        server = serve(tls=certificate(authority))
        assert ask(f"https://localhost:{server.port}") == []
        assert f"Authorization: Bearer {KEY}".encode() in server.received

    def test_a_certificate_for_another_host_is_refused(
        self,
        authority: trustme.CA,
        serve: Servers,
        bundle: str,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", bundle)
        server = serve(tls=certificate(authority, "other.example"))
        with pytest.raises(ConnectionFailedError, match="not trusted"):
            ask(f"https://localhost:{server.port}")
        assert server.received == b""

    def test_a_dripping_answer_over_tls_ends_at_the_deadline(
        self,
        authority: trustme.CA,
        serve: Servers,
        bundle: str,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", bundle)
        now = [0.0]

        def clock() -> float:
            now[0] += 1.0
            return now[0]

        server = serve(b"HTTP/1.1 200 OK\r\n", tls=certificate(authority))
        url = f"https://localhost:{server.port}"
        with (
            TraceloopClient(KEY, url, deadline=4.0, clock=clock) as client,
            pytest.raises(TransportError, match="did not come in time"),
        ):
            client.delete_setup("m")


class TestProxies:
    def test_a_proxy_tunnels_tls_and_never_sees_the_key(
        self,
        authority: trustme.CA,
        serve: Servers,
        bundle: str,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        server = serve(tls=certificate(authority, "traceloop.invalid"))
        proxy = serve(target=server.port)
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.port}")
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", bundle)
        assert ask("https://traceloop.invalid") == []
        assert KEY.encode() in server.received
        (connect,) = proxy.connects
        assert connect.startswith("CONNECT traceloop.invalid:443 ")
        assert KEY.encode() not in proxy.received

    def test_a_host_in_no_proxy_is_reached_directly(
        self,
        authority: trustme.CA,
        serve: Servers,
        bundle: str,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        server = serve(tls=certificate(authority))
        proxy = serve(target=server.port)
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.port}")
        monkeypatch.setenv("NO_PROXY", "localhost")
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", bundle)
        assert ask(f"https://localhost:{server.port}") == []
        assert proxy.connects == []

    @pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
    def test_plain_http_on_this_machine_goes_through_no_proxy(
        self, serve: Servers, monkeypatch: pytest.MonkeyPatch, host: str
    ) -> None:
        server, proxy = serve(), serve()
        for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        assert ask(f"http://{host}:{server.port}") == []
        assert proxy.received == b""


class TestPlainHttp:
    @pytest.mark.parametrize(
        "host", ["localhost", "LOCALHOST:8787", "127.0.0.1", "127.8.9.10:1", "[::1]", "[::1]:80"]
    )
    def test_is_taken_for_this_machine(self, host: str) -> None:
        TraceloopClient(KEY, f"http://{host}/api").close()

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
    def test_is_refused_for_any_other_host(self, scheme: str, host: str) -> None:
        with pytest.raises(ConfigurationError, match="lets anyone on the network read") as caught:
            TraceloopClient(KEY, f"{scheme}://{host}/api")
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
    def test_a_host_that_only_looks_like_this_machine_is_refused(self, url: str) -> None:
        with pytest.raises(ConfigurationError):
            TraceloopClient(KEY, url)

    def test_is_taken_for_any_host_if_asked_for(self) -> None:
        TraceloopClient(KEY, "http://10.0.0.1", allow_http=True).close()


class TestNamesOfSettings:
    def test_another_namespace_is_named_and_no_environment_variable(self, serve: Servers) -> None:
        for key, url in [("", "https://a.example"), (KEY, "ftp://x"), (KEY, "http://a.example")]:
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
                TraceloopClient(KEY, url, settings=Settings("traceloop-staging")) as client,
                pytest.raises(error, match=f"traceloop-staging:{setting}") as refused,
            ):
                client.list_setups()
            assert "TRACELOOP_" not in str(refused.value)


ESCAPES = "a\x1b]0;title\x07b\x1b[2J\r\nc\x9b1m\u202ed\u2066"


class TestTerminalEscapes:
    def test_in_a_servers_error(self, serve: Servers) -> None:
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
    """No code of the package runs what it reads, or turns a check off."""

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
    def test_is_free_of_unsafe_calls(self, path: Path) -> None:
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
    def test_an_unsafe_call_would_be_found(self, source: str) -> None:
        assert self.offences(source)


def test_the_emulator_listens_on_this_machine_only() -> None:
    assert _parser().parse_args([]).host == "127.0.0.1"
    with Emulator() as emulator:
        port = int(emulator.url.rpartition(":")[2])
        assert emulator.url == f"http://127.0.0.1:{port}"
        # Had it every address, this one would be taken.
        with socket.socket() as other:
            other.bind(("127.0.0.2", port))
