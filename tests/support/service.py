"""The HTTP double: a server on loopback that sends what a test scripts, and keeps what it receives.

It can send what no HTTP library would: broken heads, drips, bombs, nothing. Where a well-formed
response is enough, a test runs the package's emulator instead.
"""

from __future__ import annotations

import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

if TYPE_CHECKING:
    from typing_extensions import Self

#: A response that starts and never ends.
SILENT = b"HTTP/1.1 100 Continue\r\n\r\n"


class Received(NamedTuple):
    """A request as it was received."""

    line: str
    headers: dict[str, str]
    body: bytes

    @property
    def method(self) -> str:
        return self.line.split(" ")[0]

    @property
    def target(self) -> str:
        return self.line.split(" ")[1]


Reply = bytes | Callable[[Received], bytes | Iterable[bytes]]


def response(status: int, body: object = b"", headers: dict[str, str] | None = None) -> bytes:
    """Return a whole HTTP response; a body that is not bytes is sent as JSON."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    fields = {"Content-Length": str(len(content)), **(headers or {})}
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"HTTP/1.1 {status} Reason\r\n{head}\r\n".encode() + content


def unused_port() -> int:
    """Return a port that nothing listens on."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


class Service:
    """Sends the replies in turn, the last one again and again.

    A reply is bytes, or makes them from the request: whole, which keeps the connection open if they
    are a complete head, or piece by piece, which closes it after the last one. Empty bytes drop the
    connection.

    Args:
        replies: What to send.
        port: Where to listen; 0 takes a free port.
        greeting: Sent to each connection, which then closes, instead of any reply.
        tls: The certificate, for a service that speaks TLS.
    """

    def __init__(
        self,
        *replies: Reply,
        port: int = 0,
        greeting: bytes = b"",
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.replies = list(replies)
        self.requests: list[Received] = []
        #: Each byte that was received, whether its request is complete or not.
        self.raw = b""
        #: How many connections were opened.
        self.connections = 0
        self._greeting, self._tls = greeting, tls
        self._changed = threading.Condition()
        self._open: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", port), backlog=64)
        self.port: int = self._listener.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Hang up; may be called again."""
        with suppress(OSError):  # closed before
            self._listener.shutdown(socket.SHUT_RDWR)
        self._threads[0].join()
        self._listener.close()
        for connection in self._open:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads[1:]:
            thread.join()

    def received(self, count: int) -> int:
        """Wait for that many requests, also those that a client gave up; return how many came."""
        with self._changed:
            self._changed.wait_for(lambda: len(self.requests) >= count, timeout=20)
            return len(self.requests)

    def reply(self, request: Received) -> bytes | Iterable[bytes]:
        """Return what to send for this request."""
        with self._changed:
            reply = self.replies.pop(0) if len(self.replies) > 1 else self.replies[0]
        return reply(request) if callable(reply) else reply

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._open.append(connection)
            thread = threading.Thread(target=self._serve, args=(connection,))
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        # A client that refuses the certificate hangs up; ssl.SSLError is an OSError.
        with connection, suppress(OSError):
            if self._greeting:
                connection.sendall(self._greeting)
                return
            if self._tls is None:
                self._converse(connection)
                return
            with self._tls.wrap_socket(connection, server_side=True) as secure:
                self._open.append(secure)
                self._converse(secure)

    def _converse(self, connection: socket.socket) -> None:
        with connection.makefile("rb") as stream:
            while request := self._read(stream):
                with self._changed:
                    self.requests.append(request)
                    self._changed.notify_all()
                if not self._respond(connection, request):
                    return

    def _read(self, stream: BinaryIO) -> Received | None:
        line = self._line(stream)
        if not line:
            return None
        headers = {}
        while header := self._line(stream):
            name, _, value = header.partition(": ")
            headers[name.lower()] = value
        body = stream.read(int(headers.get("content-length", 0)))
        self.raw += body
        return Received(line, headers, body)

    def _line(self, stream: BinaryIO) -> str:
        line = stream.readline()
        self.raw += line
        return line.decode("latin-1").rstrip("\r\n")

    def _respond(self, connection: socket.socket, request: Received) -> bool:
        """Send the reply; return whether the connection stays open."""
        reply = self.reply(request)
        if isinstance(reply, bytes):
            connection.sendall(reply)
            return b"\r\n\r\n" in reply and b"\r\nConnection: close\r\n" not in reply
        for piece in reply:
            connection.sendall(piece)
        return False


class Proxy(Service):
    """A proxy whose tunnels lead to the port *target*, whatever host a client names."""

    def __init__(self, target: int) -> None:
        self._target = target
        super().__init__(b"")

    def _respond(self, connection: socket.socket, request: Received) -> bool:
        assert request.method == "CONNECT"
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        with socket.create_connection(("127.0.0.1", self._target)) as target:
            back = threading.Thread(target=_copy, args=(target, connection))
            back.start()
            while data := connection.recv(65536):
                self.raw += data
                target.sendall(data)
            with suppress(OSError):
                target.shutdown(socket.SHUT_RDWR)
            back.join()
        return False


def _copy(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
