"""How resources are called in messages, and told apart where one setup has two of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pulumi

__all__ = ["declarer", "resource_name"]


def declarer(kind: str, name: str, opts: pulumi.ResourceOptions | None) -> str:
    """Return what a person calls the resource, such as ``AutoMonitorSetupGroup "monitors"``."""
    parent = opts.parent if opts else None
    where = f' in {parent.pulumi_resource_type} "{parent.pulumi_resource_name}"' if parent else ""
    return f'{kind} "{name}"{where}'


def resource_name(declared_by: str) -> str:
    """Return the resource's name alone."""
    return declared_by.split('"')[1] if declared_by.count('"') > 1 else declared_by
