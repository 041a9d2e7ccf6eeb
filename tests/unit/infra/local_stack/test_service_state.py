"""The states of one service, with a process control that starts nothing."""

from collections.abc import Callable
from concurrent.futures import Future
from datetime import UTC, datetime

import pytest

from infra.local_stack.service import Service
from infra.local_stack.service_state import (
    LONGEST_BACK_OFF_S,
    STEADY_S,
    ServiceStateMachine,
    back_off_s,
)
from infra.local_stack.services.airflow import beats
from infra.local_stack.state_files import ServiceState


class Clock:
    def __init__(self) -> None:
        self.now_s = 1_000.0

    def __call__(self) -> float:
        return self.now_s


class RecordingControl:
    """Runs work at once and records its calls."""

    def __init__(self) -> None:
        self.started = 0
        self.cleared = 0
        self.code: int | None = None

    def start(self, _: Service) -> int:
        self.started += 1
        self.code = None
        return 100 + self.started

    def exit_code(self, _: Service) -> int | None:
        return self.code

    def clear(self, _: Service) -> None:
        self.cleared += 1

    def run(self, work: Callable[[], bool]) -> "Future[bool]":
        future: Future[bool] = Future()
        try:
            future.set_result(work())
        except Exception as error:  # noqa: BLE001 - as an executor does
            future.set_exception(error)
        return future


def a_machine(control: RecordingControl, clock: Clock, **service: object) -> ServiceStateMachine:
    broker = Service(**{"name": "broker", "command": ("x",), "after": ("disk",), **service})  # type: ignore[arg-type]
    return ServiceStateMachine(broker, control, began_s=clock.now_s, clock=clock)


def advance(
    machine: ServiceStateMachine,
    clock: Clock,
    *,
    times: int = 4,
    pause_s: float = 0.3,
    disk: ServiceState = "done",
) -> ServiceState:
    for _ in range(times):
        machine.advance({"disk": disk})
        clock.now_s += pause_s
    return machine.state


def test_a_service_waits_until_its_dependencies_are_healthy() -> None:
    control, clock = RecordingControl(), Clock()
    machine = a_machine(control, clock)

    assert advance(machine, clock, disk="starting") == "waiting"
    assert control.started == 0
    assert advance(machine, clock, disk="healthy") == "healthy"


def test_a_service_is_healthy_only_when_its_check_succeeds() -> None:
    control, clock = RecordingControl(), Clock()
    healthy = [False]
    machine = a_machine(control, clock, healthy=lambda _: healthy[0])

    assert advance(machine, clock) == "starting"
    healthy[0] = True
    assert advance(machine, clock) == "healthy"


def test_an_ended_service_is_restarted_after_a_pause() -> None:
    control, clock = RecordingControl(), Clock()
    machine = a_machine(control, clock)
    advance(machine, clock)

    control.code = -9
    machine.advance({"disk": "done"})

    assert (machine.state, machine.restarts) == ("restarting", 1)
    assert machine.note == "killed by signal 9; restart in 0.5 s"
    assert control.cleared == 1
    assert advance(machine, clock, times=6) == "healthy"
    assert control.started == 2
    assert machine.status.note == "restarted 1 times"


def test_the_pause_doubles_up_to_a_limit() -> None:
    assert [back_off_s(failures) for failures in (1, 2, 3)] == [0.5, 1.0, 2.0]
    assert back_off_s(50) == LONGEST_BACK_OFF_S


def test_a_steady_service_restarts_without_a_long_pause() -> None:
    control, clock = RecordingControl(), Clock()
    machine = a_machine(control, clock)
    for _ in range(5):
        advance(machine, clock, times=40, pause_s=1.0)
        control.code = 1
        machine.advance({"disk": "done"})
    assert machine.note.endswith("restart in 8 s")

    advance(machine, clock, times=10, pause_s=STEADY_S)
    control.code = 1
    machine.advance({"disk": "done"})

    assert machine.note.endswith("restart in 0.5 s")


def test_a_running_service_that_stops_answering_is_unhealthy() -> None:
    control, clock = RecordingControl(), Clock()
    healthy = [True]
    machine = a_machine(control, clock, healthy=lambda _: healthy[0])
    advance(machine, clock)

    healthy[0] = False

    assert advance(machine, clock, times=20, pause_s=5.0) == "unhealthy"
    healthy[0] = True
    assert advance(machine, clock, times=4, pause_s=5.0) == "healthy"


def test_a_one_time_service_is_done_when_it_succeeds_and_retried_when_it_fails() -> None:
    control, clock = RecordingControl(), Clock()
    machine = a_machine(control, clock, once=True)
    advance(machine, clock)

    control.code = 1
    assert advance(machine, clock, times=1) == "restarting"
    advance(machine, clock)
    control.code = 0
    assert advance(machine, clock) == "done"


def test_a_one_time_service_that_is_already_done_is_not_started() -> None:
    control, clock = RecordingControl(), Clock()

    assert advance(a_machine(control, clock, once=True, is_done=lambda: True), clock) == "done"
    assert control.started == 0


def test_a_failing_preparation_is_reported_and_repeated() -> None:
    control, clock = RecordingControl(), Clock()
    broken = [True]

    def prepare() -> None:
        if broken[0]:
            raise OSError("disk full")

    machine = a_machine(control, clock, prepare=prepare)

    assert advance(machine, clock, times=2) == "restarting"
    assert "disk full" in machine.note
    broken[0] = False
    assert advance(machine, clock, times=8) == "healthy"


def test_a_health_check_that_raises_is_reported_and_counts_as_a_failure() -> None:
    control, clock = RecordingControl(), Clock()

    def check(_: float) -> bool:
        raise KeyError("scheduler")

    machine = a_machine(control, clock, healthy=check)

    assert advance(machine, clock) == "starting"
    assert "KeyError" in machine.note


def test_a_health_check_gets_the_age_of_the_process() -> None:
    control, clock = RecordingControl(), Clock()
    ages: list[float] = []

    def check(age_s: float) -> bool:
        ages.append(age_s)
        return True

    advance(a_machine(control, clock, healthy=check), clock, times=60, pause_s=1.0)

    assert ages == sorted(ages)
    assert 50 < ages[-1] < 60


@pytest.mark.parametrize("step_s", [s * sign for s in (2, 700, 300_000) for sign in (1, -1)])
def test_a_heartbeat_belongs_to_the_process_whatever_the_wall_clock_does(step_s: float) -> None:
    """The process has run for 10 s; the clock stepped before its last heartbeat, 3 s ago."""
    now_s = 1_700_000_000.0 + step_s

    def health(at_s: float) -> dict[str, str | None]:
        moment = datetime.fromtimestamp(at_s, UTC).isoformat()
        return {"status": "healthy", "latest_scheduler_heartbeat": moment}

    assert beats(health(now_s - 3), "scheduler", age_s=10, now_s=now_s)
    assert not beats(health(now_s - 11), "scheduler", age_s=10, now_s=now_s)
