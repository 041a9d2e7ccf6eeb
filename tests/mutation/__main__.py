"""Changes the code on purpose and counts which changes the fast tests notice: `make mutate`.

python -m tests.mutation                 the files that differ from main, ten minutes at most
python -m tests.mutation --part metrics  one part; `all`: every part; `known`: known.toml
"""

import argparse
import subprocess
import sys
import time
import tomllib
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from tests.mutation.collected import changes_functions, judge_collected
from tests.mutation.covering import CACHE, Covering, covering
from tests.mutation.judging import Limits, Trial, Verdict, importing, judge, load_shared
from tests.mutation.mutants import Mutant, mutants_of, replaced, sampled
from tests.mutation.parts import BY_NAME, PARTS, ROOT, Part, with_only
from tests.mutation.scores import NOTICED, Score, show, write

SAMPLE, SEED = 300, 8
KNOWN, EQUIVALENT = (Path(__file__).with_name(f"{n}.toml") for n in ("known", "equivalent"))
SCORES = CACHE / "scores.json"
CHANGED_MINUTES, PART_MINUTES = 10.0, 180.0
KNOWN_TEST_S = 60.0  # those tests are whole files
BASES = ("origin/main", "main")


def main() -> int:
    """Exit code 1: a part is below the limits, or a known mutation lives."""
    options = _options()
    load_shared()
    minutes = options.minutes or (PART_MINUTES if options.part else CHANGED_MINUTES)
    run = _Run(options, end_s=time.monotonic() + 60 * minutes)
    parts = _parts(options.part)
    scores = [
        run.score(part, _mutants(part), parts_left=len(parts) - i) for i, part in enumerate(parts)
    ]
    if options.part in ("known", "all"):
        scores.append(run.known())
    show(scores, Console(soft_wrap=True))
    write(scores, SCORES)
    return int(not all(s.is_good for s in scores))


class _Run:
    """Judges the mutants of parts, until its time is over."""

    def __init__(self, options: argparse.Namespace, *, end_s: float) -> None:
        self._options, self._end_s = options, end_s
        self._equivalent = {
            (e["file"], e["before"], e["after"]): e["why"] for e in _entries(EQUIVALENT)
        }

    def score(self, part: Part, mutants: list[Mutant], *, parts_left: int) -> Score:
        """The score of a seeded sample of the mutants. The part takes no time from the parts after
        it: with it they are `parts_left`."""
        chosen = sampled(mutants, self._options.sample, self._options.seed)
        meant = [m for m in chosen if m.key not in self._equivalent]
        result = Score(
            part=part.name,
            mutants=len(mutants),
            chosen=len(chosen),
            equivalent=len(chosen) - len(meant),
        )
        limits = self._limits(parts_left)
        covered = covering(part)
        trials = [_trial(mutant, covered) for mutant in meant]
        functions = [t for t in trials if changes_functions(t.mutant, covered)]
        judge_collected(part, functions, **limits, each=partial(_note_decided, result))
        decided = {judged.mutant for judged in result.judged}
        judge(
            [t for t in trials if t.mutant not in decided],
            importing,
            **limits,
            each=partial(_note, result),
        )
        return result

    def known(self) -> Score:
        """The mutations that went unnoticed once, each with the tests that it names."""
        trials = [
            Trial(replaced(Path(e["file"]), e["before"], e["after"]), e["tests"], KNOWN_TEST_S)
            for e in _entries(KNOWN)
        ]
        result = Score(part="known", mutants=len(trials), chosen=len(trials))
        judge(trials, importing, **self._limits(parts_left=1), each=partial(_note, result))
        return result

    def _limits(self, parts_left: int) -> Limits:
        now_s = time.monotonic()
        end_s = now_s + (self._end_s - now_s) / parts_left
        return {"jobs": self._options.jobs, "end_s": end_s}


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="make mutate")
    parser.add_argument("--part", choices=[*BY_NAME, "all", "known"])
    parser.add_argument("--minutes", type=float)
    parser.add_argument("--sample", type=int, default=SAMPLE)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--jobs", type=int, default=2)
    return parser.parse_args()


def _parts(wanted: str | None) -> list[Part]:
    if wanted is None:
        changed = _changed_files()
        return [p for part in PARTS if (p := with_only(part, changed))]
    if wanted == "all":
        return list(PARTS)
    return [BY_NAME[wanted]] if wanted in BY_NAME else []


def _changed_files() -> list[Path]:
    """The files that differ from the branch that main is, changes without a commit included."""
    for base in BASES:
        process = subprocess.run(
            ["git", "diff", "--name-only", "--merge-base", base],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
        )
        if process.returncode == 0:
            return [Path(line) for line in process.stdout.splitlines()]
    raise SystemExit(
        f"none of {', '.join(BASES)} is here to compare with: fetch it, or name a part"
    )


def _mutants(part: Part) -> list[Mutant]:
    return [mutant for file in part.sources() for mutant in mutants_of(file)]


def _trial(mutant: Mutant, covered: Covering) -> Trial:
    tests = covered.of(mutant.file, mutant.line)
    return Trial(mutant, tests, sum(covered.seconds.get(t, 0.0) for t in tests))


def _note(result: Score, trial: Trial, verdict: Verdict) -> None:
    result.judged.append(trial.judged(verdict))
    if verdict not in NOTICED:
        m = trial.mutant
        print(f"{verdict}: {m.file}:{m.line}: {m.before}  ->  {m.after}", flush=True)


def _note_decided(result: Score, trial: Trial, verdict: Verdict) -> None:
    """A mutant that hung is judged again on its own: perhaps only the fork did."""
    if verdict not in ("hung", "undecided"):
        _note(result, trial, verdict)


def _entries(file: Path) -> Iterable[dict[str, Any]]:
    entries: list[dict[str, Any]] = tomllib.loads(file.read_text()).get("mutation", [])
    return entries


if __name__ == "__main__":
    sys.exit(main())
