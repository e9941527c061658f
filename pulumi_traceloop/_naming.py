"""Names of setups and resources: valid external_ids, and declarers in messages."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

if TYPE_CHECKING:
    import pulumi

__all__ = [
    "declarer",
    "external_id_problem",
    "is_named",
    "path_problem",
    "resource_name",
    "text_problem",
]

#: The longest encoded external_id, in bytes. A longer one could be written in bulk, but not read or
#: deleted: many gateways refuse URLs of 8 kB, some of 2 kB.
_LONGEST: Final = 2000

#: The start of ``str(output)`` and ``f"{output}"`` (pulumi.Output.__str__).
_OUTPUT: Final = "Calling __str__ on an Output"


def declarer(kind: str, name: str, opts: pulumi.ResourceOptions | None) -> str | pulumi.Output[str]:
    """Return a readable name that identifies the resource in the program.

    For example ``AutoMonitorSetupGroup "monitors"`` or, with parents,
    ``AutoMonitorSetupGroup "monitors" in my:Platform$my:Team "search"``: the qualified type and the
    name, which are unique in a stack as in the URN.
    """
    label = f'{kind} "{name}"'
    parent = opts.parent if opts else None
    if parent is None:
        return label

    from pulumi import Output

    # Without the Output's dependency: one on a component includes all of its children.
    urn: Output[str | None] = Output.from_input(parent.urn.future())
    return urn.apply(lambda known: label + _location(known))


def _location(urn: str | None) -> str:
    """Return the location of a resource whose parent has this URN."""
    _, _, qualified_type, name = (urn or ":::::").split("::", 3)
    chain = qualified_type.removeprefix("pulumi:pulumi:Stack").removeprefix("$")
    return f' in {chain} "{name}"' if chain else ""


def resource_name(declared_by: str) -> str:
    """Return the resource's name without its type and parents."""
    return declared_by.split('"')[1] if declared_by.count('"') > 1 else declared_by


def external_id_problem(external_id: object) -> str | None:
    """Return why an external_id cannot be declared, or ``None``.

    Stricter than `path_problem`, so that setups of earlier versions can be read and deleted.
    """
    if reason := path_problem(external_id):
        return reason
    text = str(external_id)
    if reason := text_problem(text):
        return reason
    if text != text.strip():
        return "must not begin or end with a blank"
    # Skip the slow encoding of short ids: a character is at most twelve bytes.
    if 12 * len(text) > _LONGEST < (length := len(quote(text, safe=""))):
        return f"is too long for a URL: {length:,} bytes when encoded, and {_LONGEST:,} are allowed"
    return None


def path_problem(external_id: object) -> str | None:
    """Return why a URL cannot contain an external_id, or ``None``.

    ``.`` and ``..`` are path segments that HTTP clients and servers resolve even when encoded (RFC
    3986, 6.2.2.3).
    """
    if not isinstance(external_id, str):
        return "must be a string"
    if not external_id.strip():
        return "must not be empty"
    if external_id in (".", ".."):
        return f'must not be "{external_id}": no URL can carry it'
    return _unicode_problem(external_id)


def text_problem(text: str) -> str | None:
    """Return why a text cannot be intended or sent, or ``None``."""
    if _OUTPUT in text:
        return (
            "is the text of an Output, not its value: use the Output itself, or"
            ' pulumi.Output.format("...{0}", output) for a text around it'
        )
    return _unicode_problem(text)


def _unicode_problem(text: str) -> str | None:
    if text.isascii():
        return None
    try:
        text.encode()
    except UnicodeEncodeError:
        return "must be valid Unicode text"
    return None


def is_named(name: str, patterns: Iterable[str]) -> bool:
    """Whether *name* equals or matches one of *patterns*, such as ``checkout-*``.

    Equality matters because a name may contain wildcards.
    """
    return any(pattern == name or fnmatchcase(name, pattern) for pattern in patterns)
