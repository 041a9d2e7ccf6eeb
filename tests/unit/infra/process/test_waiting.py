"""A wait ends when its condition holds, or at its limit."""

from infra.process.waiting import wait_until


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds


def test_a_condition_that_holds_needs_no_pause() -> None:
    clock = Clock()

    assert wait_until(lambda: True, limit_s=0.0, clock=clock, sleep=clock.sleep)
    assert clock.now_s == 0.0


def test_a_wait_ends_as_soon_as_the_condition_holds() -> None:
    clock = Clock()

    assert wait_until(lambda: clock.now_s >= 1.0, pause_s=0.25, clock=clock, sleep=clock.sleep)
    assert clock.now_s == 1.0


def test_a_wait_gives_up_at_the_limit() -> None:
    clock = Clock()

    assert not wait_until(lambda: False, limit_s=2.0, pause_s=0.5, clock=clock, sleep=clock.sleep)
    assert clock.now_s == 2.0
