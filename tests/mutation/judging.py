"""Runs the tests of a line against a mutant, in a fork. Nothing on disk changes.

Here the fork imports the mutant in place of the file, and collects the tests. For most mutants
`collected` is much faster.
"""

import importlib
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import spec_from_file_location
from pathlib import Path
from resource import RLIMIT_CORE, RLIMIT_CPU, setrlimit
from shutil import rmtree
from tempfile import mkdtemp
from types import CodeType
from typing import Any, Literal, TypedDict, Unpack

import pytest

from tests.mutation.covering import FAST, NoShrinking
from tests.mutation.mutants import Mutant, compiled
from tests.mutation.parts import ROOT

Verdict = Literal["killed", "timeout", "hung", "survived", "untested", "undecided"]
LEAST_S = 10.0  # of the processor
WAITS = 20  # so many times longer may it take by the clock: the machine does other work too
UNDECIDED = 3  # the exit code of a fork that cannot run the mutant
# What tests import and no mutant changes: loaded once, before the forks.
_SHARED = ("numpy", "polars", "pyarrow", "msgspec", "hypothesis", "structlog", "lmdb", "redis")


class Limits(TypedDict):
    """`jobs`: how many forks at a time. `end_s`: none begins later, by the monotonic clock."""

    jobs: int
    end_s: float


@dataclass(frozen=True, kw_only=True)
class Judged:
    """A mutant, what became of it, and how many tests run its line."""

    mutant: Mutant
    verdict: Verdict
    tests: int


def load_shared() -> None:
    """Import the libraries that the forks share."""
    for name in _SHARED:
        importlib.import_module(name)


def judge(
    trials: Sequence["Trial"],
    run: "Run",
    *,
    each: Callable[["Trial", Verdict], None],
    **limits: Unpack[Limits],
) -> None:
    """Run the trials, `jobs` at a time; those that have not begun by `end_s` are left out."""
    jobs, end_s = limits["jobs"], limits["end_s"]
    waiting, running = list(reversed(trials)), list[Trial]()
    while running or (waiting and time.monotonic() < end_s):
        while waiting and len(running) < jobs and time.monotonic() < end_s:
            trial = waiting.pop()
            trial.start(run)
            running.append(trial)
        for trial in list(running):
            verdict = trial.verdict()
            if verdict is not None:
                running.remove(trial)
                each(trial, verdict)
        time.sleep(0.02)


class Trial:
    """The tests of a mutant's line, in a fork. It is stopped when it takes much longer than they
    took without the mutant (`expected_s`): a timeout by the processor's time, hung by the clock."""

    def __init__(self, mutant: Mutant, tests: Sequence[str], expected_s: float) -> None:
        self.mutant, self.tests = mutant, tests
        self._limit_s = LEAST_S + 5 * expected_s
        self._start_s = 0.0
        self._child = 0
        self._folder = ""

    def start(self, run: "Run") -> None:
        """Begin; without tests there is nothing to run."""
        self._start_s = time.monotonic()
        if not self.tests:
            return
        self._folder = mkdtemp(prefix="mutant-")
        self._child = os.fork()
        if self._child == 0:
            os._exit(self._exit_code(run))

    def _exit_code(self, run: "Run") -> int:
        try:
            os.setsid()  # with all processes that its tests start
            os.environ["PYTEST_DEBUG_TEMPROOT"] = self._folder
            setrlimit(RLIMIT_CORE, (0, 0))
            setrlimit(RLIMIT_CPU, (int(self._limit_s), int(self._limit_s) + 5))
            return run(self.mutant, self.tests)
        except BaseException:  # noqa: BLE001  what ends the tests has noticed the mutant
            return 1

    def verdict(self) -> Verdict | None:
        """What became of it; None while the tests run."""
        if not self.tests:
            return "untested"
        ended, status = os.waitpid(self._child, os.WNOHANG)
        if not ended and time.monotonic() < self._start_s + WAITS * self._limit_s:
            return None
        with suppress(ProcessLookupError):
            os.killpg(self._child, signal.SIGKILL)
        if not ended:
            os.waitpid(self._child, 0)
        rmtree(self._folder, ignore_errors=True)
        return _VERDICTS.get(os.waitstatus_to_exitcode(status), "killed") if ended else "hung"

    def judged(self, verdict: Verdict) -> Judged:
        """The result."""
        return Judged(mutant=self.mutant, verdict=verdict, tests=len(self.tests))


# The exit code of the tests of a mutant: 0 if all pass.
Run = Callable[[Mutant, Sequence[str]], int]
_VERDICTS: dict[int, Verdict] = {0: "survived", UNDECIDED: "undecided", -signal.SIGXCPU: "timeout"}


def importing(mutant: Mutant, tests: Sequence[str]) -> int:
    """Import the mutant in place of its file, and run the tests."""
    silence()
    sys.meta_path.insert(0, _Finder(mutant))
    code = pytest.main([*FAST, "-x", "--tb=no", *tests], plugins=[NoShrinking()])
    return int(code != pytest.ExitCode.OK)


def silence() -> None:
    """From here on this process prints nothing."""
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)


class _Finder(MetaPathFinder):
    """Gives the mutant in place of its file."""

    def __init__(self, mutant: Mutant) -> None:
        self._module = ".".join(mutant.file.with_suffix("").parts)
        self._file, self._source = ROOT / mutant.file, mutant.source

    def find_spec(self, name: str, _path: Any, _target: Any = None, /) -> ModuleSpec | None:
        if name != self._module:
            return None
        loader = _Loader(name, self._file, self._source)
        return spec_from_file_location(name, str(self._file), loader=loader)


class _Loader(SourceFileLoader):
    def __init__(self, name: str, file: Path, source: str) -> None:
        super().__init__(name, str(file))
        self._source = source

    def get_code(self, _fullname: str, /) -> CodeType:
        return compiled(self._source, self.path)
