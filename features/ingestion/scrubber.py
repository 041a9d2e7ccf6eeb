"""Looks after the online store: finds damaged values before a request does, and mends them.

Any damage is mended by making the whole store again from the offline one. To mend the damaged
values alone would ask for history at the very positions of the online store, which runs ahead of
the offline one, and would trust a file that has just been found wrong.
"""

from collections.abc import Callable, Sequence

import structlog

from features.definitions import View
from features.engine.view_states import state_of
from features.errors import DataNotReady
from features.stores.ports import OnlineStore
from infra.process.progress import StatusCallback

log = structlog.get_logger()

VALUES_A_LOOK = 1_000  # 3 to 10 ms


class Scrubber:
    """Goes round all values of the declared views, some at each look."""

    def __init__(
        self,
        store: OnlineStore,
        views: Sequence[View],
        *,
        rebuild: Callable[[StatusCallback], object],
    ) -> None:
        """`rebuild` is told what to tell of its progress."""
        self._store, self._views, self._rebuild = store, views, rebuild
        self._at = 0
        self._after = b""

    def scan(self) -> None:
        """Verify the next values; after the last ones the round begins again.

        Raises:
            CorruptValue: some of them are damaged. The next look goes on behind them.
            StoreDamaged: the store cannot be read any more.
            StoreUnavailable: it does not answer.
        """
        if not self._views:
            return
        view = self._views[self._at]
        page = self._store.page(view.name, after=self._after, limit=VALUES_A_LOOK)
        self._after = page.after
        if not page.after:
            self._at = (self._at + 1) % len(self._views)
        state_of(view).verify(page.values)

    def repair(self, on_progress: StatusCallback) -> None:
        """Make the store again; without an offline store it is emptied, and ingest makes both.

        Raises:
            StoreUnavailable: the online store is as it was.
        """
        try:
            self._rebuild(on_progress)
        except DataNotReady:
            self._store.clear()
        log.info("online_store_mended")
