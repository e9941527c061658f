"""A small dynamic provider for tests/test_engine.py: its service is a folder, SAMPLE_DIR.

It records its calls in SAMPLE_DIR/calls.jsonl and stores each resource in SAMPLE_DIR/<id>.json, so
that a test can read the calls, and change or remove a resource.
"""

from __future__ import annotations

import inspect
import json
import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pulumi
from pulumi import dynamic

if TYPE_CHECKING:
    from collections.abc import Mapping

_Props = dict[str, Any]

#: Whether a read returns inputs; in old SDKs, such as 3.150, it returns only outputs.
READ_TELLS_INPUTS = "inputs" in inspect.signature(dynamic.ReadResult).parameters


def _folder() -> Path:
    return Path(os.environ["SAMPLE_DIR"])


def _record(method: str, props: Mapping[str, Any], **more: Any) -> None:
    call = {"method": method, "value": repr(props.get("value")), **more}
    with (_folder() / "calls.jsonl").open("a") as file:
        file.write(json.dumps(call) + "\n")
    if props.get("fail") == method:
        raise RuntimeError(f"no {method} today")
    if props.get("slow") == method:
        os.write(os.open(_folder() / "fifo", os.O_WRONLY), b"!")
        threading.Event().wait()  # until the test kills the process


class SampleProvider(dynamic.ResourceProvider):
    serialize_as_secret_always = False

    def configure(self, req: dynamic.ConfigureRequest) -> None:
        self._token = req.config.get("sample:token")

    def check(self, _olds: _Props, news: _Props) -> dynamic.CheckResult:
        _record("check", news, olds=sorted(_olds))
        if news.get("value") == "loud":
            print("the provider says hello")
        if news.get("value") == "invalid":
            return dynamic.CheckResult(news, [dynamic.CheckFailure("value", "that will not do")])
        return dynamic.CheckResult(news, [])

    def diff(self, _id: str, _olds: _Props, _news: _Props) -> dynamic.DiffResult:
        _record("diff", _news)
        if _news.get("kind") == "unsure":
            return dynamic.DiffResult()
        names = [name for name in ("value", "kind") if _olds.get(name) != _news.get(name)]
        return dynamic.DiffResult(
            changes=bool(names),
            replaces=["kind"] if "kind" in names else [],
            delete_before_replace=_news.get("kind") == "delete-first",
        )

    def create(self, props: _Props) -> dynamic.CreateResult:
        _record("create", props)
        count = len(list(_folder().glob("id-*.json")))
        return dynamic.CreateResult(f"id-{count}", self._write(f"id-{count}", props))

    def update(self, _id: str, _olds: _Props, _news: _Props) -> dynamic.UpdateResult:
        _record("update", _news)
        return dynamic.UpdateResult(self._write(_id, _news))

    def read(self, id_: str, props: _Props) -> dynamic.ReadResult:
        _record("read", props)
        file = _folder() / f"{id_}.json"
        if not file.exists() or file.read_text() == "deleted":
            return dynamic.ReadResult("", {})
        outs = json.loads(file.read_text())
        if not READ_TELLS_INPUTS:
            return dynamic.ReadResult(id_, outs)
        return dynamic.ReadResult(id_, outs, {k: v for k, v in outs.items() if k != "echo"})

    def delete(self, _id: str, _props: _Props) -> None:
        _record("delete", _props, id=_id)
        (_folder() / f"{_id}.json").write_text("deleted")

    def _write(self, id_: str, props: _Props) -> _Props:
        outs = {k: v for k, v in props.items() if k != "__provider"}
        outs["echo"] = f"<{props['value']}>{self._token or ''}"
        (_folder() / f"{id_}.json").write_text(json.dumps(outs))
        return outs


class Sample(dynamic.Resource, module="sample", name="Sample"):
    value: pulumi.Output[str]
    kind: pulumi.Output[str]
    echo: pulumi.Output[str]

    def __init__(
        self,
        name: str,
        value: pulumi.Input[str] | None = None,
        *,
        kind: str = "usual",
        fail: str = "",
        slow: str = "",
        opts: pulumi.ResourceOptions | None = None,
    ) -> None:
        props = {"value": value, "kind": kind, "fail": fail, "slow": slow, "echo": None}
        super().__init__(SampleProvider(), name, props, opts)


class Pair(pulumi.ComponentResource):
    """A component of two samples, the second of which uses the first."""

    def __init__(self, name: str, value: str, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("sample:index:Pair", name, {"value": value}, opts)
        child = pulumi.ResourceOptions(parent=self)
        self.first = Sample(f"{name}-first", value, opts=child)
        self.second = Sample(f"{name}-second", self.first.echo, opts=child)
        self.register_outputs({"echo": self.second.echo})
