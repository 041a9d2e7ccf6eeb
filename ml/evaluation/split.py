"""Which decisions a run trains on, and which it evaluates on."""

from datetime import date, timedelta

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from features.definitions import BoolArray, Int64Array
from infra.clock import DAY, span_us, to_us
from ml.project import ModelProject


class Window(Struct, frozen=True, kw_only=True):
    """The spans of one run, in microseconds; every end is exclusive.

    All are counted back from the cut-off, the run's 'now':

        training_start .. training_end | max_wait | evaluation_start .. _end | max_wait | cutoff

    Each `max_wait` leaves time for late labels: a label that is not known yet is not a negative.
    """

    day: str
    training_start_us: int
    training_end_us: int
    evaluation_start_us: int
    evaluation_end_us: int
    cutoff_us: int


def window_of(project: ModelProject, day: date) -> Window:
    """The window of the run of `day`."""
    wait = span_us(project.label.max_wait)
    cutoff = to_us(day) + span_us(project.cutoff)
    evaluation_end = cutoff - wait
    evaluation_start = evaluation_end - project.evaluation_days * DAY
    return Window(
        day=day.isoformat(),
        training_start_us=evaluation_start - span_us(timedelta(days=project.history_days)),
        training_end_us=evaluation_start - wait,
        evaluation_start_us=evaluation_start,
        evaluation_end_us=evaluation_end,
        cutoff_us=cutoff,
    )


def in_training(window: Window, *, decided_us: Int64Array, known_us: Int64Array) -> BoolArray:
    """Rows to train on: old enough, and labelled before the first decision of the evaluation.

    `known_us` is when the label became known; a row without one has the largest int64.
    """
    span = (decided_us >= window.training_start_us) & (decided_us < window.training_end_us)
    return span & (known_us < window.evaluation_start_us)


def in_evaluation(window: Window, *, decided_us: Int64Array) -> BoolArray:
    """Decisions to evaluate on, labelled or not."""
    return (decided_us >= window.evaluation_start_us) & (decided_us < window.evaluation_end_us)


def day_blocks(window: Window, decided_us: Int64Array) -> NDArray[np.int64]:
    """The day of each decision, counted from the start of the evaluation; before it negative.

    A day begins at the hour of the cut-off, which is the quiet hour of the domain.
    """
    return (decided_us - window.evaluation_start_us) // DAY


def missing_days(window: Window, decided_us: Int64Array) -> int:
    """Days without a decision between the first one and the end of the evaluation.

    All days of the evaluation when there is no decision at all.
    """
    last = (window.evaluation_end_us - window.evaluation_start_us) // DAY
    if not len(decided_us):
        return int(last)
    blocks = np.unique(day_blocks(window, decided_us))
    first = min(int(blocks.min()), 0)
    return int(last - first - np.count_nonzero(blocks < last))
