"""One service under supervision: from waiting to healthy, and back when it dies.

Pure but for the process itself, which `ProcessControl` starts and ends: the rules are tested
without a process.
"""

import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Protocol

from infra.local_stack.service import Service
from infra.local_stack.state_files import READY, ServiceState, ServiceStatus

CHECK_STARTING_S = 0.25
CHECK_RUNNING_S = 5.0
CHECKS_MISSED = 3
"""So many failed checks in a row make a running service unhealthy."""
FIRST_BACK_OFF_S = 0.5
LONGEST_BACK_OFF_S = 30.0
STEADY_S = 60.0
"""A service that was up for so long starts again without delay when it dies."""


class ProcessControl(Protocol):
    """What a state machine lets others do: start, watch and end the process of a service."""

    def start(self, service: Service, /) -> int:
        """Start the process; its pid."""
        ...

    def exit_code(self, service: Service, /) -> int | None:
        """Of the process that was started last; None while it runs."""
        ...

    def clear(self, service: Service, /) -> None:
        """End what the process that ended has left behind."""
        ...

    def run(self, work: Callable[[], bool], /) -> "Future[bool]":
        """Run slow work beside the caller."""
        ...


def back_off_s(failures: int) -> float:
    """Pause before the next start after so many failures in a row: doubles up to a limit."""
    return min(FIRST_BACK_OFF_S * 2.0 ** max(failures - 1, 0), LONGEST_BACK_OFF_S)


class ServiceStateMachine:
    """State of one service. `advance` is called all the time and never blocks.

    Every pause goes by `clock`, which nobody can set: a step of the wall clock changes none.
    """

    def __init__(
        self,
        service: Service,
        processes: ProcessControl,
        *,
        began_s: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.service = service
        self._processes, self._clock, self._began_s = processes, clock, began_s
        self.state: ServiceState = "waiting"
        self.note = ""
        self.restarts = 0
        self.pid: int | None = None
        self._first_healthy_after_s: float | None = None
        self._failures = self._missed = 0
        self._next_step_s = 0.0
        self._started_s = 0.0
        self._pending: Future[bool] | None = None

    @property
    def status(self) -> ServiceStatus:
        """As the command line shows it."""
        return ServiceStatus(
            name=self.service.name,
            state=self.state,
            pid=self.pid,
            restarts=self.restarts,
            seconds=self._first_healthy_after_s,
            note=self.note,
            address=self.service.address,
        )

    def advance(self, states: Mapping[str, ServiceState]) -> None:
        """One step, given the states of all services."""
        match self.state:
            case "waiting" | "restarting":
                if self._clock() >= self._next_step_s and self._may_start(states):
                    self._prepare()
            case "preparing":
                self._start_when_prepared()
            case "starting" | "healthy" | "unhealthy":
                self._watch_process()
            case "done" | "stopped":
                pass

    def stop(self) -> None:
        """The supervisor has ended the process, if there was one. What is done stays done."""
        if self.state != "done":
            self.state, self.pid, self.note = "stopped", None, ""

    def _may_start(self, states: Mapping[str, ServiceState]) -> bool:
        return all(states[name] in READY for name in self.service.after)

    def _prepare(self) -> None:
        if self.service.once and self.service.is_done():
            self._enter("done")
            return
        self.state = "preparing"

        def work() -> bool:
            self.service.prepare()
            return True

        self._pending = self._processes.run(work)

    def _start_when_prepared(self) -> None:
        assert self._pending is not None
        if not self._pending.done():
            return
        error = self._pending.exception()
        self._pending = None
        if error is not None:
            self._schedule_restart(f"cannot be prepared: {error}")
            return
        self._started_s = self._clock()
        try:
            self.pid = self._processes.start(self.service)
        except OSError as error:  # no process or no file is to be had: a full disk, a limit
            self._schedule_restart(f"cannot be started: {error}")
            return
        self.state, self._next_step_s, self._missed = "starting", 0.0, 0

    def _watch_process(self) -> None:
        code = self._processes.exit_code(self.service)
        if code is None:
            if not self.service.once:
                self._check_health()
            return
        self.pid, self._pending = None, None
        self._processes.clear(self.service)
        if self.service.once and code == 0:
            self._enter("done")
        else:
            self._schedule_restart(
                f"ended with {code}" if code >= 0 else f"killed by signal {-code}"
            )

    def _check_health(self) -> None:
        if self._pending is None:
            self._start_check_when_due()
        elif self._pending.done():
            self._finish_check(self._pending)

    def _start_check_when_due(self) -> None:
        if self._clock() >= self._next_step_s:
            age_s = self._clock() - self._started_s
            self._pending = self._processes.run(lambda: self.service.healthy(age_s))

    def _finish_check(self, check: "Future[bool]") -> None:
        self._pending = None
        error = check.exception()
        self._apply_check_result(error is None and check.result(), error)
        running = self.state != "starting"
        self._next_step_s = self._clock() + (CHECK_RUNNING_S if running else CHECK_STARTING_S)

    def _apply_check_result(self, is_healthy: bool, error: BaseException | None) -> None:
        if is_healthy:
            self._missed = 0
            if self.state != "healthy":
                self._enter("healthy")
            return
        self._missed += 1
        if error is not None and not isinstance(error, OSError):
            self.note = f"health check: {type(error).__name__}: {error}"
        if self.state == "healthy" and self._missed >= CHECKS_MISSED:
            self.state, self.note = "unhealthy", "fails its health checks"

    def _enter(self, state: ServiceState) -> None:
        self.state = state
        self.note = f"restarted {self.restarts} times" if self.restarts else ""
        if self._first_healthy_after_s is None:
            self._first_healthy_after_s = round(self._clock() - self._began_s, 1)

    def _schedule_restart(self, why: str) -> None:
        if self._clock() - self._started_s > STEADY_S:
            self._failures = 0
        self._failures += 1
        self.restarts += 1
        pause_s = back_off_s(self._failures)
        self._next_step_s = self._clock() + pause_s
        self.state, self.note = "restarting", f"{why}; restart in {pause_s:g} s"
