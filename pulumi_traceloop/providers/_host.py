"""What the three providers share: the stack's configuration, and errors as one message."""

from __future__ import annotations

import atexit
import gc
import json
import os
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar, cast

from pulumi.dynamic import CheckFailure, ConfigureRequest, ResourceProvider

from .._deployment import Deployment, deployment
from .._ownership import Ownership
from .._plan import LEAVES, Change, Matches, ResourcePlan, announce, report
from .._settings import DEFAULT_NAMESPACE, connection
from .._text import names, use_utf8
from ..errors import DeclaredTwiceError, TraceloopError
from . import _traffic
from ._options import too_many_evaluations

if TYPE_CHECKING:
    from .._models import Setup
    from .._project import Project

__all__ = [
    "HostedProvider",
    "at",
    "identity",
    "listed",
    "mapped",
    "namespace_changed",
    "ownership_of",
    "without_traceback",
]

_Method = TypeVar("_Method", bound=Callable[..., Any])

#: How many new objects there are before Python looks for garbage; its own default is some hundreds.
GARBAGE_THRESHOLD = 100_000


def without_traceback(method: _Method) -> _Method:
    """Make a `TraceloopError` reach the user as its message.

    The host shows the whole traceback of an exception; this leaves its own two frames.
    """

    @wraps(method)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        try:
            return method(*args, **kwargs)
        except TraceloopError as error:
            failure = error
        raise failure.with_traceback(None) from None

    return cast("_Method", wrapper)


class HostedProvider(ResourceProvider):
    """A provider in the Python dynamic host, with the stack's configuration."""

    # The provider holds no secret: the configuration reaches it in `configure`, in the process.
    serialize_as_secret_always = False

    # Not set before `configure`: what an instance holds when it is declared goes into the state.
    _setting: Callable[[str], Any]
    #: The declarers that were checked in this deployment.
    _checked: set[str]
    #: What happens to the setups of each declarer, until an update has done it.
    _plans: dict[str, ResourcePlan]
    #: Whether this is a preview. The program says so in an input that `check` takes out again.
    _preview: bool

    def configure(self, req: ConfigureRequest) -> None:
        """Keep the stack's configuration, which has the secrets in plain text."""
        use_utf8()
        # The process lives for one operation. By default Python looks for garbage so often, while
        # ten thousand setups are read, that this takes as long as the reading.
        gc.set_threshold(GARBAGE_THRESHOLD)
        # It looks once more as it ends, at all of them again, and the engine waits for that.
        atexit.register(gc.freeze)
        self._setting = req.config.get
        self._checked = set()
        self._plans = {}
        self._preview = False

    @property
    def _deployment(self) -> Deployment:
        return deployment()

    def _project(self, props: Mapping[str, Any]) -> Project:
        """Return the Traceloop project that a resource is in."""
        given = connection(self._setting, os.environ, props.get("config_namespace"))
        deployment = self._deployment
        # A refresh and a destroy have the configuration of the last update, and check nothing.
        return deployment.project(given, key_is_stored=lambda: deployment.declares_nothing)

    def _take_preview(self, inputs: dict[str, Any]) -> None:
        """Note whether this is a preview, and take that out of the inputs: it is no part of them.

        Neither the state nor a saved plan has it, and an update does as the plan says (seen on the
        Pulumi CLI 3.260).
        """
        self._preview = bool(inputs.pop("preview", False))

    def _present(
        self,
        inputs: Mapping[str, Any],
        changes: Iterable[Change],
        declares: Iterable[str],
        *,
        group: bool = True,
    ) -> None:
        """Print a plan in a preview; an update prints what it did, when it is done."""
        if self._preview:
            changes = list(changes)
            stay = [c.external_id for c in changes if c.action not in LEAVES]
            found = self._matches(inputs, stay)
            changes = [c._replace(matches=found.get(c.external_id)) for c in changes]
        plan = self._plan(inputs, changes, declares, group=group)
        if self._preview:
            announce(plan)
        elif plan.changes:
            self._plans[plan.owner] = plan

    def _setups(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Return the declared setups by external_id, as the engine passes them."""
        raise NotImplementedError

    def _secrets(self, inputs: Mapping[str, Any], external_id: str, setup: Any) -> set[str]:
        """Return the secret values of a declared setup."""
        raise NotImplementedError

    def _matches(
        self, inputs: Mapping[str, Any], external_ids: Collection[str] | None = None
    ) -> dict[str, Matches]:
        """Return what declared setups match, all or some, where the configuration asks for it."""
        setting = self._setting(_traffic.SETTING)
        if not setting or external_ids == []:
            return {}
        sample = _traffic.traffic(self._project(inputs), str(setting))
        if sample is None:
            return {}
        setups = self._setups(inputs)
        found = {
            i: _traffic.matches(sample, setups[i], self._secrets(inputs, i, setups[i]))
            for i in (setups if external_ids is None else external_ids)
        }
        return {i: each for i, each in found.items() if each}

    def _too_many_evaluations(self, inputs: Mapping[str, Any]) -> list[CheckFailure]:
        """Return why a preview may not go on, if the setups would run too many evaluations."""
        if not self._preview or inputs.get("max_evaluations") is None:
            return []
        if not self._setting(_traffic.SETTING):
            _traffic.note(
                "max_evaluations is not checked: it needs spans, with `pulumi config set"
                f" {_traffic.SETTING} 24h`"
            )
            return []
        found = {i: each.evaluations for i, each in self._matches(inputs).items()}
        unknown = [i for i in self._setups(inputs) if found.get(i) is None]
        if unknown:
            _traffic.note(
                f"max_evaluations is not checked for {names(unknown)}: the estimate needs spans,"
                " those of a file have to cover an hour, and all of the setup has to be known"
            )
        return too_many_evaluations(inputs, found)

    def _report(self, inputs: Mapping[str, Any], in_place: Collection[str]) -> None:
        """Print what an update did."""
        if plan := self._plans.pop(inputs["declared_by"], None):
            report(plan, in_place)

    def _plan(
        self,
        props: Mapping[str, Any],
        changes: Iterable[Change],
        declares: Iterable[str] = (),
        *,
        group: bool = True,
    ) -> ResourcePlan:
        project = self._project(props)
        return ResourcePlan(
            props["declared_by"],
            list(changes),
            list(declares),
            project.env_project_id or props.get("env_project_id") or "",
            project.namespace,
            group,
            project.blind,
            _traffic.notes(),
        )

    def _declare(
        self, external_ids: Collection[Any], props: Mapping[str, Any]
    ) -> dict[str, DeclaredTwiceError]:
        """Note what the program declares; return why not, where another resource does already."""
        declarer, project = props["declared_by"], self._project(props)
        return {
            external_id: DeclaredTwiceError(external_id, other, declarer)
            for external_id in external_ids
            if isinstance(external_id, str)
            and (other := self._deployment.declare(external_id, declarer, project))
        }

    def _moves(
        self, state: Mapping[str, Any], inputs: Mapping[str, Any], external_ids: Collection[str]
    ) -> bool:
        """Whether a resource moves to another project: its namespace changed, and leads elsewhere.

        Where that cannot be told, it does: a replacement keeps what turns out to be declared.
        """
        if not namespace_changed(state, inputs):
            return False
        before, after = self._project(state), self._project(inputs)
        same = before.is_same(after)
        try:
            for external_id in list(external_ids)[:1]:
                same = same or self._deployment.same_project(before, after, external_id)
        except TraceloopError:
            return True
        return not same

    @staticmethod
    def _declared_twice(rivals: Mapping[str, str], declarer: str) -> dict[str, TraceloopError]:
        return {i: DeclaredTwiceError(i, first, declarer) for i, first in rivals.items()}


def namespace_changed(state: Mapping[str, Any], inputs: Mapping[str, Any]) -> bool:
    """Whether a resource moves to another namespace; leaving out the default one is no move."""
    before, after = (p.get("config_namespace") or DEFAULT_NAMESPACE for p in (state, inputs))
    return bool(before != after)


def listed(text: str | None) -> list[str]:
    """Return the external_ids that a property holds as JSON."""
    return json.loads(text) if text else []


def mapped(text: str | None) -> dict[str, Any]:
    """Return the mapping that a property holds as JSON."""
    return json.loads(text) if text else {}


def ownership_of(state: Mapping[str, Any]) -> Ownership:
    """Return what a batch or a membership records about its group's setups."""
    return Ownership(frozenset(listed(state.get("owned"))), mapped(state.get("left")))


def identity(setup: Setup) -> dict[str, Any]:
    """Return the outputs that identify a setup.

    Only what does not change by itself: a status in the state would be drift at every refresh.
    """
    return {"setup_id": setup.id, "env_project_id": setup.env_project_id}


def at(external_id: str, path: str = "") -> str:
    """Return the property path of a group's setup, or of a part of it."""
    return f'setups["{external_id}"]' + (f".{path}" if path else "")
