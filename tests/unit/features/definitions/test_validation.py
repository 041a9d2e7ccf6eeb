"""Declarations are validated, and errors name the mistake."""

import importlib
import sys
from dataclasses import replace
from datetime import timedelta

import pytest
from msgspec import Struct

from features import definitions
from features.catalog import domain, domains, event_types
from features.catalog.flights.events import DEPARTED, FlightDeparted
from features.catalog.flights.services import FLIGHT_DELAY
from features.catalog.flights.views import ORIGIN, ORIGIN_DEPARTURES
from features.definitions import Aggregation, Entity, EventType, window_name
from features.errors import DeclarationError, FeatureError

HOUR = timedelta(hours=1)


class NoTime(Struct):
    """An event without its time."""

    event_id: str
    flight_id: str


@pytest.mark.parametrize(
    ("record", "key", "missing"),
    [(NoTime, "flight_id", "event_time_us"), (FlightDeparted, "gate", "gate")],
)
def test_an_event_without_a_needed_field_is_refused(
    record: type[Struct], key: str, missing: str
) -> None:
    with pytest.raises(DeclarationError, match=f"bad: its record has no field '{missing}'"):
        EventType(name="bad", record=record, key=key)


@pytest.mark.parametrize(
    ("change", "mistake"),
    [
        ({"entity": Entity(name="gate", keys=("gate",))}, "no key field 'gate'"),
        (
            {"aggregations": (Aggregation(operation="mean", column="speed", windows=(HOUR,)),)},
            "undeclared column 'speed'",
        ),
        (
            {"aggregations": (Aggregation(operation="last", column="speed", windows=(HOUR,)),)},
            "last of an unknown field 'speed'",
        ),
        (
            {"aggregations": (Aggregation(operation="count", windows=(HOUR, HOUR)),)},
            "several features are called",
        ),
    ],
)
def test_an_invalid_view_is_refused_with_its_mistake(
    change: dict[str, object], mistake: str
) -> None:
    with pytest.raises(DeclarationError, match=f"view origin_departures: .*{mistake}"):
        replace(ORIGIN_DEPARTURES, **change)  # type: ignore[arg-type]


def test_a_column_that_reads_an_unknown_field_is_refused() -> None:
    column = replace(ORIGIN_DEPARTURES.columns[0], reads=("speed",))
    with pytest.raises(DeclarationError, match="no field 'speed'"):
        replace(ORIGIN_DEPARTURES, columns=(column, ORIGIN_DEPARTURES.columns[1]))


def test_an_aggregation_needs_a_window_above_zero() -> None:
    with pytest.raises(DeclarationError, match="longer than 0"):
        Aggregation(operation="count", windows=(timedelta(0),))


def test_count_takes_no_column_and_mean_needs_one() -> None:
    with pytest.raises(DeclarationError, match="take no column"):
        Aggregation(operation="count", column="delay", windows=(HOUR,))
    with pytest.raises(DeclarationError, match="others need one"):
        Aggregation(operation="mean", windows=(HOUR,))


def test_a_service_reads_only_fields_that_requests_and_history_share() -> None:
    decision = replace(FLIGHT_DELAY.decision, source=DEPARTED)
    with pytest.raises(DeclarationError, match="requests and history lack"):
        replace(FLIGHT_DELAY, decision=decision)


def test_features_are_named_after_view_operation_column_and_window() -> None:
    assert "origin_departures_mean_delay_3h" in ORIGIN_DEPARTURES.features
    assert FLIGHT_DELAY.categories == ("carrier", "origin", "dest")
    assert FLIGHT_DELAY.numbers[:2] == ("distance_miles", "local_minute")


@pytest.mark.parametrize(
    ("window", "name"),
    [
        (HOUR, "1h"),
        (timedelta(days=1), "24h"),
        (timedelta(days=7), "7d"),
        (timedelta(minutes=90), "90m"),
        (timedelta(seconds=5), "5s"),
    ],
)
def test_windows_have_short_names(window: timedelta, name: str) -> None:
    assert window_name(window) == name


def test_every_domain_is_discovered_by_its_folder() -> None:
    assert "flights" in {d.name for d in domains()}
    assert domain("flights").by_name["flight.departed"] is DEPARTED
    assert len({e.name for e in event_types()}) == len(event_types())


def test_an_unknown_domain_is_refused_with_a_list_of_the_known() -> None:
    with pytest.raises(FeatureError, match="no domain 'trains'") as error:
        domain("trains")
    assert "flights" in (error.value.hint or "")


def test_the_old_name_of_the_declaration_api_still_works_with_a_warning() -> None:
    sys.modules.pop("features.vocabulary", None)
    with pytest.warns(DeprecationWarning, match=r"`features\.definitions`"):
        old = importlib.import_module("features.vocabulary")
    assert all(getattr(old, name) is getattr(definitions, name) for name in definitions.__all__)


def test_an_entity_is_named_by_fields_of_the_event() -> None:
    assert set(ORIGIN.keys) <= set(DEPARTED.fields)
