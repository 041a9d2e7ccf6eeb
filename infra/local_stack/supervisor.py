"""The supervisor: starts the services, watches and restarts them, stops all in order."""

import os
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from infra.local_stack.logs import trim
from infra.local_stack.process_table import identify
from infra.local_stack.service import Service
from infra.local_stack.service_processes import ServiceProcesses
from infra.local_stack.service_state import ServiceStateMachine
from infra.local_stack.state_files import ServiceState, StackFiles, StackState, StackStatus
from infra.process.waiting import wait_until

LOOP_PAUSE_S = 0.1
STOP_PAUSE_S = 0.05
HOUSEKEEPING_S = 5.0
LOG_LIMIT_BYTES = 64 * 1024 * 1024


# Why we have our own supervisor: see docs/explanation/decisions/0006-own-supervisor.md
class Supervisor:
    """Runs services until it is stopped or its parent, the reaper, vanishes."""

    def __init__(
        self,
        services: list[Service],
        files: StackFiles,
        *,
        env: Mapping[str, str],
        log: Any,
    ) -> None:
        self._files, self._log = files, log
        self._reaper_pid = os.getppid()
        self._processes = ServiceProcesses(
            files, env=env, reaper=identify(self._reaper_pid), supervisor=identify(os.getpid())
        )
        self._started_s, self._began_s = time.time(), time.monotonic()
        self._machines = {
            service.name: ServiceStateMachine(service, self._processes, began_s=self._began_s)
            for service in services
        }
        self._published: dict[str, ServiceState] = {}
        self._state: StackState = "starting"
        self._stop_requested = False
        self._housekeeping_due_s = 0.0

    def stop(self) -> None:
        """Request the end; safe in a signal handler."""
        self._stop_requested = True

    def run(self) -> None:
        """Run until `stop`, or until the reaper is gone, which would clean up after a crash."""
        self._write_status()
        self._processes.record()  # from here on `up` takes us for running
        while not self._stop_requested:
            self._advance_services()
            self._publish_changes()
            self._keep_house()
            if os.getppid() != self._reaper_pid:
                self._log.warning("reaper_vanished")
                break
            time.sleep(LOOP_PAUSE_S)
        self._shut_down()

    def _advance_services(self) -> None:
        for machine in self._machines.values():
            machine.advance(self._service_states())

    def _keep_house(self) -> None:
        """At intervals, and soon after a change: look up new processes, trim the logs."""
        if time.monotonic() < self._housekeeping_due_s:
            return
        self._housekeeping_due_s = time.monotonic() + HOUSEKEEPING_S
        self._processes.refresh_families()
        self._write_status()
        with suppress(OSError):
            trim(self._files.logs, limit_bytes=LOG_LIMIT_BYTES)

    def _publish_changes(self) -> None:
        """Log each service whose state has changed, and write the status when any has."""
        states = self._service_states()
        if states == self._published:
            return
        for name, state in states.items():
            if self._published.get(name) != state:
                self._log_state(self._machines[name])
        self._published = states
        self._housekeeping_due_s = 0.0  # a new state may mean new processes
        if self._state == "starting" and self._status().is_ready:
            self._state = "up"
            self._log.info("stack_up", seconds=round(time.monotonic() - self._began_s, 1))
        self._write_status()

    def _log_state(self, machine: ServiceStateMachine) -> None:
        status = machine.status
        self._log.info(
            "service", name=status.name, state=status.state, pid=status.pid, note=status.note
        )

    def _service_states(self) -> dict[str, ServiceState]:
        return {name: machine.state for name, machine in self._machines.items()}

    def _status(self) -> StackStatus:
        return StackStatus(
            state=self._state,
            started_s=self._started_s,
            services=[machine.status for machine in self._machines.values()],
        )

    def _write_status(self) -> None:
        with suppress(OSError):  # a full disk: it is written again within seconds
            self._files.write_status(self._status())

    def _shut_down(self) -> None:
        """In waves: a service ends when all that need it have ended."""
        self._state = "stopping"
        self._write_status()
        left = {name: machine.service for name, machine in self._machines.items()}
        while left:
            needed = {name for service in left.values() for name in service.after}
            wave = [service for name, service in left.items() if name not in needed]
            self._stop_wave(wave)
            for service in wave:
                del left[service.name]
        self._processes.close()
        self._state = "down"
        self._publish_changes()
        self._write_status()
        self._log.info("stack_down")

    def _stop_wave(self, wave: list[Service]) -> None:
        """Stop these services together; each is killed when its own limit has passed."""
        began_s = time.monotonic()
        for service in wave:
            self._processes.send_stop_signal(service)
        waiting = list(wave)

        def all_stopped() -> bool:
            waited_s = time.monotonic() - began_s
            waiting[:] = [s for s in waiting if not self._finish_stop(s, waited_s=waited_s)]
            self._publish_changes()
            return not waiting

        wait_until(all_stopped, pause_s=STOP_PAUSE_S)

    def _finish_stop(self, service: Service, *, waited_s: float) -> bool:
        """Whether the service has ended, or is killed now because it took too long."""
        is_late = waited_s > service.stop_limit_s
        if not is_late and not self._processes.has_ended(service):
            return False
        if is_late:
            self._log.warning("killed_for_not_ending", name=service.name)
        self._processes.clear(service)
        self._machines[service.name].stop()
        return True
