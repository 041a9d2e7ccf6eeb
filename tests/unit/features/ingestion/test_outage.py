"""Pauses of ingest after a store has failed, by a clock that the test sets."""

from features.ingestion.outage import FIRST_PAUSE_S, Outage

PROBATION_S = 5.0


class Clock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_a_pause_ends_after_its_time_and_a_probation_follows() -> None:
    clock = Clock()
    outage = Outage(probation_s=PROBATION_S, clock=clock)
    assert not outage.is_paused
    assert not outage.resume_if_due()

    assert outage.pause() == FIRST_PAUSE_S
    assert outage.is_paused
    assert not outage.resume_if_due()
    clock.now_s += FIRST_PAUSE_S
    assert outage.resume_if_due()
    assert not outage.is_paused

    assert not outage.probation_is_over
    clock.now_s += PROBATION_S
    assert outage.probation_is_over


def test_pauses_get_longer_until_the_outage_ends() -> None:
    clock = Clock()
    outage = Outage(probation_s=PROBATION_S, clock=clock)
    assert outage.pause() == FIRST_PAUSE_S
    clock.now_s += FIRST_PAUSE_S
    outage.resume_if_due()
    assert outage.pause() == 2 * FIRST_PAUSE_S  # it failed again during the probation

    outage.end()
    assert outage.pause() == FIRST_PAUSE_S


def test_a_probation_is_not_over_while_another_pause_lasts() -> None:
    clock = Clock()
    outage = Outage(probation_s=PROBATION_S, clock=clock)
    outage.pause()
    clock.now_s += FIRST_PAUSE_S
    outage.resume_if_due()
    outage.pause()
    clock.now_s += PROBATION_S
    assert not outage.probation_is_over
