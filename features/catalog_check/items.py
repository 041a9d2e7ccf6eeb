"""The values of a `PreviousView`, run on made-up items and requests."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.catalog_check.batches import Found, batches_of, found_in, kept_numbers
from features.catalog_check.formulas import Batch, Formula, touched_by
from features.definitions import Columns, ItemValue, PreviousView
from infra.clock import HOUR

_ITEM, _REQUEST = "item ", "request "


class _Part(Mapping[str, Any]):
    """The columns whose names begin alike, without that beginning."""

    def __init__(self, columns: Columns, beginning: str) -> None:
        self._columns, self._beginning = columns, beginning

    def __getitem__(self, name: str) -> Any:
        return self._columns[f"{self._beginning}{name}"]

    def __iter__(self) -> Iterator[str]:
        n = len(self._beginning)
        return (name[n:] for name in self._columns if name.startswith(self._beginning))

    def __len__(self) -> int:
        return sum(1 for _ in self)


def item_value_mistakes(view: PreviousView, requests: Sequence[Batch]) -> Iterator[Found]:
    """What is wrong with the values of a view, for requests such as these."""
    batches = [_batch(view, request) for request in requests]
    touched: set[str] = set()
    for value in view.values:
        formula = _formula(view, value)
        yield from found_in(value, formula, batches)
        touched |= touched_by(formula, batches)
    unused = [f for f in view.asks_for if f"{_REQUEST}{f}" not in touched and f != view.before]
    if unused:
        yield view, f"view {view.name}: no value uses {unused} of `asks_for`", "take them out of it"
    kept = [f"{e.name}.{f}" for e, fields in view.keeps for f in fields]
    if unused := [f for f in kept if f"{_ITEM}{f}" not in touched]:
        yield view, f"view {view.name}: no value uses {unused} of `keeps`", "take them out of it"


def _formula(view: PreviousView, value: ItemValue) -> Formula:
    return Formula(
        who=f"view {view.name}: value {value.name!r}",
        compute=lambda c: value.compute(_Part(c, _ITEM), _Part(c, _REQUEST)),
        gives="numbers",
        reads=None,
    )


def _batch(view: PreviousView, request: Batch) -> Batch:
    """Items beside requests: of some nothing is known, of some only that they were opened."""
    n = len(request)
    columns: dict[str, NDArray[Any]] = {}
    opened = np.arange(n) % 4 != 0
    for place, event in enumerate(view.sources):
        known = opened & (np.arange(n) % (place + 2) != 1) if event != view.opened else opened
        columns[f"{_ITEM}{event.name}"] = known
        kept = dict(view.keeps).get(event, ())
        samples = next(b for b in batches_of(event) if b.usual == request.usual)
        for field in kept:
            values = kept_numbers(event, field, samples)
            columns[f"{_ITEM}{event.name}.{field}"] = np.where(known, values, np.nan)
    for field in view.request_fields:
        columns[f"{_REQUEST}{field}"] = request.columns[field]
    times = request.columns["event_time_us"] + HOUR
    return Batch(
        columns={**columns, f"{_REQUEST}as_of_us": times}, times=frozenset(), usual=request.usual
    )
