"""Puts the serving process together. The only place that names an adapter."""

import threading
from functools import partial
from pathlib import Path

import structlog

from features.bootstrap.declarations import load_declarations
from features.bootstrap.stores import open_online
from features.catalog import domain
from features.contracts.codec import decode_message
from features.definitions import FeatureService
from features.retrieval.online import FeatureReader
from infra.kafka.admin import topic_partitions
from infra.kafka.consumer import GroupConsumer
from infra.kafka.observers import end_observer
from infra.kafka.transactions import TransactionalProducer
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
        ChampionWatch(champion, seconds=settings.serving.poll_champion_seconds) as watch,
    ):
        loop = build_loop(
            settings,
            project=project,
            champion=champion,
            watch=watch,
            stop=stop,
            watchdog=watchdog,
        )
        run_loop(
            loop,
            name="serving",
            watchdog=watchdog,
            health_port=health_port,
            health_host=settings.health_host,
            project=project,
        )


def build_source(settings: Settings, *, project: str, bundle: Path | None) -> ModelSource:
    """The registry, or a bundle on disk when one is given."""
    if bundle is not None:
        return FolderModelSource(bundle, name=project)
    return MlflowModelSource(settings.mlflow_url, name=project)


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
    watch: ChampionWatch,
    stop: threading.Event,
    watchdog: Watchdog,
) -> ServingLoop:
    """The loop; nothing is connected yet."""
    model_project = find_project(project)
    serving = settings.serving
    member = _member(settings, model_project)
    return ServingLoop(
        Parts(
            champion=champion,
            producer=TransactionalProducer(
                settings.kafka,
                transactional_id=f"eventide-serving-{serving.group}-{member}",
            ),
            open_topics=partial(_topics, settings, model_project),
            open_scoring=partial(_scoring, settings, model_project.service),
            join=partial(_join, settings, model_project),
            check=watch.raise_if_failed,
        ),
        max_batch=serving.max_batch,
        stop=stop,
        watchdog=watchdog,
    )


def _topics(settings: Settings, project: ModelProject) -> Topics:
    requests = project.service.decision.request.name
    predictions = domain(project.domain).predictions_topic
    partitions = topic_partitions(settings.kafka, [requests, predictions, DEAD_LETTERS])
    counts = [sum(p.topic == topic for p in partitions) for topic in (requests, predictions)]
    return Topics(
        requests=requests, predictions=predictions, same_partitions=counts[0] == counts[1]
    )


def _scoring(settings: Settings, service: FeatureService) -> Scoring:
    partitions = topic_partitions(
        settings.kafka, {e.name for v in service.views for e in v.sources}
    )
    store = open_online(settings, readonly=True)
    max_wait_s = settings.serving.max_wait_ms / 1_000
    return Scoring(
        freshness=Freshness(
            store,
            partitions,
            open_ends=partial(
                end_observer, settings.kafka, partitions, limit_s=END_OFFSETS_TIMEOUT_S
            ),
            max_wait_s=max_wait_s,
        ),
        scorer=Scorer(
            service,
            decode=request_decoder(service, max_future_us=settings.ingest.max_future_us),
            features=FeatureReader(service, store),
        ),
    )


def request_decoder(service: FeatureService, *, max_future_us: int) -> Decode:
    """Reads requests by the rules by which ingest reads them: both refuse the same ones."""
    return partial(
        decode_message,
        service.decision.request,
        max_future_us=max_future_us,
    )


def _join(settings: Settings, project: ModelProject, topics: Topics) -> GroupConsumer:
    return GroupConsumer(
        settings.kafka,
        group=settings.serving.group,
        instance=_member(settings, project),
        topics=[topics.requests],
    )


def _member(settings: Settings, project: ModelProject) -> str:
    """The name of this process in its group and in its transactional id.

    Projects share one group, whose positions say which requests are done. Its members have
    different names, or the process of a second project would fence that of the first.
    """
    return f"{project.name}-{settings.serving.instance}"
