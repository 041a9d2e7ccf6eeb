"""Puts the maintenance of the stores together: compaction, rebuild, audit."""

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
from features.contracts.topics import INGEST_DEAD_LETTERS, SERVING_DEAD_LETTERS
from features.definitions import Domain
from features.maintenance.audit import Audit, Claims, DeadLetterTopics, audit
from features.maintenance.compaction import CompactionRules, MaintenanceResult, maintain
from features.maintenance.consistency import compare_views
from features.maintenance.rebuild import RebuildResult, RebuildRules, rebuild
from features.stores.ports import OfflineStore, OnlineStore
from infra.kafka.observers import group_positions
from infra.kafka.topic_reader import read_all
from infra.process.progress import StatusCallback
from infra.settings import Settings


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
    # The committed positions are read first: the records below them have to be somewhere by then.
    claims = Claims.of(
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
        ),
        on_progress=on_progress,
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
