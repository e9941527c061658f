"""The base of the three providers: configuration, plans, and errors without a traceback."""

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
    "settings_changed",
    "without_traceback",
]

_Method = TypeVar("_Method", bound=Callable[..., Any])

#: Allocations before a garbage collection; Python's default is some hundreds.
GARBAGE_THRESHOLD = 100_000


def without_traceback(method: _Method) -> _Method:
    """Show the user a `TraceloopError` as its message.

    The host prints an exception's traceback; only the host's own two frames remain.
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

    # The provider holds no secret: `configure` receives the configuration in the process.
    serialize_as_secret_always = False

    # Set in `configure` only: the SDK stores the attributes of a declared instance in the state.
    _setting: Callable[[str], Any]
    #: The declarers that were checked in this deployment.
    _checked: set[str]
    #: The pending plan of each declarer, until the update reports it.
    _plans: dict[str, ResourcePlan]
    #: Whether this is a preview. The program passes it as an input, which `check` removes.
    _preview: bool

    def configure(self, req: ConfigureRequest) -> None:
        """Keep the stack's configuration, which has the secrets in plain text."""
        use_utf8()
        # The process lives for one operation. With the default threshold, garbage collection takes
        # as long as reading ten thousand setups.
        gc.set_threshold(GARBAGE_THRESHOLD)
        # Skip the collection at exit, which the engine would wait for.
        atexit.register(gc.freeze)
        self._setting = req.config.get
        self._checked = set()
        self._plans = {}
        self._preview = False

    @property
    def _deployment(self) -> Deployment:
        return deployment()

    def _project(self, props: Mapping[str, Any]) -> Project:
        """Return the Traceloop project of a resource."""
        given = connection(self._setting, os.environ, props.get("config_namespace"))
        deployment = self._deployment
        # A refresh or destroy, which calls no check, has the configuration of the last update.
        return deployment.project(given, key_is_stored=lambda: deployment.declares_nothing)

    def _take_preview(self, inputs: dict[str, Any]) -> None:
        """Remove the input ``preview`` and keep its value.

        It must not reach the state or a saved plan, which an update has to follow (seen on the
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
        """Print the plan in a preview; keep it for `_report` in an update."""
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
        """Return the matches of all or some declared setups, if ``matchSpans`` is set."""
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
        """Return the failure of a preview whose setups would run too many evaluations."""
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
                f"max_evaluations is not checked for {names(unknown)}: the estimate needs spans"
                " (a file's must cover an hour) and a setup without unknown values"
            )
        return too_many_evaluations(inputs, found)

    def _report(self, inputs: Mapping[str, Any], in_place: Collection[str]) -> None:
        """Print the changes that an update made."""
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
            project.not_compared,
            _traffic.notes(),
        )

    def _declare(
        self, external_ids: Collection[Any], props: Mapping[str, Any]
    ) -> dict[str, DeclaredTwiceError]:
        """Register declared setups; return an error for each that another resource declares."""
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
        """Whether a changed namespace moves the resource to another project.

        If no response shows it, it counts as a move: a replacement keeps setups that are still
        declared, but writes those that the service normalizes again.

        Args:
            state: the resource's outputs.
            inputs: its inputs.
            external_ids: the setups that the state has.

        Raises:
            TraceloopError: the project that the new namespace leads to cannot be read.

        """
        if not namespace_changed(state, inputs):
            return False
        before, after = self._project(state), self._project(inputs)
        same = before.is_same(after)
        for external_id in list(external_ids)[:1]:
            if same is None and (env_project_id := state.get("env_project_id")):
                same = after.is_in(env_project_id, external_id)
            if same is None:
                try:
                    same = self._deployment.same_project(before, after, external_id)
                except TraceloopError:
                    return True  # the old key may no longer exist
        return not same

    @staticmethod
    def _declared_twice(rivals: Mapping[str, str], declarer: str) -> dict[str, TraceloopError]:
        return {i: DeclaredTwiceError(i, first, declarer) for i, first in rivals.items()}


def namespace_changed(state: Mapping[str, Any], inputs: Mapping[str, Any]) -> bool:
    """Whether the namespace changed; an omitted one is the default."""
    before, after = (p.get("config_namespace") or DEFAULT_NAMESPACE for p in (state, inputs))
    return bool(before != after)


#: Options that an update compares with those of the last one. The engine keeps the old outputs if
#: nothing else changes, so a change of these is an update.
_COMPARED = ("retain_on_delete", "wait_for", "wait_for_setup")


def settings_changed(state: Mapping[str, Any], inputs: Mapping[str, Any]) -> bool:
    """Whether only the state has to change: another namespace of the project, other options."""
    options = any(state.get(key) != inputs.get(key) for key in _COMPARED)
    return options or namespace_changed(state, inputs)


def listed(text: str | None) -> list[str]:
    """Return the external_ids of a JSON property."""
    return json.loads(text) if text else []


def mapped(text: str | None) -> dict[str, Any]:
    """Return the mapping of a JSON property."""
    return json.loads(text) if text else {}


def ownership_of(state: Mapping[str, Any]) -> Ownership:
    """Return the ownership that a batch or membership records."""
    return Ownership(frozenset(listed(state.get("owned"))), mapped(state.get("left")))


def identity(setup: Setup) -> dict[str, Any]:
    """Return the outputs that identify a setup.

    They are stable: a status in the state would drift at every refresh.
    """
    return {"setup_id": setup.id, "env_project_id": setup.env_project_id}


def at(external_id: str, path: str = "") -> str:
    """Return the path of a group's setup, or of a property below it."""
    return f'setups["{external_id}"]' + (f".{path}" if path else "")
