"""An online store rebuilt from the offline store gives the values of one never rebuilt."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.definitions import EventType, View
from features.engine.columns import arrays_of
from features.engine.event_rows import EventRows
from features.engine.state import ViewValues
from features.engine.value_format import ViewSchemaMismatch
from features.engine.value_limits import ValueLimits
from features.engine.view_states import state_of
from features.errors import DataNotReady, OffsetConflict
from features.ingestion.compaction_watermark import CompactionWatermark
from features.ingestion.offline_sink import OfflineSink
from features.ingestion.online_sink import OnlineSink
from features.maintenance.consistency import same_values
from features.maintenance.rebuild import BatchSizes, RebuildResult, RebuildRules, rebuild
from features.stores.memory import MemoryOfflineStore, MemoryOnlineStore
from features.stores.ports import TableSnapshot
from infra.clock import DAY, SECOND
from infra.kafka.partitions import Partition, Positions
from tests.support.data.orders import (
    EVENTS,
    START_US,
    VIEWS,
    Delivery,
    Query,
    Requested,
    fields_of,
    rows_of,
    times_of,
)
from tests.support.data.sales import CITY_SALES, SHOP_SALES, SOLD, sale
from tests.support.data.sales import rows_of as rows_of_sales
from tests.support.examples import examples
from tests.unit.features.engine.test_view_parity import SHOPS, cuts, histories, query_lists

RULES = RebuildRules(
    duplicate_horizon_us=1_000 * SECOND, hold_us=15 * SECOND, limits=ValueLimits(slack=2)
)
DAY_S = DAY // SECOND
PARTITIONS = [Partition(e.name, n) for e in EVENTS for n in range(e.partitions)]
P = Partition(SOLD.name, 0)
SMALL = BatchSizes(slice_rows=1, values_per_batch=2, ids_per_slice=2)


class Site:
    """Both stores, and an ingest between them."""

    def __init__(
        self, views: Sequence[View], events: Sequence[EventType], rules: RebuildRules = RULES
    ) -> None:
        self.views, self.events, self.rules = views, events, rules
        self.online, self.offline = MemoryOnlineStore(), MemoryOfflineStore()
        self.partitions = [Partition(e.name, n) for e in events for n in range(e.partitions)]
        self.restart()

    def restart(self) -> None:
        """A new ingest, from the positions in the stores."""
        self.writer = OnlineSink(
            self.online,
            self.views,
            duplicate_horizon_us=self.rules.duplicate_horizon_us,
            watermark=CompactionWatermark(least_us=self.rules.hold_us, most_us=self.rules.hold_us),
            limits=self.rules.limits,
        )
        self.buffer = OfflineSink(
            self.offline, {e.name: e for e in self.events}, clock_us=lambda: START_US
        )
        self.writer.load(self.partitions)
        self.buffer.load(self.partitions)

    def take(self, rows: Sequence[EventRows], taken: Positions, *, flush: bool = True) -> None:
        """A poll of ingest."""
        self.writer.write(rows, taken)
        self.buffer.add(rows, taken)
        if flush:
            self.buffer.flush()

    def rebuild(self) -> RebuildResult:
        """As `eventide features rebuild` does."""
        return rebuild(
            self.views,
            self.events,
            offline=self.offline,
            online=self.online,
            rules=self.rules,
            on_progress=lambda _: None,
            sizes=SMALL,
        )

    def read(self, view: View, queries: Sequence[Query]) -> ViewValues:
        """The values of the online store."""
        shops = [*SHOPS, "never seen"]
        keys = [s.encode() for s in shops]
        values = self.online.get([(view.name, keys)])[0]
        entities = np.array([shops.index(q.shop) for q in queries])
        fields = arrays_of(fields_of(queries), Requested, view.request_fields)
        return state_of(view).read(values, keys, entities, times_of(queries), fields)


def a_sales_site(*views: View) -> Site:
    return Site(views or (SHOP_SALES,), (SOLD,))


def take_sales(site: Site, *sales: object, start: int, flush: bool = True) -> None:
    rows = rows_of_sales(sales, first_offset=start)  # type: ignore[arg-type]
    site.take([rows], {P: start + len(sales)}, flush=flush)


def count(site: Site, second: int) -> tuple[float, bool]:
    values = site.online.get([(SHOP_SALES.name, [b"a"])])[0]
    as_of = np.array([START_US + second * SECOND])
    features = state_of(SHOP_SALES).read(values, [b"a"], np.array([0]), as_of)
    return float(features.values[0][1]), bool(features.exact[0])


@examples(60)
@given(histories(), cuts, st.integers(0, 40), st.integers(0, 40), query_lists)
def test_a_store_rebuilt_at_any_time_gives_the_values_of_one_never_rebuilt(
    deliveries: list[Delivery], cut_at: list[int], built_at: int, flushed: int, queries: list[Query]
) -> None:
    """The rebuild reads the flushed events, while the online store and ingest are ahead of them."""
    newest = max((e.known for e in deliveries), default=0)
    for n in range(newest - 16, newest - 12):
        queries = [*queries, *(Query(shop=s, t=n, due=n + 2, order="o1") for s in SHOPS)]
    untouched, site = Site(VIEWS, EVENTS), Site(VIEWS, EVENTS)
    edges = sorted({0, len(deliveries), *(c for c in (*cut_at, built_at) if c < len(deliveries))})
    for start, stop in pairwise(edges):
        untouched.take(*rows_of(deliveries, start, stop))
        site.take(*rows_of(deliveries, start, stop), flush=stop <= flushed)
        if stop == built_at and site.offline.positions([e.name for e in EVENTS]):
            site.rebuild()
            site.restart()
            site.take(*rows_of(deliveries, 0, stop))  # records below the positions are dropped
    for view in VIEWS:
        expected, rebuilt = untouched.read(view, queries), site.read(view, queries)
        comparable = expected.exact & rebuilt.exact
        assert same_values(expected.values, rebuilt.values)[comparable].all(), view.name
        recent = np.array([q.t >= newest - 15 for q in queries])
        assert rebuilt.exact[recent].all(), view.name


def test_a_duplicate_of_an_event_before_the_rebuild_counts_once() -> None:
    site = a_sales_site()
    take_sales(site, sale("1"), sale("2", 1), sale("2", 1, known=2), sale("3", 3), start=0)
    site.rebuild()
    assert count(site, 20) == (3, True)
    site.restart()
    take_sales(site, sale("1", 0, known=9), sale("4", 9), start=4)
    assert count(site, 20) == (4, True)
    assert site.writer.duplicates == 1


def test_a_rebuild_over_several_days_counts_each_event_once() -> None:
    """One day has a duplicate of an event of the day before."""
    midnight = DAY_S - START_US // SECOND % DAY_S
    site = Site((SHOP_SALES,), (SOLD,), replace(RULES, hold_us=9 * DAY))
    days = [sale(f"{n}", midnight + n * DAY_S) for n in range(4)]
    twice = [sale("x", midnight - 1), sale("x", midnight + 1)]
    take_sales(site, *days, *twice, start=0)
    site.rebuild()
    assert [count(site, midnight + n * DAY_S + 5) for n in range(4)] == [
        (2, True),
        (1, True),
        (1, True),
        (1, True),
    ]
    assert [s.first_offset for s in site.online.seen_ids(P)] == [0, 2, 4]


def test_ids_beyond_the_horizon_are_deleted_from_a_rebuilt_store() -> None:
    site = a_sales_site()
    take_sales(site, *(sale(str(n), n) for n in range(5)), start=0)
    site.rebuild()
    assert [s.first_offset for s in site.online.seen_ids(P)] == [0, 2, 4]
    site.restart()
    take_sales(site, sale("late", 5_000), start=5)
    assert [s.first_offset for s in site.online.seen_ids(P)] == [5]


def test_an_entity_whose_history_is_out_of_reach_is_marked_inexact() -> None:
    """A query about its past must not get an empty value that is marked exact."""
    site = a_sales_site()
    take_sales(site, sale("1"), sale("2", 5 * DAY_S, shop="b"), start=0)
    site.rebuild()
    assert count(site, 20) == (0, False)
    assert count(site, 5 * DAY_S) == (0, True)
    assert site.online.entities(SHOP_SALES.name) == 2


def test_a_rebuilt_store_has_the_positions_of_the_versions_it_read() -> None:
    """The offline store grows during the rebuild: rows and positions must be of one version."""
    site = a_sales_site()
    take_sales(site, sale("1"), start=0)
    site.offline = GrowsWhileRead(site)
    site.rebuild()
    assert site.online.positions() == {P: 1}
    assert count(site, 20) == (1, True)


def test_a_running_ingest_detects_a_rebuild_without_writing() -> None:
    site = a_sales_site()
    take_sales(site, sale("1"), start=0)
    take_sales(site, sale("2"), start=1, flush=False)
    site.writer.check([P])
    site.rebuild()
    with pytest.raises(OffsetConflict, match="replaced"):
        site.writer.check([P])
    site.writer.load([P])
    site.writer.check([P])


def test_after_a_changed_declaration_and_a_rebuild_ingest_continues() -> None:
    site = a_sales_site()
    take_sales(site, sale("1"), start=0)
    site.views = (replace(SHOP_SALES, aggregations=SHOP_SALES.aggregations[:2]), CITY_SALES)
    with pytest.raises(ViewSchemaMismatch):
        site.restart()
    site.rebuild()
    site.restart()
    take_sales(site, sale("2"), start=1)
    assert site.online.positions() == {P: 2}


def test_rebuilding_again_changes_nothing() -> None:
    site = a_sales_site(SHOP_SALES, CITY_SALES)
    take_sales(site, sale("1"), sale("2", 30, shop="b"), start=0)
    first_result = site.rebuild()
    values_before = site.online.get([(SHOP_SALES.name, [b"a", b"b"])])
    assert (
        site.rebuild()
        == first_result
        == RebuildResult(versions={SOLD.name: 1}, events=2, views=2, values=4)
    )
    assert site.online.get([(SHOP_SALES.name, [b"a", b"b"])]) == values_before


def test_a_rebuild_without_an_offline_store_changes_nothing() -> None:
    site = a_sales_site()
    take_sales(site, sale("1"), start=0, flush=False)
    with pytest.raises(DataNotReady) as caught:
        site.rebuild()
    assert "eventide ingest" in (caught.value.hint or "")
    assert site.online.positions() == {P: 1}


class GrowsWhileRead(MemoryOfflineStore):
    """An offline store to which ingest appends whenever it is read after the snapshot."""

    def __init__(self, site: Site) -> None:
        self.__dict__ = site.offline.__dict__
        self._site, self._next, self._taken = site, 1, False

    def snapshot(self, event: EventType) -> TableSnapshot | None:
        table = super().snapshot(event)
        self._taken = True
        return table

    def read(self, *args: object, **options: object) -> object:  # type: ignore[override]
        if self._taken:
            self._next += 1
            rows = rows_of_sales([sale(f"later{self._next}")], first_offset=self._next - 1)
            self._site.buffer.add([rows], {P: self._next})
            self._site.buffer.flush()
        return super().read(*args, **options)  # type: ignore[arg-type]
