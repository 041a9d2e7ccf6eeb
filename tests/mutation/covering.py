"""Which fast tests run a line, and how long each takes: one run of the tests under coverage."""

import hashlib
import json
import os
import sys
import time
import traceback
from collections import defaultdict
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import coverage
import pytest

from tests.mutation.parts import ROOT, Part

CACHE = ROOT / ".tools" / "mutation"
FAST = (
    # as `make test-fast` has them
    *("-m", "not servers and not fault and not slow", "--hypothesis-profile=fast"),
    *("-q", "-p", "no:cacheprovider", "-p", "no:xdist"),
    *("-W", "ignore::pytest.PytestAssertRewriteWarning"),  # libraries are loaded before the forks
)


@dataclass(kw_only=True)
class Covering:
    """`tests`: file -> line -> tests that run it, or whose module runs it when it is imported. A
    line that no test runs is the matter of every test that runs any line of the file, or of every
    test if none does. `imported`: the lines of each file that run when modules are imported.
    `seconds`: the processor time of each test."""

    tests: dict[str, dict[int, list[str]]] = field(default_factory=dict)
    imported: dict[str, list[int]] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    def of(self, file: Path, line: int) -> list[str]:
        """The tests of a line, the fastest first."""
        lines = self.tests.get(str(file), {})
        tests = lines.get(line) or [t for tests in lines.values() for t in tests] or self.seconds
        return sorted(set(tests), key=lambda t: (self.seconds.get(t, 0.0), t))


class TestsFail(Exception):
    """The tests fail without any mutant, or cannot run."""


def covering(part: Part) -> Covering:
    """The covering of a part's files, from the cache if no source or test has changed since."""
    cached = CACHE / f"covering-{_state_of_tree(part)}.json"
    if not cached.exists():
        measured = _measured_in_child(part)
        CACHE.mkdir(parents=True, exist_ok=True)
        cached.write_text(json.dumps(vars(measured)))
    content = json.loads(cached.read_text())
    tests = {f: {int(n): t for n, t in lines.items()} for f, lines in content["tests"].items()}
    return Covering(tests=tests, imported=content["imported"], seconds=content["seconds"])


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
    code = pytest.main([*FAST, *part.tests], plugins=[watcher, NoShrinking()])
    measurement.stop()
    if code != pytest.ExitCode.OK:
        raise TestsFail
    measured = Covering(seconds=watcher.seconds)
    tests_of = _by_context(watcher.seconds)
    for file in files:
        contexts = measurement.get_data().contexts_by_lineno(str(ROOT / file))
        measured.tests[str(file)] = {
            line: sorted({t for c in cs for t in tests_of.get(c, ())})
            for line, cs in contexts.items()
        }
        measured.imported[str(file)] = [
            line for line, cs in contexts.items() if not watcher.seconds.keys() >= set(cs)
        ]
    return measured


def _by_context(tests: Iterable[str]) -> dict[str, list[str]]:
    """The test that a context is, or the tests of the module that it is."""
    by_context = defaultdict(list, {test: [test] for test in tests})
    for test in tests:
        by_context[test.partition("::")[0]].append(test)
    return by_context


class NoShrinking:
    """A plugin of pytest: a failure of a property is enough, there is no search for a smaller one.
    The examples stay those of the profile that the tests run with. No example has a time limit: the
    machine may do other work."""

    @pytest.hookimpl(trylast=True)  # when Hypothesis has loaded the profile
    def pytest_configure(self) -> None:
        from hypothesis import Phase, settings

        name = settings.get_current_profile_name()
        settings.register_profile(
            name,
            settings.get_profile(name),
            database=None,
            deadline=None,
            phases=(Phase.explicit, Phase.generate),
        )
        settings.load_profile(name)


class _Watcher:
    """Tells coverage which test runs, or which module of tests is imported."""

    def __init__(self, measurement: coverage.Coverage) -> None:
        self._measurement = measurement
        self.seconds: dict[str, float] = {}

    def pytest_collectstart(self, collector: pytest.Collector) -> None:
        if isinstance(collector, pytest.Module):
            self._measurement.switch_context(collector.nodeid)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Generator[None, object, object]:
        self._measurement.switch_context(item.nodeid)
        start_s = time.process_time()
        result = yield
        self.seconds[item.nodeid] = time.process_time() - start_s
        return result


def _state_of_tree(part: Part) -> str:
    """A hash of the part, and of all code that its tests may run."""
    hashed = hashlib.blake2b(repr(part).encode(), digest_size=8)
    for folder in ("features", "infra", "ml", "serving", "tests"):
        for file in sorted(_sources(ROOT / folder)):
            hashed.update(file.read_bytes())
    return hashed.hexdigest()


def _sources(folder: Path) -> Sequence[Path]:
    return [f for f in folder.rglob("*") if f.suffix in {".py", ".txt", ".json"} and f.is_file()]
