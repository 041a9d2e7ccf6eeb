"""The work folder: results appear whole or not at all, under the key of their data."""

import hashlib
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from infra.atomic import atomic_folder
from infra.locks import exclusive_lock
from ml.project import Candidate, ModelProject
from ml.results import R

RESULT = "result.json"
LOCK = ".lock"


def once(folder: Path, kind: type[R], work: Callable[[Path], R]) -> R:
    """The result of `work`, which fills the folder that it is given.

    A result that another call has left in `folder` is read instead, also if that happened during
    this call: the second process keeps what is there. What a call without a result has left there
    is deleted.
    """
    file = folder / RESULT
    if not file.is_file():
        with atomic_folder(folder, unless_holds=RESULT) as fresh:
            write_json(fresh / RESULT, work(fresh))
    return msgspec.json.decode(file.read_bytes(), type=kind)


def one_at_a_time(folder: Path) -> AbstractContextManager[None]:
    """Held by one process at a time for the same folder; a process that dies releases it."""
    return exclusive_lock(folder / LOCK)


def write_json(file: Path, content: Struct | Mapping[str, Any]) -> None:
    """Readable JSON, floats whole."""
    file.write_bytes(msgspec.json.format(msgspec.json.encode(content), indent=1))


def run_key(project: ModelProject, snapshot_sha256: str) -> str:
    """A key of the run's data and declaration: 16 hexadecimal digits."""
    declared = msgspec.json.encode(_declaration(project), order="sorted")
    return hashlib.sha256(declared + snapshot_sha256.encode()).hexdigest()[:16]


def _declaration(project: ModelProject) -> dict[str, Any]:
    """All that decides the result of a run. Functions count by their names."""
    return {
        "learners": [_learner(c) for c in project.learners],
        "columns": project.columns,
        "label": project.label.name,
        "evaluation_days": project.evaluation_days,
        "threshold": project.threshold,
        "gates": msgspec.to_builtins(project.gates),
        "slices": msgspec.to_builtins(project.slices),
        "expectations": [[e.kind, dict(e.arguments), e.severity] for e in project.expectations],
        "seed": project.seed,
    }


def _learner(candidate: Candidate) -> list[Any]:
    build = f"{candidate.build.__module__}.{candidate.build.__qualname__}"
    return [candidate.name, build, dict(candidate.options), candidate.columns]
