"""How long the local stack takes to come up, at first and later, and what it holds in memory.

    python -m tests.benchmarks.stack_boot [--only SERVICES] [--json FILE]

Boots it twice in a folder of its own. Memory is PSS: a page that n processes share counts 1/n in
each. Linux only. The load average is printed with the figures: on busy cores they mean nothing.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from infra.local_stack.state_files import StackFiles
from tests.benchmarks.kit import Bar, Line, parser, report

EVENTIDE = str(Path(sys.executable).with_name("eventide"))


def main() -> int:
    """Measure, print both tables, write JSON."""
    parser_ = parser(__doc__)
    parser_.add_argument("--only", default="", help="as for `eventide up`")
    options = parser_.parse_args()
    with tempfile.TemporaryDirectory(prefix="eventide-boot-") as state:
        first, later = (measure(Path(state), only=options.only) for _ in range(2))
    print_services(first, later)
    report("stack_boot", lines(first, later), options, boots=[first, later])
    return 0


def lines(first: dict[str, Any], later: dict[str, Any]) -> list[Line]:
    """What is promised of a boot."""
    return [
        _line("first boot", "s", first["seconds"], 45),
        _line("later boot", "s", later["seconds"], 30),
        _line("memory of all services", "MiB", later["mib"], 2560),
    ]


def _line(what: str, unit: str, ours: float, most: float) -> Line:
    return Line(what=what, unit=unit, ours=ours, bar=Bar(kind="at most", value=most))


def measure(state: Path, *, only: str) -> dict[str, Any]:
    """Boot, look, stop."""
    env = {**os.environ, "EVENTIDE_STATE_DIR": str(state)}
    load = os.getloadavg()[0]
    began_s = time.monotonic()
    subprocess.run([EVENTIDE, "up", "--only", only], env=env, check=True, stdout=subprocess.DEVNULL)
    seconds = round(time.monotonic() - began_s, 1)
    try:
        services = look(StackFiles(state))
    finally:
        began_s = time.monotonic()
        subprocess.run([EVENTIDE, "down"], env=env, check=True, stdout=subprocess.DEVNULL)
    return {
        "seconds": seconds,
        "stop_seconds": round(time.monotonic() - began_s, 1),
        "mib": round(sum(service["mib"] for service in services.values())),
        "cpu_seconds": round(sum(service["cpu_seconds"] for service in services.values()), 1),
        "load_before": round(load, 1),
        "services": services,
    }


def look(files: StackFiles) -> dict[str, dict[str, Any]]:
    """Each service with all its descendants; reaper and supervisor as `stack`."""
    status, recorded = files.status(), files.processes()
    assert status is not None
    assert recorded.reaper is not None
    assert recorded.supervisor is not None
    usage: dict[str, dict[str, Any]] = {}
    for service in status.services:
        leader = [] if service.pid is None else [psutil.Process(service.pid)]
        processes = [p for process in leader for p in (process, *process.children(recursive=True))]
        usage[service.name] = {"healthy_after_s": service.seconds, **_sums(processes)}
    ours = [psutil.Process(recorded.reaper.pid), psutil.Process(recorded.supervisor.pid)]
    return {**usage, "stack": {"healthy_after_s": None, **_sums(ours)}}


def print_services(first: dict[str, Any], later: dict[str, Any]) -> None:
    """Each service in both boots."""
    print(f"{'service':<15}{'first s':>9}{'later s':>9}{'CPU s':>8}{'PSS MiB':>9}{'processes':>11}")
    for name, now in later["services"].items():
        times = [first["services"][name]["healthy_after_s"], now["healthy_after_s"]]
        print(f"{name:<15}" + "".join(f"{'' if t is None else t:>9}" for t in times), end="")
        print(f"{now['cpu_seconds']:>8}{now['mib']:>9}{now['processes']:>11}")
    print(f"load before: {first['load_before']}, {later['load_before']}")
    print(f"stop: {first['stop_seconds']} s, {later['stop_seconds']} s")


def _sums(processes: list[psutil.Process]) -> dict[str, Any]:
    mib = sum(process.memory_full_info().pss for process in processes) / 2**20
    times = [process.cpu_times() for process in processes]
    return {
        "mib": round(mib),
        "cpu_seconds": round(sum(t.user + t.system for t in times), 1),
        "processes": len(processes),
    }


if __name__ == "__main__":
    sys.exit(main())
