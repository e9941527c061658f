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
        news = membership(["a", "b"], UNKNOWN, UNKNOWN)
        olds = membership(["a"], ["a"], "env")
        assert offline.check(MEMBERSHIP, news, olds) == (
            membership(["a", "b"], UNKNOWN, "env"),
            [],
        )

    def test_nothing_changes_if_all_is_in_place(self, offline: Host) -> None:
        olds = membership(["a", "b"], ["a", "b"], "env")
        news = membership(["a", "b"], UNKNOWN, UNKNOWN)
        assert offline.check(MEMBERSHIP, news, olds) == (olds, [])

    def test_known_inputs_stay(self, offline: Host) -> None:
        news = membership(["a", "b"], ["a"], "new")
        assert offline.check(MEMBERSHIP, news, membership(["b"], ["b"], "old")) == (news, [])


class TestDiffOfAMembership:
    @pytest.mark.parametrize(
        ("news", "changes", "replaces"),
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
        self, offline: Host, news: dict[str, Any], changes: int, replaces: list[str]
    ) -> None:
        diff = offline.diff(MEMBERSHIP, membership(["a", "b"], ["a"], "env"), news)
        assert diff.changes == changes
        assert list(diff.replaces) == replaces

    def test_unchanged_group_is_silent_in_a_preview(self, offline: Host) -> None:
        olds = membership(["a"], ["a"], "env")
        news, _ = offline.check(MEMBERSHIP, membership(["a"], UNKNOWN, UNKNOWN), olds)
        assert offline.diff(MEMBERSHIP, olds, news).changes == DIFF_NONE
