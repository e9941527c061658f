"""What can happen to a stack: a plan is a list of steps, drawn by hypothesis and shrunk by it.

Edits name setups and places, not positions; one that does not fit does nothing. So any part of a
plan is a plan, and a failing one shrinks well.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from hypothesis import strategies as st

#: The setups that programs declare; some names need encoding.
IDS = ("m-1", "m-2", "a/b", "größe 3", "100%")
#: Setups of somebody else, which no program declares.
THEIRS = ("theirs-1", "theirs-2")
RESOURCES = ("r1", "r2", "r3")
GROUPS = ("g1", "g2", "g3")
PLACES = (*RESOURCES, *GROUPS)

#: Namespaces of the configuration that all lead to the stack's project: the default one, the
#: default one by its name, another one with the same key, and one with a second key.
NAMESPACES = (None, "traceloop", "renamed", "second")

#: A value that is secret in the program and must not be seen anywhere but in requests.
SECRET = "s3cret-tenant-0815"
_SECRET_MARK = "the secret"

#: What is stored in one place: the declared one, whatever its spelling.
REFUSED = "refused"


def _rule(key: str, value: str) -> dict[str, Any]:
    return {"key": key, "source": "span_attributes", "operator": "equals", "value": value}


_MODELS = {"key": "model", "source": "resource_attributes", "operator": "in"}

#: Kinds of setups that a program declares. "two" and "two, respelled" mean the same.
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
#: What somebody else writes: one that no program declares, one that many do.
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
    """The places of a program in the order of declaration, and what each declares."""

    places: dict[str, dict[str, Declared]] = field(default_factory=dict)
    #: The configuration's namespace of each place that names one.
    namespaces: dict[str, str | None] = field(default_factory=dict)
    #: What each place was called before it was renamed by alias.
    aliases: dict[str, list[str]] = field(default_factory=dict)
    #: The groups that get a setup by a transform, and lose one that the program declares.
    transformed: set[str] = field(default_factory=set)

    @property
    def declared(self) -> dict[str, Declared]:
        """What it declares, wherever."""
        return {i: setup for members in self.places.values() for i, setup in members.items()}

    def place_of(self, external_id: str) -> str | None:
        """Where a setup is declared."""
        return next((p for p, members in self.places.items() if external_id in members), None)

    def until(self, stop: int | None) -> Program:
        """The part before the *stop*-th place, where the program raises."""
        if stop is None:
            return self
        return replace(self, places=dict(list(self.places.items())[:stop]))

    def source(self, *, raises: bool, plain: bool) -> str:
        """The program's text; a plain one has no aliases and no transforms."""
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
        """The first setup of each transformed group, but for a secret: a transform has no mask."""
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
    """What a setup of this kind has to be in Traceloop."""
    content = SETUPS[kind]
    rules = [
        {**rule, "value": SECRET} if rule.get("value") == _SECRET_MARK else rule
        for rule in content["selector"]
    ]
    return {**content, "selector": rules}


# Edits of the program.


@dataclass(frozen=True)
class Put:
    """Declare a setup in a place: added, or moved from where it is, or in another one's stead."""

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
    """Declare something else in the same place."""

    external_id: str
    setup: Declared

    def apply(self, program: Program) -> None:
        if place := program.place_of(self.external_id):
            program.places[place][self.external_id] = self.setup


@dataclass(frozen=True)
class Remove:
    """Declare a setup no more; its group stays, even if it is empty now."""

    external_id: str

    def apply(self, program: Program) -> None:
        _withdraw(program, self.external_id)


@dataclass(frozen=True)
class Drop:
    """Take a whole place out of the program."""

    place: str

    def apply(self, program: Program) -> None:
        program.places.pop(self.place, None)


@dataclass(frozen=True)
class Rename:
    """Give a resource or a group another name, if that is free; by alias, or as another one."""

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
        # A name that is in use is nobody's alias: the engine would take the one for the other.
        for others in program.aliases.values():
            others[:] = [other for other in others if other != name]


@dataclass(frozen=True)
class Reconnect:
    """Let a place find its project by another namespace."""

    place: str
    namespace: str | None

    def apply(self, program: Program) -> None:
        program.namespaces[self.place] = self.namespace


@dataclass(frozen=True)
class Transform:
    """Let a transform add and remove setups of a group, or no longer."""

    place: str

    def apply(self, program: Program) -> None:
        program.transformed ^= {self.place}


@dataclass(frozen=True)
class Swap:
    """Exchange two setups' external_ids."""

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
    """Declare in another order."""

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
    """Somebody deletes a setup."""

    external_id: str


@dataclass(frozen=True)
class ByHand:
    """Somebody creates or changes a setup."""

    external_id: str
    kind: str


@dataclass(frozen=True)
class LoseState:
    """The state is lost."""


Edit = Put | Change | Remove | Drop | Rename | Reconnect | Transform | Swap | Reorder
Event = Gone | ByHand | LoseState

#: How long a request may take with all its attempts (``traceloop:deadline``), where it is going to
#: fail anyhow and else, and how long a slow answer takes, in seconds.
DEADLINE = 1.0
LONG_DEADLINE = 10.0
SLOW = 1.4

#: What goes wrong, as arguments of `Fault`. "before" and "after" are in relation to the write.
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
#: After these nobody knows whether a write happened.
UNKNOWN_OUTCOME = frozenset(
    name
    for name in FAULTS
    if name.startswith(("50", "dropped", "slow", "half", "item failed", "items left"))
)


@dataclass(frozen=True)
class Trouble:
    """A fault of the service while an operation runs."""

    name: str
    #: Which requests it hits.
    of: Literal["any", "read", "write", "DELETE"] = "any"
    skip: int = 0
    #: Where a fault is about certain setups.
    external_ids: tuple[str, ...] = ()


@dataclass(frozen=True)
class Kill:
    """A SIGKILL while an `up` runs, at a moment that is seen and not guessed."""

    who: Literal["up", "provider"]
    #: At the n-th request, before the service has heard of it ("lost") or after ("received"); or
    #: when the n-th change of the state is written ("recorded").
    moment: Literal["lost", "received", "recorded"]
    nth: int


@dataclass(frozen=True)
class Step:
    """Some edits, and an operation with what goes wrong in it."""

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
    #: After how many places the program raises.
    raises: int | None = None
    #: Which of the program's places ``--target`` or ``--exclude`` names.
    place: int = 0


@dataclass(frozen=True)
class Plan:
    """What kind of service there is, and what happens."""

    steps: tuple[Step, ...]
    #: How many setups are asked for by their ids before the list is read.
    read_by_id: int
    #: Whether the service stores values in its own spelling.
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
    """One of the strategies, each as often as its weight says (`st.one_of` knows no weights)."""
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
    """A tuple of one of these sizes."""
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
    """An `up` as only the CLI knows it; on the test engine it is a plain one."""
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
    """Plans of 5 to 9 steps; the first one declares something."""
    return st.builds(
        lambda first, steps, read_by_id, normalizes: Plan((first, *steps), read_by_id, normalizes),
        _first,
        st.lists(_steps, min_size=4, max_size=8),
        st.sampled_from([0, 2, 24]),
        st.sampled_from([False, False, True]),
    )
