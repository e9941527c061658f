"""How what is secret or not known yet is kept out of everything that people read.

The provider cannot tell a secret from another value: the engine takes the mark off before it calls
(seen on the Pulumi CLI 3.260). So the program, which can, passes on a second spelling of each setup
that holds Outputs, with stand-ins in the place of what must not or cannot be shown.
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

__all__ = ["masked", "secret_values", "shown", "stand_in_of_other"]


async def shown(value: Any) -> Any:
    """Return the `args.plain` *value* with stand-ins for its secret and not yet known leaves."""
    if isinstance(value, pulumi.Output):
        if await value.is_secret():
            return SECRET
        if not await value.is_known():
            return UNKNOWN
        return await shown(plain(await value.future()))
    if isinstance(value, dict):
        return {key: await shown(item) for key, item in value.items()}
    if isinstance(value, list):
        return [await shown(item) for item in value]
    return literals(value)


def secret_values(value: Any, stand_in: Any) -> set[str]:
    """Return the texts that `shown` hides: those of *value* where *stand_in* has a stand-in."""
    if stand_in == SECRET:
        return set(_texts(value))
    if isinstance(value, Mapping) and isinstance(stand_in, Mapping):
        pairs = [(value[key], stand_in[key]) for key in value if key in stand_in]
    elif isinstance(value, list) and isinstance(stand_in, list):
        pairs = list(zip(value, stand_in, strict=False))
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
            yield str(int(value))  # every number that the engine passes on is a float


def stand_in_of_other(setup: str, declared: str, shown: str) -> str:
    """Return what people may see of a *setup* that Traceloop has in the place of the declared one.

    Values that only Traceloop has are kept back: nobody can tell whether they were a secret once.

    Args:
        setup: what Traceloop has, as JSON.
        declared: what was declared, as JSON.
        shown: what people may see of that, as JSON.

    """
    before = json.loads(declared)
    secrets = secret_values(before, json.loads(shown))
    open_ = set(_texts(before)) - secrets

    def seen(value: Any, name: str = "") -> Any:
        if isinstance(value, dict):
            return {key: seen(item, key) for key, item in value.items()}
        if isinstance(value, list):
            return [seen(item, name) for item in value]
        if value in secrets:
            return SECRET
        return HIDDEN if name in ("value", "values") and value not in open_ else literals(value)

    return encoded(seen(json.loads(setup)))


#: A secret of fewer characters is hidden only where it stands by itself: hidden inside of words, it
#: would leave nothing of the text, and tell more than it hides.
SHORTEST_INSIDE_WORDS = 4


def masked(text: str, secrets: Iterable[str]) -> str:
    """Return *text* with a placeholder for each of *secrets*, in one pass.

    A secret is also found as JSON spells it, and on one line as `printable` does. One of fewer than
    `SHORTEST_INSIDE_WORDS` characters is hidden as a word of its own only (``"7"``, ``[7]``, but
    not in ``4711``), one of nothing but blanks not at all.
    """
    spellings = {
        spelling
        for secret in secrets
        for spelling in (secret, json.dumps(secret)[1:-1], printable(secret, len(secret) + 3))
        if spelling.strip()
    }
    if not spellings:
        return text
    # The longest first: one may be a part of another.
    patterns = map(_pattern, sorted(spellings, key=len, reverse=True))
    return re.sub("|".join(patterns), lambda _: SECRET, text)


def _pattern(spelling: str) -> str:
    pattern = re.escape(spelling)
    return pattern if len(spelling) >= SHORTEST_INSIDE_WORDS else rf"(?<!\w){pattern}(?!\w)"
