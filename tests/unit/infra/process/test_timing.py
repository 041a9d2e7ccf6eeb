"""Deadlines, flush timers and pauses, by a clock that the test sets."""

from infra.process.timing import Backoff, Deadline, FlushTimer


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_a_deadline_passes_after_its_time() -> None:
    clock = Clock()
    deadline = Deadline(clock=clock)
    assert not deadline.has_passed

    deadline.set(2.0)
    assert deadline.is_set
    assert not deadline.has_passed
    clock.now_s += 2.0
    assert deadline.has_passed

    deadline.clear()
    assert not deadline.is_set
    assert not deadline.has_passed


def test_a_flush_is_due_by_the_first_waiting_record() -> None:
    clock = Clock()
    timer = FlushTimer(5.0, clock=clock)
    assert not timer.is_running

    timer.start()
    clock.now_s += 4.0
    timer.start()  # a second record does not postpone the flush
    assert timer.is_running
    assert not timer.is_due
    clock.now_s += 1.0
    assert timer.is_due

    timer.stop()
    assert not timer.is_running
    assert not timer.is_due


def test_pauses_double_up_to_the_longest_and_restart_after_a_reset() -> None:
    backoff = Backoff(first_s=0.5, longest_s=3.0)
    assert [backoff.next_s() for _ in range(5)] == [0.5, 1.0, 2.0, 3.0, 3.0]

    backoff.reset()
    assert backoff.next_s() == 0.5
