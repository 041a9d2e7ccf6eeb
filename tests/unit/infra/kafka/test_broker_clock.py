"""The brokers' time decides: a machine's clock may be wrong by minutes or days, and may step."""

from collections.abc import Iterator

import pytest
from structlog.testing import capture_logs

from features.contracts.codec import EMITTED_IN_THE_FUTURE, mostly_future
from infra.clock import DAY, HOUR, MINUTE, SECOND
from infra.kafka.broker_clock import BrokerClock
from tests.support.waiting import wait_until

NOON_US = 1_700_000_000_000_000


class Machine:
    """A machine's clocks."""

    def __init__(self, *, ahead_us: int = 0) -> None:
        self.ahead_us = ahead_us
        self.passed_us = 0

    def wall_us(self) -> int:
        return NOON_US + self.passed_us + self.ahead_us

    def monotonic_ns(self) -> int:
        return self.passed_us * 1_000

    def broker_us(self) -> int:
        return NOON_US + self.passed_us


@pytest.fixture
def machine() -> Machine:
    return Machine()


def a_clock(machine: Machine, *, answers: bool = True) -> BrokerClock:
    return BrokerClock(
        machine.broker_us if answers else lambda: None,
        machine_us=machine.wall_us,
        monotonic_ns=machine.monotonic_ns,
    )


@pytest.fixture
def clock(machine: Machine) -> Iterator[BrokerClock]:
    with a_clock(machine) as clock:
        wait_until(lambda: clock.is_set, what="a broker has reported its time")
        yield clock


@pytest.mark.parametrize(
    "ahead_us", [0, -SECOND, 11 * MINUTE, -11 * MINUTE, 2 * HOUR, -3 * DAY, 400 * DAY]
)
def test_the_time_is_that_of_the_brokers_however_wrong_the_machine_is(
    machine: Machine, clock: BrokerClock, ahead_us: int
) -> None:
    machine.ahead_us = ahead_us  # also if it steps in between
    machine.passed_us += 5 * SECOND
    assert clock.now_us() == NOON_US + 5 * SECOND


def test_without_the_brokers_it_is_that_of_the_machine() -> None:
    machine = Machine(ahead_us=-HOUR)
    with a_clock(machine, answers=False) as clock:
        assert clock.now_us() == NOON_US - HOUR
        assert not clock.is_set


def test_a_clock_that_differs_is_said_once() -> None:
    with capture_logs() as logs, a_clock(Machine(ahead_us=-11 * MINUTE)) as clock:
        wait_until(lambda: clock.is_set, what="a broker has reported its time")
        clock._read_once()
    assert [
        (line["event"], line["ahead_of_the_brokers_s"])
        for line in logs
        if line["event"] == "clock_differs"
    ] == [("clock_differs", -660)]


@pytest.mark.parametrize(
    ("future", "records", "expected"),
    [(0, 0, False), (1, 1, False), (1, 100, False), (2, 2, True), (2, 4, False), (51, 100, True)],
)
def test_one_record_from_the_future_is_its_own_fault_most_of_them_are_the_clocks(
    future: int, records: int, expected: bool
) -> None:
    reasons = [EMITTED_IN_THE_FUTURE] * future + ["another reason"] * (records - future)
    assert mostly_future(reasons, records) is expected
