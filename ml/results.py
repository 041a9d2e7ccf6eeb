"""What one step hands to the next: small, frozen, and unchanged by encoding as JSON.

Data never travels in them: they name files in the work folder, which every worker of the
scheduler must be able to read.
"""

from pathlib import Path
from typing import Any, Literal, TypeVar

import msgspec
from msgspec import Struct, field

from ml.evaluation.gates import GateResult
from ml.evaluation.metrics import Interval, SliceMetrics
from ml.evaluation.split import Window

R = TypeVar("R", bound=Struct)


class Snapshot(Struct, frozen=True, kw_only=True):
    """The data of a run: `training.parquet`, `evaluation.parquet` and `manifest.json`.

    `key` names the run's data together with the project's declaration: two runs with one key would
    do the same work, so the second uses the results of the first.
    """

    project: str
    window: Window
    key: str
    folder: str
    sha256: str
    training_rows: int
    evaluation_rows: int
    unusable: tuple[str, ...]  # columns without any value
    measures: dict[str, float | None]
    checks: tuple[GateResult, ...]
    hold_reasons: tuple[str, ...] = field(name="held")
    """Why no model can be trained on it; empty when one can."""

    def file(self, name: str) -> Path:
        """A file or folder of the snapshot."""
        return Path(self.folder) / name


class Finding(Struct, frozen=True, kw_only=True):
    """An expectation that the data violates."""

    expectation: str
    severity: Literal["critical", "warning"]
    observed: str
    why: str

    @property
    def sentence(self) -> str:
        """What was expected, what was seen and why it matters."""
        return f"{self.expectation}: {self.observed} ({self.why})"


class Validation(Struct, frozen=True, kw_only=True):
    """The violated expectations; HTML pages are in the snapshot's `data_docs`."""

    expectations: int
    findings: tuple[Finding, ...]

    @property
    def broken(self) -> tuple[Finding, ...]:
        """The findings that stop the run."""
        return tuple(f for f in self.findings if f.severity == "critical")


class Fit(Struct, frozen=True, kw_only=True):
    """A trained learner: `model.skops`, `bundle/` and `scores.parquet` in its folder."""

    learner: str
    folder: str
    bundle_sha256: str
    fit_seconds: float
    parity: float  # greatest difference between the scores of pipeline and bundle
    columns: int

    def file(self, name: str) -> Path:
        """A file or folder of the learner."""
        return Path(self.folder) / name


class Quality(Struct, frozen=True, kw_only=True):
    """The quality of one learner's predictions for the evaluation rows."""

    learner: str
    log_loss: float
    roc_auc: float
    pr_auc: float
    brier: float
    ece: float
    bias: float


class Evaluation(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Every learner on the same later decisions, and the best candidate against the others."""

    key: str
    day: str
    run_id: str  # of the day
    runs: dict[str, str]  # learner -> its run
    fits: dict[str, Fit]
    best: str
    champion: str | None  # the version that served
    base_rate: float  # of training: what a constant would predict
    base_rate_log_loss: float
    qualities: dict[str, Quality]  # by learner, and of the champion under its name
    differences: dict[str, Interval]  # log loss of the best, minus that of ...
    slices: tuple[SliceMetrics, ...]
    measures: dict[str, float | None]
    hold_reasons: tuple[str, ...] = field(default=(), name="held")
    """Why no verdict can be given; empty when one can."""
    incomparable: tuple[str, ...] = ()
    """Why the champion could not score these decisions; empty when it did."""

    @property
    def has_comparable_champion(self) -> bool:
        """Whether the candidates were compared with a champion."""
        return self.champion is not None and not self.incomparable


class Verdict(Struct, frozen=True, kw_only=True):
    """Whether the best candidate is good enough, and why."""

    accepted: bool
    candidate: str
    champion: str | None
    checks: tuple[GateResult, ...]
    reasons: tuple[str, ...]  # why it is held


class Registration(Struct, frozen=True, kw_only=True):
    """A version in the registry that serving can load."""

    name: str
    version: str
    run_id: str
    bundle_sha256: str
    verified_rows: int = field(name="rehearsed_rows")
    """How many rows the downloaded bundle scored as the pipeline does."""


class Promotion(Struct, frozen=True, kw_only=True):
    """Which version serves now."""

    name: str
    version: str
    previous: str | None
    changed: bool  # False: an earlier run of the same day had promoted it


class RunOutcome(Struct, frozen=True, kw_only=True):
    """How a run ended, for people."""

    project: str
    day: str
    decision: Literal["promoted", "held"]
    reasons: tuple[str, ...]
    candidate: str | None = None
    version: str | None = None
    champion: str | None = None
    run_id: str | None = None
    training_rows: int = 0
    evaluation_rows: int = 0
    metrics: dict[str, dict[str, float]] = {}
    warnings: tuple[str, ...] = ()


def to_plain(record: Struct) -> dict[str, Any]:
    """The record as JSON values, with lists: a scheduler does not preserve tuples."""
    plain: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(record))
    return plain


def from_plain(plain: Any, kind: Any) -> Any:
    """The record of that type again; `kind` may also be a list of records, a date or a text.

    Raises:
        msgspec.ValidationError: the values do not fit the type.
    """
    return msgspec.convert(plain, type=kind)
