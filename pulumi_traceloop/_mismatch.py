"""Describes why a response is not as the API documents it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic_core import ValidationError

__all__ = ["mismatch"]

_JSON_TYPES = {
    bool: "a boolean",
    int: "a number",
    float: "a number",
    str: "a string",
    list: "a list",
    dict: "an object",
    type(None): "null",
}
_EXPECTED = {"string_type": "a string", "list_type": "a list", "dataclass_type": "an object"}


def mismatch(error: ValidationError, within: str = "") -> str:
    """Return the first error of a response: the path and the type found, without values.

    Args:
        error: of the validation.
        within: the path of the validated value.

    """
    details = error.errors(include_url=False, include_context=False)[0]
    path = _path(details["loc"], within)
    if details["type"] == "missing":
        return f"{path} is missing"
    if details["type"] in _EXPECTED and path:
        found = _JSON_TYPES.get(type(details["input"]), "something else")
        return f"{path} should be {_EXPECTED[details['type']]}, but is {found}"
    return f"{path}: {details['msg']}" if path else details["msg"]


def _path(parts: Iterable[int | str], path: str) -> str:
    for part in parts:
        path += f"[{part}]" if isinstance(part, int) else f".{part}" if path else part
    return path
