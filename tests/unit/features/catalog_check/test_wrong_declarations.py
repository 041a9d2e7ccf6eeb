"""About sixty wrong declarations: each gives its one sentence, and a remedy where there is one."""

import dataclasses
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Annotated, Any

import msgspec
import numpy as np
import pytest
from msgspec import Meta

from features.catalog_check import Mistake, check_domain, domain_mistakes, mistake_of
from features.definitions import (
    Aggregation,
    CalendarView,
    Check,
    Column,
    Decision,
    Domain,
    Entity,
    EventType,
    FeatureService,
    FeatureView,
    ItemValue,
    Label,
    OpenView,
    PreviousView,
    PythonView,
    RequestColumn,
    Span,
    TimeWindow,
)
from features.definitions.validation import collecting
from features.errors import DeclarationError
from tests.support.by_hand import seconds

WINDOW = (seconds(100),)
SHOP = Entity(name="shop", keys=("shop",))
Cents = Annotated[int, Meta(ge=0, le=1_000_000)]
FIELDS: dict[str, Any] = {
    "cents": Cents,
    "weight": float | None,
    "city": str | None,
    "due_us": int,
    "parts": int,
}


def an_event(name: str = "shop.sold", *, key: str = "shop", **fields: Any) -> EventType:
    """An event about a shop with these fields."""
    types = {"event_id": str, "event_time_us": int, "shop": str, **fields}
    return EventType(name=name, record=msgspec.defstruct("Made", [*types.items()]), key=key)


SOLD = an_event(**FIELDS)
ASKED = an_event("shop.asked", **FIELDS)
PAID = an_event("shop.paid", paid=bool)
LIMITS: dict[str, Any] = {"reach": seconds(100), "ahead": seconds(100)}


def a_column(compute: Any = lambda e: e["cents"], *reads: str, **more: Any) -> Column:
    return Column(name="c", compute=compute, reads=reads or ("cents",), **more)


def windowed(column: Column, operation: Any = "sum") -> FeatureView:
    return FeatureView(
        name="sold",
        source=SOLD,
        entity=SHOP,
        columns=(column,),
        aggregations=(Aggregation(operation=operation, column="c", windows=WINDOW),),
    )


def calendar(**changes: Any) -> CalendarView:
    span = Span(
        name="next", start=lambda q: q["due_us"], end=lambda q: q["due_us"] + 10, reads=("due_us",)
    )
    made: dict[str, Any] = {
        "name": "planned",
        "source": SOLD,
        "entity": SHOP,
        "at": "due_us",
        "spans": (span,),
        "aggregations": (Aggregation(operation="count"),),
        **LIMITS,
    }
    return CalendarView(**{**made, **changes})


def spanning(start: Any, *reads: str, end: Any = lambda q: q["due_us"]) -> CalendarView:
    return calendar(spans=(Span(name="s", start=start, end=end, reads=reads or ("due_us",)),))


def previous(
    compute: Any = lambda item, _: item["shop.sold.cents"], **changes: Any
) -> PreviousView:
    made: dict[str, Any] = {
        "name": "before",
        "entity": SHOP,
        "item": "event_id",
        "opened": SOLD,
        "order": "due_us",
        "before": "due_us",
        "keeps": ((SOLD, ("cents",)),),
        "values": (ItemValue(name="v", meaning="", compute=compute),),
        **LIMITS,
    }
    return PreviousView(**{**made, **changes})


def opened(**changes: Any) -> OpenView:
    made: dict[str, Any] = {
        "name": "open",
        "entity": SHOP,
        "item": "event_id",
        "opened": SOLD,
        "due": "due_us",
        "closed_by": (PAID,),
        **LIMITS,
    }
    return OpenView(**{**made, **changes})


def function(compute: Any, **changes: Any) -> PythonView:
    made: dict[str, Any] = {
        "name": "own",
        "entity": SHOP,
        "keeps": ((SOLD, ("cents",)),),
        "compute": compute,
        "names": ("v",),
        "ttl": seconds(100),
    }
    return PythonView(**{**made, **changes})


def a_request_column(compute: Any, *reads: str, **more: Any) -> RequestColumn:
    return RequestColumn(name="q", compute=compute, reads=reads or ("cents",), **more)


def a_service(*columns: RequestColumn, at: Any = lambda e: e["due_us"], views: Any = ()) -> Any:
    return FeatureService(
        name="buys",
        decision=Decision(request=ASKED, source=SOLD, entity_id="event_id", at=at),
        request_columns=columns,
        views=views,
    )


def a_label(value: Any = lambda e: e["paid"] > 0, *reads: str, **more: Any) -> Label:
    return Label(
        name="paid",
        source=PAID,
        entity_id="event_id",
        value=value,
        reads=reads or ("paid",),
        **{"max_wait": seconds(100), **more},
    )


def a_check(holds: Any, *reads: str, **more: Any) -> EventType:
    check = Check(
        name="k", holds=holds, reads=reads or ("cents",), **{"on_failure": "dead_letter", **more}
    )
    return replace(SOLD, checks=(check,))


def a_domain(**changes: Any) -> Domain:
    made: dict[str, Any] = {
        "name": "shop",
        "events": (SOLD, ASKED, PAID),
        "views": (),
        "services": (),
        "labels": (),
        "predictions_topic": "shop.predictions",
    }
    return Domain(**{**made, **changes})


def of_view(*views: Any) -> Domain:
    """A domain with these views, which a service uses."""
    return a_domain(views=views, services=(a_service(views=views),))


def of_column(compute: Any, *reads: str, **more: Any) -> Domain:
    return of_view(windowed(a_column(compute, *reads, **more)))


def of_event(event: EventType) -> Domain:
    return a_domain(events=(event, ASKED, PAID))


def found(declare: Callable[[], Any]) -> list[Mistake]:
    """All mistakes of what is declared, as the command finds them."""
    with collecting() as noted:
        made = declare()
        mistakes = [mistake_of(m, "shop") for m in noted]
        return [*mistakes, *domain_mistakes([made] if isinstance(made, Domain) else [])]


@dataclasses.dataclass
class PlainRecord:
    """A dataclass where a Struct has to be."""

    event_id: str


counter = iter(range(10**9))


def in_place(e: Any) -> Any:
    e["cents"] += 1
    return e["cents"]


TWINS = (
    FeatureView(
        name="shop",
        source=SOLD,
        entity=SHOP,
        columns=(replace(a_column(), name="last_c"),),
        aggregations=(Aggregation(operation="sum", column="last_c", windows=WINDOW),),
    ),
    replace(windowed(a_column(), "last"), name="shop_sum"),
)

PAID_LATER = Label(
    name="paid",
    source=SOLD,
    entity_id="event_id",
    value=lambda e: e["cents"] > 0,
    reads=("cents",),
    max_wait=seconds(100),
)

WRONG: dict[str, tuple[Callable[[], Any], str, str | None]] = {
    # types of fields
    "operation": (
        lambda: Aggregation(operation="avg", column="c", windows=WINDOW),  # type: ignore[arg-type]
        (
            "Aggregation: operation is 'avg', not one of count, sum, mean, rate, min, max, first,"
            " last, change, distinct, since_first, since_last"
        ),
        None,
    ),
    "near operation": (
        lambda: Aggregation(operation="means", column="c", windows=WINDOW),  # type: ignore[arg-type]
        "Aggregation: operation is 'means', not one of",
        "did you mean 'mean'?",
    ),
    "window without tuple": (
        lambda: Aggregation(operation="count", windows=timedelta(days=7)),  # type: ignore[arg-type]
        "Aggregation: windows is timedelta(days=7), not a tuple of a timedelta or",
        "write it as a tuple of one: `(value,)`",
    ),
    "window as number": (
        lambda: Aggregation(operation="count", windows=7),  # type: ignore[arg-type]
        "Aggregation: windows is 7, not a tuple of",
        None,
    ),
    "window as text": (
        lambda: Aggregation(operation="count", windows=("7d",)),  # type: ignore[arg-type]
        "Aggregation: windows is ('7d'), not a tuple of",
        None,
    ),
    "keys as list": (
        lambda: Entity(name="shop", keys=["shop"]),  # type: ignore[arg-type]
        "Entity 'shop': keys is a list, not a tuple of text",
        "write it as a tuple, in round brackets",
    ),
    "keys as text": (
        lambda: Entity(name="shop", keys="shop"),  # type: ignore[arg-type]
        "Entity 'shop': keys is 'shop', not a tuple of text",
        "write it as a tuple of one: `(value,)`",
    ),
    "record as dataclass": (
        lambda: EventType(name="shop.x", record=PlainRecord, key="event_id"),  # type: ignore[arg-type]
        "EventType 'shop.x': record is the class PlainRecord, not a subclass of msgspec.Struct",
        None,
    ),
    "truth value as number": (
        lambda: replace(SOLD, partitions=True),
        "EventType 'shop.sold': partitions is True, not a whole number",
        None,
    ),
    "number as text": (
        lambda: a_column(scale="100"),
        "Column 'c': scale is '100', not a whole number or None",
        None,
    ),
    "no function": (
        lambda: a_column("cents"),
        "Column 'c': compute is 'cents', not a function",
        None,
    ),
    "span of seconds": (
        lambda: TimeWindow(length=3_600),  # type: ignore[arg-type]
        "TimeWindow: length is 3600, not a timedelta",
        None,
    ),
    "another declaration": (
        lambda: windowed(SHOP),  # type: ignore[arg-type]
        "FeatureView 'sold': columns is (an Entity), not a tuple of a declared Column",
        None,
    ),
    "unknown action": (
        lambda: a_check(lambda e: e["cents"] > 0, on_failure="ignore"),
        "check 'k': on_failure is one of nullify, dead_letter, stop",
        None,
    ),
    "missing field": (
        lambda: Entity(name="shop"),  # type: ignore[call-arg]
        "Entity 'shop': it needs the field 'keys'",
        None,
    ),
    "unknown field": (
        lambda: Aggregation(operation="count", window=WINDOW),  # type: ignore[call-arg]
        "Aggregation: it has no field 'window'",
        "did you mean 'windows'?",
    ),
    "fields by place": (
        lambda: Entity("shop", ("shop",)),  # type: ignore[call-arg]
        "Entity: its fields are given by name",
        "they are name, keys",
    ),
    # spans of time
    "beyond all times": (
        lambda: TimeWindow(length=timedelta(days=800_000)),
        "TimeWindow: length is 800,000 days, which is beyond all times (at most 36,525 days)",
        None,
    ),
    "window of a view beyond all times": (
        lambda: Aggregation(operation="count", windows=(timedelta(days=800_000),)),
        "Aggregation: windows holds a value that is 800,000 days, which is beyond all times",
        None,
    ),
    "reach beyond all times": (
        lambda: opened(reach=timedelta(days=800_000)),
        "OpenView 'open': reach is 800,000 days, which is beyond all times",
        None,
    ),
    "wait beyond all times": (
        lambda: a_label(max_wait=timedelta(days=800_000)),
        "Label 'paid': max_wait is 800,000 days, which is beyond all times",
        None,
    ),
    "no reach": (lambda: opened(reach=seconds(0)), "view open: its reach is longer than 0", None),
    "negative ahead": (
        lambda: calendar(ahead=-seconds(1)),
        "view planned: its ahead is not negative",
        None,
    ),
    # names
    "reserved field": (
        lambda: an_event(offset=int),
        "event shop.sold: the field 'offset' has the name of a column that is added to every event",
        "give it another name",
    ),
    "reserved field in capitals": (
        lambda: an_event(Known_At_Us=int),
        "event shop.sold: the field 'Known_At_Us' has the name of a column",
        "give it another name",
    ),
    "fields that differ in case": (
        lambda: an_event(city=str, City=str),
        "event shop.sold: several fields are called ['City', 'city']",
        "give each a name of its own",
    ),
    "topic": (
        lambda: an_event("shop sold"),
        "event shop sold: a topic's name has letters, digits, `.`, `_` and `-` only",
        None,
    ),
    "topics that differ in case": (
        lambda: a_domain(events=(SOLD, ASKED, PAID, an_event("shop.Sold"))),
        "domain shop: several topics are called ['shop.Sold', 'shop.sold']",
        "give each a name of its own",
    ),
    "predictions on the topic of an event": (
        lambda: a_domain(predictions_topic=SOLD.name),
        "domain shop: several topics are called ['shop.sold']",
        "give each a name of its own",
    ),
    "features of two views": (
        lambda: of_view(*TWINS),
        "service buys: two columns are called 'shop_sum_last_c_100s'",
        None,
    ),
    "two views of one name": (
        lambda: a_domain(views=(windowed(a_column()), replace(calendar(), name="Sold"))),
        "domain shop: several views are called ['Sold', 'sold']",
        "give each a name of its own",
    ),
    "reserved request column": (
        lambda: a_service(
            RequestColumn(name="label", compute=lambda q: q["cents"], reads=("cents",))
        ),
        "service buys: a training set has a column 'label' of its own",
        None,
    ),
    "an event that is not listed": (
        lambda: a_domain(events=(ASKED, PAID), views=(windowed(a_column()),)),
        (
            "domain shop: view sold needs the event shop.sold, which the domain does not list, so"
            " ingest would not read it"
        ),
        "add it to `events` of the domain",
    ),
    "a view that is not listed": (
        lambda: a_domain(services=(a_service(views=(windowed(a_column()),)),)),
        "domain shop: service buys uses views that the domain does not list",
        "add them to `views` of the domain",
    ),
    # keys, fields and their types
    "key as number": (
        lambda: an_event(key="customer", customer=int),
        (
            "event shop.sold: the key: 'customer' is a whole number, it has to be text that is"
            " never null"
        ),
        None,
    ),
    "key with null": (
        lambda: an_event(key="customer", customer=str | None),
        "event shop.sold: the key: 'customer' is text or null, it has to be text",
        None,
    ),
    "field that is a list": (
        lambda: an_event(parts=list[int]),
        "event shop.sold: the field 'parts' is neither text nor a number, or null",
        None,
    ),
    "event time as text": (
        lambda: an_event(event_time_us=str),
        "event shop.sold: 'event_time_us' is text, it has to be a whole number that is never null",
        None,
    ),
    "near field": (
        lambda: calendar(at="due"),
        "view planned: no field 'due'",
        "did you mean 'due_us'?",
    ),
    "time that may be null": (
        lambda: calendar(at="weight"),
        "view planned: the time: 'weight' is a number or null, it has to be a whole number",
        None,
    ),
    "label of an unknown field": (
        lambda: a_label(lambda e: e["payd"], "payd"),
        "label paid: shop.paid has no field 'payd'",
        "did you mean 'paid'?",
    ),
    # what formulas read
    "reads more than it names": (
        lambda: of_column(lambda e: e["cents"] + e["parts"]),
        "view sold: column 'c' reads ['parts'], which its `reads` do not name",
        "add ['parts'] to `reads`",
    ),
    "reads less than it names": (
        lambda: of_column(lambda e: e["cents"], "cents", "parts"),
        "view sold: column 'c' does not use ['parts'] of its `reads`",
        "take them out of `reads`",
    ),
    "reads what is not there": (
        lambda: of_column(lambda e: e["cent"]),
        "view sold: column 'c' reads 'cent', which it is not given",
        "did you mean 'cents'?",
    ),
    "function reads what it does not keep": (
        lambda: of_view(function(lambda e, _: [e["shop.sold"]["parts"].sum()])),
        "view own: its function reads 'parts' of shop.sold, which `keeps` does not name",
        None,
    ),
    "keeps what nothing uses": (
        lambda: of_view(previous(lambda item, _: item["shop.sold"] * 1.0)),
        "view before: no value uses ['shop.sold.cents'] of `keeps`",
        "take them out of it",
    ),
    # what formulas give
    "a scalar": (
        lambda: of_column(lambda e: e["cents"].sum()),
        "view sold: column 'c' gives an int64 for no record at all, not an array with a value for",
        None,
    ),
    "a wrong length": (
        lambda: of_column(lambda e: e["cents"][:1]),
        "view sold: column 'c' gives an array of the shape (1,) for 24 records at once",
        None,
    ),
    "two dimensions": (
        lambda: of_column(lambda e: np.stack([e["cents"]] * 2, axis=1)),
        "view sold: column 'c' gives an array of the shape (0, 2) for no record at all",
        None,
    ),
    "text for a number": (
        lambda: of_view(windowed(a_column(lambda e: e["city"], "city"), "max")),
        "view sold: column 'c' gives objects for city=",
        None,
    ),
    "fractions in a sum": (
        lambda: of_column(lambda e: e["cents"] / 2),
        "view sold: column 'c' is not of whole numbers: sums of floats depend on the order",
        None,
    ),
    "an error for a null": (
        lambda: of_column(lambda e: np.array([len(c) for c in e["city"]], np.int64), "city"),
        "view sold: column 'c' raised TypeError for city=None",
        None,
    ),
    "a whole number of a null": (
        lambda: of_column(lambda e: e["weight"].astype(np.int64), "weight"),
        "view sold: column 'c' makes a whole number of null or infinity, for weight=nan",
        None,
    ),
    "infinity": (
        lambda: of_column(lambda e: 1.0 / e["cents"], scale=100),
        "view sold: column 'c' gives infinity for cents=0",
        "give NaN where there is no value",
    ),
    "depends on other records": (
        lambda: of_column(lambda e: e["cents"] - e["cents"].min(initial=0) + len(e["cents"])),
        "view sold: column 'c' gives ",
        "a record's value must not depend on the records beside it",
    ),
    "is not the same again": (
        lambda: of_column(lambda e: e["cents"] * 0 + next(counter)),
        "view sold: column 'c' gives another result when it is called again",
        None,
    ),
    "writes into its input": (
        lambda: of_column(in_place),
        "view sold: column 'c' writes into its input",
        "let it return a new array",
    ),
    "a check that gives numbers": (
        lambda: of_event(a_check(lambda e: e["cents"])),
        "check 'k' of event shop.sold gives whole numbers for cents=",
        None,
    ),
    "a label that is an amount": (
        lambda: a_domain(labels=(replace(PAID_LATER, value=lambda e: e["cents"]),)),
        "label paid: its value is ",
        None,
    ),
    "a number that is a text": (
        lambda: a_domain(services=(a_service(a_request_column(lambda q: q["city"], "city")),)),
        "service buys: request column 'q' gives objects for city=",
        None,
    ),
    "a category that is an object": (
        lambda: a_domain(
            services=(
                a_service(
                    a_request_column(
                        lambda q: np.array([(c,) for c in q["city"]] + [None], object)[:-1],
                        "city",
                        category=True,
                    )
                ),
            )
        ),
        "service buys: request column 'q' gives a tuple for city=",
        None,
    ),
    # times
    "decision in seconds": (
        lambda: a_domain(services=(a_service(at=lambda e: e["event_time_us"] // 1_000_000),)),
        "service buys: the decision time `at` gives 16",
        "are these seconds?",
    ),
    "decision in milliseconds": (
        lambda: a_domain(services=(a_service(at=lambda e: e["due_us"] // 1_000),)),
        "service buys: the decision time `at` gives 16",
        "are these milliseconds?",
    ),
    "decision as fraction": (
        lambda: a_domain(services=(a_service(at=lambda e: e["due_us"] / 1),)),
        "service buys: the decision time `at` gives numbers with fractions for ",
        None,
    ),
    "span in seconds": (
        lambda: of_view(spanning(lambda q: q["due_us"] // 1_000_000)),
        "view planned: the start of span 's' gives 16",
        "are these seconds?",
    ),
    "span of the wrong shape": (
        lambda: of_view(spanning(lambda q: q["due_us"].max(initial=0))),
        "view planned: the start of span 's' gives an int64 for no record at all",
        None,
    ),
    # functions and items
    "too few values": (
        lambda: of_view(function(lambda e, _: [e["shop.sold"]["cents"].sum()] * 0)),
        "view own: its function gives 0 values for 0 events shop.sold, and has 1 names",
        None,
    ),
    "no values": (
        lambda: of_view(function(lambda e, _: e["shop.sold"]["cents"].sum())),
        "view own: its function gives no numbers for 0 events shop.sold but a float64",
        "let it return a tuple of numbers",
    ),
    "division by nothing": (
        lambda: of_view(function(lambda e, _: [1 / len(e["shop.sold"]["cents"])])),
        "view own: its function raised ZeroDivisionError for 0 events shop.sold",
        None,
    ),
    "order of equal times": (
        lambda: of_view(function(lambda e, _: [e["shop.sold"]["cents"][:1].sum()])),
        "view own: its function depends on the order of events of one microsecond",
        None,
    ),
    "an item as text": (
        lambda: of_view(previous(lambda item, _: item["shop.sold.cents"].astype(str))),
        "view before: value 'v' gives texts for ",
        None,
    ),
    "a request field that is not asked for": (
        lambda: of_view(previous(lambda item, q: item["shop.sold.cents"] + q["parts"])),
        "view before: value 'v' reads 'parts' of the request, which it is not given",
        None,
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_declaration_gives_one_sentence_with_its_place(case: str) -> None:
    declare, sentence, remedy = WRONG[case]
    mistakes = found(declare)
    assert [m.mistake[: len(sentence)] for m in mistakes] == [sentence]
    assert mistakes[0].file == __file__
    assert mistakes[0].line is not None
    if remedy is not None:
        assert mistakes[0].remedy == remedy


@pytest.mark.parametrize("case", WRONG)
def test_nothing_wrong_passes_outside_the_command(case: str) -> None:
    """As ingest and serving find it, or the check of one domain."""
    declare, sentence, _ = WRONG[case]
    with pytest.raises(DeclarationError) as error:
        check_domain(declare())
    assert str(error.value).startswith(sentence)


def test_what_the_table_is_made_of_is_sound() -> None:
    """So each of its declarations is wrong in one thing only."""
    views = (
        windowed(a_column()),
        calendar(),
        previous(),
        opened(),
        function(lambda e, _: [e["shop.sold"]["cents"].sum()]),
    )
    columns = (
        a_request_column(lambda q: q["cents"]),
        RequestColumn(name="city", compute=lambda q: q["city"], reads=("city",), category=True),
    )
    events = (a_check(lambda e: e["cents"] > 0), PAID, ASKED)
    assert found(lambda: a_domain(events=events)) == []
    service = a_service(*columns, views=views)
    assert found(lambda: a_domain(views=views, services=(service,), labels=(a_label(),))) == []


def test_all_mistakes_are_found_in_one_run() -> None:
    def declare() -> Domain:
        views = (
            windowed(a_column(lambda e: e["cent"])),
            FeatureView(
                name="wrong",
                source=SOLD,
                entity=SHOP,
                aggregations=(Aggregation(operation="avg"),),  # type: ignore[arg-type]
            ),
            calendar(at="due", reach=seconds(0)),
        )
        return a_domain(views=views, labels=(a_label(lambda e: e["paid"] * 2),))

    assert [m.mistake.split(" is ")[0] for m in found(declare)] == [
        "Aggregation: operation",
        "view planned: no field 'due'",
        "view planned: its reach",
        "label paid: its value",
        "view sold: column 'c' reads 'cent', which it",
    ]


def test_msgspec_types_that_it_does_not_know_are_named() -> None:
    record = msgspec.defstruct("Odd", [("event_id", str), ("event_time_us", int), ("x", complex)])
    with pytest.raises(DeclarationError, match="neither text nor a number"):
        EventType(name="shop.odd", record=record, key="event_id")
