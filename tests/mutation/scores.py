"""The score of a part: how many of its mutants the tests notice, and which live."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.mutation.judging import Judged

LEAST_SCORE, MOST_EQUIVALENT = 0.9, 0.05
NOTICED = {"killed", "timeout", "hung"}


@dataclass(kw_only=True)
class Score:
    """`mutants`: how many there are; `chosen`: how many of them were to be judged; `equivalent`:
    how many of these change no meaning, as `equivalent.toml` says."""

    part: str
    mutants: int
    chosen: int = 0
    equivalent: int = 0
    judged: list[Judged] = field(default_factory=list)

    @property
    def killed(self) -> int:
        """Those that a test noticed."""
        return len(self.judged) - len(self.survivors)

    @property
    def survivors(self) -> list[Judged]:
        """Those that no test noticed."""
        return [j for j in self.judged if j.verdict not in NOTICED]

    @property
    def score(self) -> float:
        """The share that was killed, of those that were judged; 0 if there was no time for any."""
        if not self.judged:
            return float(self.chosen == self.equivalent)
        return self.killed / len(self.judged)

    @property
    def is_good(self) -> bool:
        """Whether both limits hold; every mutation known from a fault has to be killed."""
        least = 1.0 if self.part == "known" else LEAST_SCORE
        return self.score >= least and self.equivalent <= MOST_EQUIVALENT * self.chosen


def show(scores: Sequence[Score], console: Console) -> None:
    """The table, and the mutants that live."""
    table = Table("part", "mutants", "chosen", "equivalent", "judged", "killed", "score", "")
    for s in scores:
        numbers = (s.mutants, s.chosen, s.equivalent, len(s.judged), s.killed)
        verdict = "" if s.is_good else "too low"
        table.add_row(s.part, *map(str, numbers), f"{s.score:.1%}", verdict)
    for s in scores:
        for j in sorted(s.survivors, key=lambda j: (j.mutant.file, j.mutant.line)):
            m = j.mutant
            console.print(f"{m.file}:{m.line} {j.verdict}, {j.tests} tests", highlight=False)
            console.print(f"  - {m.before}\n  + {m.after}", highlight=False, markup=False)
    console.print(table)


def write(scores: Sequence[Score], file: Path) -> None:
    """The same as JSON."""
    content = [
        {
            **{name: getattr(s, name) for name in ("part", "mutants", "chosen", "equivalent")},
            "judged": len(s.judged),
            "killed": s.killed,
            "score": s.score,
            "good": s.is_good,
            "survivors": [
                {
                    "file": str(j.mutant.file),
                    "line": j.mutant.line,
                    "before": j.mutant.before,
                    "after": j.mutant.after,
                    "tests": j.tests,
                }
                for j in s.survivors
            ],
        }
        for s in scores
    ]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(content, indent=1) + "\n")
