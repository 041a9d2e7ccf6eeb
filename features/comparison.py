"""Whether the online store and history say the same: every feature of every entity."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from features.columns import encode_keys, entity_keys
from features.history import DUPLICATE_HORIZON_US, Past, view_values
from features.ports import OfflineStore, OnlineStore
from features.vocabulary import BoolArray, FeatureView, Float64Array
from features.windows import state_of
from infra.clock import HOUR
from infra.kafka.partitions import Partition

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    import polars as pl

MOMENTS_BACK_US = (0, 6 * HOUR)
"""How long before the newest event the values are compared, apart from the end itself."""


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """`checked` values were read from both sides, `different` of them were not equal bit for bit
    (of NaN: both are). An entity that only the online store has counts as different, once for each
    of its features."""

    checked: int
    different: int


def compare_views(
    views: Sequence[FeatureView],
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
        OtherSchema: the online store was built under other declarations.
    """
    nothing = Comparison(checked=0, different=0)
    topics = {v.source.name for v in views}
    before = _positions(online, topics)
    if before != dict(offline.positions(topics)):
        return nothing
    past = Past(offline, horizon_us=duplicate_horizon_us)
    events = {v.source.name: v.source for v in views}
    newest = [offline.newest_known_at_us(event) for event in events.values()]
    times = [t for t in newest if t is not None]
    found = [_compare(view, past, online, end_us=max(times) + 1) for view in views if times]
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
    return {p: offset for p, offset in online.progress().items() if p.topic in topics}


def _compare(view: FeatureView, past: Past, online: OnlineStore, *, end_us: int) -> Comparison:
    entities = _entities(view, past.store)
    keys, which = encode_keys(
        entity_keys(view.entity, {k: entities[k].to_list() for k in view.entity.keys})
    )
    values = online.get([(view.name, keys)])[0]
    checked = different = 0
    for back_us in MOMENTS_BACK_US:
        as_of_us = np.full(entities.height, end_us - back_us, np.int64)
        live = state_of(view).read(values, which, as_of_us)
        then = view_values(view, past, entities, as_of_us)[live.exact]
        checked += then.size
        different += int((~same_values(live.values[live.exact], then)).sum())
    only_online = max(0, online.entities(view.name) - entities.height)
    return Comparison(checked=checked, different=different + only_online * len(view.features))


def _entities(view: FeatureView, offline: OfflineStore) -> pl.DataFrame:
    """Every entity that the view's events were ever about, sorted."""
    keys = list(view.entity.keys)
    return offline.read(view.source, columns=keys).unique().drop_nulls().sort(keys)
