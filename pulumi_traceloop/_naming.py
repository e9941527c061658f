"""How setups and resources are called: which external_ids can be, and what messages say."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pulumi

__all__ = ["declarer", "external_id_problem", "resource_name"]


def declarer(kind: str, name: str, opts: pulumi.ResourceOptions | None) -> str:
    """Return what a person calls the resource, such as ``AutoMonitorSetupGroup "monitors"``."""
    parent = opts.parent if opts else None
    where = f' in {parent.pulumi_resource_type} "{parent.pulumi_resource_name}"' if parent else ""
    return f'{kind} "{name}"{where}'


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
