"""Classifies the exceptions of requests and urllib3."""

from __future__ import annotations

import re
import ssl

import requests
from urllib3.exceptions import (
    ConnectTimeoutError,
    MaxRetryError,
    ProtocolError,
    ProxyError,
    SSLError,
)

__all__ = ["described", "never_sent", "underlying"]


def underlying(error: Exception) -> Exception:
    """Return urllib3's exception, which requests wraps once or twice."""
    inner = error.args[0] if isinstance(error, requests.RequestException) and error.args else error
    if isinstance(inner, MaxRetryError):
        inner = inner.reason
    if not isinstance(inner, Exception):
        return error
    if isinstance(inner, SSLError) and not _is_bad_certificate(inner):
        # TLS may also break after the request was sent.
        return ProtocolError("TLS connection broken.", inner)
    return inner


def _is_bad_certificate(error: Exception | None) -> bool:
    return isinstance(error, SSLError) and any(
        isinstance(cause, ssl.CertificateError) for cause in error.args
    )


def never_sent(failure: Exception | None) -> bool:
    """Whether the request was certainly not sent: there was no connection to the service."""
    return (
        isinstance(failure, (ConnectTimeoutError, ProxyError))
        or _is_bad_certificate(failure)
        # An unusable URL, proxy URL or header.
        or isinstance(failure, ValueError)
        # A missing CA bundle: the only OSError that requests does not wrap.
        or (isinstance(failure, OSError) and not isinstance(failure, requests.RequestException))
    )


def described(failure: Exception | None) -> str:
    """Return the reason without Python's names of objects."""
    if isinstance(failure, ProxyError):
        return f"no connection through the proxy: {described(failure.original_error)}"
    if _is_bad_certificate(failure):
        return (
            f"the service's certificate is not trusted: {failure}; for a private certificate"
            " authority set REQUESTS_CA_BUNDLE"
        )
    if isinstance(failure, ProtocolError) and len(failure.args) > 1:
        text = str(failure.args[0])
        return f"{text} {failure.args[1]}" if text.endswith(".") else text
    # "<urllib3.connection.HTTPConnection object at 0x7f>: ..." or "HTTPConnection(host=...): ...".
    text = re.sub(r"^(<[^>]*>|\w+\(host=[^)]*\)): ", "", str(failure))
    # "Failed to establish a new connection: [Errno 111] Connection refused".
    text = re.sub(r"^Failed to establish a new connection: (\[\w+ -?\d+\] )?", "", text)
    text = re.sub(r"\.? \((?:connect|read) timeout=[\d.]+\)$", "", text)
    return text[:1].lower() + text[1:] if text[1:2].islower() else text or type(failure).__name__
