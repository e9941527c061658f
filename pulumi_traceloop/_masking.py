"""Keeps secret and unknown values out of plans, errors and logs.

The provider cannot recognize secrets: the engine removes the mark before it calls (seen on the
Pulumi CLI 3.260). The program can, so for each setup with Outputs it passes a second, display
version with placeholders for secret and unknown values.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import pulumi

from ._codec import encoded
from ._describe import HIDDEN, SECRET, UNKNOWN, literals
from ._text import printable
from .args import plain

__all__ = ["displayed", "masked", "redacted", "secret_values"]


async def displayed(value: Any) -> Any:
    """Return the `args.plain` *value* with placeholders for its secret and unknown leaves."""
    if isinstance(value, pulumi.Output):
        if await value.is_secret():
            return SECRET
        if not await value.is_known():
            return UNKNOWN
        return await displayed(plain(await value.future()))
    if isinstance(value, dict):
        return {key: await displayed(item) for key, item in value.items()}
    if isinstance(value, list):
        return [await displayed(item) for item in value]
    return literals(value)


def secret_values(value: Any, display: Any) -> set[str]:
    """Return the texts of *value* for which its *display* version has a placeholder."""
    if display == SECRET:
        return set(_texts(value))
    if isinstance(value, Mapping) and isinstance(display, Mapping):
        pairs = [(value[key], display[key]) for key in value if key in display]
    elif isinstance(value, list) and isinstance(display, list):
        pairs = list(zip(value, display, strict=False))
    else:
        return set()
    return {text for pair in pairs for text in secret_values(*pair)}


def _texts(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)
    elif isinstance(value, (str, int, float)) and value != "":
        yield str(value)
        if isinstance(value, float) and value.is_integer():
            yield str(int(value))  # the engine passes every number as a float


def redacted(remote: str, declared: str, display: str) -> str:
    """Return the display version of a *remote* setup.

    Values that only the remote setup has are hidden: they may have been a secret.

    Args:
        remote: the setup in Traceloop, as JSON.
        declared: the declared setup, as JSON.
        display: the display version of the declared setup, as JSON.

    """
    setup = json.loads(declared)
    secrets = secret_values(setup, json.loads(display))
    public = set(_texts(setup)) - secrets

    def redact(value: Any, name: str = "") -> Any:
        if isinstance(value, dict):
            return {key: redact(item, key) for key, item in value.items()}
        if isinstance(value, list):
            return [redact(item, name) for item in value]
        if value in secrets:
            return SECRET
        return HIDDEN if name in ("value", "values") and value not in public else literals(value)

    return encoded(redact(json.loads(remote)))


#: Shorter secrets, in characters, are masked as separate words only: masking them inside words
#: would destroy the text and reveal them.
SHORTEST_INSIDE_WORDS = 4


def masked(text: str, secrets: Iterable[str]) -> str:
    """Return *text* with a placeholder for each of *secrets*, in one pass.

    Secrets are also found in their JSON encoding and as `printable` text. A secret shorter than
    `SHORTEST_INSIDE_WORDS` is masked as a separate word only (``"7"``, ``[7]``, but not ``4711``),
    a blank one never.
    """
    variants = {
        variant
        for secret in secrets
        for variant in (
            secret,
            json.dumps(secret)[1:-1],
            json.dumps(secret, ensure_ascii=False)[1:-1],
            printable(secret, len(secret) + 3),
        )
        if variant.strip()
    }
    if not variants:
        return text
    # The longest first: one may be a part of another.
    patterns = map(_pattern, sorted(variants, key=len, reverse=True))
    return re.sub("|".join(patterns), lambda _: SECRET, text)


def _pattern(secret: str) -> str:
    pattern = re.escape(secret)
    return pattern if len(secret) >= SHORTEST_INSIDE_WORDS else rf"(?<!\w){pattern}(?!\w)"
