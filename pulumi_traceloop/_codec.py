"""Encodes setups as Pulumi property values: each as JSON, or many packed in few strings.

In each operation, the SDK and the engine convert and log every value of a resource several times
(seen on the Pulumi CLI 3.260). With ten thousand values this takes most of the time. So a group
with more than `STRINGS` setups has at most that many values, each a JSON object of several setups.
A hash of the external_id selects the value, so a changed setup changes one value, and
``pulumi preview --diff`` marks the difference in it.

A setup that contains an Output is not packed: a secret or unknown part would make the whole value
secret or unknown.

`diff` receives a resource's outputs, not its old inputs, so the outputs repeat the setups. Packed
ones are compressed into one string there.
"""

from __future__ import annotations

import json
import zlib
from base64 import b64decode, b64encode
from collections.abc import Collection, Iterator, Mapping
from functools import lru_cache
from typing import Any

__all__ = [
    "SETUP_PARTS",
    "compressed",
    "encoded",
    "packed",
    "repacked",
    "spec_inputs",
    "unpacked",
]

#: The most strings for the packed setups of a group.
STRINGS = 256

#: The key of the string that contains all others, compressed. The other keys are hexadecimal.
_COMPRESSED = "zlib"

#: The inputs of an `AutoMonitorSetup` that make up the setup itself.
SETUP_PARTS = ("selector", "evaluators", "evaluator_configs", "triggers")

_ENCODER = json.JSONEncoder(
    sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
)


def encoded(value: Any) -> str:
    """Return a JSON value as canonical JSON."""
    return _ENCODER.encode(value)


def packed(setups: Mapping[str, str]) -> dict[str, str] | None:
    """Pack *setups*, ``{external_id: canonical JSON}``; ``None`` if there are at most `STRINGS`."""
    return _pack(setups) if len(setups) > STRINGS else None


def _pack(setups: Mapping[str, str]) -> dict[str, str]:
    members: dict[str, list[str]] = {}
    for external_id in sorted(setups):
        key = f"{zlib.crc32(external_id.encode(errors='surrogatepass')) % STRINGS:02x}"
        members.setdefault(key, []).append(f"{encoded(external_id)}:{setups[external_id]}")
    return {key: f"{{{','.join(texts)}}}" for key, texts in sorted(members.items())}


def unpacked(batch: Mapping[str, Any]) -> dict[str, Any]:
    """Return all setups of a batch: ``{external_id: canonical JSON, or Unknown}``."""
    setups: dict[str, Any] = {}
    for text in _texts(batch.get("packed_setups") or {}):
        setups |= _unpack(text)
    return setups | (batch.get("setups") or {})


def compressed(packed_setups: Mapping[str, str] | None) -> dict[str, str] | None:
    """Compress the strings of `packed` into one, for outputs."""
    if not packed_setups:
        return None
    return {_COMPRESSED: b64encode(zlib.compress(encoded(packed_setups).encode())).decode()}


def _texts(packed_setups: Mapping[str, str]) -> Iterator[str]:
    for key, text in packed_setups.items():
        if key == _COMPRESSED:
            yield from json.loads(zlib.decompress(b64decode(text, validate=True))).values()
        else:
            yield text


# Cached: each string is checked, compared and sent.
@lru_cache(maxsize=16 * STRINGS)
def _unpack(text: str) -> Mapping[str, str]:
    return {external_id: encoded(setup) for external_id, setup in json.loads(text).items()}


def repacked(setups: Mapping[str, str], batch: Mapping[str, Any]) -> dict[str, Any]:
    """Return *setups* as inputs of a batch, each packed or not, as in *batch*."""
    alone: Collection[str] = batch.get("setups") or {}
    rest = {i: setup for i, setup in setups.items() if i not in alone}
    return {
        "setups": {i: setup for i, setup in setups.items() if i in alone},
        "packed_setups": _pack(rest) if rest else None,
    }


def spec_inputs(props: Mapping[str, Any]) -> dict[str, Any]:
    """Return the inputs of an `AutoMonitorSetup` that make up the setup itself."""
    return {key: props[key] for key in SETUP_PARTS if props.get(key) is not None}
