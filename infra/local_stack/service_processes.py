"""The processes of the services: started, watched, recorded and ended for the supervisor."""

import subprocess
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress

from infra.local_stack.environment import inherited
from infra.local_stack.process_table import ProcessId, families, identify, kill_all, start
from infra.local_stack.service import Service
from infra.local_stack.state_files import ProcessTable, StackFiles


class ServiceProcesses:
    """The `ProcessControl` of the service state machines."""

    def __init__(
        self,
        files: StackFiles,
        *,
        env: Mapping[str, str],
        reaper: ProcessId | None,
        supervisor: ProcessId | None,
    ) -> None:
        self._files, self._env = files, env
        self._reaper, self._supervisor = reaper, supervisor
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._leaders: dict[str, ProcessId] = {}
        self._families: dict[str, set[ProcessId]] = {}
        self._pool = ThreadPoolExecutor(max_workers=12, thread_name_prefix="check")

    def start(self, service: Service) -> int:
        """Start the service's process and record it; returns its pid."""
        env = inherited(self._env, service.inherits)
        process = start(service, log=self._files.log(service.name), env=env)
        self._running[service.name] = process
        if leader := identify(process.pid):
            self._leaders[service.name] = leader
        self.record()
        return process.pid

    def exit_code(self, service: Service) -> int | None:
        """Of the process that was started last; None while it runs."""
        return self._running[service.name].poll()

    def clear(self, service: Service) -> None:
        """Kill what the process leaves: its session, and the descendants that were seen."""
        if leader := self._leaders.pop(service.name, None):
            kill_all([leader, *self._families.pop(service.name, set())])
        self._running.pop(service.name, None)
        self.record()

    def run(self, work: Callable[[], bool]) -> "Future[bool]":
        """Run slow work in a thread."""
        return self._pool.submit(work)

    def send_stop_signal(self, service: Service) -> None:
        """Signal the first process only: it ends its own children."""
        if (process := self._running.get(service.name)) is not None:
            process.send_signal(service.stop_signal)

    def has_ended(self, service: Service) -> bool:
        """Whether the first process is gone."""
        process = self._running.get(service.name)
        return process is None or process.poll() is not None

    def refresh_families(self) -> None:
        """Look up the descendants of every service, and record them."""
        self._families = families(self._leaders)
        self.record()

    def record(self) -> None:
        """Record every known process, so that the reaper or a later `up` can end them.

        A disk that is full ends no stack: the next record comes within seconds.
        """
        leaders = list(self._leaders.values())
        known = set[ProcessId]().union(*self._families.values())
        table = ProcessTable(
            reaper=self._reaper,
            supervisor=self._supervisor,
            session_leaders=leaders,
            descendants=sorted(known - set(leaders)),
        )
        with suppress(OSError):
            self._files.write_processes(table)

    def close(self) -> None:
        """Start no more work."""
        self._pool.shutdown(wait=False, cancel_futures=True)
