"""Runs tests against mutants in forks of one process that has collected them.

The fork gets the code of the changed functions, so it neither imports nor collects anything. That
is possible if only functions change, and none of them runs when modules are imported.
"""

import gc
import json
import os
import traceback
from collections import defaultdict
from collections.abc import Callable, Sequence
from inspect import CO_OPTIMIZED
from pathlib import Path
from types import CodeType, FunctionType
from typing import Unpack

import pytest

from tests.mutation.covering import FAST, Covering, NoShrinking, TestsFail
from tests.mutation.judging import (
    UNDECIDED,
    Limits,
    Trial,
    Verdict,
    judge,
    silence,
)
from tests.mutation.mutants import Mutant, compiled
from tests.mutation.parts import ROOT, Part


def changes_functions(mutant: Mutant, covered: Covering) -> bool:
    """Whether the mutant changes only functions that do not run when modules are imported."""
    changed = _changed_functions(mutant)
    imported = set(covered.imported.get(str(mutant.file), ()))
    return bool(changed) and all(imported.isdisjoint(_body_lines(old)) for old, _ in changed)


def judge_collected(
    part: Part,
    trials: Sequence[Trial],
    *,
    each: Callable[[Trial, Verdict], None],
    **limits: Unpack[Limits],
) -> None:
    """Like `judge`. Those that hung or stayed undecided are to be judged again."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.close(reader)
            code = _Session(part, trials, limits, writer).run()
        except Exception:  # noqa: BLE001  the parent ends
            traceback.print_exc()
        finally:
            os._exit(code)
    os.close(writer)
    with os.fdopen(reader) as verdicts:
        for line in verdicts:
            index, verdict = json.loads(line)
            each(trials[index], verdict)
    _, status = os.waitpid(child, 0)
    if status != 0:
        raise TestsFail(f"the tests of {part.name} cannot be collected, or their session ended")


class _Session:
    """A session of pytest that judges mutants in place of running its tests once."""

    def __init__(self, part: Part, trials: Sequence[Trial], limits: Limits, writer: int) -> None:
        self._part, self._trials = part, trials
        self._limits, self._writer = limits, writer

    def run(self) -> int:
        """Collect the tests and judge the mutants; the exit code of pytest."""
        # Forks would share the files of another capture.
        options = [*FAST, "--tb=no", "--capture=sys"]
        return pytest.main([*options, *self._part.tests], plugins=[self, NoShrinking()])

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        items = {item.nodeid: item for item in session.items}
        functions = _functions_of(self._part.sources())
        gc.freeze()
        silence()

        def run(mutant: Mutant, tests: Sequence[str]) -> int:
            if not _replace(mutant, functions[str(ROOT / mutant.file)]):
                return UNDECIDED
            return _run([items[test] for test in tests], session)

        def report(trial: Trial, verdict: Verdict) -> None:
            line = json.dumps([self._trials.index(trial), verdict]) + "\n"
            os.write(self._writer, line.encode())

        judge(self._trials, run, **self._limits, each=report)
        return True


def _run(items: Sequence[pytest.Item], session: pytest.Session) -> int:
    """1 at the first failure."""
    for item, following in zip(items, [*items[1:], None], strict=True):
        session.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
        if session.testsfailed:
            return 1
    return 0


def _functions_of(files: Sequence[Path]) -> dict[str, list[FunctionType]]:
    """The functions that each file defines."""
    wanted = {str(ROOT / file) for file in files}
    by_file = defaultdict[str, list[FunctionType]](list)
    for value in gc.get_objects():
        if type(value) is FunctionType and value.__code__.co_filename in wanted:
            by_file[value.__code__.co_filename].append(value)
    return by_file


def _replace(mutant: Mutant, functions: Sequence[FunctionType]) -> bool:
    """Give the changed functions the code of the mutant; False if one of them is not there."""
    changed = _changed_functions(mutant)
    for old, new in changed:
        targets = [f for f in functions if f.__code__ == old]
        for function in targets:
            function.__code__ = new
        if not targets:
            return False
    return bool(changed)


def _changed_functions(mutant: Mutant) -> list[tuple[CodeType, CodeType]]:
    """The outermost functions that differ, as they are and as the mutant has them. None of them if
    anything outside of functions differs."""
    file = str(ROOT / mutant.file)
    old = compiled(Path(file).read_text(), file)
    return _differing(old, compiled(mutant.source, file)) or []


def _differing(old: CodeType, new: CodeType) -> list[tuple[CodeType, CodeType]] | None:
    if old == new:
        return []
    if old.co_flags & CO_OPTIMIZED:  # a function: modules and bodies of classes are not
        return [(old, new)]
    inner, new_inner = _inner(old), _inner(new)
    if len(inner) != len(new_inner) or _alone(old) != _alone(new):
        return None
    differing = [_differing(*pair) for pair in zip(inner, new_inner, strict=True)]
    return None if None in differing else [pair for pairs in differing for pair in pairs or ()]


def _inner(code: CodeType) -> list[CodeType]:
    return [c for c in code.co_consts if isinstance(c, CodeType)]


def _alone(code: CodeType) -> CodeType:
    """Without the functions, and without the columns in which they end."""
    consts = tuple(None if isinstance(c, CodeType) else c for c in code.co_consts)
    return code.replace(co_consts=consts, co_linetable=b"")


def _body_lines(function: CodeType) -> set[int]:
    """The lines of a function, without that of its `def`, which runs when it is defined."""
    lines = {line for _, _, line in function.co_lines() if line}
    return lines.union(*map(_body_lines, _inner(function))) - {function.co_firstlineno}
