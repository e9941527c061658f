"""How setups are spelled for the engine: each as JSON, and many of them in few strings.

The SDK and the engine handle every value of a resource by itself, and several times over in each
operation: they convert it, and the engine logs it too (seen on the Pulumi CLI 3.260). With ten
thousand values that takes most of the time. So a group with more than `STRINGS` setups has that
many values at most, each a JSON object of some setups; which ones, their external_ids decide, so
that a changed setup changes one value and ``pulumi preview --diff`` marks in it what changes.

What holds an Output stays by itself: a secret, or what is not known yet, makes its value one.

The provider gets a resource's outputs to compare with, not its old inputs, so the outputs repeat
the setups. Nobody reads them there: those of many strings are compressed into one.
"""

from __future__ import annotations

import json
import zlib
from base64 import b64decode, b64encode
from collections.abc import Collection, Iterator, Mapping
from functools import lru_cache
from typing import Any

__all__ = ["compressed", "encoded", "packed", "repacked", "unpacked"]

#: How many strings there are for the setups of a group.
STRINGS = 256

#: The key of the one string that has all others, compressed; theirs are hexadecimal.
_COMPRESSED = "zlib"

_ENCODER = json.JSONEncoder(
    sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
)


def encoded(value: Any) -> str:
    """Return what JSON has by itself as JSON, always in the same spelling."""
    return _ENCODER.encode(value)


def packed(setups: Mapping[str, str]) -> dict[str, str] | None:
    """Return *setups*, ``{external_id: canonical JSON}``, in few strings.

    ``None`` if there are not so many setups that it would help.
    """
    return _pack(setups) if len(setups) > STRINGS else None


def _pack(setups: Mapping[str, str]) -> dict[str, str]:
    members: dict[str, list[str]] = {}
    for external_id in sorted(setups):
        key = f"{zlib.crc32(external_id.encode(errors='surrogatepass')) % STRINGS:02x}"
        members.setdefault(key, []).append(f"{encoded(external_id)}:{setups[external_id]}")
    return {key: f"{{{','.join(texts)}}}" for key, texts in sorted(members.items())}


def unpacked(batch: Mapping[str, Any]) -> dict[str, Any]:
    """Return all setups of a batch's properties: ``{external_id: canonical JSON, or Unknown}``."""
    setups: dict[str, Any] = {}
    for text in _texts(batch.get("packed_setups") or {}):
        setups |= _unpack(text)
    return setups | (batch.get("setups") or {})


def compressed(packed_setups: Mapping[str, str] | None) -> dict[str, str] | None:
    """Return the strings of `packed` as outputs have them: as one."""
    if not packed_setups:
        return None
    return {_COMPRESSED: b64encode(zlib.compress(encoded(packed_setups).encode())).decode()}


def _texts(packed_setups: Mapping[str, str]) -> Iterator[str]:
    for key, text in packed_setups.items():
        if key == _COMPRESSED:
            yield from json.loads(zlib.decompress(b64decode(text, validate=True))).values()
        else:
            yield text


# A deployment sees the same strings again and again: checked, compared, sent.
@lru_cache(maxsize=16 * STRINGS)
def _unpack(text: str) -> Mapping[str, str]:
    return {external_id: encoded(setup) for external_id, setup in json.loads(text).items()}


def repacked(setups: Mapping[str, str], batch: Mapping[str, Any]) -> dict[str, Any]:
    """Return *setups* as inputs of the batch, each as it was in *batch*, by itself or packed."""
    alone: Collection[str] = batch.get("setups") or {}
    rest = {i: setup for i, setup in setups.items() if i not in alone}
    return {
        "setups": {i: setup for i, setup in setups.items() if i in alone},
        "packed_setups": _pack(rest) if rest else None,
    }
