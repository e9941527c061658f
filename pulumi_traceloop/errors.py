"""Every error that this package raises, under one root.

::

    TraceloopError
    ├── ConfigurationError         no API key, an unusable base URL
    ├── ProjectMismatchError       the key belongs to another project than the state
    ├── SetupsMissingError         all setups of a group vanished at once
    ├── ExistsError                a setup exists already, and if_exists keeps it
    ├── DeclaredTwiceError         two resources declare one setup
    ├── GoneError                  a setup that a program only reads does not exist
    ├── DeletionError              some setups of a group could not be deleted
    └── RequestError               a request to the API that failed
        ├── TransportError         no complete response: timed out, dropped
        │   └── ConnectionFailedError  there was no connection: nothing was sent
        ├── MalformedResponseError a response that is not what the API documents
        ├── AuthenticationError    401, 403
        ├── NotFoundError          404, 410
        ├── ConflictError          409: another write at the same time
        ├── RateLimitedError       429, after all retries
        ├── RejectedError          any other 3xx or 4xx
        └── ServerError            408 and 5xx

Three more are `args.InputError`, for wrong inputs, `files.FileError`, for a file of setups that
cannot be used, and `spans.sources.SpanFileError`, for a file without spans.

An error never carries the API key, and what it quotes from a server is cut short and printable.
"""

from __future__ import annotations

from collections.abc import Mapping

from ._text import by_cause, printable

__all__ = [
    "AuthenticationError",
    "ConfigurationError",
    "ConflictError",
    "ConnectionFailedError",
    "DeclaredTwiceError",
    "DeletionError",
    "ExistsError",
    "GoneError",
    "MalformedResponseError",
    "NotFoundError",
    "ProjectMismatchError",
    "RateLimitedError",
    "RejectedError",
    "RequestError",
    "ServerError",
    "SetupsMissingError",
    "TraceloopError",
    "TransportError",
    "printable",
]


class TraceloopError(Exception):
    """The root of this package's errors: ``except TraceloopError`` catches them all."""


class ConfigurationError(TraceloopError):
    """The API key or the base URL is missing or unusable."""


class ProjectMismatchError(TraceloopError):
    """The API key belongs to another Traceloop project or environment than the state.

    The same external_id is another monitor in that project: nothing is read, written or deleted.
    """


class SetupsMissingError(TraceloopError):
    """Every setup that a group owns is missing at once, which looks like an outage.

    The state is kept as it is.
    """

    def __init__(self, owner: str, count: int) -> None:
        super().__init__(
            f"none of the {count} monitor setups of {owner} is in Traceloop any more. The API key"
            " is probably another project's, or there is an outage, so nothing was changed. If they"
            " really are gone, create them again with"
            " `pulumi up --replace <URN of the AutoMonitorSetupBatch>`, which"
            " `pulumi stack --show-urns` lists"
        )


class ExistsError(TraceloopError):
    """Traceloop has a setup under the external_id already, and ``if_exists`` keeps it.

    Attributes:
        external_id: the setup's key.

    """

    def __init__(self, external_id: str, if_exists: str, differs: str) -> None:
        self.external_id = external_id
        if differs:
            found = f'another setup "{printable(external_id)}" ({differs})'
            cure = (
                ', declare the setup as Traceloop has it, or overwrite it with if_exists="replace"'
            )
        else:
            found = f'the setup "{printable(external_id)}"'
            cure = ', or adopt it with if_exists="adopt"'
        super().__init__(
            f"Traceloop already has {found}, which this stack does not manage, and if_exists is"
            f' "{if_exists}": choose another external_id{cure}. One that moves here from elsewhere'
            " in the program: move it first, and change it in the next update"
        )


class DeclaredTwiceError(TraceloopError):
    """Two resources of a program declare one setup.

    Attributes:
        external_id: the setup's key.

    """

    def __init__(self, external_id: str, first: str, second: str) -> None:
        self.external_id = external_id
        super().__init__(
            f'the external_id "{printable(external_id)}" is declared twice: by {first} and by'
            f" {second}. Traceloop has one monitor setup for it, so the two would overwrite each"
            " other: remove one of them or give it another external_id"
        )


class GoneError(TraceloopError):
    """A setup that a program only reads, with ``AutoMonitorSetup.get``, does not exist.

    Attributes:
        external_id: the setup's key.

    """

    def __init__(self, external_id: str) -> None:
        self.external_id = external_id
        super().__init__(
            f'Traceloop has no monitor setup "{printable(external_id)}" in the project of the API'
            " key: check the external_id and the key, or declare the setup with AutoMonitorSetup"
        )


class DeletionError(TraceloopError):
    """Some setups of a group could not be deleted; the others are gone.

    Attributes:
        failed: ``{external_id: why}``.

    """

    def __init__(self, failed: Mapping[str, str], tried: int) -> None:
        self.failed = dict(failed)
        super().__init__(
            f"{len(failed)} of {tried} setups could not be deleted; the next run tries them"
            f" again:\n{by_cause(failed)}"
        )


class RequestError(TraceloopError):
    """A request to the API that failed.

    Attributes:
        method: the HTTP method.
        path: the path below the base URL, still encoded.
        external_id: the setup that the request was about; ``None`` for lists and batches.
        status: the HTTP status; ``None`` where no response came.
        server_message: the ``error`` text of the response or the reason of the failure, printable
            and cut short.
        summary: that and the status, without the setup's name: for lists that have it already, and
            the same for all requests that fail in the same way.
        request_id: what Traceloop's support finds the request by, if the response has it.
        outcome_unknown: whether a write that failed like this may have been applied.

    """

    #: The default of the class.
    outcome_unknown: bool = False

    def __init__(
        self,
        method: str,
        path: str,
        server_message: str,
        *,
        status: int | None = None,
        external_id: str | None = None,
        effort: str = "",
        request_id: str | None = None,
        outcome_unknown: bool | None = None,
    ) -> None:
        self.method = method
        self.path = path
        self.server_message = printable(server_message)
        self.status = status
        self.external_id = external_id
        self.request_id = request_id
        if outcome_unknown is not None:
            self.outcome_unknown = outcome_unknown
        subject = f'setup "{printable(external_id)}": ' if external_id is not None else ""
        http = f"HTTP {status}" if status is not None else ""
        self.summary = self.server_message + (f" ({http})" if http else "")
        notes = ", ".join(filter(None, [http, effort, request_id and f"request {request_id}"]))
        notes = f" ({notes})" if notes else ""
        super().__init__(f"{subject}{self.server_message}{notes} [{method} {path}]")


class TransportError(RequestError):
    """No complete response came: the connection was refused, timed out or dropped."""

    outcome_unknown = True


class ConnectionFailedError(TransportError):
    """There was no connection to the service in any attempt, so nothing was sent."""

    outcome_unknown = False


class MalformedResponseError(RequestError):
    """A response that is not what the API documents, such as a proxy's page or cut-off JSON."""

    outcome_unknown = True


class AuthenticationError(RequestError):
    """The service does not accept the API key (401, 403)."""


class NotFoundError(RequestError):
    """The service knows no such setup, or another server than the API responded (404, 410)."""


class ConflictError(RequestError):
    """Another write at the same time prevented this one (409).

    Only a read shows what the setup is now.
    """

    outcome_unknown = True


class RateLimitedError(RequestError):
    """The service still responded 429 after all retries."""


class RejectedError(RequestError):
    """The service refuses the request as it is (any other 3xx or 4xx).

    It has no status where the external_id is one that no request can carry.
    """


class ServerError(RequestError):
    """The service failed (408, 5xx)."""

    outcome_unknown = True
