"""Both engines treat resource options alike."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    pass
from tests.support.bench import Bench

pytestmark = pytest.mark.not_sampled


def test_protect(bench: Bench) -> None:
    """A protected resource is neither deleted nor replaced; a preview already fails."""
    bench.program("Sample('a', 'one', opts=Opts(protect=True))\nSample('b', 'two')")
    bench.stack.up()
    assert bench.resource("a").protect
    bench.program("Sample('b', 'two')")
    for operation in (bench.stack.preview, bench.stack.up):
        result = operation()
        assert result.exit_code != 0
        assert "because it is protected" in result.output
    bench.program("Sample('a', 'one', kind='other', opts=Opts(protect=True))\nSample('b', 'two')")
    assert bench.stack.preview().changes == {"same": 2, "replace": 1}
    for operation in (bench.stack.preview, bench.stack.up):
        result = operation()
        assert result.exit_code != 0
        assert "marked for protection" in result.output
    destroyed = bench.stack.destroy()
    assert (destroyed.exit_code != 0, destroyed.changes) == (True, {"delete": 1})
    assert bench.names() == ["a"]
    assert "create" not in bench.calls()


def test_children_inherit_protection(bench: Bench) -> None:
    """A child is protected as long as its parent is."""
    bench.program("Pair('p', 'one', opts=Opts(protect=True, retain_on_delete=True))")
    bench.stack.up()
    assert bench.resource("p-first").protect
    assert bench.resource("p-first").retain_on_delete
    bench.program("Pair('p', 'one')")
    assert bench.stack.up().changes == {"same": 4}
    assert not bench.resource("p-first").protect


def test_retain_on_delete(bench: Bench) -> None:
    """The resource leaves the state, and the provider is not called."""
    bench.program("Sample('a', 'one', opts=Opts(retain_on_delete=True))")
    bench.stack.up()
    bench.program("")
    result = bench.stack.up()
    assert (result.exit_code, result.changes) == (0, {"same": 1, "delete": 1})
    assert (bench.calls(), bench.names()) == ([], [])


def test_ignore_changes(bench: Bench) -> None:
    """A property whose changes are ignored keeps its old value."""
    bench.program("Sample('a', 'one')")
    bench.stack.up()
    bench.program("Sample('a', 'two', opts=Opts(ignore_changes=['value']))")
    assert bench.stack.up().changes == {"same": 2}
    assert bench.resource("a").inputs["value"] == "one"


@pytest.mark.parametrize("alias", ["pulumi.Alias(name='a')", "'urn:pulumi:dev::sample::{kind}::a'"])
def test_alias(bench: Bench, alias: str) -> None:
    """A renamed resource with an alias stays the same resource."""
    bench.program("Sample('a', 'one')")
    bench.stack.up()
    alias = alias.format(kind="pulumi-python:dynamic/sample:Sample")
    bench.program(f"Sample('b', 'one', opts=Opts(aliases=[{alias}]))")
    assert bench.stack.up().changes == {"same": 2}
    assert (bench.names(), bench.resource("b").id) == (["b"], "id-0")
    assert "delete" not in bench.calls()


def test_alias_of_a_component(bench: Bench) -> None:
    """The children of a renamed component are found under its old name."""
    bench.program("Pair('p', 'one')")
    bench.stack.up()
    bench.program("Pair('q', 'one', opts=Opts(aliases=[pulumi.Alias(name='p')]))")
    assert bench.stack.up().changes == {"same": 4}
    assert bench.names() == ["q", "q-first", "q-second"]


def test_rename_without_an_alias(bench: Bench) -> None:
    """The new resource is created first, the old one deleted last."""
    bench.program("Sample('a', 'one')")
    bench.stack.up()
    bench.program("Sample('b', 'one')")
    assert bench.stack.up().changes == {"same": 1, "create": 1, "delete": 1}
    assert bench.calls() == ["check", "create", "delete"]


def test_get(bench: Bench) -> None:
    """A resource that the program only reads is read in every run and never deleted."""
    bench.program("Sample('a', 'one')")
    bench.stack.up()
    id_ = bench.resource("a").id
    read = f"pulumi.export('echo', Sample('b', opts=Opts(id='{id_}')).echo)"
    bench.program(f"Sample('a', 'one')\n{read}")
    result = bench.stack.up()
    assert (result.exit_code, result.ops()) == (0, {"a": ("same",), "b": ("read",)})
    assert result.outputs == {"echo": "<one>"}
    assert bench.resource("b").external
    bench.program("Sample('a', 'one')")
    assert bench.stack.up().ops() == {"a": ("same",), "b": ("discard",)}
    assert "delete" not in bench.calls()
