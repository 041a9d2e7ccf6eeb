"""When something is due: deadlines, the flush of a buffer, pauses that get longer."""

import time
from collections.abc import Callable

Clock = Callable[[], float]
"""Seconds of a clock that never goes back."""


class Deadline:
    """A moment that may be set. One that is not set has not passed."""

    def __init__(self, *, clock: Clock = time.monotonic) -> None:
        self._clock = clock
        self._at: float | None = None

    @property
    def is_set(self) -> bool:
        """Whether there is a moment, passed or not."""
        return self._at is not None

    @property
    def has_passed(self) -> bool:
        """Whether it is set and over."""
        return self._at is not None and self._clock() >= self._at

    def set(self, seconds: float) -> None:
        """Set it to `seconds` from now."""
        self._at = self._clock() + seconds

    def clear(self) -> None:
        """Unset it."""
        self._at = None


class FlushTimer:
    """Due `seconds` after the first record that waits for the flush."""

    def __init__(self, seconds: float, *, clock: Clock = time.monotonic) -> None:
        self._seconds = seconds
        self._deadline = Deadline(clock=clock)

    @property
    def is_running(self) -> bool:
        """Whether anything waits for the flush."""
        return self._deadline.is_set

    @property
    def is_due(self) -> bool:
        """Whether the first record has waited long enough."""
        return self._deadline.has_passed

    def start(self) -> None:
        """Start the timer, unless it already runs."""
        if not self._deadline.is_set:
            self._deadline.set(self._seconds)

    def stop(self) -> None:
        """Stop the timer: nothing waits."""
        self._deadline.clear()


class Backoff:
    """Pauses that double, from `first_s` up to `longest_s`."""

    def __init__(self, *, first_s: float, longest_s: float) -> None:
        self._first_s, self._longest_s = first_s, longest_s
        self._next_s = first_s

    def next_s(self) -> float:
        """Seconds to wait this time."""
        pause_s = self._next_s
        self._next_s = min(2 * pause_s, self._longest_s)
        return pause_s

    def reset(self) -> None:
        """The next pause is the first one again."""
        self._next_s = self._first_s
