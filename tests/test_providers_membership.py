"""The provider process of a group's membership: `providers/_membership.py`."""

from __future__ import annotations

from typing import Any

import pytest

from tests.engine.wire import UNKNOWN
from tests.support.provider import (
    DIFF_NONE,
    DIFF_SOME,
    MEMBERSHIP,
    Host,
    membership,
)


class TestCheckOfAMembership:
    def test_unknown_inputs_stay_unknown_in_a_preview(self, offline: Host) -> None:
        """The update must fit a saved plan."""
        declared = membership(["a", "b"], UNKNOWN, UNKNOWN)
        state = membership(["a"], ["a"], "env")
        assert offline.check(MEMBERSHIP, declared, state) == (
            membership(["a", "b"], UNKNOWN, "env"),
            [],
        )

    def test_nothing_changes_if_all_is_in_place(self, offline: Host) -> None:
        state = membership(["a", "b"], ["a", "b"], "env")
        declared = membership(["a", "b"], UNKNOWN, UNKNOWN)
        assert offline.check(MEMBERSHIP, declared, state) == (state, [])

    def test_known_inputs_stay(self, offline: Host) -> None:
        declared = membership(["a", "b"], ["a"], "new")
        assert offline.check(MEMBERSHIP, declared, membership(["b"], ["b"], "old")) == (
            declared,
            [],
        )


class TestDiffOfAMembership:
    @pytest.mark.parametrize(
        ("declared", "changes", "replaces"),
        [
            (membership(["a", "b"], ["a"], "env"), DIFF_NONE, []),
            (membership(["a", "b", "c"], ["a"], "env"), DIFF_SOME, []),
            (membership(["a"], ["a"], "env"), DIFF_SOME, []),  # "b" was removed, but never owned
            (membership(["a", "b"], ["a", "b"], "env"), DIFF_SOME, []),
            (membership(["a", "b"], ["a"], "other"), DIFF_SOME, []),
            (membership(["b"], ["b"], "env"), DIFF_SOME, ["external_ids"]),
            (membership([], [], "env"), DIFF_SOME, ["external_ids"]),
        ],
    )
    def test_only_a_removed_owned_setup_replaces_it(
        self, offline: Host, declared: dict[str, Any], changes: int, replaces: list[str]
    ) -> None:
        diff = offline.diff(MEMBERSHIP, membership(["a", "b"], ["a"], "env"), declared)
        assert diff.changes == changes
        assert list(diff.replaces) == replaces

    def test_unchanged_group_is_silent_in_a_preview(self, offline: Host) -> None:
        state = membership(["a"], ["a"], "env")
        declared, _ = offline.check(MEMBERSHIP, membership(["a"], UNKNOWN, UNKNOWN), state)
        assert offline.diff(MEMBERSHIP, state, declared).changes == DIFF_NONE
