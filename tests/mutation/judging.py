"""Runs the tests of a line against a mutant: in a fork, which imports the mutant in place of the
file. Nothing on disk changes."""

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
from types import CodeType
from typing import Any, Literal

import pytest

from tests.mutation.covering import FAST
from tests.mutation.mutants import Mutant
from tests.mutation.parts import ROOT

Verdict = Literal["killed", "timeout", "survived", "untested"]
LEAST_S = 20.0
# What tests import and no mutant changes: loaded once, before the forks.
_SHARED = ("numpy", "polars", "pyarrow", "msgspec", "hypothesis", "structlog", "lmdb", "redis")


@dataclass(frozen=True, kw_only=True)
class Judged:
    """A mutant, what became of it, and how many tests run its line."""

    mutant: Mutant
    verdict: Verdict
    tests: int
    seconds: float


def load_shared() -> None:
    """Import the libraries that the forks share."""
    for name in _SHARED:
        importlib.import_module(name)


def judge(
    trials: Sequence["Trial"], *, jobs: int, end_s: float, each: Callable[[Judged], None]
) -> None:
    """Run the trials, `jobs` at a time; those that have not begun by `end_s` are left out."""
    waiting, running = list(reversed(trials)), list[Trial]()
    while running or (waiting and time.monotonic() < end_s):
        while waiting and len(running) < jobs and time.monotonic() < end_s:
            trial = waiting.pop()
            trial.start()
            running.append(trial)
        for trial in list(running):
            verdict = trial.verdict()
            if verdict is not None:
                running.remove(trial)
                each(trial.judged(verdict))
        time.sleep(0.02)


class Trial:
    """The tests of a mutant's line, in a fork. It is stopped when it takes much longer than they
    took without the mutant (`expected_s`)."""

    def __init__(self, mutant: Mutant, tests: Sequence[str], expected_s: float) -> None:
        self._mutant, self._tests = mutant, tests
        self._limit_s = LEAST_S + 5 * expected_s
        self._start_s = 0.0
        self._child = 0

    def start(self) -> None:
        """Begin; without tests there is nothing to run."""
        self._start_s = time.monotonic()
        if not self._tests:
            return
        self._child = os.fork()
        if self._child == 0:
            os.setsid()  # with all processes that its tests start
            os._exit(_tests_fail(self._mutant, self._tests))

    def verdict(self) -> Verdict | None:
        """What became of it; None while the tests run."""
        if not self._tests:
            return "untested"
        ended, status = os.waitpid(self._child, os.WNOHANG)
        if ended:
            return "survived" if os.waitstatus_to_exitcode(status) == 0 else "killed"
        if time.monotonic() < self._start_s + self._limit_s:
            return None
        with suppress(ProcessLookupError):
            os.killpg(self._child, signal.SIGKILL)
        os.waitpid(self._child, 0)
        return "timeout"

    def judged(self, verdict: Verdict) -> Judged:
        """The result."""
        seconds = time.monotonic() - self._start_s
        return Judged(mutant=self._mutant, verdict=verdict, tests=len(self._tests), seconds=seconds)


def _tests_fail(mutant: Mutant, tests: Sequence[str]) -> int:
    """0 if all pass."""
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)
    try:
        from hypothesis import Phase, settings

        settings.register_profile(
            "mutants",
            settings.get_profile("default"),
            derandomize=True,
            database=None,
            deadline=None,
            phases=(Phase.explicit, Phase.generate),  # a failure is enough: no smaller one
        )
        sys.meta_path.insert(0, _Finder(mutant))
        code = pytest.main([*FAST, "-x", "--hypothesis-profile=mutants", *tests])
    except BaseException:  # noqa: BLE001  what ends the tests has noticed the mutant
        return 1
    return int(code != pytest.ExitCode.OK)


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
        code: CodeType = compile(self._source, self.path, "exec")
        return code
