"""What a project can declare. A declaration validates itself; an error names the mistake.

Declarations are imported by DAG files at every parse, so nothing here, and nothing that a project
imports, may load a library for learning or for tables.
"""

import warnings
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from enum import EnumMeta, StrEnum
from types import MappingProxyType
from typing import Any, Literal

from features.definitions import FeatureService, Label
from features.definitions.annotations import LONGEST
from features.definitions.declaration import Declaration
from features.definitions.validation import declared_at, near, report
from ml.errors import InvalidProject

KEYS = ("entity_id", "decision_time_us", "label")
"""Columns of a training set beside the service's own."""


RENAMED = MappingProxyType({"FIRST": "NO_CHAMPION", "CONTEST": "HAS_CHAMPION"})
"""Members of `When` that projects may still call by their old names, for one release."""


class _AcceptsOldNames(EnumMeta):
    def __getattr__(cls, name: str) -> Any:
        if name not in RENAMED:
            raise AttributeError(name)
        now = RENAMED[name]
        warnings.warn(f"When.{name} is now When.{now}", DeprecationWarning, stacklevel=2)
        return cls[now]


class When(StrEnum, metaclass=_AcceptsOldNames):
    """Which runs a gate judges."""

    ALWAYS = "always"
    NO_CHAMPION = "no champion yet"
    HAS_CHAMPION = "against a champion"


class ProjectDeclaration(Declaration):
    """What belongs to a project."""

    error = InvalidProject


@dataclass(frozen=True, kw_only=True)
class Measure:
    """A number that a gate can bound."""

    name: str
    meaning: str
    before_training: bool = False  # it is known from the data alone
    when: When = When.ALWAYS


MEASURES: Mapping[str, Measure] = MappingProxyType(
    {
        m.name: m
        for m in (
            Measure(
                name="training_rows", before_training=True, meaning="labelled rows to train on"
            ),
            Measure(
                name="evaluation_rows", before_training=True, meaning="labelled rows to evaluate on"
            ),
            Measure(
                name="missing_days", before_training=True, meaning="days without a single decision"
            ),
            Measure(
                name="label_completeness",
                before_training=True,
                meaning="share of the evaluation's decisions whose label is known",
            ),
            Measure(
                name="labels_before_decision",
                before_training=True,
                meaning="rows whose label was known before their decision",
            ),
            Measure(
                name="columns_turned_null",
                before_training=True,
                meaning="columns with values in training and none in the evaluation",
            ),
            Measure(
                name="null_growth",
                before_training=True,
                meaning="the worst column's null rate in the evaluation over that in training, "
                "one percent added to both",
            ),
            Measure(
                name="champion_incomparable",
                meaning="1 if there is a champion that cannot score these decisions, because a "
                "column of it is gone or means something else, else 0",
            ),
            Measure(name="log_loss", meaning="of the candidate"),
            Measure(name="roc_auc", meaning="of the candidate"),
            Measure(name="pr_auc", meaning="of the candidate"),
            Measure(name="ece", meaning="expected calibration error of the candidate"),
            Measure(name="absolute_bias", meaning="|mean score - share of positives|"),
            Measure(
                name="log_loss_minus_base_rate_upper",
                meaning="upper end of the day-block interval of log loss minus that of the "
                "training set's base rate",
            ),
            Measure(
                name="log_loss_minus_reference_upper",
                meaning="the same, minus that of the reference model",
            ),
            Measure(
                name="log_loss_minus_champion_upper",
                when=When.HAS_CHAMPION,
                meaning="the same, minus that of the champion",
            ),
            Measure(
                name="champion_absolute_bias",
                when=When.HAS_CHAMPION,
                meaning="|bias| of the champion on the same decisions",
            ),
            Measure(
                name="worst_slice_change",
                when=When.HAS_CHAMPION,
                meaning="log loss minus the champion's in the slice where that is worst",
            ),
            Measure(
                name="champion_overlap_hours",
                when=When.HAS_CHAMPION,
                meaning="how far the champion's training reaches into the evaluation",
            ),
        )
    }
)


@dataclass(frozen=True, kw_only=True)
class Gate(ProjectDeclaration):
    """A bound that a candidate must keep, and the reason for its number.

    A measure without a value never passes: no data means hold. `or_at_most` names another measure:
    the gate also passes when the measured value is no higher than that one.
    """

    measure: str
    at_least: float | None = None
    at_most: float | None = None
    below: float | None = None
    or_at_most: str | None = None
    when: When = When.ALWAYS
    why: str

    def __post_init__(self) -> None:
        for name in filter(None, (self.measure, self.or_at_most)):
            if name not in MEASURES:
                _report(f"a gate names an unknown measure {name!r}", hint=near(name, MEASURES))
            if MEASURES[name].when not in (When.ALWAYS, self.when):
                _report(f"{name} exists only {MEASURES[name].when}: give the gate that `when`")
        if sum(bound is not None for bound in (self.at_least, self.at_most, self.below)) != 1:
            _report(f"gate {self.measure}: give one of at_least, at_most and below")
        if not self.why.strip():
            _report(f"gate {self.measure}: give its reason, `why`")

    @property
    def before_training(self) -> bool:
        """Whether it applies before training."""
        return MEASURES[self.measure].before_training


@dataclass(frozen=True, kw_only=True)
class Expectation(ProjectDeclaration):
    """One expectation of Great Expectations on the training set, by its own name and arguments.

    A broken critical one stops the run; a broken warning is logged with it.
    """

    kind: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    severity: Literal["critical", "warning"] = "critical"
    why: str

    def __post_init__(self) -> None:
        if not self.kind.startswith("expect_"):
            _report(f"{self.kind!r} is not an expectation: their names begin with expect_")
        if not self.why.strip():
            _report(f"expectation {self.kind}: give its reason, `why`")

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that its arguments name."""
        given = self.arguments
        alone = [given[name] for name in ("column", "column_A", "column_B") if name in given]
        return (*alone, *given.get("column_list", ()))

    @property
    def sees_whole_table(self) -> bool:
        """Whether it may look at more than its `columns`: at which columns there are, or at those
        that a condition or a query names in its text."""
        about_the_table = self.kind.startswith("expect_table_") or not self.columns
        return about_the_table or not {"row_condition", "column_index"}.isdisjoint(self.arguments)


@dataclass(frozen=True, kw_only=True)
class Candidate(ProjectDeclaration):
    """One way to train. `build(categories, numbers, seed=..., **options)` gives a fresh pipeline;
    it imports its library itself. `columns` keeps only these columns of the service."""

    name: str
    build: Callable[..., Any]
    options: Mapping[str, Any] = field(default_factory=dict)
    columns: tuple[str, ...] | None = None


@dataclass(frozen=True, kw_only=True)
class Slices(ProjectDeclaration):
    """Parts of the decisions that are evaluated on their own, by category."""

    columns: tuple[str, ...]
    min_rows: int  # smaller ones are left out: their loss is noise


@dataclass(frozen=True, kw_only=True)
class ModelProject(ProjectDeclaration):
    """A model: what it predicts, from which features, how it is trained, and when it may serve.

    The run of day D takes `D + cutoff` as its 'now' and uses only what was known before it.
    `reference` is a plain model that every candidate is compared with; it is never promoted.
    Runs start by themselves from `first_day` to `last_day` (None: without end); days in the past
    run only by a backfill.
    """

    name: str
    domain: str
    service: FeatureService
    label: Label
    candidates: tuple[Candidate, ...]
    reference: Candidate
    first_day: date
    last_day: date | None = None
    cutoff: timedelta
    evaluation_days: int
    history_days: int
    threshold: float  # at and above it a score is called positive, where a yes or no is wanted
    gates: tuple[Gate, ...]
    slices: Slices
    expectations: tuple[Expectation, ...]
    seed: int = 0
    owner: str = "eventide"

    def __post_init__(self) -> None:
        self._require(self.name.isidentifier(), "a name is letters, digits and _")
        self._require(bool(self.candidates), "it has no candidate")
        names = [c.name for c in self.learners]
        self._require(len(set(names)) == len(names), "two candidates have the same name")
        for learner in self.learners:
            self._require_known(learner.columns or (), f"candidate {learner.name}")
            self._require(learner.columns != (), f"candidate {learner.name} has no column")
        unsliceable = sorted(set(self.slices.columns) - set(self.service.categories))
        self._require(not unsliceable, f"slices by {unsliceable}, which are no categories")
        for expectation in self.expectations:
            self._require_known(expectation.columns, f"expectation {expectation.kind}")
        self._require(timedelta(0) <= self.cutoff < timedelta(days=1), "cutoff is a time of day")
        self._require(
            0 < self.evaluation_days < self.history_days <= LONGEST.days,
            f"evaluation_days is positive and smaller than history_days, which is at most"
            f" {LONGEST.days}",
        )
        ends = self.last_day is None or self.first_day <= self.last_day
        self._require(ends, "its last day lies before its first")
        self._require(0 < self.threshold < 1, "the threshold lies between 0 and 1")
        for when in (When.NO_CHAMPION, When.HAS_CHAMPION):
            judged = any(
                not g.before_training and g.when in (when, When.ALWAYS) for g in self.gates
            )
            self._require(judged, f"no gate judges a candidate when there is {when}")

    @property
    def learners(self) -> tuple[Candidate, ...]:
        """The candidates and the reference."""
        return (*self.candidates, self.reference)

    @property
    def columns(self) -> tuple[str, ...]:
        """The service's columns in the model's order."""
        return (*self.service.categories, *self.service.numbers)

    def columns_of(self, learner: Candidate, *, without: Collection[str] = ()) -> list[str]:
        """The learner's columns in the model's order, but for those in `without`."""
        own = set(learner.columns or self.columns) - set(without)
        return [c for c in self.columns if c in own]

    def learner(self, name: str) -> Candidate:
        """The candidate or reference of that name.

        Raises:
            InvalidProject: there is none.
        """
        for learner in self.learners:
            if learner.name == name:
                return learner
        raise InvalidProject(
            f"{self.name} has no candidate {name!r}",
            hint=f"it has {[c.name for c in self.learners]}",
        )

    def _require_known(self, columns: tuple[str, ...], who: str) -> None:
        known = {*self.columns, *KEYS}
        if unknown := sorted(set(columns) - known):
            mistake = f"{who} names columns that the service lacks: {unknown}"
            _report(f"project {self.name}: {mistake}", hint=near(unknown[0], known))

    def _require(self, holds: bool, mistake: str) -> None:
        if not holds:
            _report(f"project {self.name}: {mistake}")


def _report(mistake: str, *, hint: str | None = None) -> None:
    """Report a mistake with file and line of its declaration."""
    report(InvalidProject(mistake, place=declared_at(), hint=hint))
