"""The providers that every stack's state refers to: `providers/__init__.py`."""

from __future__ import annotations

import base64
import pickletools
import sys

import pytest
from pulumi.dynamic.dynamic import serialize_provider

from pulumi_traceloop import (
    AutoMonitorSetup,
    AutoMonitorSetupGroup,
    providers,
)
from tests.support.programs import DICT, Program

#: The `__provider` in every stack's state: a reference to a module and a class, which is
#: the same on each Python from 3.10 to 3.13 (pickle's default protocol is 4 on all of these).
#: It must never change: stacks could no longer load their provider, and each resource would differ.
PROVIDERS = {
    "AutoMonitorSetupProvider": (
        "gASVPgAAAAAAAACMGnB1bHVtaV90cmFjZWxvb3AucHJvdmlkZXJzlIwYQXV0b01vbml0b3JTZXR1cFByb3ZpZGVylJOU"
        "KYGULg=="
    ),
    "AutoMonitorSetupBatchProvider": (
        "gASVQwAAAAAAAACMGnB1bHVtaV90cmFjZWxvb3AucHJvdmlkZXJzlIwdQXV0b01vbml0b3JTZXR1cEJhdGNoUHJvdmlk"
        "ZXKUk5QpgZQu"
    ),
    "AutoMonitorSetupMembershipProvider": (
        "gASVSAAAAAAAAACMGnB1bHVtaV90cmFjZWxvb3AucHJvdmlkZXJzlIwiQXV0b01vbml0b3JTZXR1cE1lbWJlcnNoaXBQ"
        "cm92aWRlcpSTlCmBlC4="
    ),
}


class TestStateFormat:
    @pytest.mark.skipif(sys.version_info >= (3, 14), reason="pickle's default protocol is 5 there")
    @pytest.mark.parametrize("name", PROVIDERS)
    def test_provider_is_pinned(self, name: str) -> None:
        assert serialize_provider(getattr(providers, name)()) == PROVIDERS[name]

    @pytest.mark.parametrize("name", PROVIDERS)
    def test_provider_is_stored_by_reference(self, name: str) -> None:
        """On every Python, whatever its pickle protocol."""
        blob = base64.b64decode(serialize_provider(getattr(providers, name)()))
        strings = [arg for _, arg, _ in pickletools.genops(blob) if isinstance(arg, str)]
        assert strings == ["pulumi_traceloop.providers", name]

    def test_provider_is_not_a_secret(self, program: Program) -> None:
        """Else a diff would display it, and each preview of a stack would have to decrypt it."""
        program.run(lambda: (AutoMonitorSetup("m", **DICT), AutoMonitorSetupGroup("g", {})))
        blobs = {r.inputs["__provider"] for r in program.registered if "__provider" in r.inputs}
        assert blobs == {serialize_provider(getattr(providers, name)()) for name in PROVIDERS}
