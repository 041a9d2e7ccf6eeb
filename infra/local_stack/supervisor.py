"""The supervisor: starts the services, watches them, starts again what dies, stops all in order."""

import os
import subprocess
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from infra.local_stack.logs import trim
from infra.local_stack.process_table import ProcessId, families, identify, kill_all, start
from infra.local_stack.service import Service
from infra.local_stack.service_state import ServiceStateMachine
from infra.local_stack.state_files import (
    ProcessTable,
    ServiceState,
    StackFiles,
    StackState,
    StackStatus,
)

TURN_S = 0.1
RECORD_PROCESSES_S = 5.0
LOG_LIMIT_BYTES = 64 * 1024 * 1024


class Processes:
    """The processes of the services: what `ServiceStateMachine` has done by `ProcessControl`."""

    def __init__(
        self,
        files: StackFiles,
        *,
        env: Mapping[str, str],
        guard: ProcessId | None,
        supervisor: ProcessId | None,
    ) -> None:
        self._files, self._env = files, env
        self._guard, self._supervisor = guard, supervisor
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._leaders: dict[str, ProcessId] = {}
        self._families: dict[str, set[ProcessId]] = {}
        self._pool = ThreadPoolExecutor(max_workers=12, thread_name_prefix="check")

    def start(self, service: Service) -> int:
        """Start and put on the roll."""
        process = start(service, log=self._files.log(service.name), env=self._env)
        self._running[service.name] = process
        if leader := identify(process.pid):
            self._leaders[service.name] = leader
        self.record_processes(look=False)
        return process.pid

    def exit_code(self, service: Service) -> int | None:
        """None while it runs."""
        return self._running[service.name].poll()

    def clear(self, service: Service) -> None:
        """Kill what the dead process left: in its session, and whom we saw below it."""
        if leader := self._leaders.pop(service.name, None):
            kill_all([leader, *self._families.pop(service.name, set())])
        self._running.pop(service.name, None)
        self.record_processes(look=False)

    def run(self, work: Callable[[], bool]) -> "Future[bool]":
        """In a thread."""
        return self._pool.submit(work)

    def ask_to_end(self, service: Service) -> None:
        """Signal the first process only: it ends its own."""
        if (process := self._running.get(service.name)) is not None:
            process.send_signal(service.stop_signal)

    def has_ended(self, service: Service) -> bool:
        """Whether the first process is gone."""
        process = self._running.get(service.name)
        return process is None or process.poll() is not None

    def record_processes(self, *, look: bool = True) -> None:
        """Write down every process, so that a guard or a later `up` can end them."""
        if look:
            self._families = families(self._leaders)
        leaders = list(self._leaders.values())
        everyone = set[ProcessId]().union(*self._families.values())
        self._files.write_processes(
            ProcessTable(
                guard=self._guard,
                supervisor=self._supervisor,
                leaders=leaders,
                others=sorted(everyone - set(leaders)),
            )
        )

    def close(self) -> None:
        """No more checks."""
        self._pool.shutdown(wait=False, cancel_futures=True)


# Why one of our own: see docs/explanation/decisions/0006-own-supervisor.md
class Supervisor:
    """Runs services until it is asked to stop or its guard vanishes."""

    def __init__(
        self,
        services: list[Service],
        files: StackFiles,
        *,
        env: Mapping[str, str],
        log: Any,
    ) -> None:
        self._files, self._log = files, log
        self._guard_pid = os.getppid()
        self._processes = Processes(
            files, env=env, guard=identify(self._guard_pid), supervisor=identify(os.getpid())
        )
        self._began_s = time.time()
        self._lives = {
            service.name: ServiceStateMachine(service, self._processes, began_s=self._began_s)
            for service in services
        }
        self._states: dict[str, ServiceState] = {}
        self._state: StackState = "starting"
        self._asked_to_stop = False
        self._next_roll_s = 0.0

    def stop(self) -> None:
        """Ask it to end; safe in a signal handler."""
        self._asked_to_stop = True

    def run(self) -> None:
        """Until `stop`, or until the guard is gone: without it a crash of ours would leave all."""
        self._files.write_status(self._status())
        self._processes.record_processes(look=False)  # `up` takes us for running from here on
        while not self._asked_to_stop:
            self._turn()
            if os.getppid() != self._guard_pid:
                self._log.warning("guard_vanished")
                break
            time.sleep(TURN_S)
        self._shut_down()

    def _turn(self) -> None:
        for life in self._lives.values():
            life.advance({name: other.state for name, other in self._lives.items()})
        self._say_changes()
        if time.monotonic() >= self._next_roll_s:
            self._next_roll_s = time.monotonic() + RECORD_PROCESSES_S
            self._processes.record_processes()
            trim(self._files.logs, limit_bytes=LOG_LIMIT_BYTES)

    def _say_changes(self) -> None:
        now = {name: life.state for name, life in self._lives.items()}
        if now == self._states:
            return
        for name, state in now.items():
            if self._states.get(name) != state:
                status = self._lives[name].status
                self._log.info("service", name=name, state=state, pid=status.pid, note=status.note)
        self._states, self._next_roll_s = now, 0.0  # a new state may mean new processes
        if self._state == "starting" and self._status().is_ready:
            self._state = "up"
            self._log.info("stack_up", seconds=round(time.time() - self._began_s, 1))
        self._files.write_status(self._status())

    def _status(self) -> StackStatus:
        return StackStatus(
            state=self._state,
            started_s=self._began_s,
            services=[life.status for life in self._lives.values()],
        )

    def _shut_down(self) -> None:
        """In waves: a service ends when all that need it have ended."""
        self._state = "stopping"
        self._files.write_status(self._status())
        left = {name: life.service for name, life in self._lives.items()}
        while left:
            needed = {name for service in left.values() for name in service.after}
            wave = [service for name, service in left.items() if name not in needed]
            self._end(wave)
            for service in wave:
                del left[service.name]
        self._processes.close()
        self._state = "down"
        self._say_changes()
        self._files.write_status(self._status())
        self._log.info("stack_down")

    def _end(self, wave: list[Service]) -> None:
        began_s = time.monotonic()
        for service in wave:
            self._processes.ask_to_end(service)
        waiting = list(wave)
        while waiting:
            for service in list(waiting):
                late = time.monotonic() - began_s > service.stop_limit_s
                if late or self._processes.has_ended(service):
                    if late:
                        self._log.warning("killed_for_not_ending", name=service.name)
                    self._processes.clear(service)
                    self._lives[service.name].stop()
                    waiting.remove(service)
            self._say_changes()
            time.sleep(TURN_S / 2)
