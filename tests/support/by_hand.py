"""Small cases by hand: seconds after the start, only what matters is said."""

import math
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

import msgspec
import numpy as np

from features.definitions import Aggregation, Check, Column, Entity, EventType, FeatureView, View
from features.stores.memory import MemoryOnlineStore
from tests.support.generated.cases import START_US, Batch, Case, Query, Sent
from tests.support.generated.comparing import same_bits
from tests.support.generated.paths import history_values, ingested, online_values

SECOND_US = 1_000_000


def seconds(n: int) -> timedelta:
    """A length of time."""
    return timedelta(seconds=n)


def an_event(
    name: str = "shop.sold",
    *,
    key: str = "shop",
    checks: Sequence[Check] = (),
    version: int = 1,
    **fields: Any,
) -> EventType:
    """An event type about a `shop` (text, unless given), with these fields and their types."""
    types = {"event_id": str, "event_time_us": int, "shop": str, **fields}
    record = msgspec.defstruct("Made", [*types.items()], frozen=True, kw_only=True)
    return EventType(name=name, record=record, key=key, checks=tuple(checks), version=version)


def nullify(field: str, holds: Any, *reads: str) -> Check:
    """A check that makes a field null where `holds` does not hold; it reads the field itself,
    unless it says what."""
    return Check(
        name=f"{field} is believable",
        holds=holds,
        reads=reads or (field,),
        on_failure="nullify",
        field=field,
    )


def column(name: str, compute: Any, *reads: str, scale: int | None = None) -> Column:
    """A declared column."""
    return Column(name=name, compute=compute, reads=reads, scale=scale)


def of_shop(source: EventType, *of: tuple[str, str], **more: Any) -> FeatureView:
    """A view with `operation of column` over 100 seconds for each of `of`, by shop."""
    return FeatureView(
        name="made",
        source=source,
        entity=more.pop("entity", Entity(name="shop", keys=("shop",))),
        aggregations=tuple(
            Aggregation(operation=o, column=c or None, windows=(seconds(100),))  # type: ignore[arg-type]
            for o, c in of
        ),
        **more,
    )


def at(second: float) -> int:
    """The second in microseconds since 1970."""
    return START_US + round(second * SECOND_US)


def sent(
    event: EventType,
    happened: float,
    *,
    known: float | None = None,
    partition: int = 0,
    **fields: Any,
) -> Sent:
    """An event that happened at a second, known at once unless it is said otherwise."""
    own = {"event_id": f"at {happened} {fields}", "event_time_us": at(happened), "shop": "a"}
    return Sent(
        event=event,
        record=event.record(**{**own, **fields}),
        emitted_ms=at(happened if known is None else known) // 1_000,
        partition=partition,
    )


def query(event: EventType, second: float, **fields: Any) -> Query:
    """A query as of a second."""
    own = {"event_id": "query", "event_time_us": at(second), "shop": "a"}
    return Query(record=event.record(**{**own, **fields}), as_of_us=at(second))


def case_of(
    view: View, *events: Sent, queries: Sequence[Query], rebuilt_after: int = 1, **more: Any
) -> Case:
    """The events one by one, a rebuild before event `rebuilt_after`, and then the queries.

    `more`: other fields of the case.
    """
    batches = (Batch(size=1, rebuilds=n == rebuilt_after) for n in range(len(events)))
    fields = {"compaction_slack": 0, "batches": tuple(batches), **more}
    return Case(
        events=view.sources,
        request=view.sources[0],
        views=(view,),
        sent=events,
        queries=tuple(queries),
        **fields,
    )


def merged_case(view: View, *events: Sent, ask: Mapping[str, Any], **more: Any) -> Case:
    """A `case_of` whose rows merge as soon as they can, and one query at second 10."""
    question = query(view.sources[0], 10, **ask)
    return case_of(view, *events, queries=[question], **{"least_us": 0, "most_us": 0, **more})


def values_by_path(case: Case) -> dict[str, np.ndarray[Any, np.dtype[np.float64]]]:
    """By path: the features of the case's first view for each query."""
    view = case.views[0]
    made = ingested(case, {"memory": MemoryOnlineStore()})
    values = {"history": history_values(case, view, made.offline, parts=1)}
    values["history in parts"] = history_values(case, view, made.offline, parts=len(case.queries))
    for name, store in made.online.items():
        live = online_values(case, view, store)
        assert live.exact.all()
        values[name] = live.values
    return values


def assert_values(case: Case, *rows: Sequence[float | None]) -> None:
    """Every path answers this, a row for each query; None is nothing."""
    expected = np.array([[math.nan if v is None else v for v in row] for row in rows], np.float64)
    values = values_by_path(case)
    wrong = {path: v.tolist() for path, v in values.items() if not same_bits(v, expected).all()}
    assert not wrong, f"expected {expected.tolist()}"
