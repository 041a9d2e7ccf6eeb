"""One case through every path of the product: the same query must have the same answer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl

from features.definitions import Float64Array, Int64Array, View
from features.engine.columns import arrays_of, encode_keys, entity_keys, field_tuples
from features.engine.state import ViewValues
from features.engine.value_limits import ValueLimits
from features.engine.view_states import state_of
from features.ingestion.compaction_watermark import CompactionWatermark
from features.ingestion.decoding import decode_poll
from features.ingestion.offline_sink import OfflineSink
from features.ingestion.online_sink import OnlineSink
from features.maintenance.rebuild import BatchSizes, RebuildRules, rebuild
from features.retrieval.event_log import EventLog
from features.retrieval.view_values import view_values
from features.stores.memory import MemoryOfflineStore, MemoryOnlineStore
from features.stores.ports import OfflineStore, OnlineStore
from features.stores.schema_evolution import stored_types
from infra.kafka.partitions import Partition
from tests.support.generated.cases import Batch, Case, MadeMessage, messages_of

FAR_FUTURE_US = 4 * 10**15


@dataclass(kw_only=True)
class Ingested:
    """The stores after all events of a case, and who wrote them; both by the name of the path."""

    online: dict[str, OnlineStore]
    offline: OfflineStore
    sinks: dict[str, OnlineSink]


def ingested(
    case: Case,
    online: Mapping[str, OnlineStore],
    *,
    offline: OfflineStore | None = None,
) -> Ingested:
    """Ingest the events into empty stores; one more online store is rebuilt on the way."""
    run = _Run(case, offline or MemoryOfflineStore())
    for name, store in online.items():
        run.add(name, store)
    messages = messages_of(case.sent)
    start = 0
    for batch in case.batches or (Batch(size=len(messages)),):
        run.take(messages[start : start + batch.size], batch)
        start += batch.size
    run.take(messages[start:], Batch(size=0))
    run.rebuild()
    return Ingested(online=run.online, offline=run.offline, sinks=run.sinks)


def online_values(case: Case, view: View, store: OnlineStore) -> ViewValues:
    """What an online store answers to the queries of a case."""
    tuples = _query_fields(case)
    keys, which = encode_keys(entity_keys(view.entity, tuples))
    values = store.get([(view.name, keys)])[0]
    fields = arrays_of(tuples, case.request.record, view.request_fields)
    return state_of(view).read(values, keys, which, query_times(case), fields)


def history_values(case: Case, view: View, offline: OfflineStore, *, parts: int) -> Float64Array:
    """What history says about the queries, in `parts` separate computations."""
    frame, times = _query_frame(case, view), query_times(case)
    values = np.empty((len(times), len(view.features)))
    for part in range(parts):
        mine = np.arange(len(times)) % parts == part
        past = EventLog(offline, horizon_us=case.horizon_us)
        values[mine] = view_values(
            view, past, frame.filter(mine), times[mine], decided_by=case.request
        )
    return values


def query_times(case: Case) -> Int64Array:
    """As of when each query is."""
    return np.array([q.as_of_us for q in case.queries], np.int64)


@dataclass
class _Run:
    """Stores in the middle of a case."""

    case: Case
    offline: OfflineStore
    online: dict[str, OnlineStore] = field(default_factory=dict)
    sinks: dict[str, OnlineSink] = field(default_factory=dict)
    _watermarks: dict[str, CompactionWatermark] = field(default_factory=dict)
    _is_rebuilt: bool = False
    _slack: int = 0

    def __post_init__(self) -> None:
        self._slack = self.case.compaction_slack
        self._load_buffer()

    def add(self, name: str, store: OnlineStore) -> None:
        """Begin, or begin again, to write a store."""
        self.online[name] = store
        watermark = CompactionWatermark(least_us=self.case.least_us, most_us=self.case.most_us)
        writer = OnlineSink(
            store,
            self.case.views,
            duplicate_horizon_us=self.case.horizon_us,
            watermark=watermark,
            max_future_us=self.case.max_future_us,
            limits=ValueLimits(slack=self._slack),
        )
        writer.load(self._partitions)
        self.sinks[name], self._watermarks[name] = writer, watermark

    def take(self, messages: Sequence[MadeMessage], batch: Batch) -> None:
        """Ingest a batch into every store."""
        decoded = decode_poll(
            messages,
            {e.name: e for e in self.case.events},
            max_future_us=self.case.max_future_us,
            clock_us=FAR_FUTURE_US,
        )
        taken = {Partition(m.topic(), m.partition()): m.offset() + 1 for m in messages}
        for writer in self.sinks.values():
            writer.write(decoded.good, taken)
        self._buffer.add(decoded.good, taken)
        self._buffer.flush()
        if batch.observes_readers:
            for watermark in self._watermarks.values():
                watermark.observe(ends=dict, answered=dict)
        if batch.restarts:
            self._slack = self._slack if batch.slack is None else batch.slack
            self._load_buffer()
            for name, store in list(self.online.items()):
                self.add(name, store)
        if batch.rebuilds:
            self.rebuild()

    def rebuild(self) -> None:
        """Make the rebuilt store, once, if there is anything to make it from."""
        if self._is_rebuilt or not any(self.offline.version(e) for e in self.case.events):
            return
        self._is_rebuilt = True
        store = MemoryOnlineStore()
        rules = RebuildRules(
            duplicate_horizon_us=self.case.horizon_us,
            hold_us=self.case.most_us,
            max_future_us=self.case.max_future_us,
            limits=ValueLimits(slack=self.case.compaction_slack),
        )
        rebuild(
            self.case.views,
            self.case.events,
            offline=self.offline,
            online=store,
            rules=rules,
            on_progress=lambda _: None,
            # Day by day, so that short histories meet it.
            sizes=BatchSizes(slice_rows=1),
        )
        self.add("rebuilt", store)

    def _load_buffer(self) -> None:
        events = {e.name: e for e in self.case.events}
        self._buffer = OfflineSink(self.offline, events, clock_us=lambda: FAR_FUTURE_US)
        self._buffer.load(self._partitions)

    @property
    def _partitions(self) -> list[Partition]:
        numbers = range(max([self.case.partitions, *(s.partition + 1 for s in self.case.sent)]))
        return [Partition(e.name, n) for e in self.case.events for n in numbers]


def _query_fields(case: Case) -> dict[str, Any]:
    return field_tuples([q.record for q in case.queries], case.request.fields)


def _query_frame(case: Case, view: View) -> pl.DataFrame:
    polars: dict[str, Any] = {"int": pl.Int64, "float": pl.Float64, "text": pl.String}
    types = stored_types(case.request)
    tuples = _query_fields(case)
    names = dict.fromkeys((*view.entity.keys, *view.request_fields))
    return pl.DataFrame(
        {n: list(tuples[n]) for n in names}, schema={n: polars[types[n]] for n in names}
    )
