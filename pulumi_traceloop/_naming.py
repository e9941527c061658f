"""How setups and resources are called: which external_ids can be, and what messages say."""

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

#: Longer external_ids, in bytes once encoded, could be written in bulk and then neither be read nor
#: deleted: many gateways refuse URLs of 8 kB, some of 2 kB.
_LONGEST: Final = 2000

#: What ``str(output)`` and ``f"{output}"`` begin with (pulumi.Output.__str__).
_OUTPUT: Final = "Calling __str__ on an Output"


def declarer(kind: str, name: str, opts: pulumi.ResourceOptions | None) -> str | pulumi.Output[str]:
    """Return what identifies the resource in the program and what a person calls it.

    For example ``AutoMonitorSetupGroup "monitors"`` or, below other resources,
    ``AutoMonitorSetupGroup "monitors" in my:Platform$my:Team "search"``: the whole chain of types,
    since no two resources of one stack have that and their names in common (the URN is made of it).
    """
    label = f'{kind} "{name}"'
    parent = opts.parent if opts else None
    if parent is None:
        return label

    from pulumi import Output

    # Without the Output's dependency: on a component, that is one on all of its children.
    urn: Output[str | None] = Output.from_input(parent.urn.future())
    return urn.apply(lambda known: label + _place(known))


def _place(urn: str | None) -> str:
    """Return where a resource with a parent of this URN is."""
    _, _, qualified_type, name = (urn or ":::::").split("::", 3)
    chain = qualified_type.removeprefix("pulumi:pulumi:Stack").removeprefix("$")
    return f' in {chain} "{name}"' if chain else ""


def resource_name(declared_by: str) -> str:
    """Return the resource's name alone."""
    return declared_by.split('"')[1] if declared_by.count('"') > 1 else declared_by


def external_id_problem(external_id: object) -> str | None:
    """Return why no setup can be declared under an external_id, or ``None``.

    It is stricter than `path_problem`: what an earlier version stored can still be read and
    deleted.
    """
    if reason := path_problem(external_id):
        return reason
    text = str(external_id)
    if reason := text_problem(text):
        return reason
    if text != text.strip():
        return "must not begin or end with a blank"
    # A character is twelve bytes at most, and encoding takes long.
    if 12 * len(text) > _LONGEST < (length := len(quote(text, safe=""))):
        return (
            f"is too long for a URL: {length:,} bytes once it is encoded, and {_LONGEST:,} are"
            " allowed"
        )
    return None


def path_problem(external_id: object) -> str | None:
    """Return why no URL can carry an external_id, or ``None``.

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
    """Return why a text cannot be meant or sent, or ``None``."""
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
    """Whether one of *patterns*, such as ``checkout-*``, is or matches *name*.

    A name may hold wildcards itself, so one that is equal counts.
    """
    return any(pattern == name or fnmatchcase(name, pattern) for pattern in patterns)
