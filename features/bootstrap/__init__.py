"""Puts the processes of this package together. The only place that names an adapter."""

import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path

import structlog

from features.catalog import domains, event_types
from features.contracts.topics import INGEST_DEAD_LETTERS, SERVING_DEAD_LETTERS
from features.definitions import Domain, View
from features.errors import StoreDamaged
from features.ingestion.compaction_watermark import LOOK_S, CompactionWatermark, ReaderWatch
from features.ingestion.dead_letter_sink import DeadLetterSink
from features.ingestion.loop import Connections, Ingest, Limits, Sinks
from features.ingestion.offline_sink import OfflineSink
from features.ingestion.online_sink import OnlineSink
from features.ingestion.scrubber import Scrubber
from features.maintenance.audit import Audit, DeadLetterTopics, audit, claimed
from features.maintenance.compaction import MaintenanceResult, Rules, maintain
from features.maintenance.consistency import compare_views
from features.maintenance.rebuild import RebuildResult, rebuild
from features.maintenance.rebuild import Rules as RebuildRules
from features.retrieval.training_set import (
    Manifest,
    ProgressCallback,
    ReadOptions,
    TrainingSetSpec,
    repeat_training_set,
    write_training_set,
)
from features.stores.ports import OfflineStore, OnlineStore
from infra.clock import now_us
from infra.kafka.admin import first_offsets, topic_partitions
from infra.kafka.consumer import GroupConsumer, StartPositions
from infra.kafka.observers import end_observer, group_observer, group_positions
from infra.kafka.partitions import Partition, Positions
from infra.kafka.topic_reader import read_all
from infra.kafka.transactions import TransactionalProducer
from infra.process.runner import run_loop
from infra.process.watchdog import Watchdog
from infra.settings import KafkaSettings, Settings

log = structlog.get_logger()


def open_offline(settings: Settings) -> OfflineStore:
    """The offline store of this installation. Nothing is read or made yet."""
    from features.stores.delta.store import DeltaOfflineStore

    return DeltaOfflineStore(
        settings.offline_store, event_types(), options=_offline_options(settings)
    )


def maintain_offline(
    settings: Settings, *, on_progress: Callable[[str], None]
) -> list[MaintenanceResult]:
    """Maintain the offline store of this installation; see `features.maintenance.compaction`."""
    from features.stores.delta.maintenance import DeltaMaintenance

    return maintain(
        event_types(),
        open_offline(settings),
        DeltaMaintenance(settings.offline_store, options=_offline_options(settings)),
        rules=Rules(
            closed_after_us=settings.upkeep.closed_after_us,
            retention_hours=settings.upkeep.retention_hours,
        ),
        on_progress=on_progress,
    )


def open_online(settings: Settings, *, readonly: bool) -> OnlineStore:
    """The online store of this installation. One process may open it once.

    Raises:
        StoreUnavailable: it cannot be opened; or it is a folder, not there, and `readonly`.
    """
    if settings.online_store_is_remote:
        from features.stores.redis.store import RedisOnlineStore

        return RedisOnlineStore(settings.online_store, readonly=readonly)
    from features.stores.lmdb import LmdbOnlineStore

    return LmdbOnlineStore(settings.online_store, readonly=readonly)


def declared_views() -> list[View]:
    """Every declared view, of all domains."""
    return [view for domain in domains() for view in domain.views]


def ingest_until(stop: threading.Event, settings: Settings, *, health_port: int) -> None:
    """Ingest until `stop` is set.

    Raises:
        KafkaFailed: see `Ingest.run`.
        ViewSchemaMismatch: the online store was built under other declarations.
        PortBusy: the health port is taken.
    """
    watermark = build_watermark(settings)
    with (
        closing(open_online(settings, readonly=False)) as online,
        Watchdog(settings.ingest.watchdog_seconds) as watchdog,
        ReaderWatch(
            watermark,
            open_ends=partial(_request_ends, settings.kafka),
            open_answered=partial(group_observer, settings.kafka, settings.serving.group),
            seconds=LOOK_S,
        ),
    ):
        ingest = build_ingest(
            settings,
            open_offline(settings),
            online,
            watermark=watermark,
            stop=stop,
            watchdog=watchdog,
        )
        run_loop(
            ingest,
            name="ingest",
            watchdog=watchdog,
            health_port=health_port,
            health_host=settings.health_host,
        )


def audit_now(settings: Settings, *, on_progress: Callable[[str], None]) -> Audit:
    """Audit this installation as it stands; `on_progress` is told what is being done.

    Raises:
        KafkaFailed, StoreUnavailable: a part does not answer.
        ViewSchemaMismatch: the online store was built under other declarations.
    """
    # What is claimed comes first: whatever lies below it has to be somewhere by then.
    claims = claimed(
        group_positions(settings.kafka, settings.ingest.group),
        group_positions(settings.kafka, settings.serving.group),
    )
    offline = open_offline(settings)
    with closing(open_online(settings, readonly=True)) as online:
        return audit(
            domains(),
            claims=claims,
            read=partial(read_all, settings.kafka),
            offline=offline,
            online=online,
            dead_letters=DeadLetterTopics(ingest=INGEST_DEAD_LETTERS, serving=SERVING_DEAD_LETTERS),
            compare_online=partial(_compare, settings, offline, online),
            on_progress=on_progress,
        )


def rebuild_online(settings: Settings, *, on_progress: Callable[[str], None]) -> RebuildResult:
    """Make the online store again from the offline one; see `features.maintenance.rebuild`.

    Raises:
        DataNotReady: there is no offline store yet.
        StoreUnavailable: a store does not answer.
    """
    offline = open_offline(settings)
    with closing(_open_to_replace(settings)) as online:
        return _rebuild(settings, offline, online, on_progress)


def empty_online(settings: Settings) -> None:
    """Empty the online store; ingest then builds it anew from the topics.

    An ingest that runs notices by its positions and starts over by itself.
    """
    with closing(_open_to_replace(settings)) as online:
        online.clear()


def _open_to_replace(settings: Settings) -> OnlineStore:
    """A store that cannot be opened is thrown away: nothing of it could be used."""
    from features.stores.lmdb import LmdbOnlineStore

    try:
        return open_online(settings, readonly=False)
    except StoreDamaged:
        LmdbOnlineStore.discard(settings.online_store)
        return open_online(settings, readonly=False)


def _rebuild(
    settings: Settings,
    offline: OfflineStore,
    online: OnlineStore,
    on_progress: Callable[[str], None],
) -> RebuildResult:
    return rebuild(
        declared_views(),
        event_types(),
        offline=offline,
        online=online,
        rules=RebuildRules(
            duplicate_horizon_us=settings.ingest.duplicate_horizon_us,
            hold_us=settings.ingest.hold_max_us,
        ),
        on_progress=on_progress,
    )


def _offline_options(settings: Settings) -> dict[str, str]:
    return {name: value.get_secret_value() for name, value in settings.offline_options.items()}


def export_training_set(
    settings: Settings,
    spec: TrainingSetSpec,
    folder: Path,
    *,
    slice_us: int,
    on_progress: ProgressCallback,
) -> tuple[Manifest, bool]:
    """See `features.retrieval.training_set.write_training_set`."""
    return write_training_set(
        spec, open_offline(settings), folder, options=_reading(settings, slice_us, on_progress)
    )


def repeat_export(
    settings: Settings, before: Manifest, *, slice_us: int, on_progress: ProgressCallback
) -> Manifest:
    """See `features.retrieval.training_set.repeat_training_set`."""
    return repeat_training_set(
        before, domains(), open_offline(settings), options=_reading(settings, slice_us, on_progress)
    )


def _reading(settings: Settings, slice_us: int, on_progress: ProgressCallback) -> ReadOptions:
    return ReadOptions(
        slice_us=slice_us,
        duplicate_horizon_us=settings.ingest.duplicate_horizon_us,
        on_progress=on_progress,
    )


def _compare(
    settings: Settings, offline: OfflineStore, online: OnlineStore, domain: Domain
) -> tuple[int, int]:
    found = compare_views(
        domain.views,
        domain.services,
        offline=offline,
        online=online,
        duplicate_horizon_us=settings.ingest.duplicate_horizon_us,
    )
    return found.checked, found.different


def build_watermark(settings: Settings) -> CompactionWatermark:
    """How long ingest keeps events apart."""
    ingest = settings.ingest
    return CompactionWatermark(least_us=ingest.hold_us, most_us=ingest.hold_max_us)


def build_ingest(
    settings: Settings,
    offline: OfflineStore,
    online: OnlineStore,
    *,
    watermark: CompactionWatermark,
    stop: threading.Event,
    watchdog: Watchdog,
) -> Ingest:
    """The loop; nothing is connected yet."""
    ingest = settings.ingest
    events = {e.name: e for e in event_types()}
    producer = TransactionalProducer(
        settings.kafka, transactional_id=f"eventide-ingest-{ingest.group}-{ingest.instance}"
    )
    return Ingest(
        Sinks(
            online=OnlineSink(
                online,
                declared_views(),
                duplicate_horizon_us=ingest.duplicate_horizon_us,
                watermark=watermark,
            ),
            scrubber=Scrubber(
                online, declared_views(), rebuild=partial(_rebuild, settings, offline, online)
            ),
            offline=OfflineSink(offline, events, clock_us=now_us),
            dead_letters=DeadLetterSink(producer, clock_us=now_us),
        ),
        Connections(
            open_producer=partial(_open, settings.kafka, events, producer),
            join=partial(_join, settings, events),
            first_offsets=partial(_first_offsets, settings.kafka),
        ),
        events,
        limits=Limits(
            max_batch=ingest.max_batch,
            flush_rows=ingest.flush_rows,
            flush_seconds=ingest.flush_seconds,
            max_future_us=ingest.max_future_us,
        ),
        stop=stop,
        watchdog=watchdog,
        clock_us=now_us,
    )


@contextmanager
def _request_ends(kafka: KafkaSettings) -> Iterator[Callable[[], Positions]]:
    topics = {s.decision.request.name for domain in domains() for s in domain.services}
    with end_observer(kafka, topic_partitions(kafka, topics)) as ends:
        yield ends


def _open(kafka: KafkaSettings, events: Collection[str], producer: TransactionalProducer) -> None:
    topic_partitions(kafka, events)  # all of them are there
    producer.open()


def _join(
    settings: Settings, events: Collection[str], start_positions: StartPositions
) -> GroupConsumer:
    return GroupConsumer(
        settings.kafka,
        group=settings.ingest.group,
        instance=settings.ingest.instance,
        topics=sorted(events),
        start_positions=start_positions,
    )


def _first_offsets(kafka: KafkaSettings, partitions: Collection[Partition]) -> Positions:
    return first_offsets(kafka, {p.topic for p in partitions})
