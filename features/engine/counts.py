"""What the engine counts, until the process that runs it takes the counts for metrics and log."""

from collections import Counter
from collections.abc import Hashable, Mapping
from threading import Lock
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)


class Counts(Generic[Key]):
    """How many there were of each key, since they were last taken."""

    def __init__(self) -> None:
        self._counts: Counter[Key] = Counter()
        self._lock = Lock()

    def add(self, key: Key, number: int) -> None:
        """Count some of a key; none of them leaves no trace."""
        if number:
            with self._lock:
                self._counts[key] += number

    def take(self) -> Mapping[Key, int]:
        """What was counted since the last call."""
        with self._lock:
            taken, self._counts = self._counts, Counter()
        return taken
