"""Valid external_ids: `_naming.py`."""

from __future__ import annotations

import pytest

from pulumi_traceloop._naming import external_id_problem, is_named, path_problem


class TestExternalIds:
    @pytest.mark.parametrize(
        "external_id", ["m", "a/b", "...", ".a", "é 漢 🙂", "%2e", "bulk", "a" * 2000, "é" * 333]
    )
    def test_almost_any_text_is_valid(self, external_id: str) -> None:
        assert external_id_problem(external_id) is None

    @pytest.mark.parametrize(
        ("external_id", "reason"),
        [
            (None, "must be a string"),
            (7, "must be a string"),
            ("", "must not be empty"),
            (" \t", "must not be empty"),
            (".", 'must not be "."'),
            ("..", 'must not be ".."'),
            ("a\ud800", "must be valid Unicode text"),
            (" a", "must not begin or end with a blank"),
            ("a\n", "must not begin or end with a blank"),
            ("a\u00a0", "must not begin or end with a blank"),
            (
                "a" * 2001,
                "is too long for a URL: 2,001 bytes when encoded, and 2,000 are allowed",
            ),
            ("é" * 334, "is too long for a URL: 2,004 bytes"),
            ("m-Calling __str__ on an Output[T] is not supported.", "is the text of an Output"),
        ],
    )
    def test_invalid_external_id_is_rejected(self, external_id: object, reason: str) -> None:
        assert (external_id_problem(external_id) or "").startswith(reason)

    @pytest.mark.parametrize(
        "external_id", [" a", "a\n", "a" * 4000, "Calling __str__ on an Output"]
    )
    def test_external_ids_of_earlier_versions_can_be_read_and_deleted(
        self, external_id: str
    ) -> None:
        assert external_id_problem(external_id)
        assert path_problem(external_id) is None

    @pytest.mark.parametrize("external_id", [None, "", " ", ".", "..", "a\ud800"])
    def test_external_id_that_no_path_can_carry(self, external_id: object) -> None:
        assert path_problem(external_id)


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [(["a-*"], True), (["b", "a-[1]"], True), (["a-?"], False), ([], False), (["A-*"], False)],
)
def test_name_matches_itself_and_patterns(patterns: list[str], expected: bool) -> None:
    assert is_named("a-[1]", patterns) is expected
