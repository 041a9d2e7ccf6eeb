"""Compares the online store with history: every feature of every entity."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from features.definitions import BoolArray, EventType, FeatureService, Float64Array, View
from features.engine.columns import arrays_of, encode_keys, entity_keys
from features.engine.view_states import state_of
from features.retrieval.event_log import DUPLICATE_HORIZON_US, EventLog
from features.retrieval.field_sets import query_fields
from features.retrieval.view_values import view_values
from features.stores.ports import OfflineStore, OnlineStore
from infra.clock import DAY, HOUR
from infra.kafka.partitions import Partition

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    import polars as pl

MOMENTS_BACK_US = (0, 6 * HOUR)
"""How long before the newest event the values are compared, apart from the end itself."""

DECIDED_WITHIN_US = 2 * DAY  # which decisions are compared: all of them would be too many


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """`checked` values were read from both stores, and `different` of them were not equal.

    Equal means bit for bit, or both NaN. An entity that only the online store has counts as
    different, once for each of its features.
    """

    checked: int
    different: int


def compare_views(
    views: Sequence[View],
    services: Sequence[FeatureService] = (),
    *,
    offline: OfflineStore,
    online: OnlineStore,
    duplicate_horizon_us: int = DUPLICATE_HORIZON_US,
) -> Comparison:
    """Compare all values as of just after the newest event, and at earlier moments for which
    online values are still exact.

    Nothing is compared while the two stores do not stand at the same positions, or move.

    Raises:
        StoreUnavailable: a store does not respond.
        ViewSchemaMismatch: the online store was built under other declarations.
    """
    nothing = Comparison(checked=0, different=0)
    events = {e.name: e for v in views for e in v.sources}
    topics = set(events)
    before = _positions(online, topics)
    if before != dict(offline.positions(topics)):
        return nothing
    event_log = EventLog(offline, horizon_us=duplicate_horizon_us)
    newest = [offline.newest_known_at_us(event) for event in events.values()]
    times = [t for t in newest if t is not None]
    comparisons = [
        _compare(_sample(view, services, event_log, max(times) + 1), event_log, online)
        for view in views
        if times
    ]
    if _positions(online, topics) != before:
        return nothing
    return Comparison(
        checked=sum(c.checked for c in comparisons),
        different=sum(c.different for c in comparisons),
    )


def same_values(a: Float64Array, b: Float64Array) -> BoolArray:
    """Where both are equal or both are NaN."""
    same: BoolArray = (a == b) | (np.isnan(a) & np.isnan(b))
    return same


def _positions(online: OnlineStore, topics: Collection[str]) -> dict[Partition, int]:
    return {p: offset for p, offset in online.positions().items() if p.topic in topics}


@dataclass(frozen=True, kw_only=True)
class _Sample:
    """The rows for which a view is compared, and the latest time as of which it is.

    `entities` has the fields of `query_fields(view)`; `decided_by` is the event that they are of.
    """

    view: View
    entities: pl.DataFrame
    end_us: int
    decided_by: EventType | None


def _compare(sample: _Sample, event_log: EventLog, online: OnlineStore) -> Comparison:
    view, entities, source = sample.view, sample.entities, sample.decided_by
    keys, which = encode_keys(
        entity_keys(view.entity, {k: entities[k].to_list() for k in view.entity.keys})
    )
    values = online.get([(view.name, keys)])[0]
    rows = entities.to_dict(as_series=False)
    fields = arrays_of(rows, source.record, view.request_fields) if source else {}
    checked = different = 0
    for lookback_us in MOMENTS_BACK_US:
        as_of_us = np.full(entities.height, sample.end_us - lookback_us, np.int64)
        live = state_of(view).read(values, keys, which, as_of_us, fields)
        past = view_values(view, event_log, entities, as_of_us, decided_by=source)[live.exact]
        checked += past.size
        different += int((~same_values(live.values[live.exact], past)).sum())
    only_online = max(0, online.entities(view.name) - entities.height) if source is None else 0
    return Comparison(checked=checked, different=different + only_online * len(view.features))


def _sample(
    view: View, services: Sequence[FeatureService], event_log: EventLog, end_us: int
) -> _Sample:
    """Every entity of a view's events; for a view with request fields, the recent decisions.

    Only a decision has values for the request fields.
    """
    import polars as pl

    keys = list(view.entity.keys)
    if not view.request_fields:
        keys_of_events = [event_log.store.read(event, columns=keys) for event in view.sources]
        entities = pl.concat(keys_of_events).unique().drop_nulls().sort(keys)
        return _Sample(view=view, entities=entities, end_us=end_us, decided_by=None)
    source = next(s.decision.source for s in services if view in s.views)
    fields = query_fields(view)
    decisions = event_log.store.read(
        source, columns=fields, event_from_us=end_us - DECIDED_WITHIN_US
    )
    entities = decisions.drop_nulls(keys).unique().sort(fields)
    return _Sample(view=view, entities=entities, end_us=end_us, decided_by=source)
