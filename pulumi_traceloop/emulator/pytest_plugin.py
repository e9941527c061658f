"""The pytest fixture `traceloop_emulator`, registered by entry point."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .server import Emulator


@pytest.fixture
def traceloop_emulator() -> Iterator[Emulator]:
    """A fresh emulator of the Traceloop API: `.url`, `.api_key`, `.setups`, `.inject(...)`."""
    try:
        from .server import Emulator
    except ModuleNotFoundError as error:
        pytest.fail(
            f'{error}: install "pulumi-traceloop[emulator]" to use this fixture', pytrace=False
        )
    with Emulator() as emulator:
        yield emulator
