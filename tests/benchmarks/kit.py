"""What the benchmarks share: measuring, the comparison with a bar, the table, JSON.

Standard library only: the peers run in environments of their own and are measured by the same
code. CPU seconds are those of the process with all its threads and of its children: on busy cores
they say more than the clock, and ratios of the same run say more than either.
"""

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

ROOT = Path(__file__).resolve().parents[2]
REPORTS = ROOT / ".state" / "benchmarks"

T = TypeVar("T")
Kind = Literal["times less", "times more", "times as much", "at most", "at least"]


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a piece of work took."""

    cpu_s: float
    seconds: float
    peak_mib: float  # of the process alone, from the start of the work on


@dataclass(frozen=True, kw_only=True)
class Bar:
    """What we hold ourselves to: against the peer (`times ...`) or by itself."""

    kind: Kind
    value: float

    def __str__(self) -> str:
        if self.kind == "times as much":
            return f"at most {self.value:g}x"
        if self.kind in ("times less", "times more"):
            return f"{self.value:g}x {self.kind.removeprefix('times ')}"
        return f"{self.kind} {self.value:g}"


@dataclass(frozen=True, kw_only=True)
class Line:
    """One line of the table: one measure of ours and, optionally, of a peer."""

    what: str
    unit: str
    ours: float
    peer: float | None = None
    peer_name: str = ""
    bar: Bar | None = None

    @property
    def ratio(self) -> float | None:
        """How many times ours is ahead; for `times as much`, how many times the peer's cost."""
        if self.peer is None:
            return None
        less = self.bar is None or self.bar.kind in ("times less", "at most")
        return self.peer / self.ours if less else self.ours / self.peer

    @property
    def met(self) -> bool | None:
        """Whether the bar is met; None without a bar."""
        if self.bar is None or (self.bar.kind.startswith("times") and self.ratio is None):
            return None
        value = self.ratio if self.bar.kind.startswith("times") else self.ours
        assert value is not None
        if self.bar.kind in ("times as much", "at most"):
            return value <= self.bar.value
        return value >= self.bar.value


def measure(work: Callable[[], T]) -> tuple[T, Cost]:
    """Do the work once, in this process."""
    _forget_peak()
    cpu, began = _own_cpu_s(), time.perf_counter()
    result = work()
    cost = Cost(
        cpu_s=_own_cpu_s() - cpu,
        seconds=time.perf_counter() - began,
        peak_mib=_status_mib(os.getpid(), "VmHWM"),
    )
    return result, cost


class Watched:
    """Another process from now on, with its children."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._cpu_s, self._began_s = tree_cpu_s(pid), time.perf_counter()

    def cost(self) -> Cost:
        """Since the start; the process still has to run."""
        return Cost(
            cpu_s=tree_cpu_s(self._pid) - self._cpu_s,
            seconds=time.perf_counter() - self._began_s,
            peak_mib=_status_mib(self._pid, "VmHWM"),
        )


def tree_cpu_s(pid: int) -> float:
    """User and system seconds of a process, its living children and those it has waited for."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    own = sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    return own + sum(tree_cpu_s(int(child)) for task in tasks for child in task.read_text().split())


def run_module(module: str, *arguments: object, python: str = sys.executable) -> Any:
    """Run a module of the repository as a process; what it printed last, read as JSON.

    Raises:
        RuntimeError: it failed.
    """
    completed = subprocess.run(
        [python, "-m", module, *map(str, arguments)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    if completed.returncode:
        raise RuntimeError(
            f"{module} {' '.join(map(str, arguments))} ended: {completed.returncode}"
        )
    return json.loads(completed.stdout.strip().rpartition("\n")[2])


def cost_of(printed: dict[str, Any]) -> Cost:
    """The cost that a process printed by `print_cost`."""
    return Cost(**printed["cost"])


def print_cost(cost: Cost, **more: Any) -> None:
    """Print what was measured, for the process that started this one."""
    print(json.dumps({"cost": asdict(cost), **more}))


def parser(doc: str | None) -> argparse.ArgumentParser:
    """The options that every benchmark has."""
    options = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--quick", action="store_true", help="small data: does it run, roughly")
    options.add_argument("--no-peer", action="store_true", help="measure ours alone")
    options.add_argument(
        "--json", type=Path, help=f"file for the figures, else in {_short(REPORTS)}"
    )
    return options


def parser_with_run(doc: str | None) -> argparse.ArgumentParser:
    """The same, and the folder that a benchmark gives itself: it measures ours in a process of its
    own, so that its peak is its own."""
    options = parser(doc)
    options.add_argument("--run", type=Path, help=argparse.SUPPRESS)
    return options


def report(name: str, lines: Sequence[Line], options: argparse.Namespace, **more: Any) -> None:
    """Print the table and write the figures."""
    print(f"\n{name}{' (quick: small data, bars are not meant for it)' if options.quick else ''}")
    print_table(lines)
    file = options.json or REPORTS / f"{name}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    figures = {
        "benchmark": name,
        "quick": options.quick,
        "machine": machine(),
        "lines": [{**asdict(x), "ratio": x.ratio, "met": x.met} for x in lines],
        **more,
    }
    file.write_text(json.dumps(figures, indent=1) + "\n")
    print(f"figures: {_short(file)}; load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")


def print_table(lines: Sequence[Line]) -> None:
    """What was measured, ours beside the peer's and the bar."""
    print(f"{'':<46}{'ours':>11}{'peer':>11}{'ratio':>9}  {'bar':<14}{'':<8}peer is")
    for line in lines:
        peer = "" if line.peer is None else _figure(line.peer)
        ratio = "" if line.ratio is None else f"{line.ratio:.1f}x"
        met = {True: "kept", False: "MISSED", None: ""}[line.met]
        print(
            f"{line.what + ', ' + line.unit:<46}{_figure(line.ours):>11}{peer:>11}{ratio:>9}"
            f"  {line.bar or ''!s:<14}{met:<8}{line.peer_name}".rstrip()
        )


def machine() -> dict[str, Any]:
    """Where the figures come from."""
    return {
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
        "memory_mib": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20,
        "system": platform.platform(),
        "python": platform.python_version(),
    }


def _own_cpu_s() -> float:
    own = resource.getrusage(resource.RUSAGE_SELF)
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


def _forget_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


def _status_mib(pid: int, field: str) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(x.split()[1]) / 1024 for x in lines if x.startswith(f"{field}:"))


def _figure(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _short(file: Path) -> str:
    return str(file.relative_to(ROOT)) if file.is_relative_to(ROOT) else str(file)
