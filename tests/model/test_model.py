"""Random sequences of program edits, faults and kills, end to end.

These invariants hold after each operation:

- No setup is missing that the program declares and the service accepted.
- No setup is written or deleted that the stack neither declares nor owns.
- No equal setup is written.
- The API key and the secret appear in no output and no state.

After the last fault, two `up`s reach exactly the declared setups, apart from orphans of a kill
(written, never recorded, no longer declared), and the next preview is empty.

`TRACELOOP_SOAK=500` runs 500 sequences: `make soak`.
"""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings

from tests.engine import Kind, find_cli
from tests.support import API_KEY

from .plans import Plan, plans
from .sequence import Sequence
from .service import WatchedEmulator

_SOAK = int(os.environ.get("TRACELOOP_SOAK", "0"))
#: The sequences of one test.
_SHARE = 10 if _SOAK else 7
_SHARDS = max(1, _SOAK // _SHARE) if _SOAK else 2
#: One shard of this many also runs on the Pulumi CLI.
_CLI_SHARE = 20


def run(kind: Kind, plan: Plan, tally: Counter[str]) -> None:
    """Run one plan on a new stack and emulator."""
    with (
        tempfile.TemporaryDirectory() as directory,
        WatchedEmulator(API_KEY) as service,
    ):
        sequence = Sequence(
            kind,
            Path(directory),
            service,
            tally,
            read_by_id=plan.read_by_id,
            normalizes=plan.normalizes,
        )
        sequence.run(plan.steps)
    tally["sequence"] += 1


def run_many(kind: Kind, number: int, shard: int, tally: Counter[str]) -> None:
    """Run *number* plans; the shard is their seed."""

    @seed(shard)
    @settings(
        max_examples=number,
        database=None,
        deadline=None,
        phases=[Phase.generate, Phase.shrink]
        if "TRACELOOP_SHRINK" in os.environ
        else [Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(plans())
    def holds(plan: Plan) -> None:
        run(kind, plan, tally)

    holds()


class TestNothingIsLost:
    @pytest.fixture
    def tally(self, request: pytest.FixtureRequest) -> Iterator[Counter[str]]:
        """The counts of one test; `conftest` adds them up."""
        tally: Counter[str] = Counter()
        yield tally
        request.node.user_properties.append(("tally", dict(tally)))  # workers send plain dicts only

    @pytest.mark.parametrize("shard", range(_SHARDS))
    def test_on_the_test_engine(self, shard: int, tally: Counter[str]) -> None:
        run_many("test-engine", _SHARE, shard, tally)

    @pytest.mark.skipif(find_cli() is None, reason="no Pulumi CLI on PATH")
    @pytest.mark.parametrize("shard", range(max(1, _SHARDS // _CLI_SHARE)))
    def test_on_the_cli(self, shard: int, tally: Counter[str]) -> None:
        run_many("cli", _SHARE if _SOAK else 2, 1000 + shard, tally)
