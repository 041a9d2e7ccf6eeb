"""The online store made again from the offline one, beside an ingest that goes on.

Each table is read at one version, and the new online store stands at the positions of that version:
what came later, ingest brings as to any store that it finds there. Ingest notices that the
positions have moved, and starts over from them.

Memory holds the values of one view and `SLICE_ROWS` events (or those of one day, if it has more),
and the ids that ingest itself keeps.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import islice
from typing import TYPE_CHECKING

from features.definitions import EventType, View
from features.engine.columns import encode_keys, entity_keys
from features.engine.deduplication import SeenIds, ids_kept_us
from features.engine.event_rows import EventRows, view_rows
from features.engine.sorting import UNSET
from features.engine.state import COMPACTION_SLACK
from features.engine.view_rows import merge_rows
from features.engine.view_states import state_of
from features.errors import DataNotReady
from features.retrieval.event_log import drop_duplicates_mask
from features.stores.ports import OfflineStore, OnlineContent, OnlineStore, Snapshot
from infra.clock import DAY, from_us, to_us
from infra.kafka.partitions import Partition

if TYPE_CHECKING:
    from collections.abc import Callable

    import polars as pl

    StatusCallback = Callable[[str], None]

SLICE_ROWS = 250_000
FOLDED_AT_ONCE = 5_000
IDS_A_SLICE = 10_000  # ingest forgets whole slices


@dataclass(frozen=True, kw_only=True)
class Rules:
    """The rules of ingest: when an event counts as sent twice, and for how long the store answers
    exactly about the past."""

    duplicate_horizon_us: int
    hold_us: int
    compaction_slack: int = COMPACTION_SLACK  # see `state_of`


@dataclass(frozen=True, kw_only=True)
class RebuildResult:
    """What an online store was made from, and what it holds now.

    `versions`: of the tables, by event. `values`: one for each view and entity.
    """

    versions: Mapping[str, int]
    events: int
    views: int
    values: int


def rebuild(
    views: Sequence[View],
    events: Sequence[EventType],
    *,
    offline: OfflineStore,
    online: OnlineStore,
    rules: Rules,
    on_progress: "StatusCallback",
) -> RebuildResult:
    """Replace all that `online` holds; `on_progress` is told what is being done.

    `events`: all that ingest takes, also those that no view reads, for their positions.

    Raises:
        DataNotReady: there is no offline store yet; the online one is as it was.
        StoreUnavailable: a store does not answer; the online one is as it was.
    """
    found = {e: offline.snapshot(e) for e in events}
    tables = {e: s for e, s in found.items() if s is not None}
    if not tables:
        raise DataNotReady(
            "there is no offline store yet to make the online one from",
            hint="run `eventide ingest`, which makes both from the topics",
        )
    history = _History(offline, tables, rules)
    made = _Made(views, history, on_progress)
    on_progress("reading the ids of events")
    seen = [s for event in tables for s in history.seen(event, views)]
    online.replace(
        OnlineContent(
            values=made,
            positions={p: o for s in tables.values() for p, o in s.positions.items()},
            seen=seen,
            schemas={v.name: state_of(v).schema_id for v in views},
        )
    )
    return RebuildResult(
        versions={e.name: s.version for e, s in tables.items()},
        events=sum(sum(s.rows.values()) for s in tables.values()),
        views=len(views),
        values=made.count,
    )


@dataclass(frozen=True, kw_only=True)
class _Span:
    """Event times `from_us <= t < until_us`."""

    from_us: int
    until_us: int


class _Made:
    """The values of all views in batches, a view after the other."""

    def __init__(
        self, views: Sequence[View], history: "_History", on_progress: "StatusCallback"
    ) -> None:
        self._views, self._history, self._say = views, history, on_progress
        self.count = 0

    def __iter__(self) -> Iterator[tuple[str, list[tuple[bytes, bytes]]]]:
        compacted_through_us = self._history.compacted_through_us
        for n, view in enumerate(self._views, start=1):
            values = self._of_view(view, f"view {view.name}, {n} of {len(self._views)}")
            self.count += len(values)
            items = iter(values.items())
            while some := list(islice(items, FOLDED_AT_ONCE)):
                self._say(f"view {view.name}: {self.count:,} values")
                # All of them, grown or not: a value says from when on it answers exactly.
                folded = state_of(view).compact([value for _, value in some], compacted_through_us)
                yield view.name, [(e, v) for (e, _), v in zip(some, folded, strict=True)]

    def _of_view(self, view: View, what: str) -> dict[bytes, bytes]:
        values: dict[bytes, bytes] = {}
        history, empty = self._history, state_of(view).empty
        for event in view.sources:
            for span in history.spans(event):
                self._say(f"{what}: {event.name} since {from_us(span.from_us):%Y-%m-%d}")
                if span.until_us <= history.compacted_through_us - view.lookback_us:
                    # Out of reach. Yet without a value its entity would seem to have no past.
                    for entity in history.entities(view, event, span):
                        values.setdefault(entity, empty)
                    continue
                rows = history.events(view, event, span)
                change = view_rows(view, rows, compaction_slack=history.compaction_slack)
                if change is not None:
                    merge_rows(
                        change, history.compacted_through_us, get=values.get, put=values.__setitem__
                    )
        return values


class _History:
    """The tables at their versions, in spans that fit into memory."""

    def __init__(
        self, store: OfflineStore, tables: Mapping[EventType, Snapshot], rules: Rules
    ) -> None:
        self._store, self._tables, self._rules = store, tables, rules
        known = [s.newest_known_at_us for s in tables.values()]
        newest = max((k for k in known if k is not None), default=None)
        self.compaction_slack = rules.compaction_slack
        self.compacted_through_us = UNSET if newest is None else newest - rules.hold_us

    def spans(self, event: EventType) -> list[_Span]:
        """Whole days with events."""
        table = self._tables.get(event)
        return [] if table is None else _spans(table.rows)

    def events(self, view: View, event: EventType, span: _Span) -> EventRows:
        """What the view reads of the events of a span, without duplicates."""
        fields = tuple(dict.fromkeys((*view.entity.keys, *state_of(view).fields(event))))
        # A duplicate may have happened at another time than the first sighting, but not far off.
        frame = self._read(
            event,
            ("event_id", "event_time_us", *fields),
            from_us=span.from_us - self._rules.duplicate_horizon_us,
            until_us=span.until_us,
        )
        counts = drop_duplicates_mask(frame, horizon_us=self._rules.duplicate_horizon_us)
        frame = frame.filter(counts & (frame["event_time_us"].to_numpy() >= span.from_us))
        return EventRows(
            event=event,
            fields={name: frame[name].to_list() for name in fields},
            partition=frame["partition"].to_numpy(),
            offset=frame["offset"].to_numpy(),
            known_at_us=frame["known_at_us"].to_numpy(),
        )

    def entities(self, view: View, event: EventType, span: _Span) -> list[bytes]:
        """Whom the events of a span are about."""
        keys = view.entity.keys
        frame = self._store.read(
            event,
            columns=keys,
            event_from_us=span.from_us,
            event_until_us=span.until_us,
            version=self._tables[event].version,
        ).unique()
        return encode_keys(entity_keys(view.entity, {k: frame[k].to_list() for k in keys}))[0]

    def seen(self, event: EventType, views: Sequence[View]) -> Iterator[SeenIds]:
        """The ids that ingest has to know, in slices; none of an event that no view reads."""
        import polars as pl

        readers = [view for view in views if event in view.sources]
        if not readers or not self.spans(event):
            return
        kept_us = ids_kept_us(
            readers, horizon_us=self._rules.duplicate_horizon_us, hold_us=self._rules.hold_us
        )
        newest = self._newest_by_partition(event)
        recent = pl.concat(
            self._of_span(event, span, ("event_id",))
            .join(newest, on="partition")
            .filter(pl.col("known_at_us") >= pl.col("newest") - kept_us)
            for span in self.spans(event)
        ).sort("partition", "offset")
        for (number,), own in recent.group_by("partition", maintain_order=True):
            for some in own.iter_slices(IDS_A_SLICE):
                yield SeenIds(
                    partition=Partition(event.name, int(str(number))),
                    first_offset=some["offset"][0],
                    ids=some["event_id"].to_list(),
                    known_at_us=some["known_at_us"].to_numpy(),
                )

    def _newest_by_partition(self, event: EventType) -> "pl.DataFrame":
        import polars as pl

        newest = pl.col("known_at_us").max().alias("newest")
        found = [
            self._of_span(event, span, ()).group_by("partition").agg(newest)
            for span in self.spans(event)
        ]
        return pl.concat(found).group_by("partition").agg(pl.col("newest").max())

    def _of_span(self, event: EventType, span: _Span, columns: Sequence[str]) -> "pl.DataFrame":
        return self._read(event, columns, from_us=span.from_us, until_us=span.until_us)

    def _read(
        self, event: EventType, columns: Sequence[str], *, from_us: int, until_us: int
    ) -> "pl.DataFrame":
        places = ("partition", "offset", "known_at_us")
        return self._store.read(
            event,
            columns=tuple(dict.fromkeys((*places, *columns))),
            event_from_us=from_us,
            event_until_us=until_us,
            version=self._tables[event].version,
        )


def _spans(rows: Mapping[date, int]) -> list[_Span]:
    """Days with events, put together while they have no more than `SLICE_ROWS`."""
    found: list[_Span] = []
    room = 0
    for day, count in sorted(rows.items()):
        start = to_us(day)
        if found and count <= room:
            found[-1] = _Span(from_us=found[-1].from_us, until_us=start + DAY)
        else:
            found.append(_Span(from_us=start, until_us=start + DAY))
            room = SLICE_ROWS
        room -= count
    return found
