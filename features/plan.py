"""A declared view, compiled: which integers it keeps of an event, and how values become features.

Live state and history share this module, so a feature cannot mean two things.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from types import CodeType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.columns import array_of, kinds
from features.errors import DeclarationError
from features.vocabulary import Columns, FeatureView, Float64Array, Int64Array
from infra.clock import MINUTE, span_us

UNSET = int(np.iinfo(np.int64).min)
"""No value: of `last` (the field was null, or there is no event) and of times."""


@dataclass(frozen=True, kw_only=True)
class WindowValues:
    """What a view's events say for some questions; all arrays have one element a question.

    `counts` and `sums` by window length; `newest_us` and `lasts` (see `sortable`) are those of the
    newest known event whatever its age; UNSET where there is none.
    """

    counts: Mapping[int, Int64Array]
    sums: Mapping[int, Mapping[str, Int64Array]]
    newest_us: Int64Array
    lasts: Mapping[str, Int64Array]


class ViewPlan:
    """How to compute one view. Cheap to use, made once for a view (`plan_of`)."""

    def __init__(self, view: FeatureView) -> None:
        self.view = view
        summed = {a.column for a in view.aggregations if a.operation in ("sum", "mean", "rate")}
        self.sums = tuple(c for c in view.columns if c.name in summed)
        self.lasts = tuple(
            dict.fromkeys(a.column for a in view.aggregations if a.operation == "last" and a.column)
        )
        self.kinds = kinds(view.source.record)
        self._check()

    @property
    def longest_us(self) -> int:
        """The length of the longest window."""
        return self.view.windows_us[-1]

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """Names of the int64 columns that are kept of an event."""
        return tuple(f"sum:{c.name}" for c in self.sums) + tuple(f"last:{f}" for f in self.lasts)

    @cached_property
    def reads(self) -> tuple[str, ...]:
        """Fields that `integers` needs."""
        fields = [f for c in self.sums for f in c.reads] + list(self.lasts)
        return tuple(dict.fromkeys(fields))

    @cached_property
    def fields(self) -> tuple[str, ...]:
        """Fields that the view needs of an event: its keys and time too."""
        return tuple(dict.fromkeys((*self.view.entity.keys, "event_time_us", *self.reads)))

    @cached_property
    def schema_id(self) -> int:
        """64 bits that change with the meaning of the stored integers.

        Bytecode is in it, so a column's changed formula is noticed; so is a new minor version of
        Python, which asks for a rebuild without need.
        """
        view = self.view
        parts = [
            view.name,
            view.source.schema,
            view.entity.keys,
            self.longest_us,
            [(c.name, c.reads, fingerprint(c.compute)) for c in self.sums],
            self.lasts,
        ]
        digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
        return int.from_bytes(digest, "little")

    def integers(self, events: Columns) -> dict[str, Int64Array]:
        """The kept columns of events, by the names in `columns`."""
        found = {f"sum:{c.name}": _whole(c.compute(events)) for c in self.sums}
        return found | {f"last:{f}": sortable(events[f]) for f in self.lasts}

    def features(self, values: WindowValues, as_of_us: Int64Array) -> Float64Array:
        """The view's features in the order of `view.features`; shape (questions, features).

        count and sum are 0 where a window is empty, everything else is NaN there.
        """
        out = np.full((len(as_of_us), len(self.view.features)), np.nan)
        at = 0
        for aggregation in self.view.aggregations:
            for window in aggregation.windows:
                length = span_us(window)
                out[:, at] = self._feature(
                    aggregation.operation, aggregation.column, length, values, as_of_us
                )
                at += 1
        return out

    def _feature(
        self,
        operation: str,
        column: str | None,
        window_us: int,
        values: WindowValues,
        as_of_us: Int64Array,
    ) -> NDArray[Any]:
        if operation in ("last", "age"):
            inside = values.newest_us >= as_of_us - window_us
            if operation == "age":
                return np.where(inside, (as_of_us - values.newest_us) / MINUTE, np.nan)
            return np.where(inside, from_sortable(values.lasts[f"last:{column}"]), np.nan)
        count = values.counts[window_us]
        if operation == "count":
            return count
        total = values.sums[window_us][f"sum:{column}"]
        if operation == "sum":
            return total
        return np.where(count > 0, total / np.maximum(count, 1), np.nan)

    def _check(self) -> None:
        name = self.view.name
        for key in self.view.entity.keys:
            if self.kinds[key] == "float":
                raise DeclarationError(f"view {name}: key {key!r} is a float")
        for field in self.lasts:
            if self.kinds[field] == "text":
                raise DeclarationError(f"view {name}: last of {field!r}, which is text")
        for column in self.sums:
            nothing = {f: array_of((), self.kinds[f]) for f in column.reads}
            if np.asarray(column.compute(nothing)).dtype.kind not in "iub":
                raise DeclarationError(
                    f"view {name}: column {column.name!r} is not of whole numbers: sums of floats"
                    " depend on the order of addition, so choose a unit that makes it whole"
                )


@cache
def plan_of(view: FeatureView) -> ViewPlan:
    """The plan of a view."""
    return ViewPlan(view)


def sortable(values: NDArray[Any]) -> Int64Array:
    """Numbers as int64 that sort as the numbers do and keep every bit; NaN becomes UNSET.

    A float's bits, with those of negative numbers turned round. UNSET sorts below every number,
    so of events at one time a value wins over none.
    """
    floats = np.asarray(values, np.float64)
    bits = floats.view(np.int64)
    return np.where(np.isnan(floats), UNSET, _turned(bits))


def from_sortable(values: Int64Array) -> Float64Array:
    """The numbers that `sortable` was given; NaN for UNSET."""
    return np.where(values == UNSET, np.nan, _turned(values).view(np.float64))


def fingerprint(function: Callable[..., Any]) -> str:
    """A text that changes when a function's code, constants or captured values change."""
    code = getattr(function, "__code__", None)
    if code is None:
        return repr(function)
    captured = [c.cell_contents for c in getattr(function, "__closure__", None) or ()]
    return repr((_code(code), [fingerprint(c) if callable(c) else repr(c) for c in captured]))


def _turned(bits: Int64Array) -> Int64Array:
    turned: Int64Array = bits ^ ((bits >> 63) & np.iinfo(np.int64).max)
    return turned


def _code(code: CodeType) -> tuple[object, ...]:
    constants = [_code(c) if isinstance(c, CodeType) else c for c in code.co_consts]
    return (code.co_code, constants, code.co_names)


def _whole(values: NDArray[Any]) -> Int64Array:
    return np.asarray(values).astype(np.int64, copy=False)
