"""The parts of the product whose rules decide numbers, and the fast tests that guard them."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
_STORES = ("tests/contract/test_online_store.py", "tests/contract/test_adoption.py")


@dataclass(frozen=True, kw_only=True)
class Part:
    """`files`: patterns of source files. `tests`: where the tests are that could notice."""

    name: str
    files: tuple[str, ...]
    tests: tuple[str, ...]
    without: tuple[str, ...] = ()

    def sources(self) -> list[Path]:
        """The files that exist, below the root."""
        matched = {file for pattern in self.files for file in ROOT.glob(pattern)}
        left_out = {file for pattern in self.without for file in ROOT.glob(pattern)}
        return sorted(file.relative_to(ROOT) for file in matched - left_out)


PARTS = (
    Part(
        name="engine",
        files=("features/engine/*.py",),
        without=("features/engine/deduplication.py", "features/engine/label_windows.py"),
        tests=("tests/unit/features", "tests/unit/test_frozen_state.py", *_STORES),
    ),
    Part(
        name="identity",
        files=("features/identity/*.py", "features/stores/declared_views.py"),
        tests=("tests/unit/features/identity", "tests/unit/features/engine", *_STORES),
    ),
    Part(
        name="deduplication",
        files=("features/engine/deduplication.py",),
        tests=(
            "tests/unit/features/engine/test_deduplication.py",
            "tests/unit/features/ingestion/test_online_sink.py",
            "tests/unit/features/retrieval",
        ),
    ),
    Part(
        name="labels",
        files=("features/retrieval/labels.py", "features/engine/label_windows.py"),
        tests=("tests/unit/features/retrieval", "tests/unit/features/test_generated_cases.py"),
    ),
    Part(
        name="gates",
        files=("ml/evaluation/gates.py", "ml/evaluation/default_gates.py"),
        tests=("tests/unit/ml/evaluation",),
    ),
    Part(name="metrics", files=("ml/evaluation/metrics.py",), tests=("tests/unit/ml/evaluation",)),
    Part(name="split", files=("ml/evaluation/split.py",), tests=("tests/unit/ml/evaluation",)),
    Part(name="freshness", files=("serving/freshness.py",), tests=("tests/unit/serving",)),
    Part(
        name="offsets",
        files=("features/maintenance/accounting.py", "features/stores/guards.py"),
        tests=(
            "tests/unit/features/maintenance/test_accounting.py",
            "tests/unit/features/ingestion/test_online_sink.py",
            *_STORES,
        ),
    ),
)
BY_NAME = {part.name: part for part in PARTS}


def with_only(part: Part, files: Iterable[Path]) -> Part | None:
    """The part with those of its files only; None without any."""
    kept = sorted(set(part.sources()) & set(files))
    if not kept:
        return None
    return Part(name=part.name, files=tuple(map(str, kept)), tests=part.tests)
