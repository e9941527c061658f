"""Random sequences of program edits, faults and kills, end to end.

After each operation hold: nothing that the program declares and the service accepted is missing;
nothing that no stack declares or owns is touched; nothing that is equal already is written; the API
key and a secret appear nowhere. Once faults stop, two `up`s reach exactly what is declared, less
what a kill orphaned (written, never recorded, declared no more), and the next preview is empty.

`TRACELOOP_SOAK=500` runs so many sequences; `make soak` does.
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
#: How many sequences one test runs.
_SHARE = 10 if _SOAK else 7
_SHARDS = max(1, _SOAK // _SHARE) if _SOAK else 2
#: One sequence of so many is run on the Pulumi CLI as well.
_CLI_SHARE = 20


def run(kind: Kind, plan: Plan, tally: Counter[str]) -> None:
    """Run one plan in a world of its own."""
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
    """Run so many plans, the same ones each time."""

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
        """What is counted; the closing line adds it up over all tests."""
        tally: Counter[str] = Counter()
        yield tally
        request.node.user_properties.append(("tally", dict(tally)))  # workers pass on plain dicts

    @pytest.mark.parametrize("shard", range(_SHARDS))
    def test_on_the_test_engine(self, shard: int, tally: Counter[str]) -> None:
        run_many("test-engine", _SHARE, shard, tally)

    @pytest.mark.skipif(find_cli() is None, reason="no Pulumi CLI on PATH")
    @pytest.mark.parametrize("shard", range(max(1, _SHARDS // _CLI_SHARE)))
    def test_on_the_cli(self, shard: int, tally: Counter[str]) -> None:
        run_many("cli", _SHARE if _SOAK else 2, 1000 + shard, tally)
