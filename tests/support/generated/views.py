"""Views of every kind over made-up event types."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from hypothesis import strategies as st

from features.definitions import (
    Aggregation,
    CalendarView,
    Column,
    Entity,
    FeatureView,
    ItemValue,
    OpenView,
    PreviousView,
    PythonView,
    Span,
    TimeWindow,
    View,
)
from tests.support.generated.event_types import DrawnEvent, Field, World
from tests.support.generated.formulas import (
    at_least,
    floored,
    half,
    is_null,
    is_text,
    item_field,
    item_known,
    item_since,
    plus,
    python_summary,
    same,
    twice_less_one,
)

ENTITIES = (("k0",), ("k0",), ("k1",), ("k0", "k1"), ("k1", "k0"))
LENGTHS = (1, 2, 3, 5, 8, 10, 20, 40, 60)
HOPS = (1, 2, 3, 4, 5, 8, 10, 20, 60)
TIMED = ("first", "last", "change", "since_first", "since_last")
ADDED = ("sum", "mean", "rate")
OF_NUMBERS = ("min", "max", "first", "last", "change")


@dataclass(frozen=True, kw_only=True)
class Surroundings:
    """What views are drawn from."""

    world: World
    events: tuple[DrawnEvent, ...]
    item_events: tuple[DrawnEvent, ...]  # of which views over items are made


AnyView = Callable[[st.DrawFn, str, Surroundings], View]


def any_view(draw: st.DrawFn, name: str, around: Surroundings) -> View:
    """A view of any kind."""
    return draw(st.sampled_from(VIEWS))(draw, name, around)


def feature_view(draw: st.DrawFn, name: str, around: Surroundings) -> FeatureView:
    """Aggregations over windows of any length and hop."""
    source = draw(st.sampled_from(around.events))
    columns = _columns(draw, source, around)
    chosen = _operations(draw, source, columns, around)
    windowless = [draw(st.sampled_from([False, False, False, True])) for _ in chosen]
    windows: Any = _windows(draw, around)
    ttl = None
    if any(windowless) or draw(st.booleans()):
        longest = max(w.length for w in windows)
        ttl = longest + around.world.span(draw(st.sampled_from([0, 0, 7])))
    return FeatureView(
        name=name,
        source=source.event,
        entity=_entity(draw),
        columns=tuple(c.column for c in columns),
        aggregations=tuple(
            Aggregation(
                operation=operation,
                column=column,
                windows=() if without else _some(draw, windows),
            )
            for (operation, column), without in zip(chosen, windowless, strict=True)
        ),
        ttl=ttl,
        exclude_self=draw(st.sampled_from([None, None, *_excluding(around.world)])),
    )


def _excluding(world: World) -> list[str]:
    """Fields that events and requests share; those that may be null more often."""
    kinds = {"item": world.item_kind, "k1": world.k1_kind, "at_us": "int"}
    return [name for name, kind in kinds.items() for _ in range(4 if kind.endswith("?") else 1)]


def calendar_view(draw: st.DrawFn, name: str, around: Surroundings) -> CalendarView:
    """Counts and sums over spans that the request names."""
    source = draw(st.sampled_from(around.events))
    columns = _columns(draw, source, around)
    chosen = _operations(draw, source, columns, around, only=("count", *ADDED))
    unit = around.world.unit_us
    both = ("at_us", "as_of_us")
    reads = {"until_now": both[1:], "from_now": both}
    spans = {
        "bucket": (floored("at_us", 10 * unit), floored("at_us", 10 * unit, 10 * unit)),
        "before": (plus("at_us", -20 * unit), same("at_us")),
        "around": (plus("at_us", -5 * unit), plus("at_us", 5 * unit + 1)),
        "reversed": (same("at_us"), plus("at_us", -unit)),
        "until_now": (floored("as_of_us", 10 * unit), same("as_of_us")),
        "from_now": (same("as_of_us"), plus("at_us", 10 * unit)),
    }
    names = draw(st.lists(st.sampled_from(sorted(spans)), min_size=1, max_size=2, unique=True))
    return CalendarView(
        name=name,
        source=source.event,
        entity=_entity(draw),
        at="at_us",
        spans=tuple(
            Span(name=n, start=spans[n][0], end=spans[n][1], reads=reads.get(n, both[:1]))
            for n in names
        ),
        columns=tuple(c.column for c in columns),
        aggregations=tuple(Aggregation(operation=o, column=c) for o, c in chosen),
        reach=around.world.span(draw(st.sampled_from([5, 20, 30]))),
        ahead=around.world.span(draw(st.sampled_from([0, 10, 60]))),
    )


def open_view(draw: st.DrawFn, name: str, around: Surroundings) -> OpenView:
    """Items that are due and not closed."""
    opened, *others = _item_events(draw, around)
    return OpenView(
        name=name,
        entity=_entity(draw),
        item="item",
        opened=opened.event,
        due="at_us",
        closed_by=tuple(e.event for e in others),
        reach=around.world.span(draw(st.sampled_from([5, 30, 60]))),
        ahead=around.world.span(draw(st.sampled_from([10, 60, 100]))),
        gives=draw(st.sampled_from([("count",), ("mean_minutes", "count")])),
    )


def previous_view(draw: st.DrawFn, name: str, around: Surroundings) -> PreviousView:
    """The item before the one that the request is about."""
    opened, *others = _item_events(draw, around)
    keeps, values = [], [ItemValue(name="known", meaning="", compute=item_known(opened.event.name))]
    kept = draw(st.integers(0, 1))
    for event in (opened, *others[:kept]):
        number = next((f.name for f in event.fields if f.is_number), "at_us")
        fields = tuple(dict.fromkeys(("at_us", number)))
        keeps.append((event.event, fields))
        prefix = event.event.name.split(".")[-1]
        for field in fields:
            value = item_field(f"{event.event.name}.{field}")
            values.append(ItemValue(name=f"{prefix}_{field}", meaning="", compute=value))
        since = item_since(f"{event.event.name}.at_us")
        values.append(ItemValue(name=f"{prefix}_since", meaning="", compute=since))
    return PreviousView(
        name=name,
        entity=_entity(draw),
        item="item",
        opened=opened.event,
        order="at_us",
        before=draw(st.sampled_from(["at_us", "at_us", "as_of_us"])),
        reach=around.world.span(draw(st.sampled_from([5, 30, 60]))),
        ahead=around.world.span(draw(st.sampled_from([10, 60, 100]))),
        keeps=tuple(keeps),
        values=tuple(values),
        unless=tuple(e.event for e in others[kept:]),
    )


def python_view(draw: st.DrawFn, name: str, around: Surroundings) -> PythonView:
    """A plain function over one or two kinds of events."""
    some = draw(st.lists(st.sampled_from(around.events), min_size=1, max_size=2, unique=True))
    looked_at = {
        e.event.name: next((f.name for f in e.fields if f.is_number), "at_us") for e in some
    }
    return PythonView(
        name=name,
        entity=_entity(draw),
        keeps=tuple((e.event, (looked_at[e.event.name],)) for e in some),
        compute=python_summary(looked_at),
        names=("events", "since", "largest", "values"),
        ttl=around.world.span(draw(st.sampled_from([5, 30]))),
    )


VIEWS: Sequence[AnyView] = (feature_view, calendar_view, open_view, previous_view, python_view)


def _entity(draw: st.DrawFn) -> Entity:
    keys = draw(st.sampled_from(ENTITIES))
    return Entity(name="_".join(keys), keys=keys)


def _item_events(draw: st.DrawFn, around: Surroundings) -> list[DrawnEvent]:
    values = list(around.item_events)
    turn = draw(st.integers(0, len(values) - 1))
    values = values[turn:] + values[:turn]
    return values[: draw(st.integers(min(2, len(values)), len(values)))]


def _windows(draw: st.DrawFn, around: Surroundings) -> tuple[timedelta | TimeWindow, ...]:
    """One to three windows of different lengths, each with any hop or none."""
    lengths = sorted(draw(st.lists(st.sampled_from(LENGTHS), min_size=1, max_size=3, unique=True)))
    hops = [draw(st.sampled_from([0, 0, *(h for h in HOPS if h <= n)])) for n in lengths]
    return tuple(
        TimeWindow(
            length=around.world.span(n),
            hop=around.world.span(hop) if hop else timedelta(microseconds=1),
        )
        for n, hop in zip(lengths, hops, strict=True)
    )


def _some(draw: st.DrawFn, windows: Sequence[Any]) -> tuple[Any, ...]:
    first = draw(st.integers(0, len(windows) - 1))
    return tuple(windows[first:])


@dataclass(frozen=True)
class _DrawnColumn:
    """A column, and whether it adds up."""

    column: Column
    adds_up: bool


def _columns(draw: st.DrawFn, source: DrawnEvent, around: Surroundings) -> list[_DrawnColumn]:
    """One or two columns, with a scale where they may be no whole numbers."""
    columns = []
    for n in range(draw(st.integers(1, 2))):
        field = draw(st.sampled_from(source.fields))
        compute, whole = draw(st.sampled_from(_formulas(field)))
        scale = None if whole else draw(st.sampled_from([None, 1, 10, 100]))
        column = Column(name=f"c{n}", compute=compute, reads=(field.name,), scale=scale)
        columns.append(_DrawnColumn(column, whole or scale is not None))
    return columns


def _formulas(field: Field) -> list[tuple[Any, bool]]:
    """Formulas of a field, and whether they give whole numbers that are never null."""
    name = field.name
    match field.kind:
        case "int":
            return [(same(name), True), (twice_less_one(name), True), (at_least(name, 2), True)]
        case "bool":
            return [(same(name), True), (at_least(name, 1), True)]
        case "int?":
            return [(same(name), False), (at_least(name, 2), True), (is_null(name), True)]
        case "float" | "float?":
            return [(same(name), False), (half(name), False), (at_least(name, 2), True)]
        case _:
            return [(is_text(name, "a"), True)]


def _operations(
    draw: st.DrawFn,
    source: DrawnEvent,
    columns: Sequence[_DrawnColumn],
    around: Surroundings,
    *,
    only: Sequence[str] | None = None,
) -> list[tuple[Any, str | None]]:
    """Operations and what they are of; at least one, none twice."""
    may = _possible(source, columns)
    coarse = draw(st.booleans())  # rows move to their hop only where nothing is timed
    names = [o for o in may if (only is None or o in only) and not (coarse and o in TIMED)]
    chosen = []
    for _ in range(draw(st.integers(1, 5))):
        operation = draw(st.sampled_from(names))
        chosen.append((operation, draw(st.sampled_from(may[operation]))))
    return list(dict.fromkeys(chosen))


def _possible(source: DrawnEvent, columns: Sequence[_DrawnColumn]) -> dict[str, list[str | None]]:
    """Each operation, and the columns and fields that it may be of."""
    adding = [c.column.name for c in columns if c.adds_up]
    numbers = [c.column.name for c in columns] + [f.name for f in source.fields if f.is_number]
    codes = [*(c.column.name for c in columns), *(f.name for f in source.fields)]
    values: dict[str, list[str | None]] = {"count": [None]}
    if adding:
        values |= {o: [*adding] for o in ADDED}
    values["distinct"] = [*codes, "item"]
    values |= {o: [*numbers, "at_us"] for o in OF_NUMBERS}
    values |= {"since_first": [None], "since_last": [None]}
    return values
