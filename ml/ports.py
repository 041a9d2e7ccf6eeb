"""What the steps need from outside."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from features.definitions import FeatureService, Float64Array, Int64Array, Label
from features.retrieval.historical import TrainingRows
from ml.project import Expectation, ModelProject
from ml.results import Finding, Snapshot

if TYPE_CHECKING:
    import polars as pl


class History(Protocol):
    """`features.retrieval.historical.training_rows`, bound to a store."""

    def __call__(
        self,
        service: FeatureService,
        label: Label,
        *,
        start_us: int,
        end_us: int,
        known_before_us: int,
    ) -> TrainingRows:
        """Decisions of the span with features and labels, as they were known before the cut-off.

        Raises:
            DataNotReady: the store does not hold all of it yet.
        """
        ...


class Examiner(Protocol):
    """Compares a training set with expectations."""

    def examine(
        self, rows: pl.LazyFrame, expectations: Sequence[Expectation], *, docs: Path
    ) -> list[Finding]:
        """The expectations that the rows violate. Writes HTML pages into the folder `docs`."""
        ...


@dataclass(frozen=True, kw_only=True)
class RunContents:
    """What is logged of a run. `artifacts`: path in the run -> a file or folder."""

    params: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    artifacts: Mapping[str, Path] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class DataSet:
    """A frame that a run used: its file and the sha256 that identifies it."""

    name: str
    file: Path
    sha256: str
    context: Literal["training", "evaluation"]


@dataclass(frozen=True, kw_only=True)
class DayRuns:
    """The runs of one day: the day's own and one for each learner."""

    day: str
    learners: Mapping[str, str]


class Experiments(Protocol):
    """Where the runs of all projects are logged and can be compared."""

    def finished(self, project: str, key: str) -> str | None:
        """The id of the day's run with that key, if it was written to its end."""
        ...

    def read(self, run_id: str, name: str) -> bytes:
        """An artifact of a run."""
        ...

    def begin(
        self,
        project: str,
        key: str,
        *,
        title: str,
        tags: Mapping[str, str],
        learners: Sequence[str],
    ) -> DayRuns:
        """Open the runs of a day. Deletes the unfinished runs of an earlier try with that key."""
        ...

    def log(self, run_id: str, contents: RunContents, data: Sequence[DataSet] = ()) -> None:
        """Write the contents, and the data sets it used, into the run."""
        ...

    def end(self, runs: DayRuns, *, failed: bool = False) -> None:
        """Close the runs, the day's own last: from then on `finished` finds it."""
        ...


@dataclass(frozen=True, kw_only=True)
class RegisteredVersion:
    """A version in the registry."""

    name: str
    version: str
    run_id: str
    tags: Mapping[str, str]


class Registry(Protocol):
    """The versions that may serve, and the one that does."""

    def champion(self, name: str) -> RegisteredVersion | None:
        """The version that serves; None while there is none."""
        ...

    def with_key(self, name: str, key: str) -> RegisteredVersion | None:
        """The version that was registered with that key."""
        ...

    def get(self, name: str, version: str) -> RegisteredVersion:
        """A version with its tags."""
        ...

    def register(
        self, name: str, *, run_id: str, pipeline: Any, example: Any, tags: Mapping[str, str]
    ) -> RegisteredVersion:
        """Register a fitted pipeline as a version, with the signature of its `example` rows."""
        ...

    def download(self, version: RegisteredVersion, folder: Path) -> None:
        """Write the version's bundle into the existing, empty folder, over the network."""
        ...

    def upload(self, version: RegisteredVersion, folder: Path, place: str) -> None:
        """Add the files of a folder to the artifacts of the version's run, under `place`."""
        ...

    def tag(self, version: RegisteredVersion, tags: Mapping[str, str]) -> None:
        """Set tags of a version."""
        ...

    def aliases(self, name: str) -> Mapping[str, str]:
        """Alias -> version."""
        ...

    def point(self, name: str, alias: str, version: str) -> None:
        """Set an alias to a version."""
        ...


class TrainingServices(Protocol):
    """What the steps of one project work with. Each service is made on first use."""

    @property
    def project(self) -> ModelProject:
        """The model that is trained."""
        ...

    @property
    def work(self) -> Path:
        """The work folder, which every worker of the scheduler can read."""
        ...

    @property
    def history(self) -> History:
        """Decisions with features and labels."""
        ...

    @property
    def experiments(self) -> Experiments:
        """Where runs are logged."""
        ...

    @property
    def registry(self) -> Registry:
        """The versions that may serve."""
        ...

    @property
    def plotter(self) -> Plotter:
        """Plots of the quality of predictions."""
        ...

    def examiner(self) -> Examiner:
        """Compares a training set with expectations."""
        ...

    def pin(self, snapshot: Snapshot) -> None:
        """Pin the table versions that the snapshot was read from."""
        ...

    def now_us(self) -> int:
        """The time, UTC."""
        ...


class Plotter(Protocol):
    """Plots of the quality of predictions."""

    def draw(self, labels: Int64Array, scores: Mapping[str, Float64Array], *, folder: Path) -> None:
        """Write roc.png, precision_recall.png and calibration.png, one line a learner."""
        ...
