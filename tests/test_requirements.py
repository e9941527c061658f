"""The lowest versions that pyproject.toml allows are the ones that `make test-lowest` installs."""

from __future__ import annotations

import re
from collections.abc import Iterator

from tests.support import REPOSITORY

#: A requirement with a lower bound, as pyproject.toml writes them: name, version.
BOUND = re.compile(r'"([A-Za-z0-9._-]+)>=([0-9.]+)[^"]*"')
PIN = re.compile(r"^([a-z0-9._-]+)==(\S+)", re.MULTILINE)


def lists(*names: str) -> Iterator[str]:
    """Yield what these lists of pyproject.toml hold; Python 3.10 cannot read TOML itself."""
    text = (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")
    for name in names:
        found = re.search(rf"^{name} = \[(.*?)\]$", text, re.MULTILINE | re.DOTALL)
        assert found, name
        yield found[1]


def release(version: str) -> tuple[int, ...]:
    """Return the version's numbers; 2.11 and 2.11.0 are equal."""
    numbers = [int(number) for number in version.split(".")]
    while numbers and not numbers[-1]:
        del numbers[-1]
    return tuple(numbers)


def test_lowest_versions_are_the_lower_bounds() -> None:
    """If not: `uv pip compile`, as the head of requirements-lowest.txt says."""
    text = (REPOSITORY / "requirements-lowest.txt").read_text(encoding="utf-8")
    pins = dict(PIN.findall(text))
    bounds: dict[str, str] = {}
    for listed in lists("dependencies", "cli", "emulator", "test"):
        found = BOUND.findall(listed)
        assert len(found) == listed.count('"') // 2, listed
        bounds |= dict(found)
    assert {name: release(pins[name]) for name in bounds} == {
        name: release(version) for name, version in bounds.items()
    }


def test_requirements_files_have_no_index_and_no_local_path() -> None:
    for path in REPOSITORY.glob("requirements-*.txt"):
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"://|--(extra-)?index|(^|[\s=])/", text, re.MULTILINE), path.name
