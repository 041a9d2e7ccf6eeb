"""Puts the maintenance of the stores together: compaction, rebuild, audit."""

from collections.abc import Sequence
from contextlib import closing
from functools import partial

from features.bootstrap.declarations import load_declarations, require_all_domains
from features.bootstrap.stores import (
    declared_views,
    offline_options,
    open_offline,
    open_online,
    open_online_to_replace,
)
from features.catalog import domains, event_types
from features.contracts.dead_letters import source_of_dead_letter
from features.contracts.predictions import source_of_outcome
from features.contracts.topics import INGEST_DEAD_LETTERS, SERVING_DEAD_LETTERS
from features.definitions import Domain
from features.engine.value_limits import ValueLimits
from features.errors import DataNotReady
from features.maintenance.audit import Audit, Claims, DeadLetterTopics, audit
from features.maintenance.compaction import CompactionRules, MaintenanceResult, maintain
from features.maintenance.consistency import compare_views
from features.maintenance.gaps import Group, Sites, accept, accepted_gaps, gaps
from features.maintenance.rebuild import RebuildResult, RebuildRules, rebuild
from features.stores.log_entries import origins_of
from features.stores.log_gaps import DEAD_LETTERS, SERVING, Gap
from features.stores.ports import LogEntry, OfflineStore, OnlineStore
from infra.clock import now_us
from infra.kafka.admin import logs_of
from infra.kafka.groups import check_stopped, commit_for, commits_of
from infra.kafka.logs import stored_positions
from infra.kafka.observers import group_positions
from infra.kafka.topic_reader import read_all
from infra.kafka.written import SourceOf, newest_of_all
from infra.process.progress import StatusCallback
from infra.settings import KafkaSettings, Settings


def maintain_offline(settings: Settings, *, on_progress: StatusCallback) -> list[MaintenanceResult]:
    """Maintain the offline store of this installation; see `features.maintenance.compaction`."""
    from features.stores.delta.maintenance import DeltaMaintenance

    return maintain(
        event_types(),
        open_offline(settings),
        DeltaMaintenance(settings.offline_store, options=offline_options(settings)),
        rules=CompactionRules(
            closed_after_us=settings.upkeep.closed_after_us,
            retention_hours=settings.upkeep.retention_hours,
        ),
        on_progress=on_progress,
    )


def audit_now(settings: Settings, *, on_progress: StatusCallback) -> Audit:
    """Audit this installation as it stands.

    Raises:
        KafkaFailed, StoreUnavailable: a part does not respond.
        ViewSchemaMismatch: the online store was built under other declarations.
    """
    load_declarations()
    kafka = settings.kafka
    offline = open_offline(settings)
    origins = origins_of(offline.log_entries())
    # The committed positions are read first: the records below them have to be somewhere by then.
    claims = Claims.of(
        stored_positions(group_positions(kafka, settings.ingest.group), origins),
        stored_positions(group_positions(kafka, settings.serving.group), origins),
    )
    with closing(open_online(settings, readonly=True)) as online:
        return audit(
            domains(),
            claims=claims,
            read=partial(read_all, kafka, origins=origins),
            offline=offline,
            online=online,
            dead_letters=DeadLetterTopics(ingest=INGEST_DEAD_LETTERS, serving=SERVING_DEAD_LETTERS),
            gaps=_gaps(settings, _sites(settings, offline, online)),
            accepted=accepted_gaps(offline),
            compare_online=partial(_compare, settings, offline, online),
            on_progress=on_progress,
        )


def current_gaps(settings: Settings) -> list[Gap]:
    """What the brokers no longer have, although a sink has to read it.

    Raises:
        KafkaFailed, StoreUnavailable: a part does not respond.
    """
    offline = open_offline(settings)
    with closing(open_online(settings, readonly=True)) as online:
        return _gaps(settings, _sites(settings, offline, online))


def accept_gaps(
    settings: Settings, *, by: str, reason: str, on_progress: StatusCallback
) -> list[LogEntry]:
    """Accept every gap that there is; see `features.maintenance.gaps`.

    Raises:
        NoGap: there are none.
        KafkaFailed: ingest or serving still runs; or see `current_gaps`.
    """
    for group in (settings.ingest.group, settings.serving.group):
        check_stopped(settings.kafka, group)
    offline = open_offline(settings)
    with closing(open_online_to_replace(settings)) as online:
        sites = _sites(settings, offline, online)
        return accept(
            sites,
            _gaps(settings, sites),
            events={e.name: e for e in event_types()},
            rebuild_online=partial(_rebuild_or_clear, settings, offline, online, on_progress),
            by=by,
            reason=reason,
            at_us=now_us(),
        )


def rebuild_online(settings: Settings, *, on_progress: StatusCallback) -> RebuildResult:
    """Rebuild the online store from the offline one; see `features.maintenance.rebuild`.

    Raises:
        DataNotReady: there is no offline store yet.
        DeclarationMistake: a domain has a mistake; the rebuilt store would be without its values.
        StoreUnavailable: a store does not respond.
    """
    require_all_domains()
    offline = open_offline(settings)
    with closing(open_online_to_replace(settings)) as online:
        return rebuild_stores(settings, offline, online, on_progress)


def empty_online(settings: Settings) -> None:
    """Empty the online store; ingest then fills it from the topics.

    A running ingest notices the changed positions and restarts from them.
    """
    with closing(open_online_to_replace(settings)) as online:
        online.clear()


def rebuild_stores(
    settings: Settings,
    offline: OfflineStore,
    online: OnlineStore,
    on_progress: StatusCallback,
) -> RebuildResult:
    """Rebuild an open online store from an open offline one."""
    return rebuild(
        declared_views(),
        event_types(),
        offline=offline,
        online=online,
        rules=RebuildRules(
            duplicate_horizon_us=settings.ingest.duplicate_horizon_us,
            hold_us=settings.ingest.hold_max_us,
            max_future_us=settings.ingest.max_future_us,
            limits=ValueLimits(max_rows=settings.ingest.max_entity_rows),
            max_seen_ids=settings.ingest.max_seen_ids,
        ),
        on_progress=on_progress,
    )


def _rebuild_or_clear(
    settings: Settings, offline: OfflineStore, online: OnlineStore, on_progress: StatusCallback
) -> None:
    try:
        rebuild_stores(settings, offline, online, on_progress)
    except DataNotReady:
        online.clear()


def _gaps(settings: Settings, sites: Sites) -> list[Gap]:
    topics = [e.name for e in event_types()]
    requests = frozenset(s.decision.request.name for d in domains() for s in d.services)
    return gaps(sites, partial(logs_of, settings.kafka, topics), requests=requests)


def _sites(settings: Settings, offline: OfflineStore, online: OnlineStore) -> Sites:
    kafka = settings.kafka
    predictions = [d.predictions_topic for d in domains() if d.services]
    return Sites(
        offline=offline,
        online=online,
        ingest=_group(
            kafka, DEAD_LETTERS, settings.ingest.group, [INGEST_DEAD_LETTERS], source_of_dead_letter
        ),
        serving=_group(kafka, SERVING, settings.serving.group, predictions, source_of_outcome),
    )


def _group(
    kafka: KafkaSettings, sink: str, group: str, outputs: Sequence[str], source_of: SourceOf
) -> Group:
    return Group(
        sink=sink,
        commits=lambda partitions: commits_of(kafka, group, list(partitions)),
        written=lambda wanted: newest_of_all(kafka, outputs, source_of=source_of, wanted=wanted),
        commit=partial(commit_for, kafka, group),
    )


def _compare(
    settings: Settings, offline: OfflineStore, online: OnlineStore, domain: Domain
) -> tuple[int, int]:
    comparison = compare_views(
        domain.views,
        domain.services,
        offline=offline,
        online=online,
        duplicate_horizon_us=settings.ingest.duplicate_horizon_us,
    )
    return comparison.checked, comparison.different
