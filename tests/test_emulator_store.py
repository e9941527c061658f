"""What survives the emulator's end, and how much it holds: `emulator/store.py`."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from pathlib import Path
from typing import Any

import pytest

from pulumi_traceloop.emulator import Emulator
from tests.support.api import (
    CONTENT,
    SETUPS,
    Api,
    setup,
)


def test_setups_and_custom_evaluators_survive_a_restart(tmp_path: Path) -> None:
    data = str(tmp_path / "setups.db")
    with Emulator(data=data, evaluators=["my-judge"]) as emulator:
        Api(emulator.url, emulator.api_key).upsert("a/b", {**CONTENT, "evaluators": ["my-judge"]})
        Api(emulator.url, emulator.api_key).upsert("gone")
        before = emulator.setups["a/b"]
        ids = {s["id"] for s in emulator.setups.values()}
        emulator.delete("gone")
    with Emulator(data=data, api_key="new-key") as emulator:
        assert emulator.setups == {"a/b": before}
        fresh = Api(emulator.url, emulator.api_key).upsert(
            "n", {**CONTENT, "evaluators": ["my-judge"]}
        )
        assert fresh.status == 201
        assert fresh.json["id"] not in ids


@pytest.mark.parametrize("content", ["text", "sqlite"])
def test_foreign_file_is_rejected_and_unchanged(tmp_path: Path, content: str) -> None:
    path = tmp_path / "other.db"
    if content == "text":
        path.write_text("not a database, and long enough to be sure of it " * 50)
    else:
        with contextlib.closing(sqlite3.connect(path)) as other:
            other.execute("CREATE TABLE setups (a)")
    before = path.read_bytes()
    with pytest.raises(ValueError, match="not a data file of this emulator"):
        Emulator(data=str(path))
    assert path.read_bytes() == before


def test_ids_depend_on_the_seed_only() -> None:
    def made(seed: int) -> Any:
        with Emulator(seed=seed) as emulator:
            return Api(emulator.url, emulator.api_key).upsert("m").json["id"]

    assert made(0) == made(0)
    assert made(0) != made(1)


@pytest.mark.timed
def test_ten_thousand_setups_are_listed_in_well_under_a_second(
    api: Api, emulator: Emulator
) -> None:
    for start in range(0, 10_000, 100):
        api.bulk(*(setup(f"m-{i}") for i in range(start, start + 100)))
    api.list()
    begin = time.monotonic()
    reply = api.call("GET", SETUPS)
    assert time.monotonic() - begin < 1
    assert len(reply.json) == 10_000
