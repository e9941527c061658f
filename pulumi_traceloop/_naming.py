"""How setups and resources are called: which external_ids can be, and what messages say."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pulumi

__all__ = ["declarer", "external_id_problem", "is_named", "resource_name"]


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
    """Return what is wrong with an external_id, or ``None``.

    ``.`` and ``..`` are path segments that HTTP clients and servers resolve even when encoded (RFC
    3986, 6.2.2.3), so no URL can carry them.
    """
    if not isinstance(external_id, str):
        return "must be a string"
    if not external_id.strip():
        return "must not be empty"
    if external_id in (".", ".."):
        return f'must not be "{external_id}": no URL can carry it'
    try:
        external_id.encode()
    except UnicodeEncodeError:
        return "must be valid Unicode text"
    return None


def is_named(name: str, patterns: Iterable[str]) -> bool:
    """Whether one of *patterns*, such as ``checkout-*``, is or matches *name*.

    A name may hold wildcards itself, so one that is equal counts.
    """
    return any(pattern == name or fnmatchcase(name, pattern) for pattern in patterns)
