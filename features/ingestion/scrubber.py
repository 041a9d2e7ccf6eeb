"""Detects damaged values in the online store before a request does, and repairs the store.

A repair rebuilds the whole online store from the offline one. Repairing single values would need
history at the exact positions of the online store, which is ahead of the offline one. It would also
trust the rest of a file that is known to be damaged.
"""

from collections.abc import Callable, Sequence

import structlog

from features.definitions import View
from features.engine.view_states import state_of
from features.errors import DataNotReady
from features.stores.ports import OnlineStore
from infra.process.progress import StatusCallback

log = structlog.get_logger()

VALUES_PER_SCAN = 1_000  # 3 to 10 ms


class Scrubber:
    """Verifies all values of the declared views in rounds, a few at each scan."""

    def __init__(
        self,
        store: OnlineStore,
        views: Sequence[View],
        *,
        rebuild: Callable[[StatusCallback], object],
        values_per_scan: int = VALUES_PER_SCAN,
    ) -> None:
        self._store, self._views, self._rebuild = store, views, rebuild
        self._values_per_scan = values_per_scan
        self._view_index = 0
        self._after = b""

    def scan(self) -> None:
        """Verify the next values. After the last ones the next round begins.

        Raises:
            CorruptValue: some of them are damaged. The next scan continues after them.
            StoreDamaged: the store cannot be read any more.
            StoreUnavailable: it does not respond.
        """
        if not self._views:
            return
        view = self._views[self._view_index]
        page = self._store.page(view.name, after=self._after, limit=self._values_per_scan)
        self._after = page.after
        if not page.after:
            self._view_index = (self._view_index + 1) % len(self._views)
        state_of(view).verify(page.values, page.entities)

    def repair(self, on_progress: StatusCallback) -> None:
        """Rebuild the store. Without an offline store it is emptied: ingest then fills both.

        Raises:
            StoreUnavailable: the online store is as it was.
        """
        try:
            self._rebuild(on_progress)
        except DataNotReady:
            self._store.clear()
        log.info("online_store_mended")
