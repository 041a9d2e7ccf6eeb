"""Which fast tests run a line, and how long each takes: one run of the tests under coverage."""

import hashlib
import json
import os
import sys
import traceback
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import coverage
import pytest

from tests.mutation.parts import ROOT, Part

CACHE = ROOT / ".tools" / "mutation"
FAST = (
    *("-m", "not servers and not fault", "-q", "-p", "no:cacheprovider", "-p", "no:xdist"),
    *("-W", "ignore::pytest.PytestAssertRewriteWarning"),  # libraries are loaded before the forks
)


@dataclass(kw_only=True)
class Covering:
    """`tests`: file -> line -> tests that run it. A line that only imports run is the matter of
    every test that runs any line of the file, or of every test if none does. `seconds`: of each
    test."""

    tests: dict[str, dict[int, list[str]]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    def of(self, file: Path, line: int) -> list[str]:
        """The tests of a line, the fastest first."""
        lines = self.tests.get(str(file), {})
        found = lines.get(line) or [t for tests in lines.values() for t in tests] or self.seconds
        return sorted(set(found), key=lambda t: (self.seconds.get(t, 0.0), t))


class TestsFail(Exception):
    """The tests fail without any mutant."""


def covering(part: Part) -> Covering:
    """The covering of a part's files, from the cache if no source or test has changed since."""
    cached = CACHE / f"covering-{_state_of_tree(part)}.json"
    if not cached.exists():
        measured = _measured_in_child(part)
        CACHE.mkdir(parents=True, exist_ok=True)
        cached.write_text(json.dumps(vars(measured)))
    content = json.loads(cached.read_text())
    tests = {f: {int(n): t for n, t in lines.items()} for f, lines in content["tests"].items()}
    return Covering(tests=tests, seconds=content["seconds"])


def _measured_in_child(part: Part) -> Covering:
    """In a process of its own: this one must not have imported what a mutant changes."""
    result = CACHE / f"run-{os.getpid()}.json"
    CACHE.mkdir(parents=True, exist_ok=True)
    child = os.fork()
    if child == 0:
        try:
            result.write_text(json.dumps(vars(_measured(part))))
        except Exception:  # noqa: BLE001  the parent sees that there is no result
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            os._exit(0)
    os.waitpid(child, 0)
    if not result.exists():
        raise TestsFail(f"the tests of {part.name} do not pass without a mutant")
    content = json.loads(result.read_text())
    result.unlink()
    return Covering(**content)


def _measured(part: Part) -> Covering:
    files = part.sources()
    measurement = coverage.Coverage(
        data_file=None, include=[str(ROOT / f) for f in files], config_file=False
    )
    watcher = _Watcher(measurement)
    measurement.start()
    code = pytest.main([*FAST, *part.tests], plugins=[watcher])
    measurement.stop()
    if code != pytest.ExitCode.OK:
        raise TestsFail
    data = measurement.get_data()
    tests: dict[str, dict[int, list[str]]] = {}
    for file in files:
        contexts = data.contexts_by_lineno(str(ROOT / file))
        of_lines = defaultdict(list, {n: [c for c in cs if c] for n, cs in contexts.items()})
        tests[str(file)] = dict(of_lines)
    return Covering(tests=tests, seconds=watcher.seconds)


class _Watcher:
    """Tells coverage which test runs."""

    def __init__(self, measurement: coverage.Coverage) -> None:
        self._measurement = measurement
        self.seconds: dict[str, float] = {}

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self._measurement.switch_context(nodeid)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.seconds[report.nodeid] = self.seconds.get(report.nodeid, 0.0) + report.duration


def _state_of_tree(part: Part) -> str:
    """A hash of the part, and of all code that its tests may run."""
    hashed = hashlib.blake2b(repr(part).encode(), digest_size=8)
    for folder in ("features", "infra", "ml", "serving", "tests"):
        for file in sorted(_sources(ROOT / folder)):
            hashed.update(file.read_bytes())
    return hashed.hexdigest()


def _sources(folder: Path) -> Sequence[Path]:
    return [f for f in folder.rglob("*") if f.suffix in {".py", ".txt", ".json"} and f.is_file()]
