"""Whatever changes what a column means is noticed, and nothing else is."""

from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest

from features.definitions import (
    Aggregation,
    CalendarView,
    Decision,
    Entity,
    FeatureService,
    FeatureView,
    ItemValue,
    OpenView,
    PreviousView,
    PythonView,
    RequestColumn,
    Span,
    TimeWindow,
    View,
)
from features.engine.column_meanings import column_meanings
from features.engine.columns import arrays_of
from features.engine.view_states import state_of
from tests.support.by_hand import an_event, at, column, nullify, seconds

FIELDS: Mapping[str, Any] = {
    "city": str,
    "cents": int,
    "other": int,
    "early_us": int,
    "due_us": int,
}
SOLD = an_event(**FIELDS)
RETURNED = an_event("shop.returned", **FIELDS)
ASKED = an_event("shop.asked", **FIELDS)
SHOP, CITY = (Entity(name=name, keys=(name,)) for name in ("shop", "city"))
CENTS = column("value", lambda e: e["cents"], "cents")
TODAY = Span(
    name="today",
    start=lambda r: r["due_us"],
    end=lambda r: r["due_us"] + 10,
    reads=("due_us", "early_us"),
)
NEXT = replace(TODAY, name="next", start=lambda r: r["due_us"] + 10, end=lambda r: r["due_us"] + 20)

WINDOWS = FeatureView(
    name="made",
    source=SOLD,
    entity=SHOP,
    columns=(CENTS, column("more", lambda e: e["other"], "other")),
    aggregations=(
        Aggregation(operation="mean", column="value", windows=(seconds(100),)),
        Aggregation(operation="last", column="other", windows=(seconds(50),)),
        Aggregation(operation="count"),
    ),
    ttl=seconds(200),
)
CALENDAR = CalendarView(
    name="made",
    source=SOLD,
    entity=SHOP,
    at="due_us",
    spans=(TODAY, NEXT),
    aggregations=(
        Aggregation(operation="mean", column="value"),
        Aggregation(operation="count"),
        Aggregation(operation="sum", column="early"),
    ),
    columns=(CENTS, column("early", lambda e: e["early_us"], "early_us")),
    reach=seconds(100),
    ahead=seconds(30),
)
OPEN = OpenView(
    name="made",
    entity=SHOP,
    item="city",
    opened=SOLD,
    due="due_us",
    closed_by=(RETURNED,),
    reach=seconds(100),
    ahead=seconds(30),
)
PREVIOUS = PreviousView(
    name="made",
    entity=SHOP,
    item="city",
    opened=SOLD,
    order="due_us",
    before="due_us",
    reach=seconds(100),
    ahead=seconds(30),
    keeps=((SOLD, ("cents", "early_us")),),
    values=(
        ItemValue(name="cents", meaning="it", compute=lambda item, _: item["shop.sold.cents"]),
        ItemValue(name="early", meaning="it", compute=lambda item, _: item["shop.sold.early_us"]),
    ),
    asks_for=("early_us",),
)
PYTHON = PythonView(
    name="made",
    entity=SHOP,
    keeps=((SOLD, ("cents",)),),
    compute=lambda events, _: [1.0, len(events["shop.sold"]["cents"])],
    names=("one", "all"),
    ttl=seconds(100),
)

# (view, its field, another value, the indices of the features that then mean something else;
# None: all of them)
Change = tuple[View, str, Any, Sequence[int] | None]
NO_FEATURE: Sequence[int] = ()
NARROW = Aggregation(
    operation="mean", column="value", windows=(TimeWindow(length=seconds(100), hop=seconds(10)),)
)
CHANGES: Sequence[Change] = (
    (WINDOWS, "name", "another", NO_FEATURE),
    (WINDOWS, "source", RETURNED, None),
    (WINDOWS, "source", replace(SOLD, known_after=seconds(1)), None),
    (WINDOWS, "source", an_event(**{**FIELDS, "other": int | None}), (1,)),
    (WINDOWS, "source", an_event(**{**FIELDS, "city": str | None}), NO_FEATURE),
    (WINDOWS, "source", replace(SOLD, checks=(nullify("cents", lambda e: e["cents"] > 0),)), None),
    (WINDOWS, "entity", CITY, None),
    (WINDOWS, "aggregations", (NARROW, *WINDOWS.aggregations[1:]), (0,)),
    (
        WINDOWS,
        "aggregations",
        (replace(WINDOWS.aggregations[0], operation="sum"), *WINDOWS.aggregations[1:]),
        (0,),
    ),
    (
        WINDOWS,
        "aggregations",
        (WINDOWS.aggregations[0], replace(WINDOWS.aggregations[1], windows=(seconds(60),))),
        (1,),
    ),
    (WINDOWS, "aggregations", WINDOWS.aggregations[:1], NO_FEATURE),
    (
        WINDOWS,
        "columns",
        (replace(CENTS, compute=lambda e: e["cents"] + 1), WINDOWS.columns[1]),
        (0,),
    ),
    (WINDOWS, "columns", (replace(CENTS, scale=100), WINDOWS.columns[1]), (0,)),
    (WINDOWS, "columns", (CENTS,), NO_FEATURE),
    (WINDOWS, "ttl", seconds(300), (2,)),
    (WINDOWS, "exclude_self", "city", None),
    (CALENDAR, "name", "another", NO_FEATURE),
    (CALENDAR, "source", RETURNED, None),
    (CALENDAR, "entity", CITY, None),
    (CALENDAR, "at", "early_us", None),
    (CALENDAR, "spans", (replace(TODAY, start=lambda r: r["due_us"] - 1), NEXT), (0, 2, 4)),
    (CALENDAR, "spans", (TODAY, replace(NEXT, end=lambda r: r["due_us"] + 30)), (1, 3, 5)),
    (CALENDAR, "spans", (replace(TODAY, name="other"), NEXT), NO_FEATURE),
    (CALENDAR, "aggregations", CALENDAR.aggregations[:1], NO_FEATURE),
    (
        CALENDAR,
        "aggregations",
        (replace(CALENDAR.aggregations[0], operation="sum"), *CALENDAR.aggregations[1:]),
        (0, 1),
    ),
    (CALENDAR, "reach", seconds(90), None),
    (CALENDAR, "ahead", seconds(45), None),
    (
        CALENDAR,
        "columns",
        (replace(CENTS, compute=lambda e: e["cents"] * 2), CALENDAR.columns[1]),
        (0, 1),
    ),
    (OPEN, "name", "another", NO_FEATURE),
    (OPEN, "entity", CITY, None),
    (OPEN, "item", "shop", None),
    (OPEN, "opened", replace(SOLD, known_after=seconds(1)), None),
    (OPEN, "due", "early_us", None),
    (OPEN, "closed_by", (SOLD,), None),
    (OPEN, "reach", seconds(90), None),
    (OPEN, "ahead", seconds(45), None),
    (OPEN, "gives", ("mean_minutes",), NO_FEATURE),
    (PREVIOUS, "name", "another", NO_FEATURE),
    (PREVIOUS, "entity", CITY, None),
    (PREVIOUS, "item", "shop", None),
    (PREVIOUS, "opened", replace(SOLD, known_after=seconds(1)), None),
    (PREVIOUS, "order", "early_us", None),
    (PREVIOUS, "before", "early_us", None),
    (PREVIOUS, "reach", seconds(90), None),
    (PREVIOUS, "ahead", seconds(45), None),
    (PREVIOUS, "keeps", ((SOLD, ("cents", "early_us", "other")),), None),
    (
        PREVIOUS,
        "values",
        (
            PREVIOUS.values[0],
            replace(PREVIOUS.values[1], compute=lambda _, r: r["early_us"]),
        ),
        (1,),
    ),
    (PREVIOUS, "asks_for", ("early_us", "other"), None),
    (PREVIOUS, "unless", (RETURNED,), None),
    (PYTHON, "name", "another", NO_FEATURE),
    (PYTHON, "entity", CITY, None),
    (PYTHON, "keeps", ((SOLD, ("cents", "other")),), None),
    (PYTHON, "compute", lambda events, _: [2.0, len(events["shop.sold"]["cents"])], None),
    (PYTHON, "names", ("all", "one"), NO_FEATURE),
    (PYTHON, "ttl", seconds(90), None),
)


def service_of(*views: View, columns: Sequence[RequestColumn] = (), **more: Any) -> FeatureService:
    request = more.pop("request", ASKED)
    decision = Decision(
        request=request,
        source=more.pop("source", RETURNED),
        entity_id="shop",
        at=lambda e: e["event_time_us"],
    )
    return FeatureService(
        name="made", decision=decision, request_columns=tuple(columns), views=tuple(views)
    )


def digests(view: View) -> list[str]:
    """What its features mean, in their order."""
    meanings = column_meanings(service_of(view))
    return [meanings[feature].digest for feature in view.features]


@pytest.mark.parametrize(
    ("view", "field", "value", "changed"),
    [pytest.param(*c, id=f"{type(c[0]).__name__}-{c[1]}-{i}") for i, c in enumerate(CHANGES)],
)
def test_a_change_changes_the_features_that_depend_on_it(
    view: View, field: str, value: Any, changed: Sequence[int] | None
) -> None:
    before, after = digests(view), digests(replace(view, **{field: value}))
    n = min(len(before), len(after))
    expected = range(n) if changed is None else changed
    if type(view) is OpenView and field == "gives":
        before = before[1:]  # `mean_minutes` is the first one now
    assert [i for i in range(n) if before[i] != after[i]] == list(expected)


def test_every_field_of_every_kind_of_view_is_tried() -> None:
    declared = {(kind, f.name) for kind in View.__args__ for f in fields(kind)}
    assert {(type(view), field) for view, field, _, _ in CHANGES} == declared


def rows(view: View) -> list[Any]:
    """What the view stores of events that are early, in time, late, and of the same item."""
    times = [at(n) for n in range(0, 120, 7)]
    stored = []
    for event in view.sources:
        events = [
            event.record(
                event_id=f"{n}",
                event_time_us=time,
                shop="a",
                city="xyz"[n % 3],
                cents=n,
                other=n % 2,
                early_us=time - n * 1_000_000,
                due_us=at(60),
            )
            for n, time in enumerate(times)
        ]
        columns = {f: [getattr(e, f) for e in events] for f in event.fields}
        arrays = arrays_of(columns, event.record, tuple(event.fields))
        made = state_of(view).rows_of(event, arrays, np.array(times, np.int64))
        stored.append(
            [made.group.tolist(), made.row_key.tolist(), made.known_us.tolist()]
            + [(name, made.columns[name].tolist()) for name in sorted(state_of(view).columns)]
        )
    return stored


@pytest.mark.parametrize(
    ("view", "field", "value"),
    [pytest.param(*c[:3], id=f"{type(c[0]).__name__}-{c[1]}-{i}") for i, c in enumerate(CHANGES)],
)
def test_a_declaration_that_stores_other_rows_has_another_schema_id(
    view: View, field: str, value: Any
) -> None:
    changed = replace(view, **{field: value})
    if rows(changed) != rows(view):
        assert state_of(changed).schema_id != state_of(view).schema_id


COLUMN = RequestColumn(name="size", compute=lambda r: r["cents"] * 2, reads=("cents",))


@pytest.mark.parametrize(
    "changed",
    [
        pytest.param({"column": replace(COLUMN, compute=lambda r: r["cents"] * 3)}, id="formula"),
        pytest.param({"column": replace(COLUMN, reads=("cents", "other"))}, id="reads"),
        pytest.param({"column": replace(COLUMN, category=True)}, id="category"),
        pytest.param(
            {
                kind: an_event(f"shop.{kind}", **{**FIELDS, "cents": int | None})
                for kind in ("request", "source")
            },
            id="null",
        ),
        pytest.param(
            {
                "request": replace(
                    ASKED, checks=(nullify("cents", lambda e: e["other"] > 0, "other"),)
                )
            },
            id="check",
        ),
    ],
)
def test_a_column_of_the_request_follows_its_formula_and_what_it_reads(
    changed: dict[str, Any],
) -> None:
    column = changed.pop("column", COLUMN)
    before = column_meanings(service_of(columns=[COLUMN]))["size"]
    after = column_meanings(service_of(columns=[column], **changed))["size"]
    assert before.digest != after.digest


def test_a_column_of_the_request_does_not_follow_its_neighbours() -> None:
    unread = (nullify("early_us", lambda e: e["early_us"] > 0),)
    another = RequestColumn(name="late", compute=lambda r: r["due_us"], reads=("due_us",))
    alone = column_meanings(service_of(columns=[COLUMN]))["size"]
    beside = service_of(WINDOWS, columns=[another, COLUMN], request=replace(ASKED, checks=unread))
    assert column_meanings(beside)["size"].digest == alone.digest


def test_a_meaning_says_what_declares_the_column() -> None:
    meanings = column_meanings(service_of(WINDOWS, columns=[COLUMN]))
    assert meanings["size"].declared_by == "service made"
    assert meanings["made_mean_value_100s"].declared_by == "view made"
