"""The errors of this package.

```text
    TraceloopError
    ├── ConfigurationError         an invalid setting, or no API key
    ├── ProjectMismatchError       the key belongs to another project than the state
    ├── SetupsMissingError         all setups of a group vanished at once
    ├── ExistsError                a setup exists, and if_exists protects it
    ├── DeclaredTwiceError         two resources declare one setup
    ├── GoneError                  the setup of a `get` does not exist
    ├── DeletionError              some setups of a group could not be deleted
    └── RequestError               a request to the API failed
        ├── TransportError         no complete response: timed out, dropped
        │   └── ConnectionFailedError  no connection: nothing was sent
        ├── MalformedResponseError an undocumented response
        ├── AuthenticationError    401, 403
        ├── NotFoundError          404, 410
        ├── ConflictError          409: another write at the same time
        ├── RateLimitedError       429, after all retries
        ├── RejectedError          any other 3xx or 4xx
        └── ServerError            408 and 5xx
```

Three more are `args.InputError` (invalid inputs), `files.FileError` (an invalid file of setups) and
`spans.sources.SpanFileError` (a file without spans).

An error never contains the API key. Quotations of a server are short and printable.
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
    """The base class of all errors of this package."""


class ConfigurationError(TraceloopError):
    """A setting is invalid, or the API key is missing."""


class ProjectMismatchError(TraceloopError):
    """The API key belongs to another Traceloop project or environment than the state.

    An external_id is another monitor there, so nothing is read, written or deleted.
    """


class SetupsMissingError(TraceloopError):
    """All setups of a group are missing at once, probably because of an outage.

    The state is unchanged.
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
    """A setup with the external_id exists, and ``if_exists`` protects it.

    Attributes:
        external_id: the setup's key.

    """

    def __init__(self, external_id: str, if_exists: str, differs: str) -> None:
        self.external_id = external_id
        if differs:
            found = f'another setup "{printable(external_id)}" ({differs})'
            fix = (
                ', declare the setup as Traceloop has it, or overwrite it with if_exists="replace"'
            )
        else:
            found = f'the setup "{printable(external_id)}"'
            fix = ', or adopt it with if_exists="adopt"'
        super().__init__(
            f"Traceloop already has {found}, which this stack does not manage, and if_exists is"
            f' "{if_exists}": choose another external_id{fix}. If the setup moves here from'
            " another resource, move it first, and change it in the next update"
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
    """The setup of an ``AutoMonitorSetup.get`` does not exist.

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
    """Some setups of a group could not be deleted; the others were.

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
    """A request to the API failed.

    Attributes:
        method: the HTTP method.
        path: the encoded path below the base URL.
        external_id: the setup of the request; ``None`` for lists and batches.
        status: the HTTP status; ``None`` without a response.
        server_message: the ``error`` text of the response or the reason of the failure, short and
            printable.
        summary: the message and the status, without the setup, so that equal failures can be
            grouped.
        request_id: the id for Traceloop's support, if the response has one.
        outcome_unknown: whether the failed write may have been applied.

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
    """No complete response: the connection was refused, timed out or dropped."""

    outcome_unknown = True


class ConnectionFailedError(TransportError):
    """No attempt reached the service: nothing was sent."""

    outcome_unknown = False


class MalformedResponseError(RequestError):
    """An undocumented response, such as a proxy's page or truncated JSON."""

    outcome_unknown = True


class AuthenticationError(RequestError):
    """The service does not accept the API key (401, 403)."""


class NotFoundError(RequestError):
    """The setup does not exist, or another server than the API responded (404, 410)."""


class ConflictError(RequestError):
    """A concurrent write prevented this one (409).

    Only a read shows the current setup.
    """

    outcome_unknown = True


class RateLimitedError(RequestError):
    """The service still responded 429 after all retries."""


class RejectedError(RequestError):
    """The service refused the request (any other 3xx or 4xx).

    The status is ``None`` if the external_id does not fit in a URL.
    """


class ServerError(RequestError):
    """The service failed (408, 5xx)."""

    outcome_unknown = True
