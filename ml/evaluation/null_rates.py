"""Null rates of a training set, compared between training and evaluation."""

from collections.abc import Mapping

from msgspec import Struct

GRACE = 0.01  # a column that grows from 0.1 % to 0.3 % nulls is no reason for an alarm


class NullReport(Struct, frozen=True, kw_only=True):
    """Null rates that matter, by column."""

    unusable: tuple[str, ...]  # null throughout training: left out of every model
    turned_null: tuple[str, ...]  # had values in training, has none in the evaluation
    growth: float  # of the worst column
    worst: str


def null_report(training: Mapping[str, float], evaluation: Mapping[str, float]) -> NullReport:
    """Compare null rates (0 to 1, by column) of the evaluation with those of training.

    Gradient boosting raises on a column without any value, so such a column is left out and named.
    """
    unusable = tuple(c for c, rate in training.items() if rate >= 1.0)
    growths = {
        c: (evaluation[c] + GRACE) / (rate + GRACE)
        for c, rate in training.items()
        if c not in unusable
    }
    worst = max(growths, key=lambda c: growths[c], default="")
    return NullReport(
        unusable=unusable,
        turned_null=tuple(c for c in growths if evaluation[c] >= 1.0),
        growth=growths.get(worst, 1.0),
        worst=worst,
    )
