"""A contradictory declaration raises an error that names its line."""

import inspect
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Annotated, Any

import msgspec
import pytest
from msgspec import Meta

from features.catalog import domains
from features.catalog.flights import DOMAIN
from features.catalog.flights.services import FLIGHT_DELAY
from features.catalog_check import check_domain
from features.definitions import (
    Aggregation,
    Check,
    Column,
    Entity,
    EventType,
    FeatureView,
    RequestColumn,
    TimeWindow,
)
from features.engine.view_states import state_of
from features.errors import DeclarationError
from tests.support.data.orders import (
    ADDED,
    CALENDAR,
    OVERDUE,
    PLACED,
    PREVIOUS,
    REQUESTED,
    SHIPPED,
    SPREAD,
    TIMED,
)

HOUR = timedelta(hours=1)
OTHER = Entity(name="customer", keys=("customer",))
POSITIVE_SPEED = Check(
    name="c", holds=lambda e: e["speed"] > 0, reads=("speed",), on_failure="stop"
)

MISTAKES: list[tuple[Callable[[], Any], str]] = [
    (lambda: replace(ADDED, entity=Entity(name="x", keys=("city",))), "no key field 'city'"),
    (lambda: replace(ADDED, aggregations=()), "it has no aggregation"),
    (lambda: replace(ADDED, columns=()), "sum of an undeclared column 'price'"),
    (lambda: replace(ADDED, ttl=timedelta(seconds=20)), "the window 40s is longer than its ttl"),
    (lambda: replace(ADDED, exclude_self="carrier"), "no field 'carrier'"),
    (lambda: replace(TIMED, ttl=None), "last without a window needs the view's ttl"),
    (lambda: TimeWindow(length=HOUR, hop=2 * HOUR), "no longer than its window"),
    (lambda: Aggregation(operation="min"), "others need one"),
    (lambda: replace(CALENDAR, at="shipped_us"), "no field 'shipped_us'"),
    (
        lambda: replace(CALENDAR, aggregations=(Aggregation(operation="min", column="cents"),)),
        "over spans there are count, sum, mean and rate",
    ),
    (lambda: replace(OVERDUE, due="left_us"), "no field 'left_us'"),
    (lambda: replace(OVERDUE, entity=OTHER), "order.shipped has no field 'customer'"),
    (lambda: replace(OVERDUE, gives=("median",)), r"cannot give \['median'\]"),
    (lambda: replace(PREVIOUS, order="left_us"), "no field 'left_us'"),
    (lambda: replace(PREVIOUS, keeps=((SHIPPED, ("crates",)),)), "no field 'crates'"),
    (lambda: replace(SPREAD, keeps=((PLACED, ("grams",)),)), "no field 'grams'"),
    (lambda: replace(PLACED, key="basket"), "no field 'basket'"),
    (lambda: replace(PLACED, known_after=-HOUR), "known before it happened"),
    (lambda: replace(PLACED, checks=(POSITIVE_SPEED,)), "check 'c': no field 'speed'"),
    (lambda: replace(POSITIVE_SPEED, on_failure="nullify"), "a check that nullifies names a field"),
    (
        lambda: replace(
            FLIGHT_DELAY,
            request_columns=(
                RequestColumn(name="has_tail", compute=lambda e: e["tailnum"], reads=("tailnum",)),
            ),
        ),
        r"column 'has_tail' reads \['tailnum'\], which are refused",
    ),
    (lambda: replace(FLIGHT_DELAY, views=(ADDED,)), r"requests and history lack \['shop'\]"),
]


@pytest.mark.parametrize(("declare", "mistake"), MISTAKES, ids=[m for _, m in MISTAKES])
def test_a_mistake_is_named_with_its_file_and_line(
    declare: Callable[[], Any], mistake: str
) -> None:
    with pytest.raises(DeclarationError, match=mistake) as caught:
        declare()
    first = inspect.getsourcelines(declare)[1]
    file, line = str(caught.value).rstrip(")").rsplit("(", 1)[1].rsplit(":", 1)
    assert file == __file__
    assert first <= int(line) <= first + 15


@pytest.mark.parametrize(
    ("view", "mistake"),
    [
        (
            replace(
                ADDED,
                aggregations=(Aggregation(operation="max", column="customer", windows=(HOUR,)),),
            ),
            "'customer' is text, not a number",
        ),
        (
            replace(
                ADDED,
                columns=(Column(name="price", compute=lambda e: e["cents"] / 7, reads=("cents",)),),
                aggregations=(Aggregation(operation="sum", column="price", windows=(HOUR,)),),
            ),
            "is not of whole numbers",
        ),
        (
            replace(ADDED, entity=Entity(name="w", keys=("weight",))),
            "'weight' of .* is a number with",
        ),
        (replace(PREVIOUS, keeps=((PLACED, ("customer",)),)), "'customer' is text, not a number"),
        (replace(SPREAD, keeps=((PLACED, ("customer",)),)), "'customer' is text, not a number"),
    ],
)
def test_a_feature_that_cannot_be_computed_is_refused(view: FeatureView, mistake: str) -> None:
    with pytest.raises(DeclarationError, match=mistake):
        state_of(view)


def test_every_declared_domain_is_valid() -> None:
    summaries = {str(d["domain"]): d for d in map(check_domain, domains())}
    assert summaries["flights"] == {"domain": "flights", "events": 8, "views": 15, "services": 1}


def test_a_service_with_a_view_that_ingest_does_not_maintain_is_refused() -> None:
    with pytest.raises(DeclarationError, match="ingest would not keep them"):
        check_domain(replace(DOMAIN, views=DOMAIN.views[1:]))


def test_two_views_with_the_same_name_are_refused() -> None:
    with pytest.raises(DeclarationError, match="several views are called"):
        check_domain(replace(DOMAIN, views=(*DOMAIN.views, DOMAIN.views[0])))


@pytest.mark.parametrize(
    ("old", "field", "now"),
    [
        ({"otherwise": "blank"}, "weight", "nullify"),
        ({"on_failure": "blank"}, "weight", "nullify"),
        ({"otherwise": "dead_letter"}, None, "dead_letter"),
        ({"otherwise": "stop"}, None, "stop"),
    ],
)
def test_the_old_names_of_a_check_still_work_with_a_warning(
    old: dict[str, Any], field: str | None, now: Any
) -> None:
    holds = POSITIVE_SPEED.holds
    with pytest.warns(DeprecationWarning, match=r"now .*(on_failure|nullify)") as warned:
        check = Check(name="c", holds=holds, reads=("weight",), field=field, **old)
    assert {w.filename for w in warned} == {__file__}
    assert check == Check(name="c", holds=holds, reads=("weight",), field=field, on_failure=now)
    assert replace(check, name="d").on_failure == now  # without a warning, which is an error here
    assert hash(check) == hash(replace(check))


def test_a_check_must_declare_its_action_on_failure() -> None:
    with pytest.raises(DeclarationError, match="on_failure is one of nullify, dead_letter, stop"):
        Check(name="c", holds=POSITIVE_SPEED.holds, reads=("weight",))


def test_a_request_event_is_no_source_of_a_view() -> None:
    assert REQUESTED not in ADDED.sources


class WithCode(msgspec.Struct):
    """An event that is not what its message says."""

    event_id: str
    event_time_us: int
    seats: int

    def __post_init__(self) -> None:
        if self.seats == 7:
            raise KeyError


@pytest.mark.parametrize(
    ("field", "mistake"),
    [
        (("seats", int, "none"), "the default of 'seats' is 'none'"),
        (("seats", int, None), "the default of 'seats' is None"),
        (("seats", Annotated[int, Meta(ge=1)], 0), "the default of 'seats' is 0"),
        (("seats", int | msgspec.UnsetType, msgspec.UNSET), "the default of 'seats' is UNSET"),
        (("seats", int, msgspec.field(default_factory=lambda: 1)), "is made by a function"),
        (("seats", Annotated[int, Meta(ge=5, le=1)]), "no number lies in the bounds of 'seats'"),
        (("seats", Annotated[int, Meta(gt=1, lt=2)]), "no number lies in the bounds of 'seats'"),
        (("seats", Annotated[int, Meta(le=2**70)]), "its record cannot be read"),
    ],
)
def test_a_record_that_is_more_than_its_message_or_takes_none_is_refused(
    field: Any, mistake: str
) -> None:
    fields = [("event_id", str), ("event_time_us", int), field]
    record = msgspec.defstruct("Made", fields, kw_only=True)
    with pytest.raises(DeclarationError, match=mistake):
        EventType(name="made", record=record, key="event_id")


def test_a_record_that_runs_code_is_refused() -> None:
    with pytest.raises(DeclarationError, match="__post_init__"):
        EventType(name="made", record=WithCode, key="event_id")
