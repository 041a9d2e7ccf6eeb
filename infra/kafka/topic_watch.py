"""Notices that a topic was deleted and created again while a process reads it.

Its offsets then name other records. A reader whose position lies inside the new log gets no error.
"""

import threading
from collections.abc import Collection

import structlog

from infra.kafka.admin import topic_ids
from infra.kafka.errors import KafkaFailed, PositionLost
from infra.process.background import Background
from infra.settings import KafkaSettings

log = structlog.get_logger()

WATCH_EVERY_S = 2.0


class TopicWatch(Background):
    """Compares the ids of topics with those of its first look, from a thread of its own."""

    def __init__(
        self, kafka: KafkaSettings, topics: Collection[str], *, seconds: float = WATCH_EVERY_S
    ) -> None:
        self._kafka, self._topics, self._seconds = kafka, list(topics), seconds
        self._ids: dict[str, str] = {}
        self._changed = ""
        super().__init__("topics", self._watch)

    def raise_if_changed(self) -> None:
        """Raises PositionLost if a topic is not the one that it was."""
        if self._changed:
            raise PositionLost(f"the topic {self._changed} was deleted and created again")

    def _watch(self, closed: threading.Event) -> None:
        while not closed.is_set():
            try:
                ids = topic_ids(self._kafka, self._topics)
            except KafkaFailed as error:
                log.debug("topics_unknown", why=str(error))
            else:
                self._ids = self._ids or ids
                self._changed = next((t for t in ids if ids[t] != self._ids[t]), "")
            closed.wait(self._seconds)
