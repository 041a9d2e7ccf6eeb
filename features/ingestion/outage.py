"""How ingest waits for a store that has failed."""

import time

from infra.process.timing import Backoff, Clock, Deadline

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 30.0


class Outage:
    """A pause, and a probation after it.

    One successful call of one store does not show that the outage is over. So a probation follows
    each pause. It ends when both stores were written, or when nothing came in for `probation_s`.
    Until then each further pause is longer than the one before.
    """

    def __init__(self, *, probation_s: float, clock: Clock = time.monotonic) -> None:
        self._probation_s = probation_s
        self._backoff = Backoff(first_s=FIRST_PAUSE_S, longest_s=LONGEST_PAUSE_S)
        self._pause, self._probation = Deadline(clock=clock), Deadline(clock=clock)

    @property
    def is_paused(self) -> bool:
        """Whether records wait for the end of a pause."""
        return self._pause.is_set

    @property
    def probation_is_over(self) -> bool:
        """Whether the probation after the last pause has passed."""
        return not self.is_paused and self._probation.has_passed

    def pause(self) -> float:
        """Begin a pause; returns its length in seconds."""
        pause_s = self._backoff.next_s()
        self._pause.set(pause_s)
        return pause_s

    def resume_if_due(self) -> bool:
        """End a pause whose time is over and begin the probation; whether it did."""
        if not self._pause.has_passed:
            return False
        self._pause.clear()
        self._probation.set(self._probation_s)
        return True

    def end(self) -> None:
        """The stores work again: the next pause is a short one."""
        self._probation.clear()
        self._backoff.reset()
