"""`python -m pulumi_traceloop.emulator`."""

from __future__ import annotations

import contextlib
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from pulumi_traceloop.emulator import Emulator
from pulumi_traceloop.emulator.__main__ import main
from tests.support.api import (
    BULK,
    CONTENT,
    Api,
    setup,
    upsert_path,
)
from tests.support.terminal import environment, python


@contextlib.contextmanager
def command(*arguments: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Start the emulator as a user does; yield the process and its output."""
    process = subprocess.Popen(
        [sys.executable, "-m", "pulumi_traceloop.emulator", "--port", "0", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
    )
    with process:
        try:
            assert process.stdout
            lines = []
            for line in process.stdout:
                lines.append(line)
                if "TRACELOOP_API_KEY" in line:
                    break
            yield process, "".join(lines)
        finally:
            process.kill()


def url_in(text: str) -> str:
    found = re.search(r"http://127\.0\.0\.1:\d+\S*?(?=,)", text)
    assert found, text
    return found.group()


def test_command_prints_its_settings_and_stops_on_sigterm() -> None:
    arguments = ["--api-key", "k 1", "--evaluator", "my-judge", "--base-path", "/api"]
    with command(*arguments, "--project", "k2=env-2", "--settle", "0") as (process, text):
        url = url_in(text)
        assert f"pulumi config set traceloop:baseUrl {url}\n" in text
        assert "pulumi config set --secret traceloop:apiKey 'k 1'\n" in text
        assert f"export TRACELOOP_BASE_URL={url}\n" in text
        assert "export TRACELOOP_API_KEY='k 1'\n" in text
        body = {**CONTENT, "evaluators": ["my-judge"]}
        assert Api(url, "k 1").call("PUT", upsert_path("m"), body).status == 201
        other = Api(url, "k2").call("PUT", upsert_path("m"), body)
        assert (other.status, other.json["env_project_id"]) == (201, "env-2")
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=20)
        assert (process.returncode, out, err) == (0, "", "")


def test_help_has_each_default_once(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert text.startswith("usage: python -m pulumi_traceloop.emulator [-h]")
    assert re.findall(r"\(default: ([^)]*)\)", text) == [
        *("127.0.0.1", "8787", "emulator-key", "in memory", "5.0", "1", "0", "0.0", "none")
    ]


def test_command_stops_cleanly_on_ctrl_c() -> None:
    with command() as (process, _):
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=20)
        assert (process.returncode, err) == (0, "")


def test_setups_survive_a_sigkill(tmp_path: Path) -> None:
    data = str(tmp_path / "setups.db")
    with command("--data", data, "--api-key", "k") as (process, text):
        batch = {"setups": [setup(f"m-{i}") for i in range(50)]}
        assert Api(url_in(text), "k").call("POST", BULK, batch).status == 207
        process.kill()
        process.wait(20)
    with Emulator(data=data) as emulator:
        assert len(emulator.setups) == 50


@pytest.mark.parametrize(
    ("option", "value", "reason"),
    [
        ("--port", "{port}", r"port \d+ is in use; --port 0 chooses a free one"),
        ("--port", "99999", r"the port must be from 0 to 65535, not 99999"),
        ("--port", "-1", r"the port must be from 0 to 65535, not -1"),
        ("--data", "{path}/x", r".*/x is not a data file of this emulator: file is not a database"),
        (
            "--data",
            "{path}",
            r".* is not a data file of this emulator: unable to open database file",
        ),
        ("--data", "{path}/no/x", r".*/x is not a data file of this emulator: unable to open .*"),
    ],
)
def test_startup_failure_is_one_line(
    emulator: Emulator, tmp_path: Path, option: str, value: str, reason: str
) -> None:
    (tmp_path / "x").write_text("not a database, and long enough to be sure of it " * 50)
    given = value.format(port=urlsplit(emulator.url).port, path=tmp_path)
    done = python("-W", "error", "-m", "pulumi_traceloop.emulator", f"{option}={given}")
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(rf"cannot start: {reason}\n", done.stderr)
