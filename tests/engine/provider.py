"""Runs and calls the provider process, the SDK's `python -m pulumi.dynamic`."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import grpc
from pulumi.runtime.proto import provider_pb2, provider_pb2_grpc

from .spawner import Spawned
from .wire import Bag, annotate, from_struct, is_secret, make_secret, plain, to_struct

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from .child import Forked
    from .state import Record

    Child = Spawned | Forked

#: The SDK's own limit in both directions: 400 MiB.
GRPC_OPTIONS = [
    ("grpc.max_receive_message_length", 400 << 20),
    ("grpc.max_send_message_length", 400 << 20),
]


class ProviderError(Exception):
    """An exception of a provider's method, as the host reports it."""


def start_provider(cwd: str, env: Mapping[str, str]) -> Spawned:
    """Start a provider process without an engine."""
    return Spawned("tests.engine.child:run_provider", cwd, env)


def follow(process: Child, show: Callable[[str], None]) -> threading.Thread:
    """Pass each line that a process prints to *show*, until it ends."""

    def read() -> None:
        for line in process.stdout:
            show(line.rstrip("\n"))

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    return thread


#: How long the provider may take to respond to its first call, in seconds.
_START_LIMIT = 60


class Provider:
    """Calls the provider; inputs lose their secret marks, and outputs get them back.

    The first call waits for the process.
    """

    def __init__(
        self,
        process: Child,
        config: Mapping[str, str],
        secret_keys: list[str],
        show: Callable[[str], None],
    ) -> None:
        self._process = process
        self._config = {k: make_secret(v) if k in secret_keys else v for k, v in config.items()}
        self._show = show
        self._reader: threading.Thread | None = None
        self._lock = threading.Lock()
        self._stub: Any = None

    def _connected(self) -> Any:
        with self._lock:
            if self._stub is None:
                assert self._process.stdout is not None
                port = self._process.stdout.readline().strip()
                self._reader = follow(self._process, self._show)
                if not port.isdigit():
                    self._show(port)
                    raise ProviderError("the provider process did not start")
                channel = grpc.insecure_channel(f"127.0.0.1:{port}", options=GRPC_OPTIONS)
                stub = provider_pb2_grpc.ResourceProviderStub(channel)
                configure = provider_pb2.ConfigureRequest(
                    args=to_struct(self._config), acceptSecrets=True
                )
                # With a timeout: a process that is killed now never becomes ready.
                stub.Configure(configure, wait_for_ready=True, timeout=_START_LIMIT)
                self._stub = stub
            return self._stub

    def _call(self, method: str, request: Any) -> Any:
        try:
            return getattr(self._connected(), method)(request)
        except grpc.RpcError as err:
            raise ProviderError(str(err.details()).rstrip("\n")) from None

    def check(self, urn: str, olds: Bag, news: Bag) -> tuple[Bag, list[tuple[str, str]]]:
        """Return the checked inputs, and a (property, reason) for each failure."""
        request = provider_pb2.CheckRequest(urn=urn, olds=_sent(olds), news=_sent(news))
        response = self._call("Check", request)
        failures = [(each.property, each.reason) for each in response.failures]
        return annotate(from_struct(response.inputs), news), failures

    def diff(self, old: Record, news: Bag, ignored: list[str]) -> provider_pb2.DiffResponse:
        request = provider_pb2.DiffRequest(
            id=old.id,
            urn=old.urn,
            olds=_sent(old.outputs),
            news=_sent(news),
            old_inputs=_sent(old.inputs),
            ignoreChanges=ignored,
        )
        response: provider_pb2.DiffResponse = self._call("Diff", request)
        return response

    def create(self, new: Record) -> None:
        request = provider_pb2.CreateRequest(urn=new.urn, properties=_sent(new.inputs))
        response = self._call("Create", request)
        new.id = response.id
        if not new.id:
            raise ProviderError("the provider returned no id from create")
        new.outputs = annotate(from_struct(response.properties), new.inputs)

    def update(self, old: Record, new: Record) -> None:
        request = provider_pb2.UpdateRequest(
            id=old.id,
            urn=new.urn,
            olds=_sent(old.outputs),
            news=_sent(new.inputs),
            old_inputs=_sent(old.inputs),
        )
        response = self._call("Update", request)
        new.outputs = annotate(from_struct(response.properties), new.inputs)

    def delete(self, old: Record) -> None:
        request = provider_pb2.DeleteRequest(
            id=old.id,
            urn=old.urn,
            properties=_sent(old.outputs),
            old_inputs=_sent(old.inputs),
        )
        self._call("Delete", request)

    def read(self, urn: str, id_: str, inputs: Bag, state: Bag) -> tuple[str, Bag, Bag | None]:
        """Return id, outputs and, if the provider returns them, inputs; no id if it is gone."""
        request = provider_pb2.ReadRequest(
            id=id_, urn=urn, properties=_sent(state), inputs=_sent(inputs)
        )
        response = self._call("Read", request)
        found = (
            annotate(from_struct(response.inputs), inputs) if response.HasField("inputs") else None
        )
        return response.id, annotate(from_struct(response.properties), state), found

    def close(self) -> None:
        """End the process, and wait for its last lines."""
        self._process.terminate()
        if self._reader is not None:
            self._reader.join(10)  # a process that it left running may hold its stdout
        self._process.wait()


def mark_secret_outputs(record: Record) -> None:
    """Mark the outputs in `additional_secret_outputs`, and those that repeat a secret input."""
    for name, value in record.outputs.items():
        asked = name in record.secret_outputs or is_secret(record.inputs.get(name))
        if asked and not is_secret(value):
            record.outputs[name] = make_secret(value)


def _sent(bag: Bag) -> Any:
    return to_struct(plain(bag))
