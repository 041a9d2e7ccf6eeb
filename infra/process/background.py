"""Work in a thread beside the loop of a process."""

import threading
from collections.abc import Callable
from typing import Self

import structlog

log = structlog.get_logger()


class Background:
    """Runs `work` in a thread of its own, from the constructor until `close`.

    `work` gets the event that `close` sets; it returns soon after, and waits by that event only.
    An unexpected error ends the work, not the process: it is logged, and `raise_if_failed` raises
    it in the loop of the process.
    """

    def __init__(
        self, name: str, work: Callable[[threading.Event], None], *, patience_s: float = 5.0
    ) -> None:
        self._patience_s = patience_s
        self._failure: Exception | None = None
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(work,), name=name, daemon=True)
        self._thread.start()

    def raise_if_failed(self) -> None:
        """Raise the unexpected error that ended the work, so that it ends the process too."""
        if self._failure is not None:
            raise self._failure

    def close(self) -> None:
        """End the work. After `patience_s` it is left alone, to end with the process."""
        self._closed.set()
        self._thread.join(self._patience_s)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(self, work: Callable[[threading.Event], None]) -> None:
        try:
            work(self._closed)
        except Exception as error:
            log.exception("background_failed", work=self._thread.name)
            self._failure = error
