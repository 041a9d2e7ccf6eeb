"""Whether the online store and history say the same: every feature of every entity."""

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

DECIDED_WITHIN_US = 2 * DAY  # decisions that are asked about; each entity would be too many


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """`checked` values were read from both sides, `different` of them were not equal bit for bit
    (of NaN: both are). An entity that only the online store has counts as different, once for each
    of its features."""

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
    """Compare all values as of just after the newest event, and at earlier moments for which the
    online store still answers exactly.

    Nothing is compared while the two stores do not stand at the same positions, or move.

    Raises:
        StoreUnavailable: a store does not answer.
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
    found = [
        _compare(_asked(view, services, event_log, max(times) + 1), event_log, online)
        for view in views
        if times
    ]
    if _positions(online, topics) != before:
        return nothing
    return Comparison(
        checked=sum(f.checked for f in found), different=sum(f.different for f in found)
    )


def same_values(a: Float64Array, b: Float64Array) -> BoolArray:
    """Where both are equal or both are nothing."""
    same: BoolArray = (a == b) | (np.isnan(a) & np.isnan(b))
    return same


def _positions(online: OnlineStore, topics: Collection[str]) -> dict[Partition, int]:
    return {p: offset for p, offset in online.positions().items() if p.topic in topics}


@dataclass(frozen=True, kw_only=True)
class _Asked:
    """A view, whom it is asked about (its keys, and what it asks for), and as of when at the
    latest. `decided_by`: the event that these fields are of."""

    view: View
    entities: pl.DataFrame
    end_us: int
    decided_by: EventType | None


def _compare(asked: _Asked, event_log: EventLog, online: OnlineStore) -> Comparison:
    view, entities, source = asked.view, asked.entities, asked.decided_by
    keys, which = encode_keys(
        entity_keys(view.entity, {k: entities[k].to_list() for k in view.entity.keys})
    )
    values = online.get([(view.name, keys)])[0]
    rows = entities.to_dict(as_series=False)
    fields = arrays_of(rows, source.record, view.request_fields) if source else {}
    checked = different = 0
    for lookback_us in MOMENTS_BACK_US:
        as_of_us = np.full(entities.height, asked.end_us - lookback_us, np.int64)
        live = state_of(view).read(values, which, as_of_us, fields)
        then = view_values(view, event_log, entities, as_of_us, decided_by=source)[live.exact]
        checked += then.size
        different += int((~same_values(live.values[live.exact], then)).sum())
    only_online = max(0, online.entities(view.name) - entities.height) if source is None else 0
    return Comparison(checked=checked, different=different + only_online * len(view.features))


def _asked(
    view: View, services: Sequence[FeatureService], event_log: EventLog, end_us: int
) -> _Asked:
    """A view that asks for nothing: about every entity that its events were ever about. One that
    does: about what was decided of late, for only a decision can say it."""
    import polars as pl

    keys = list(view.entity.keys)
    if not view.request_fields:
        told = [event_log.store.read(event, columns=keys) for event in view.sources]
        entities = pl.concat(told).unique().drop_nulls().sort(keys)
        return _Asked(view=view, entities=entities, end_us=end_us, decided_by=None)
    source = next(s.decision.source for s in services if view in s.views)
    fields = query_fields(view)
    decided = event_log.store.read(source, columns=fields, event_from_us=end_us - DECIDED_WITHIN_US)
    entities = decided.drop_nulls(keys).unique().sort(fields)
    return _Asked(view=view, entities=entities, end_us=end_us, decided_by=source)
