"""Puts the serving process together. The only place that names an adapter."""

import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import structlog

from features.bootstrap.declarations import load_declarations
from features.bootstrap.stores import open_online
from features.catalog import domain, domains
from features.contracts.codec import decode_message
from features.contracts.predictions import source_of_outcome
from features.contracts.topics import CLOCK, topic_specs
from features.definitions import FeatureService
from features.retrieval.online import FeatureReader
from features.stores.ports import OnlineStore
from infra.clock import now_us
from infra.kafka.admin import check_topics, logs_of, topic_partitions
from infra.kafka.broker_clock import BrokerClock, read_broker_time
from infra.kafka.consumer import GroupConsumer
from infra.kafka.logs import stored_positions
from infra.kafka.observers import end_observer
from infra.kafka.partitions import Partition, Positions
from infra.kafka.topic_watch import TopicWatch
from infra.kafka.transactions import TransactionalProducer
from infra.kafka.written import Written, newest_written
from infra.local_stack.logins import mlflow_login
from infra.process.runner import run_loop
from infra.process.watchdog import Watchdog
from infra.settings import Settings
from ml.project import ModelProject
from ml.projects import project as find_project
from serving.adapters.folder import FolderModelSource
from serving.adapters.mlflow_rest import MlflowModelSource
from serving.champion import Champion, ChampionWatch
from serving.freshness import Freshness
from serving.loop import Parts, Scoring, ServingLoop
from serving.ports import ModelSource
from serving.publish import DEAD_LETTERS, Topics
from serving.score import Decode, Scorer
from serving.start import start_positions

log = structlog.get_logger()

END_OFFSETS_TIMEOUT_S = 1.0  # it usually takes a millisecond


def serve_until(
    stop: threading.Event,
    settings: Settings,
    *,
    project: str,
    health_port: int,
    bundle: Path | None,
) -> None:
    """Serve until `stop` is set.

    Raises:
        KafkaFailed: see `ServingLoop.run`.
        DeclarationMistake: the project or its domain has a mistake.
        PortBusy: the health port is taken.
    """
    load_declarations()
    domain(find_project(project).domain)  # a domain with a mistake is not served
    champion = build_champion(settings, project=project, bundle=bundle)
    with (
        Watchdog(settings.serving.watchdog_seconds) as watchdog,
        BrokerClock(partial(read_broker_time, settings.kafka, CLOCK)) as clock,
        TopicWatch(settings.kafka, _request_topics(project)) as topics,
        ChampionWatch(champion, seconds=settings.serving.poll_champion_seconds) as watch,
    ):
        loop = build_loop(
            settings,
            project=project,
            champion=champion,
            clock_us=clock.now_us,
            checks=(watch.raise_if_failed, topics.raise_if_changed),
            stop=stop,
            watchdog=watchdog,
        )
        run_loop(
            loop,
            name="serving",
            watchdog=watchdog,
            health_port=health_port,
            health_host=settings.health_host,
            health_names=settings.health_host_names,
            project=project,
        )


def build_source(settings: Settings, *, project: str, bundle: Path | None) -> ModelSource:
    """The registry, or a bundle on disk when one is given."""
    if bundle is not None:
        return FolderModelSource(bundle, name=project)
    return MlflowModelSource(settings.mlflow_url, name=project, login=mlflow_login(settings))


def build_champion(settings: Settings, *, project: str, bundle: Path | None) -> Champion:
    """The model in service, with the last good one from disk if there is one."""
    champion = Champion(
        build_source(settings, project=project, bundle=bundle),
        folder=settings.state_dir / "models" / project,
        service=find_project(project).service,
        warm_rows=settings.serving.max_batch,
    )
    if bundle is None:  # a folder is always there, the registry may be away
        champion.restore()
    return champion


def build_loop(
    settings: Settings,
    *,
    project: str,
    champion: Champion,
    clock_us: Callable[[], int],
    checks: Sequence[Callable[[], None]],
    stop: threading.Event,
    watchdog: Watchdog,
) -> ServingLoop:
    """The loop; nothing is connected yet."""
    model_project = find_project(project)
    serving = settings.serving
    member = _member(settings, model_project)
    online = _Online(settings)
    return ServingLoop(
        Parts(
            champion=champion,
            producer=TransactionalProducer(
                settings.kafka,
                transactional_id=f"eventide-serving-{serving.group}-{member}",
            ),
            open_topics=partial(_topics, settings, model_project),
            open_scoring=partial(_scoring, settings, model_project.service, online, clock_us),
            clock_us=clock_us,
            join=partial(_join, settings, model_project, online),
            check=partial(_check_all, checks),
        ),
        max_batch=serving.max_batch,
        stop=stop,
        watchdog=watchdog,
    )


class _Online:
    """The online store, which a process may open only once."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.opened: OnlineStore

    def open(self) -> OnlineStore:
        """Open it; raises StoreUnavailable while it is not there."""
        self.opened = open_online(self._settings, readonly=True)
        return self.opened


def _check_all(checks: Sequence[Callable[[], None]]) -> None:
    for check in checks:
        check()


def _topics(settings: Settings, project: ModelProject) -> Topics:
    requests = project.service.decision.request.name
    predictions = domain(project.domain).predictions_topic
    used = (requests, predictions, DEAD_LETTERS)
    check_topics(settings.kafka, [s for s in topic_specs(domains()) if s.name in used])
    partitions = topic_partitions(settings.kafka, used)
    counts = [sum(p.topic == topic for p in partitions) for topic in (requests, predictions)]
    return Topics(
        requests=requests,
        predictions=predictions,
        same_partitions=counts[0] == counts[1],
        partitions=counts[1],
    )


def _scoring(
    settings: Settings, service: FeatureService, online: _Online, clock_us: Callable[[], int]
) -> Scoring:
    partitions = topic_partitions(
        settings.kafka, {e.name for v in service.views for e in v.sources}
    )
    store = online.open()
    max_wait_s = settings.serving.max_wait_ms / 1_000
    return Scoring(
        freshness=Freshness(
            store,
            partitions,
            open_ends=partial(_stored_ends, settings, store, partitions),
            max_wait_s=max_wait_s,
        ),
        scorer=Scorer(
            service,
            decode=request_decoder(
                service, max_future_us=settings.ingest.max_future_us, clock_us=clock_us
            ),
            features=FeatureReader(service, store),
        ),
    )


def request_decoder(
    service: FeatureService, *, max_future_us: int, clock_us: Callable[[], int] = now_us
) -> Decode:
    """Reads requests by the rules by which ingest reads them: both refuse the same ones."""
    request = service.decision.request
    return lambda message: decode_message(
        request, message, max_future_us=max_future_us, clock_us=clock_us()
    )


@contextmanager
def _stored_ends(
    settings: Settings, store: OnlineStore, partitions: Sequence[Partition]
) -> Iterator[Callable[[], Positions]]:
    """The ends of the logs as stored positions, which those of the store are compared with."""
    with end_observer(settings.kafka, partitions, limit_s=END_OFFSETS_TIMEOUT_S) as ends:
        yield lambda: stored_positions(ends(), store.origins())


def _join(
    settings: Settings, project: ModelProject, stores: _Online, topics: Topics
) -> GroupConsumer:
    def starts(partitions: Collection[Partition]) -> Positions:
        return start_positions(
            partitions,
            consumer=consumer,
            noted=stores.opened.origins(),
            read_logs=partial(logs_of, settings.kafka, [topics.requests]),
            written=partial(_written, settings, topics.predictions),
        )

    consumer = GroupConsumer(
        settings.kafka,
        group=settings.serving.group,
        instance=_member(settings, project),
        topics=[topics.requests],
        start_positions=starts,
    )
    return consumer


def _written(settings: Settings, predictions: str, partitions: Collection[Partition]) -> Written:
    return newest_written(
        settings.kafka, predictions, source_of=source_of_outcome, wanted=partitions
    )


def _request_topics(project: str) -> list[str]:
    return [find_project(project).service.decision.request.name]


def _member(settings: Settings, project: ModelProject) -> str:
    """The name of this process in its group and in its transactional id.

    Projects share one group, whose positions say which requests are done. Its members have
    different names, or the process of a second project would fence that of the first.
    """
    return f"{project.name}-{settings.serving.instance}"
