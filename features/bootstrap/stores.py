"""Opens the stores of an installation, as its settings say."""

from features.catalog import domains, event_types
from features.definitions import View
from features.errors import FeatureError, StoreDamaged
from features.stores.declared_views import each_once
from features.stores.ports import OfflineStore, OnlineStore
from infra.folder_names import unusable_for_tables
from infra.settings import Settings


def open_offline(settings: Settings) -> OfflineStore:
    """The offline store of this installation. Nothing is read or created yet.

    Raises:
        FeatureError: it is a folder whose name the library of the tables cannot bear.
    """
    from features.stores.delta.store import DeltaOfflineStore

    folder = settings.offline_store
    if "://" not in folder and (reason := unusable_for_tables(folder)):
        raise FeatureError(
            f"the folder of the offline store {folder!r} {reason}",
            hint="set EVENTIDE_OFFLINE_STORE to another folder",
        )
    return DeltaOfflineStore(
        settings.offline_store, event_types(), options=offline_options(settings)
    )


def open_online(settings: Settings, *, readonly: bool) -> OnlineStore:
    """The online store of this installation. A process may open it only once.

    Raises:
        StoreUnavailable: it cannot be opened; or `readonly`, and its folder does not exist.
    """
    if settings.online_store_is_remote:
        from features.stores.redis.store import RedisOnlineStore

        return RedisOnlineStore(settings.online_store, readonly=readonly)
    from features.stores.lmdb import LmdbOnlineStore

    return LmdbOnlineStore(settings.online_store, readonly=readonly)


def open_online_to_replace(settings: Settings) -> OnlineStore:
    """The online store for a caller that replaces all of its content.

    A damaged store is deleted and created again: nothing of it could be used.
    """
    from features.stores.lmdb import LmdbOnlineStore

    try:
        return open_online(settings, readonly=False)
    except StoreDamaged:
        LmdbOnlineStore.discard(settings.online_store)
        return open_online(settings, readonly=False)


def offline_options(settings: Settings) -> dict[str, str]:
    """The storage options of the offline store in plain text: they may hold secrets."""
    return {name: value.get_secret_value() for name, value in settings.offline_options.items()}


def declared_views() -> list[View]:
    """Every declared view, of all domains, each once.

    Raises:
        DeclarationError: two views have one name.
    """
    return each_once(view for domain in domains() for view in domain.views)
