"""The test engine against the real CLI: every scenario runs on both, with the same assertions."""

from __future__ import annotations

import json
import os
import select
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.engine import descendants, make_stack
from tests.engine.sample_provider import READ_TELLS_INPUTS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

from tests.support.bench import Bench


def test_create_same_update_delete(bench: Bench) -> None:
    """A resource goes through every plain step, and the provider is called once for each."""
    bench.program("pulumi.export('echo', Sample('a', 'one').echo)")
    created = bench.stack.up()
    assert (created.exit_code, created.changes) == (0, {"create": 2})
    assert created.ops() == {"a": ("create",)}
    assert created.outputs == {"echo": "<one>"}
    assert bench.calls() == ["check", "create"]
    assert bench.resource("a").inputs["value"] == "one"
    assert bench.resource("a").outputs["echo"] == "<one>"
    assert bench.resource("a").id == "id-0"

    same = bench.stack.up()
    assert (same.exit_code, same.changes) == (0, {"same": 2})
    assert same.ops() == {"a": ("same",)}

    bench.program("pulumi.export('echo', Sample('a', 'two').echo)")
    updated = bench.stack.up()
    assert (updated.exit_code, updated.changes) == (0, {"same": 1, "update": 1})
    assert updated.outputs == {"echo": "<two>"}
    assert bench.calls() == ["check", "diff", "update"]

    bench.program("")
    deleted = bench.stack.up()
    assert (deleted.exit_code, deleted.changes) == (0, {"same": 1, "delete": 1})
    assert deleted.outputs == {}
    assert bench.calls() == ["delete"]
    assert bench.names() == []


def test_preview_calls_neither_create_nor_update(bench: Bench) -> None:
    """A preview checks and diffs, passes on unknowns, and keeps the state."""
    bench.program("a = Sample('a', 'one')\nSample('b', a.echo)")
    result = bench.stack.preview()
    assert (result.exit_code, result.changes) == (0, {"create": 3})
    assert bench.calls() == ["check", "check"]
    assert "Unknown" in bench.recorded()[1]["value"]
    assert bench.names() == []

    bench.stack.up()
    bench.program("a = Sample('a', 'two')\nSample('b', a.echo)")
    result = bench.stack.preview()
    assert result.changes == {"same": 1, "update": 2}
    assert bench.calls() == ["check", "diff", "check", "diff"]
    assert bench.resource("a").inputs["value"] == "one"


def test_replace(bench: Bench) -> None:
    """A replacement is checked without the old inputs, and deletes the old resource last."""
    bench.program("a = Sample('a', 'one')\nSample('b', a.echo)")
    bench.stack.up()
    bench.program("a = Sample('a', 'two', kind='other')\nSample('b', a.echo)")
    assert bench.stack.preview().changes == {"same": 1, "replace": 1, "update": 1}
    bench.program("a = Sample('a', 'two', kind='other')\nSample('b', a.echo)")
    result = bench.stack.up()
    assert (result.exit_code, result.changes) == (0, {"same": 1, "replace": 1, "update": 1})
    steps = ("create-replacement", "replace", "delete-replaced")
    assert result.ops() == {"a": steps, "b": ("update",)}
    calls = ["check", "diff", "check", "create", "check", "diff", "update", "delete"]
    assert bench.calls() == calls
    assert [call["olds"] == [] for call in bench.recorded() if "olds" in call][:2] == [False, True]
    assert bench.resource("a").id == "id-2"


def test_replace_on_demand(bench: Bench) -> None:
    """`replace` replaces an unchanged resource, and rejects a missing one."""
    bench.program("Sample('a', 'one')")
    bench.stack.up()
    urn = bench.resource("a").urn
    bench.program("Sample('a', 'one')")
    result = bench.stack.up(replace=[urn])
    assert (result.exit_code, result.changes) == (0, {"same": 1, "replace": 1})
    assert bench.calls() == ["check", "create", "delete"]
    lost = bench.stack.up(replace=[urn + "-not"])
    assert lost.exit_code != 0
    assert "could not be found in the stack" in lost.output


def test_replacement_with_the_deletion_first(bench: Bench) -> None:
    """A provider may ask for the old one to be deleted before the new one is created."""
    bench.program("Sample('a', 'one')")
    bench.stack.up()
    bench.program("Sample('a', 'one', kind='delete-first', fail='create')")
    assert bench.stack.up().exit_code != 0
    assert bench.calls() == ["check", "diff", "check", "delete", "create"]
    bench.program("Sample('a', 'one', kind='delete-first')")
    result = bench.stack.up()
    assert (result.exit_code, result.changes) == (0, {"same": 1, "replace": 1})
    assert "delete" not in bench.calls()
    assert bench.names() == ["a"]


def test_replacement_in_a_program_that_fails(bench: Bench) -> None:
    """The old resource stays marked until a run succeeds; a refresh in between deletes nothing."""
    bench.program("Sample('a', 'one')")
    bench.stack.up()
    bench.program("Sample('a', 'one', kind='other')\nraise ValueError('not now')")
    failed = bench.stack.up()
    assert failed.exit_code != 0
    assert "ValueError: not now" in failed.output
    assert failed.ops() == {"a": ("create-replacement", "replace")}
    assert sorted(each.delete for each in bench.stack.state() if each.name == "a") == [False, True]

    assert bench.stack.refresh().exit_code == 0
    assert bench.names() == ["a", "a"]

    bench.program("Sample('a', 'one', kind='other')")
    result = bench.stack.up()
    assert (result.exit_code, result.changes) == (0, {"same": 2})
    assert result.ops() == {"a": ("same", "delete-replaced")}
    assert bench.calls() == ["check", "diff", "delete"]
    assert bench.recorded()[-1]["id"] == "id-0"
    assert bench.names() == ["a"]


def test_check_failure(bench: Bench) -> None:
    """A check failure names resource, property and reason; nothing after it is created."""
    bench.program("a = Sample('a', 'invalid')\nSample('b', a.echo)")
    for operation in (bench.stack.preview, bench.stack.up):
        result = operation()
        assert result.exit_code != 0
        assert "resource 'a': property value" in result.output
        assert "that will not do" in result.output
        assert "Traceback (most recent call last)" not in result.output or bench.kind == "cli"
    assert "create" not in bench.calls()
    assert bench.names() == []


def test_exception_in_the_provider(bench: Bench) -> None:
    """Finished steps stay in the state, dependants are not begun, and a rerun finishes."""
    bench.program(
        "a = Sample('a', 'one')\nb = Sample('b', a.echo, fail='create')\nSample('c', b.echo)"
    )
    result = bench.stack.up()
    assert result.exit_code != 0
    assert "no create today" in result.output
    assert result.changes == {"create": 2}
    assert [(step.op, step.urn.rsplit("::", 1)[1]) for step in result.failed] == [("create", "b")]
    assert bench.names() == ["a"]
    bench.program("a = Sample('a', 'one')\nb = Sample('b', a.echo)\nSample('c', b.echo)")
    assert bench.stack.up().changes == {"same": 2, "create": 2}


@pytest.mark.parametrize("method", ["check", "diff", "update"])
def test_exception_in_a_later_method(local: Bench, method: str) -> None:
    """An exception in any method ends the run and keeps the state."""
    local.program("Sample('a', 'one')")
    local.stack.up()
    local.program(f"Sample('a', 'two', fail='{method}')")
    result = local.stack.up()
    assert result.exit_code != 0
    assert f"no {method} today" in result.output
    assert local.resource("a").inputs["value"] == "one"


def test_failed_delete(bench: Bench) -> None:
    """A resource whose deletion failed stays in the state."""
    bench.program("Sample('a', 'one', fail='delete')")
    bench.stack.up()
    bench.program("")
    result = bench.stack.up()
    assert result.exit_code != 0
    assert "no delete today" in result.output
    assert bench.names() == ["a"]


def test_component(bench: Bench) -> None:
    """A component has inputs, outputs and children, and its steps count."""
    bench.program("pulumi.export('echo', Pair('p', 'one').second.echo)")
    result = bench.stack.up()
    assert (result.exit_code, result.changes) == (0, {"create": 4})
    assert result.outputs == {"echo": "<<one>>"}
    pair, second = bench.resource("p"), bench.resource("p-second")
    assert (pair.inputs, pair.outputs) == ({"value": "one"}, {"echo": "<<one>>"})
    assert second.parent == pair.urn
    assert "::sample:index:Pair$pulumi-python:dynamic/sample:Sample::p-second" in second.urn
    assert second.dependencies == (bench.resource("p-first").urn,)

    bench.program("pulumi.export('echo', Pair('p', 'two').second.echo)")
    assert bench.stack.up().changes == {"same": 1, "update": 3}
    destroyed = bench.stack.destroy()
    assert destroyed.changes == {"delete": 4}


def test_destroy_goes_from_dependants_to_dependencies(bench: Bench) -> None:
    """A dependency, by value or by declaration, is deleted after its dependants."""
    bench.program(
        "a = Sample('a', 'one')\nb = Sample('b', a.echo)\n"
        "Sample('c', 'three', opts=Opts(depends_on=[b]))"
    )
    bench.stack.up()
    result = bench.stack.destroy()
    assert (result.exit_code, result.changes) == (0, {"delete": 4})
    assert [step.urn.rsplit("::", 1)[1] for step in result.steps] == ["c", "b", "a", "sample-dev"]
    assert (bench.stack.state(), result.outputs) == ([], {})


def test_secrets(bench: Bench) -> None:
    """The provider gets a secret's value; state and terminal do not, and it stays secret."""
    bench.stack.set_config("sample:token", "T0PSECRET", secret=True)
    bench.stack.set_config("plain", "not secret")
    bench.program(
        "config = pulumi.Config()\n"
        "a = Sample('a', config.require_secret('token'))\n"
        "pulumi.export('echo', a.value)\n"
        "pulumi.export('plain', config.require('plain'))"
    )
    result = bench.stack.up()
    assert result.exit_code == 0
    assert result.outputs == {"echo": "T0PSECRET", "plain": "not secret"}
    assert "T0PSECRET" in bench.recorded()[1]["value"]
    a = bench.resource("a")
    assert a.inputs["value"] == a.outputs["value"] == "T0PSECRET"
    assert a.secrets == {"value"}
    # The sample provider copies its token into `echo`, which the engine cannot know.
    assert a.outputs["echo"] == "<T0PSECRET>T0PSECRET"
    bench.program("pulumi.export('echo', Sample('a', pulumi.Output.secret('hidden')).value)")
    bench.stack.remove_config("sample:token")
    result = bench.stack.up()
    assert result.outputs == {"echo": "hidden"}
    assert "[secret]" in result.output
    assert "hidden" not in result.output.replace("hidden>", "")


def test_additional_secret_outputs(bench: Bench) -> None:
    """A secret input and an additional secret output are sealed wherever they are stored."""
    bench.program(
        "opts = Opts(additional_secret_outputs=['echo'])\n"
        "Sample('a', pulumi.Output.secret('hidden'), opts=opts)"
    )
    assert bench.stack.up().exit_code == 0
    assert bench.resource("a").secrets == {"value", "echo"}
    assert bench.resource("a").outputs["echo"] == "<hidden>"
    assert "hidden" not in bench.stack.state_text()
    assert bench.stack.refresh().exit_code == 0
    assert "hidden" not in bench.stack.state_text()
    assert bench.stack.up().changes == {"same": 2}


def test_refresh(bench: Bench) -> None:
    """A refresh records drift and drops missing resources; `expect_no_changes` rejects both."""
    bench.program("a = Sample('a', 'one')\nSample('b', 'two', opts=Opts(depends_on=[a]))")
    bench.stack.up()
    quiet = bench.stack.refresh(expect_no_changes=True)
    assert (quiet.exit_code, quiet.changes) == (0, {"same": 3})

    drifted = {**json.loads(bench.remote("b").read_text()), "value": "drifted"}
    bench.remote("b").write_text(json.dumps(drifted))
    bench.remote("a").unlink()
    result = bench.stack.refresh(expect_no_changes=True)
    assert result.exit_code != 0
    assert result.changes == {"same": 1, "update": 1, "delete": 1}
    assert result.ops() == {"a": ("delete",), "b": ("update",)}
    assert bench.names() == ["b"]
    b = bench.resource("b")
    assert (b.outputs["value"], b.dependencies) == ("drifted", ())
    assert b.inputs["value"] == ("drifted" if READ_TELLS_INPUTS else "two")

    assert bench.stack.up().changes == {"same": 1, "update": 1, "create": 1}


def test_up_with_refresh(bench: Bench) -> None:
    """The refresh comes first in the same run and does not count as a change."""
    bench.program("Sample('a', 'one')")
    bench.stack.up()
    bench.remote("a").unlink()
    bench.program("Sample('a', 'one')")
    result = bench.stack.up(refresh=True)
    assert (result.exit_code, result.changes) == (0, {"same": 1, "create": 1})
    assert result.ops() == {"a": ("refresh", "create")}
    assert bench.calls() == ["read", "check", "create"]


def test_failed_refresh(bench: Bench) -> None:
    """A read that raises fails the refresh and keeps the resource."""
    bench.program("Sample('a', 'one', fail='read')")
    bench.stack.up()
    result = bench.stack.refresh()
    assert result.exit_code != 0
    assert "no read today" in result.output
    assert bench.names() == ["a"]


def test_diff_without_an_answer(bench: Bench) -> None:
    """If a provider's diff is undecided, the engine compares the inputs."""
    bench.program("Sample('a', 'one', kind='unsure')")
    bench.stack.up()
    assert bench.stack.up().changes == {"same": 2}
    bench.program("Sample('a', 'two', kind='unsure')")
    assert bench.stack.up().changes == {"same": 1, "update": 1}


def test_run_error_in_an_apply(bench: Bench) -> None:
    """The run fails with the message alone, and deletes nothing."""
    bench.program("Sample('a', 'one')\nSample('old', 'x')\npulumi.export('kept', 1)")
    bench.stack.up()
    bench.program(
        "a = Sample('a', 'two')\n"
        "def stop(_):\n"
        "    pulumi.log.error('one of them failed', resource=a)\n"
        "    raise pulumi.RunError('so this run has failed')\n"
        "pulumi.export('new', a.echo.apply(stop))"
    )
    result = bench.stack.up()
    assert result.exit_code != 0
    assert "error: so this run has failed" in result.output
    assert "error: one of them failed" in result.output
    assert "Traceback" not in result.output
    assert result.changes == {"same": 1, "update": 1}
    assert result.outputs == {"kept": 1}
    assert (bench.names(), "delete" in bench.calls()) == (["a", "old"], False)


def test_log_error_alone_does_not_fail(bench: Bench) -> None:
    """Messages are printed with their severity; an error alone does not fail the run."""
    bench.program(
        "a = Sample('a', 'one')\n"
        "pulumi.log.info('an information', a)\n"
        "pulumi.log.warn('a warning')\n"
        "pulumi.log.error('an error', a)\n"
        "pulumi.log.debug('a detail')"
    )
    result = bench.stack.up()
    assert result.exit_code == 0
    for text in ("an information", "warning: a warning", "error: an error"):
        assert text in result.output
    assert "a detail" not in result.output


def test_provider_and_program_may_print(bench: Bench) -> None:
    """Output of the provider and the program is printed, also in a preview."""
    bench.program("Sample('a', 'loud')\nprint('the program says hello')")
    for operation in (bench.stack.preview, bench.stack.up):
        output = operation().output
        assert "the provider says hello" in output
        assert "the program says hello" in output


def test_exception_in_the_program(bench: Bench) -> None:
    """The user's frames are printed; outputs after the exception keep their values."""
    bench.program("pulumi.export('kept', 1)")
    bench.stack.up()
    bench.program("Sample('a', 'one')\nraise KeyError('missing')")
    result = bench.stack.up()
    assert result.exit_code != 0
    assert "Program failed with an unhandled exception" in result.output
    assert "KeyError: 'missing'" in result.output
    assert "run_in_stack" not in result.output
    assert result.outputs == {"kept": 1}
    assert bench.names() == ["a"]


def test_duplicate_urn(bench: Bench) -> None:
    """Two resources with one name are rejected."""
    bench.program("Sample('a', 'one')\nSample('a', 'two')")
    result = bench.stack.up()
    assert result.exit_code != 0
    assert "Duplicate resource URN" in result.output


def test_lost_state(bench: Bench) -> None:
    """Without its state the engine creates everything again, with the same configuration."""
    bench.stack.set_config("sample:token", "abc", secret=True)
    bench.program("Sample('a', 'one')")
    bench.stack.up()
    bench.stack.lose_state()
    assert bench.stack.state() == []
    result = bench.stack.up()
    assert (result.exit_code, result.changes) == (0, {"create": 2})
    assert bench.resource("a").outputs["echo"] == "<one>abc"


def test_existing_project(bench: Bench, tmp_path: Path) -> None:
    """A stack made from a project runs a copy; opened again, it has its state."""
    source = tmp_path / "source"
    source.mkdir()
    (source / "Pulumi.yaml").write_text("name: given\nruntime: python\n")
    (source / "Pulumi.prod.yaml").write_text("config:\n  given:word: hello\n")
    (source / "helper.py").write_text("import pulumi\nword = pulumi.Config().require('word')\n")
    (source / "__main__.py").write_text("import helper, pulumi\npulumi.export('w', helper.word)\n")
    before = sorted(source.iterdir())
    folder = tmp_path / "other"
    results = []
    for _ in range(2):
        stack = make_stack(bench.kind, folder, stack="prod", env=bench.env, source=source)
        results.append(stack.up())
    assert [result.changes for result in results] == [{"create": 1}, {"same": 1}]
    assert results[0].outputs == {"w": "hello"}
    assert results[0].steps[0].urn == "urn:pulumi:prod::given::pulumi:pulumi:Stack::given-prod"
    assert sorted(source.iterdir()) == before


@pytest.fixture
def wait_for_slow_call(tmp_path: Path) -> Iterator[Callable[[], None]]:
    """Waits until a provider call that never ends has begun."""
    fifo = tmp_path / "server" / "fifo"
    fifo.parent.mkdir(exist_ok=True)
    os.mkfifo(fifo)
    end = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    yield lambda: _wait_until_readable(end)
    os.close(end)


@pytest.mark.skipif(sys.platform != "linux", reason="needs descriptors of processes")
def test_kill(bench: Bench, wait_for_slow_call: Callable[[], None]) -> None:
    """A killed run leaves its finished steps and no process; the next run continues."""
    bench.program("a = Sample('a', 'one')\nSample('b', a.echo, slow='create')")
    running = bench.stack.start_up()
    wait_for_slow_call()
    ended = _ends_of(running._process.pid)  # type: ignore[attr-defined]
    assert len(ended) > 2
    running.kill()
    result = running.wait()
    assert result.exit_code not in (0, 1)
    assert bench.names() == ["a"]
    for each in ended:
        _wait_until_readable(each)
        os.close(each)
    bench.program("a = Sample('a', 'one')\nSample('b', a.echo)")
    assert bench.stack.up().changes == {"same": 2, "create": 1}


@pytest.mark.skipif(sys.platform != "linux", reason="needs descriptors of processes")
def test_program_and_provider_end_with_the_engine(
    local: Bench, wait_for_slow_call: Callable[[], None]
) -> None:
    """No process outlives an engine that was killed alone."""
    local.program("Sample('a', 'one', slow='create')")
    running = local.stack.start_up()
    wait_for_slow_call()
    engine: int = running._process.pid  # type: ignore[attr-defined]
    ended = _ends_of(engine)
    assert len(ended) == 3
    os.kill(engine, signal.SIGKILL)
    running.wait()
    for each in ended:
        _wait_until_readable(each)
        os.close(each)


def test_unsupported_features_are_named(local: Bench) -> None:
    """An unsupported feature ends the run and is named."""
    for program, what in {
        "Sample('a', 'one', opts=Opts(deleted_with=Sample('b', 'x')))": "DeletedWith",
        "Sample('a', 'one', opts=Opts(ignore_changes=['value[0]']))": "the path value[0]",
        "Sample('a', 'one', opts=Opts(replace_on_changes=['value']))": "option replaceOnChanges",
        "Sample('a', 'one', opts=Opts(import_='x'))": "the option importId",
        "pulumi.CustomResource('other:a:B', 'b')": "a resource of type other:a:B",
        "pulumi.runtime.invoke('other:a:b', {})": "invoke of other:a:b",
    }.items():
        local.program("Sample('a', 'zero')")
        local.stack.up()
        local.program(program)
        result = local.stack.up()
        assert result.exit_code != 0, program
        assert what in result.output, program


def test_first_line_names_the_test_engine(local: Bench) -> None:
    """The output says that it is not Pulumi's, and is readable."""
    local.program("pulumi.export('echo', Sample('a', 'one').echo)")
    local.stack.up()
    local.program("pulumi.export('echo', Sample('a', 'loud').echo)")
    lines = local.stack.up().output.splitlines()
    assert lines[:-1] == [
        "This is the test engine of this package's own tests. It is not Pulumi.",
        "Updating (dev):",
        "",
        " ~  pulumi-python:dynamic/sample:Sample a updated [diff: ~value]",
        "",
        "Diagnostics:",
        "  pulumi:pulumi:Stack (sample-dev):",
        "    the provider says hello",
        "",
        "Outputs:",
        '  ~ echo: "<one>" => "<loud>"',
        "",
        "Resources:",
        "    ~ 1 updated",
        "    1 unchanged",
        "",
    ]
    assert lines[-1].startswith("Duration: ")


def _ends_of(pid: int) -> list[int]:
    """Return descriptors of a process and its descendants, readable after the process ends."""
    return [os.pidfd_open(each) for each in descendants(pid)]


def _wait_until_readable(descriptor: int) -> None:
    assert select.select([descriptor], [], [], 30)[0], "nothing came"
