"""Puts the ingest process together."""

import threading
from collections.abc import Callable, Collection, Iterator
from contextlib import closing, contextmanager
from functools import partial

from features.bootstrap.declarations import load_declarations
from features.bootstrap.maintenance import rebuild_stores
from features.bootstrap.stores import declared_views, open_offline, open_online
from features.catalog import domains, event_types, refused
from features.contracts.dead_letters import source_of_dead_letter
from features.contracts.topics import CLOCK, topic_specs
from features.engine.value_limits import ValueLimits
from features.ingestion.compaction_watermark import CompactionWatermark, ReaderWatch
from features.ingestion.dead_letter_sink import DEAD_LETTERS, DeadLetterSink
from features.ingestion.loop import Connections, Ingest, Limits
from features.ingestion.offline_sink import OfflineSink
from features.ingestion.online_sink import OnlineSink
from features.ingestion.scrubber import Scrubber
from features.ingestion.sinks import Sinks
from features.stores.ports import OfflineStore, OnlineStore
from infra.kafka.admin import check_topics, logs_of, topic_partitions
from infra.kafka.broker_clock import BrokerClock, read_broker_time
from infra.kafka.consumer import GroupConsumer, StartPositions
from infra.kafka.logs import Logs
from infra.kafka.observers import end_observer, group_observer
from infra.kafka.partitions import Partition, Positions
from infra.kafka.topic_watch import TopicWatch
from infra.kafka.transactions import TransactionalProducer
from infra.kafka.written import Written, newest_written
from infra.process.runner import run_loop
from infra.process.watchdog import Watchdog
from infra.settings import KafkaSettings, Settings


def ingest_until(stop: threading.Event, settings: Settings, *, health_port: int) -> None:
    """Ingest until `stop` is set.

    Raises:
        KafkaFailed: see `Ingest.run`.
        ViewSchemaMismatch: the online store was built under other declarations.
        PortBusy: the health port is taken.
    """
    load_declarations()
    watermark = build_watermark(settings)
    with (
        closing(open_online(settings, readonly=False)) as online,
        Watchdog(settings.ingest.watchdog_seconds) as watchdog,
        BrokerClock(partial(read_broker_time, settings.kafka, CLOCK)) as clock,
        TopicWatch(settings.kafka, [e.name for e in event_types()]) as topics,
        ReaderWatch(
            watermark,
            open_ends=partial(_request_ends, settings.kafka),
            open_answered=partial(group_observer, settings.kafka, settings.serving.group),
        ),
    ):
        ingest = build_ingest(
            settings,
            open_offline(settings),
            online,
            watermark=watermark,
            topics=topics,
            clock_us=clock.now_us,
            stop=stop,
            watchdog=watchdog,
        )
        run_loop(
            ingest,
            name="ingest",
            watchdog=watchdog,
            health_port=health_port,
            health_host=settings.health_host,
            health_names=settings.health_host_names,
        )


def build_watermark(settings: Settings) -> CompactionWatermark:
    """How far ingest may compact values in the online store."""
    ingest = settings.ingest
    return CompactionWatermark(least_us=ingest.hold_us, most_us=ingest.hold_max_us)


def build_ingest(
    settings: Settings,
    offline: OfflineStore,
    online: OnlineStore,
    *,
    watermark: CompactionWatermark,
    topics: TopicWatch,
    clock_us: Callable[[], int],
    stop: threading.Event,
    watchdog: Watchdog,
) -> Ingest:
    """The ingest loop; nothing is connected yet."""
    ingest = settings.ingest
    events = {e.name: e for e in event_types()}
    producer = TransactionalProducer(
        settings.kafka, transactional_id=f"eventide-ingest-{ingest.group}-{ingest.instance}"
    )
    return Ingest(
        _sinks(settings, offline, online, producer, watermark=watermark, clock_us=clock_us),
        Scrubber(
            online, declared_views(), rebuild=partial(rebuild_stores, settings, offline, online)
        ),
        Connections(
            open_producer=partial(_open_producer, settings.kafka, events, producer),
            join=partial(_join, settings, events),
            read_logs=partial(_read_logs, settings.kafka),
            check_topics=topics.raise_if_changed,
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
        clock_us=clock_us,
    )


def _sinks(
    settings: Settings,
    offline: OfflineStore,
    online: OnlineStore,
    producer: TransactionalProducer,
    *,
    watermark: CompactionWatermark,
    clock_us: Callable[[], int],
) -> Sinks:
    return Sinks(
        online=OnlineSink(
            online,
            declared_views(),
            duplicate_horizon_us=settings.ingest.duplicate_horizon_us,
            watermark=watermark,
            keeps_undeclared=bool(refused()),
            max_future_us=settings.ingest.max_future_us,
            limits=ValueLimits(max_rows=settings.ingest.max_entity_rows),
            max_seen_ids=settings.ingest.max_seen_ids,
        ),
        offline=OfflineSink(offline, {e.name: e for e in event_types()}, clock_us=clock_us),
        dead_letters=DeadLetterSink(
            producer, clock_us=clock_us, written=partial(_written, settings.kafka)
        ),
    )


@contextmanager
def _request_ends(kafka: KafkaSettings) -> Iterator[Callable[[], Positions]]:
    topics = {s.decision.request.name for domain in domains() for s in domain.services}
    with end_observer(kafka, topic_partitions(kafka, topics)) as ends:
        yield ends


def _open_producer(
    kafka: KafkaSettings, events: Collection[str], producer: TransactionalProducer
) -> None:
    check_topics(kafka, [s for s in topic_specs(domains()) if s.name in {*events, DEAD_LETTERS}])
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


def _read_logs(kafka: KafkaSettings, partitions: Collection[Partition]) -> Logs:
    logs = logs_of(kafka, {p.topic for p in partitions})
    return {p: logs[p] for p in partitions}


def _written(kafka: KafkaSettings, partitions: Collection[Partition]) -> Written:
    return newest_written(kafka, DEAD_LETTERS, source_of=source_of_dead_letter, wanted=partitions)
