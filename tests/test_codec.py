"""Many setups in few strings: nothing is lost, and a change stays local."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pulumi_traceloop._codec import STRINGS, compressed, encoded, packed, repacked, unpacked

SETUP = {"evaluators": ["faithfulness"], "selector": [{"key": "é", "source": "span_attributes"}]}


def many(count: int = STRINGS + 1) -> dict[str, str]:
    return {f"m-{n}": encoded({**SETUP, "triggers": [n]}) for n in range(count)}


def strings(setups: dict[str, str]) -> dict[str, str]:
    found = packed(setups)
    assert found is not None
    return found


class TestPacked:
    def test_few_setups_have_a_string_each(self) -> None:
        assert packed(many(STRINGS)) is None

    @pytest.mark.parametrize("count", [STRINGS + 1, 5_000])
    def test_many_share_few_strings(self, count: int) -> None:
        assert len(strings(many(count))) <= STRINGS

    def test_each_string_is_a_json_object_of_setups(self) -> None:
        """`pulumi preview --diff` displays it as such."""
        found = [setups for text in strings(many()).values() for setups in [json.loads(text)]]
        assert {i: encoded(s) for setups in found for i, s in setups.items()} == many()

    def test_a_changed_setup_changes_one_string(self) -> None:
        old, new = strings(many()), strings({**many(), "m-7": encoded(SETUP)})
        assert sum(old[key] != new[key] for key in old) == 1

    def test_added_or_removed_setup_changes_one_string(self) -> None:
        old, new = strings(many()), strings({**many(), "one-more": encoded(SETUP)})
        assert sum(old.get(key) != new[key] for key in new) == 1

    def test_order_of_declaration_does_not_matter(self) -> None:
        assert strings(dict(reversed(many().items()))) == strings(many())


class TestUnpacked:
    @given(st.dictionaries(st.text(), st.lists(st.text())))
    def test_reverses_packing(self, triggers: dict[str, list[str]]) -> None:
        setups = many() | {i: encoded({**SETUP, "triggers": t}) for i, t in triggers.items()}
        assert unpacked({"setups": {}, "packed_setups": packed(setups)}) == setups

    def test_plain_and_packed_setups_combine(self) -> None:
        batch = {"setups": {"alone": "{}"}, "packed_setups": packed(many())}
        assert unpacked(batch) == {**many(), "alone": "{}"}

    def test_batch_without_setups(self) -> None:
        assert unpacked({}) == unpacked({"setups": {}, "packed_setups": None}) == {}


class TestCompressed:
    @given(st.text())
    def test_nothing_is_lost(self, trigger: str) -> None:
        setups = many() | {"m-7": encoded({**SETUP, "triggers": [trigger]})}
        assert unpacked({"packed_setups": compressed(packed(setups))}) == setups

    def test_is_one_short_string(self) -> None:
        found = compressed(packed(many(5_000)))
        assert found is not None
        (text,) = found.values()
        assert len(text) < len("".join(strings(many(5_000)).values())) / 5

    def test_nothing_to_compress(self) -> None:
        assert compressed(None) is None


class TestRepacked:
    def test_unchanged_setups_keep_their_text(self) -> None:
        batch = {"setups": {"alone": "{}"}, "packed_setups": packed(many())}
        assert repacked(unpacked(batch), batch) == batch

    def test_stays_packed_when_few_remain(self) -> None:
        batch = {"setups": {}, "packed_setups": packed(many())}
        assert repacked({"m-7": "{}"}, batch)["packed_setups"].keys() <= strings(many()).keys()

    def test_few_setups_stay_unpacked(self) -> None:
        batch = {"setups": {"a": "{}", "b": "{}"}}
        assert repacked({"a": "{}"}, batch) == {"setups": {"a": "{}"}, "packed_setups": None}
