"""Property values between engine, program and provider, as plain JSON values.

Secrets and unknown values keep their wire format. Only values for a provider lose the secret marks.
"""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from google.protobuf.struct_pb2 import Struct, Value

Bag = dict[str, Any]

SIGNATURE = "4dabf18193072939515e22adb298388d"
SECRET = "1b47061264138c4ac30d75fd1eb44270"
UNKNOWN = "04da6b54-80e4-46f7-96ec-b56ff0331ba9"


def is_secret(value: Any) -> bool:
    return isinstance(value, dict) and value.get(SIGNATURE) == SECRET


def make_secret(value: Any) -> Bag:
    return {SIGNATURE: SECRET, "value": value}


def holds(value: Any, test: Callable[[Any], bool]) -> bool:
    """Whether the value or a nested one passes the test."""
    if test(value):
        return True
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return any(holds(each, test) for each in inner)


def secret_names(*bags: Mapping[str, Any]) -> frozenset[str]:
    """Return the names of the properties that are or contain a secret."""
    return frozenset(k for bag in bags for k, v in bag.items() if holds(v, is_secret))


def map_secrets(value: Any, change: Callable[[Bag], Any]) -> Any:
    """Return the value with `change` applied to each outermost secret."""
    if is_secret(value):
        return change(value)
    if isinstance(value, dict):
        return {k: map_secrets(v, change) for k, v in value.items()}
    if isinstance(value, list):
        return [map_secrets(each, change) for each in value]
    return value


def plain(value: Any) -> Any:
    """Return the value without secret marks."""
    return map_secrets(value, lambda secret: plain(secret["value"]))


def masked(value: Any) -> str:
    """Return the value as text for display."""
    text = json.dumps(map_secrets(value, lambda _: "[secret]"), sort_keys=True)
    return text.replace('"[secret]"', "[secret]").replace(f'"{UNKNOWN}"', "[unknown]")


def seal(value: Any) -> Any:
    """Obfuscate the secrets, so that a search does not find them in the state. Not encryption."""

    def sealed(secret: Bag) -> Bag:
        text = base64.b64encode(json.dumps(secret["value"]).encode()).decode()
        return {SIGNATURE: SECRET, "sealed": text}

    return map_secrets(value, sealed)


def unseal(value: Any) -> Any:
    return map_secrets(
        value, lambda secret: make_secret(json.loads(base64.b64decode(secret["sealed"])))
    )


def annotate(outs: Bag, ins: Bag) -> Bag:
    """Mark the secrets of `ins` in `outs`, which a provider returned without marks."""
    marked = dict(outs)
    for name, value in ins.items():
        if name not in outs or is_secret(outs[name]):
            continue
        out = outs[name]
        if isinstance(out, dict) and isinstance(value, dict) and not is_secret(value):
            marked[name] = annotate(out, value)
        elif holds(value, is_secret):
            marked[name] = make_secret(out)
    return marked


def from_struct(struct: Struct) -> Bag:
    return {name: _from_value(value) for name, value in struct.fields.items()}


def _from_value(value: Value) -> Any:
    kind = value.WhichOneof("kind")
    if kind == "struct_value":
        return from_struct(value.struct_value)
    if kind == "list_value":
        return [_from_value(each) for each in value.list_value.values]
    if kind == "number_value":
        number = value.number_value
        return int(number) if number.is_integer() else number
    return None if kind in (None, "null_value") else getattr(value, kind)


def to_struct(bag: Mapping[str, Any]) -> Struct:
    from google.protobuf.struct_pb2 import Struct

    struct = Struct()
    struct.update(bag)
    return struct
