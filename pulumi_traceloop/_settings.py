"""The settings of a connection: their sources, their validation, and their names in messages.

A stack's configuration has them in a namespace, ``traceloop`` by default. Environment variables are
the fallback for the namespace ``traceloop`` only.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from ipaddress import ip_address
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from ._text import printable
from .errors import ConfigurationError

__all__ = [
    "DEFAULT_BASE_URL",
    "DEFAULT_LIST_SIZE",
    "DEFAULT_NAMESPACE",
    "STORED_KEY",
    "Connection",
    "Settings",
    "check_api_key",
    "checked_host",
    "connection",
    "is_loopback",
]

DEFAULT_NAMESPACE = "traceloop"

#: The public service. The docs' generated examples use ``https://app.traceloop.com/api``.
DEFAULT_BASE_URL = "https://api.traceloop.com"

#: The most seconds that a request may take with its retries.
DEFAULT_DEADLINE = 60

#: The longest list of an organization's setups, in MiB: some 130,000 setups of 2 kB.
DEFAULT_LIST_SIZE = 256

#: The advice if the engine may have passed an old key: without the program, a stack's configuration
#: is the one that the last update stored (seen on the Pulumi CLI 3.260).
STORED_KEY = (
    "`pulumi refresh` and `pulumi destroy` use the key of the last `pulumi up`: after a change of"
    " the key run `pulumi up` first, or add --run-program"
)

#: The default ports of OTLP over gRPC and HTTP.
_COLLECTOR_PORTS = (4317, 4318)

_VARIABLES = {
    "apiKey": "TRACELOOP_API_KEY",
    "baseUrl": "TRACELOOP_BASE_URL",
    "deadline": "TRACELOOP_DEADLINE",
    "allowHttp": "TRACELOOP_ALLOW_HTTP",
    "maxListSize": "TRACELOOP_MAX_LIST_SIZE",
}


class Settings(NamedTuple):
    """Names the settings in messages, and the commands that set them."""

    #: The configuration namespace; empty if no stack's configuration is read.
    namespace: str = DEFAULT_NAMESPACE
    #: ``(key, source)`` of the given settings, such as ``("apiKey", "TRACELOOP_API_KEY")``.
    sources: tuple[tuple[str, str], ...] = ()

    def name(self, key: str) -> str:
        """Return a setting's name: the source of its value, else where it can be set."""
        variable = _VARIABLES[key]
        return self._found_at(key) or self._either(
            f"{self.namespace}:{key}", f" (or {variable})", variable
        )

    def how_to_set(self, key: str, value: str, *, secret: bool = False) -> str:
        """Return the advice to set a setting: `pulumi config set`, or an environment variable.

        Args:
            key: the setting.
            value: the value; a placeholder such as ``<key>`` if *secret*.
            secret: whether the value must be encrypted.

        """
        flag = "--secret " if secret else ""
        command = f"run `pulumi config set {flag}{self.namespace}:{key} {value}`"
        variable = _VARIABLES[key] if secret else f"{_VARIABLES[key]}={value}"
        return self._either(
            command,
            f" or set the environment variable {variable}",
            f"set the environment variable {variable}",
        )

    def check_base_url(self, base_url: str) -> str:
        """Return the advice if another server than the API seems to respond."""
        source = self._found_at("baseUrl")
        variable = _VARIABLES["baseUrl"]
        name = source or self._either(f"{self.namespace}:baseUrl", "", variable)
        advice = f"check the base URL ({name})"
        if port := self.collector_port(base_url):
            return f"{advice}: {port}"
        if source == variable or (not self.namespace and base_url != DEFAULT_BASE_URL):
            advice += (
                ", which the Traceloop SDK sends spans to as well: if it names an OpenTelemetry"
                f" collector, this needs the API's URL, such as {DEFAULT_BASE_URL}"
            )
            if self.namespace:
                advice += f"; {self.namespace}:baseUrl comes first"
        return advice

    @staticmethod
    def collector_port(base_url: str) -> str:
        """Return the problem if the base URL has a collector's default port, else ``""``."""
        port = urlsplit(base_url).port
        if port not in _COLLECTOR_PORTS:
            return ""
        return (
            f"port {port} is usually an OpenTelemetry collector's, which takes spans (OTLP) and has"
            f" no API; that is at {DEFAULT_BASE_URL} or your own service's URL"
        )

    def _found_at(self, key: str) -> str | None:
        return dict(self.sources).get(key)

    def _either(self, in_a_stack: str, alternative: str, without: str) -> str:
        if not self.namespace:
            return without
        return in_a_stack + (alternative if self.namespace == DEFAULT_NAMESPACE else "")


class Connection(NamedTuple):
    """The settings of a connection to the API."""

    #: The configuration namespace; empty if no stack's configuration is read.
    namespace: str
    api_key: str | None
    #: ``None`` for the public service.
    base_url: str | None
    #: The most seconds that a request may take with its retries.
    deadline: float
    #: Whether an ``http://`` base URL may be on another machine.
    allow_http: bool = False
    #: As in `Settings`.
    sources: tuple[tuple[str, str], ...] = ()
    #: The longest list of setups, in MiB.
    max_list_size: float = DEFAULT_LIST_SIZE

    @property
    def settings(self) -> Settings:
        """The names of this connection's settings in messages."""
        return Settings(self.namespace, self.sources)


def connection(
    setting: Callable[[str], Any], environment: Mapping[str, str], namespace: str | None = None
) -> Connection:
    """Return the connection that the stack's configuration and the environment describe.

    Args:
        setting: returns the value of a key such as ``traceloop:apiKey``, or ``None``.
        environment: the environment variables, the fallback for ``traceloop``.
        namespace: the configuration namespace, ``traceloop`` if ``None``. Another namespace has its
            own ``apiKey``. It inherits an omitted ``baseUrl`` from ``traceloop``, with its
            ``allowHttp``, and an omitted ``deadline`` or ``maxListSize``.

    Raises:
        ConfigurationError: ``deadline`` or ``maxListSize`` is not a positive number, or
            ``allowHttp`` is not a boolean.

    """
    own = namespace or DEFAULT_NAMESPACE
    inherited = tuple(dict.fromkeys([own, DEFAULT_NAMESPACE]))
    sources: dict[str, str] = {}

    def value(key: str, *namespaces: str) -> Any:
        for each in namespaces:
            if given := setting(f"{each}:{key}"):
                sources[key] = f"{each}:{key}"
                return given
            if each == DEFAULT_NAMESPACE and (given := environment.get(_VARIABLES[key])):
                sources[key] = _VARIABLES[key]
                return given
        return None

    api_key = value("apiKey", own)
    base_url = value("baseUrl", *inherited)
    # The permission holds for the base URL beside it only.
    its_own = sources.get("baseUrl", "").startswith(f"{own}:")
    allow_http = str(value("allowHttp", *([own] if its_own else inherited)) or "false")
    if allow_http.lower() not in ("true", "false"):
        raise ConfigurationError(
            f'{sources["allowHttp"]} must be true or false, not "{printable(allow_http)}"'
        )

    def number(key: str, default: int, unit: str) -> float:
        given = value(key, *inherited) or default
        try:
            found = float(given)
        except ValueError:
            found = 0.0
        if not 0 < found < float("inf"):
            raise ConfigurationError(
                f"{sources[key]} must be a number of {unit}, such as {default},"
                f' not "{printable(str(given))}"'
            )
        return found

    deadline = number("deadline", DEFAULT_DEADLINE, "seconds")
    max_list_size = number("maxListSize", DEFAULT_LIST_SIZE, "MiB")
    return Connection(
        own,
        api_key,
        base_url,
        deadline,
        allow_http.lower() == "true",
        tuple(sorted(sources.items())),
        max_list_size,
    )


def check_api_key(api_key: str, settings: Settings) -> None:
    """Raise a `ConfigurationError` if an HTTP header cannot contain the key."""
    if not api_key.strip():
        problem = "is empty"
    elif any(char.isspace() for char in api_key):
        problem = "contains a space or a line break"
    elif any(char > "\xff" or not char.isprintable() for char in api_key):
        problem = "contains a character that no HTTP header can carry"
    else:
        return
    advice = settings.how_to_set("apiKey", "<key>", secret=True)
    raise ConfigurationError(f"the Traceloop API key {problem}: {advice}, with the key only")


def checked_host(base_url: str, *, allow_http: bool, settings: Settings) -> str:
    """Return the base URL's host.

    Raises:
        ConfigurationError: the URL is invalid, or would send the key over a network in plain text.

    """
    import requests
    from urllib3.util import parse_url

    problem = _base_url_problem(base_url)
    setting = settings.name("baseUrl")
    if problem:
        # The message omits the URL, which may contain a password.
        raise ConfigurationError(
            f"{setting} {problem}; it looks like {DEFAULT_BASE_URL} or"
            " https://app.traceloop.com/api"
        )
    # Parsed as requests does: parsers may disagree about a URL's host.
    sent = parse_url(requests.Request("GET", base_url).prepare().url or "")
    host = (sent.host or "").strip("[]")
    if sent.scheme == "http" and not (allow_http or is_loopback(host)):
        advice = settings.how_to_set("allowHttp", "true")
        raise ConfigurationError(
            f"{setting} begins with http://, which lets anyone on the network read the API key:"
            " that is accepted for localhost only. Use https://, or, if you trust the network,"
            f" {advice}"
        )
    return host


def is_loopback(host: str) -> bool:
    """Whether *host* is this machine: ``localhost`` or a loopback address."""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _base_url_problem(base_url: str) -> str | None:
    import requests

    if any(char.isspace() or not char.isprintable() for char in base_url):
        return "contains a space or a control character"
    try:
        parts = urlsplit(base_url)
        port_is_usable = parts.port is None or parts.port > 0
    except ValueError:
        return "is not a valid URL"
    if parts.scheme not in ("http", "https"):
        return "must begin with https:// or http://"
    if "@" in parts.netloc:
        return "must not contain a user name or password: the API key is the only credential"
    if not parts.hostname:
        return "has no host name"
    if "?" in base_url or "#" in base_url:
        return "must not contain a query or a fragment"
    try:
        requests.Request("GET", base_url).prepare()
    except requests.RequestException:
        return "is not a valid URL"
    return None if port_is_usable else "has an unusable port"
