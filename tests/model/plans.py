"""Strategies for plans: lists of steps that change a stack.

Edits name setups and places, not positions, and an edit that does not fit has no effect. So every
part of a plan is a plan, and Hypothesis shrinks a failing one well.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from hypothesis import strategies as st

#: The setups that programs declare; some names need encoding.
IDS = ("m-1", "m-2", "a/b", "größe 3", "100%")
#: Setups that no program declares.
UNMANAGED = ("unmanaged-1", "unmanaged-2")
RESOURCES = ("r1", "r2", "r3")
GROUPS = ("g1", "g2", "g3")
PLACES = (*RESOURCES, *GROUPS)

#: Configuration namespaces that lead to the stack's project: the default one, omitted and named,
#: another one with the same key, and one with a second key.
NAMESPACES = (None, "traceloop", "renamed", "second")

#: A value that is secret in the program, and may appear in requests only.
SECRET = "s3cret-tenant-0815"
_SECRET_MARK = "the secret"

#: The kind of a setup that the service refuses.
REFUSED = "refused"


def _rule(key: str, value: str) -> dict[str, Any]:
    return {"key": key, "source": "span_attributes", "operator": "equals", "value": value}


_MODELS = {"key": "model", "source": "resource_attributes", "operator": "in"}

#: Kinds of setups that a program declares. "two" and "two, respelled" are equal.
SETUPS: dict[str, dict[str, Any]] = {
    "one": {"selector": [_rule("system", "openai")], "evaluators": ["faithfulness"]},
    "two": {
        "selector": [_rule("system", "azure"), {**_MODELS, "values": ["x", "y"]}],
        "evaluators": ["perplexity", "faithfulness"],
    },
    "two, respelled": {
        "selector": [
            {**_MODELS, "values": ["y", "x"]},
            {"key": "system", "source": "span_attributes", "value": "azure"},
        ],
        "evaluator_configs": [{"slug": "faithfulness"}, {"slug": "perplexity"}],
    },
    "scoped": {
        "selector": [_rule("system", "openai")],
        "evaluator_configs": [{"slug": "faithfulness", "scope": "trace"}],
    },
    "secret": {"selector": [_rule("tenant", _SECRET_MARK)], "evaluators": ["faithfulness"]},
    REFUSED: {"selector": [_rule("system", "openai")], "evaluators": ["no-such-evaluator"]},
}
#: Setups written outside of the stack: one that no program declares, and one that many do.
BY_HAND: dict[str, dict[str, Any]] = {
    "by hand": {"selector": [_rule("system", "by-hand")], "evaluators": ["toxicity-detector"]},
    "one": SETUPS["one"],
}


@dataclass(frozen=True)
class Declared:
    """One setup of a program."""

    kind: str
    triggers: int | None = None


@dataclass
class Program:
    """A program: its places (resources and groups) in order, and their setups."""

    places: dict[str, dict[str, Declared]] = field(default_factory=dict)
    #: The configuration namespace of each place that has one.
    namespaces: dict[str, str | None] = field(default_factory=dict)
    #: The former names of each place that was renamed by alias.
    aliases: dict[str, list[str]] = field(default_factory=dict)
    #: The groups to which a transform adds a declared setup, and from which it removes another one.
    transformed: set[str] = field(default_factory=set)

    @property
    def declared(self) -> dict[str, Declared]:
        """The declared setups of all places."""
        return {i: setup for members in self.places.values() for i, setup in members.items()}

    def place_of(self, external_id: str) -> str | None:
        """Return the place that declares a setup."""
        return next((p for p, members in self.places.items() if external_id in members), None)

    def until(self, stop: int | None) -> Program:
        """Return the part before the place with number *stop*, where the program raises."""
        if stop is None:
            return self
        return replace(self, places=dict(list(self.places.items())[:stop]))

    def source(self, *, raises: bool, plain: bool) -> str:
        """Return the program's text; a plain one has no aliases and no transforms."""
        lines = [
            "import pulumi",
            "from pulumi_traceloop import AutoMonitorSetup, AutoMonitorSetupGroup",
            'secret = pulumi.Config().require_secret("tenant")',
        ]
        added = {} if plain else self._added_by_transform()
        if added:
            lines += [f"added = {added!r}", _TRANSFORM]
        for place, members in self.places.items():
            texts = {i: _text(setup) for i, setup in members.items()}
            if place in added:
                texts = {i: text for i, text in texts.items() if i not in added[place]}
                texts[_REMOVED_BY_TRANSFORM] = _text(Declared("one"))
            more = f"config_namespace={self.namespaces.get(place)!r}"
            if not plain and (names := self.aliases.get(place)):
                given = ", ".join(f"pulumi.Alias(name={name!r})" for name in names)
                more += f", opts=pulumi.ResourceOptions(aliases=[{given}])"
            if place in RESOURCES:
                ((external_id, text),) = texts.items()
                lines.append(
                    f"AutoMonitorSetup({place!r}, external_id={external_id!r}, **{text}, {more})"
                )
            else:
                items = ", ".join(f"{i!r}: {text}" for i, text in texts.items())
                lines.append(f"AutoMonitorSetupGroup({place!r}, {{{items}}}, {more})")
        if raises:
            lines.append('raise ValueError("half-way")')
        return "\n".join(lines) + "\n"

    def _added_by_transform(self) -> dict[str, dict[str, str]]:
        """Return a setup of each transformed group, without a secret, which is not masked there."""
        added = {}
        for place in sorted(self.transformed & set(GROUPS) & self.places.keys()):
            known = ((i, s) for i, s in self.places[place].items() if s.kind != "secret")
            added[place] = {i: json.dumps(_content(setup)) for i, setup in list(known)[:1]}
        return added


_REMOVED_BY_TRANSFORM = "removed by a transform"

_TRANSFORM = f"""
def transform(args):
    if args.type_.endswith("AutoMonitorSetupBatch") and args.name in added:
        setups = {{**args.props["setups"], **added[args.name]}}
        del setups[{_REMOVED_BY_TRANSFORM!r}]
        return pulumi.ResourceTransformResult(dict(args.props, setups=setups), args.opts)
    return None

pulumi.runtime.register_resource_transform(transform)
"""


def _content(setup: Declared) -> dict[str, Any]:
    content = dict(SETUPS[setup.kind])
    if setup.triggers is not None:
        content["triggers"] = [setup.triggers]
    return content


def _text(setup: Declared) -> str:
    return repr(_content(setup)).replace(repr(_SECRET_MARK), "secret")


def content_of(kind: str) -> dict[str, Any]:
    """Return a setup of this kind as Traceloop has to have it."""
    content = SETUPS[kind]
    rules = [
        {**rule, "value": SECRET} if rule.get("value") == _SECRET_MARK else rule
        for rule in content["selector"]
    ]
    return {**content, "selector": rules}


# Edits of the program.


@dataclass(frozen=True)
class Put:
    """Declare a setup in a place: add it, move it there, or replace the place's setup."""

    external_id: str
    place: str
    setup: Declared

    def apply(self, program: Program) -> None:
        _withdraw(program, self.external_id)
        for names in program.aliases.values():
            names[:] = [name for name in names if name != self.place]
        members = program.places.setdefault(self.place, {})
        if self.place in RESOURCES:
            members.clear()
        members[self.external_id] = self.setup


@dataclass(frozen=True)
class Change:
    """Change a declared setup."""

    external_id: str
    setup: Declared

    def apply(self, program: Program) -> None:
        if place := program.place_of(self.external_id):
            program.places[place][self.external_id] = self.setup


@dataclass(frozen=True)
class Remove:
    """Remove a setup; its group stays, even if empty."""

    external_id: str

    def apply(self, program: Program) -> None:
        _withdraw(program, self.external_id)


@dataclass(frozen=True)
class Drop:
    """Remove a whole place."""

    place: str

    def apply(self, program: Program) -> None:
        program.places.pop(self.place, None)


@dataclass(frozen=True)
class Rename:
    """Rename a resource or group to a free name, with an alias or without."""

    place: str
    name: str
    by_alias: bool = False

    def apply(self, program: Program) -> None:
        place, name = self.place, self.name
        if place not in program.places or place[0] != name[0] or name in program.places:
            return
        program.places = {name if p == place else p: m for p, m in program.places.items()}
        program.namespaces[name] = program.namespaces.pop(place, None)
        names = program.aliases.pop(place, [])
        program.aliases[name] = [*names, place] if self.by_alias else []
        # A used name must not be an alias of another place: the engine would mix them up.
        for others in program.aliases.values():
            others[:] = [other for other in others if other != name]


@dataclass(frozen=True)
class Reconnect:
    """Change the namespace of a place."""

    place: str
    namespace: str | None

    def apply(self, program: Program) -> None:
        program.namespaces[self.place] = self.namespace


@dataclass(frozen=True)
class Transform:
    """Switch the transform of a group on or off."""

    place: str

    def apply(self, program: Program) -> None:
        program.transformed ^= {self.place}


@dataclass(frozen=True)
class Swap:
    """Exchange the external_ids of two setups."""

    one: str
    other: str

    def apply(self, program: Program) -> None:
        swapped = {self.one: self.other, self.other: self.one}
        if all(program.place_of(each) for each in swapped):
            program.places = {
                place: {swapped.get(i, i): setup for i, setup in members.items()}
                for place, members in program.places.items()
            }


@dataclass(frozen=True)
class Reorder:
    """Change the order of declaration."""

    order: tuple[str, ...]

    def apply(self, program: Program) -> None:
        program.places = {p: program.places[p] for p in self.order if p in program.places}


def _withdraw(program: Program, external_id: str) -> None:
    if place := program.place_of(external_id):
        del program.places[place][external_id]
        if place in RESOURCES:
            del program.places[place]


# What happens outside of the program.


@dataclass(frozen=True)
class Gone:
    """A setup is deleted outside of the stack."""

    external_id: str


@dataclass(frozen=True)
class ByHand:
    """A setup is created or changed outside of the stack."""

    external_id: str
    kind: str


@dataclass(frozen=True)
class LoseState:
    """The state is lost."""


Edit = Put | Change | Remove | Drop | Rename | Reconnect | Transform | Swap | Reorder
Event = Gone | ByHand | LoseState

#: ``traceloop:deadline`` if requests fail or hang for good, and otherwise; the delay of a slow
#: response, in seconds.
DEADLINE = 1.0
LONG_DEADLINE = 10.0
SLOW = 1.4

#: Arguments of `Fault` by name. "before" and "after" refer to the write.
FAULTS: dict[str, dict[str, Any]] = {
    "429": {"status": 429, "times": 2},
    "429 with Retry-After": {"status": 429, "retry_after": 1},
    "429 for good": {"status": 429, "times": None},
    "500 before": {"status": 500},
    "500 after": {"status": 500, "when": "after_write"},
    "502 before": {"status": 502, "body_kind": "html"},
    "502 after": {"status": 502, "body_kind": "html", "when": "after_write"},
    "503 for good": {"status": 503, "times": None},
    "dropped before": {"drop": "before"},
    "dropped after": {"drop": "after"},
    "dropped after, twice": {"drop": "after", "times": 2},
    "slow before": {"delay": SLOW, "drop": "before"},
    "slow after": {"delay": SLOW, "when": "after_write"},
    "half a JSON": {"truncate": "json"},
    "half a body": {"truncate": "length"},
    "half the chunks": {"truncate": "chunked"},
    "400": {"status": 400, "message": "not today"},
    "401": {"status": 401},
    "404 of a proxy": {"status": 404, "body_kind": "html"},
    "item refused": {"item_error": "not today"},
    "item failed before": {"item_error": "internal error"},
    "item failed after": {"item_error": "internal error", "when": "after_write"},
    "items left out": {"shorten": 1},
    "items reversed": {"reorder": True},
    "list lacks setups": {"hide": True, "times": None},
}
#: The faults after which the outcome of a write is unknown.
UNKNOWN_OUTCOME = frozenset(
    name
    for name in FAULTS
    if name.startswith(("50", "dropped", "slow", "half", "item failed", "items left"))
)


@dataclass(frozen=True)
class Trouble:
    """A fault of the service during an operation."""

    name: str
    #: The requests that it hits.
    of: Literal["any", "read", "write", "DELETE"] = "any"
    skip: int = 0
    #: The setups of a fault in a list or bulk response.
    external_ids: tuple[str, ...] = ()


@dataclass(frozen=True)
class Kill:
    """A SIGKILL during an `up`, at an observed moment."""

    who: Literal["up", "provider"]
    #: At the n-th request, before the service processes it ("lost") or after ("received"); or when
    #: the n-th change of the state is written ("recorded").
    moment: Literal["lost", "received", "recorded"]
    nth: int


@dataclass(frozen=True)
class Step:
    """Edits, an operation, and the faults during it."""

    operation: Literal[
        "up",
        "up --refresh",
        "up --plan",
        "up --target",
        "up --exclude",
        "refresh",
        "preview",
        "destroy",
    ]
    edits: tuple[Edit, ...] = ()
    events: tuple[Event, ...] = ()
    troubles: tuple[Trouble, ...] = ()
    kill: Kill | None = None
    #: The number of places after which the program raises.
    raises: int | None = None
    #: The number of the place for ``--target`` or ``--exclude``.
    place: int = 0


@dataclass(frozen=True)
class Plan:
    """The steps, and the kind of service."""

    steps: tuple[Step, ...]
    #: The value of `_project.READ_BY_ID`.
    read_by_id: int
    #: Whether the service normalizes values.
    normalizes: bool


_WHO = st.sampled_from(["up", "provider"])
_ids = st.sampled_from(IDS)
_places = st.sampled_from(PLACES)
_setups = st.builds(
    Declared,
    st.sampled_from(["one", "two", "two, respelled", "one", "scoped", "secret", "two", REFUSED]),
    st.sampled_from([None, None, None, 1, 2]),
)
_puts = st.builds(Put, _ids, st.sampled_from((*GROUPS, *GROUPS, *RESOURCES)), _setups)


def _weighted(*choices: tuple[int, st.SearchStrategy[Any]]) -> st.SearchStrategy[Any]:
    """Return a strategy that chooses one of several by weight, which `st.one_of` cannot."""
    numbers = [n for n, (weight, _) in enumerate(choices) for _ in range(weight)]
    return st.sampled_from(numbers).flatmap(lambda number: choices[number][1])


_edits = _weighted(
    (8, _puts),
    (4, st.builds(Change, _ids, _setups)),
    (3, st.builds(Remove, _ids)),
    (2, st.builds(Drop, _places)),
    (3, st.builds(Rename, _places, _places, st.booleans())),
    (3, st.builds(Reconnect, _places, st.sampled_from(NAMESPACES))),
    (3, st.builds(Transform, st.sampled_from(GROUPS))),
    (2, st.builds(Swap, _ids, _ids)),
    (1, st.builds(Reorder, st.permutations(PLACES).map(tuple))),
)
_events = _weighted(
    (3, st.builds(Gone, _ids)),
    (3, st.builds(ByHand, _ids, st.sampled_from(list(BY_HAND)))),
    (1, st.builds(LoseState)),
)
_troubles = st.builds(
    Trouble,
    st.sampled_from(list(FAULTS)),
    st.sampled_from(["write", "write", "write", "any", "read", "DELETE"]),
    st.sampled_from([0, 0, 0, 1, 2]),
    st.lists(_ids, min_size=2, max_size=4, unique=True).map(tuple),
)
_kills = _weighted(
    (2, st.builds(Kill, _WHO, st.sampled_from(["lost", "received"]), st.integers(1, 4))),
    (1, st.builds(Kill, st.just("up"), st.just("recorded"), st.integers(1, 8))),
)


def _some(strategy: st.SearchStrategy[Any], *sizes: int) -> st.SearchStrategy[tuple[Any, ...]]:
    """Return a strategy for tuples of one of these sizes."""
    return st.sampled_from(sizes).flatmap(lambda n: st.tuples(*[strategy] * n))


def _up(operation: str) -> st.SearchStrategy[Step]:
    return st.builds(
        Step,
        st.just(operation),
        edits=_some(_edits, 1, 2, 3),
        events=_some(_events, 0, 0, 0, 1),
        troubles=_some(_troubles, 0, 1, 1, 2),
        kill=_weighted((4, st.none()), (1, _kills)),
        raises=_weighted((9, st.none()), (1, st.integers(0, 3))),
    )


def _constrained(operation: str) -> st.SearchStrategy[Step]:
    """Return a strategy for an `up` with an option of the CLI, which the test engine ignores."""
    return st.builds(
        Step,
        st.just(operation),
        edits=_some(_edits, 1, 2, 3),
        troubles=_some(_troubles, 0, 0, 1),
        place=st.integers(0, len(PLACES)),
    )


def _other(operation: str) -> st.SearchStrategy[Step]:
    return st.builds(
        Step,
        st.just(operation),
        events=_some(_events, 0, 1),
        troubles=_some(_troubles, 0, 1),
    )


_first = st.builds(
    Step,
    st.just("up"),
    edits=_some(_puts, 4, 5, 6),
    events=_some(_events, 0, 0, 1),
    troubles=_some(_troubles, 0, 1),
    kill=_weighted((6, st.none()), (1, _kills)),
)
_steps = _weighted(
    (14, _up("up")),
    (2, _up("up --refresh")),
    (3, _constrained("up --plan")),
    (2, _constrained("up --target")),
    (2, _constrained("up --exclude")),
    (2, _other("refresh")),
    (1, _other("preview")),
    (1, _other("destroy")),
)


def plans() -> st.SearchStrategy[Plan]:
    """Return a strategy for plans of 5 to 9 steps; the first one declares setups."""
    return st.builds(
        lambda first, steps, read_by_id, normalizes: Plan((first, *steps), read_by_id, normalizes),
        _first,
        st.lists(_steps, min_size=4, max_size=8),
        st.sampled_from([0, 2, 24]),
        st.sampled_from([False, False, True]),
    )
