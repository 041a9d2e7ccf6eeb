"""The function of a `PythonView`, run on made-up events of one entity."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from features.catalog_check.batches import Found, batches_of, found, kept_numbers
from features.catalog_check.formulas import (
    FormulaMistake,
    Stability,
    Traced,
    frozen,
    run,
    same_values,
)
from features.definitions import Columns, Float64Array, PythonView
from features.definitions.validation import near, with_article

_Events = Mapping[str, Columns]
_COUNTS = (0, 1, 2, 5, 24)


def function_mistakes(view: PythonView) -> Iterator[Found]:
    """What is wrong with the function of a view; the first mistake only."""
    who = f"view {view.name}: its function"
    try:
        touched: set[str] = set()
        identity = Stability(view.compute)
        for usual in (True, False):
            for events in _histories(view, usual=usual):
                touched |= _check_history(view, events)
        identity.check()
    except FormulaMistake as wrong:
        yield found(view, who, wrong)
        return
    kept = {f"{e.name}.{f}" for e, fields in view.keeps for f in fields if f != "event_time_us"}
    if unused := sorted(kept - touched):
        yield found(
            view,
            who,
            FormulaMistake(f"does not use {unused} of `keeps`", "take them out of `keeps`"),
        )


def _histories(view: PythonView, *, usual: bool) -> Iterator[_Events]:
    """No event, one, several, all at one time, and events of one type only."""
    every: dict[str, Columns] = {}
    for event, fields in view.keeps:
        batch = next(b for b in batches_of(event) if b.usual == usual)
        order = np.argsort(batch.columns["event_time_us"], kind="stable")
        numbers = {f: kept_numbers(event, f, batch)[order] for f in fields}
        every[event.name] = {"event_time_us": batch.columns["event_time_us"][order], **numbers}
    for n in _COUNTS:
        yield {name: {f: c[:n] for f, c in columns.items()} for name, columns in every.items()}
    for alone in every if len(every) > 1 else ():
        yield {
            name: {f: c[: 5 if name == alone else 0] for f, c in columns.items()}
            for name, columns in every.items()
        }
    yield {
        name: {**columns, "event_time_us": np.full_like(columns["event_time_us"], _newest(every))}
        for name, columns in every.items()
    }


def _check_history(view: PythonView, events: _Events) -> set[str]:
    """The fields that the function uses of these events.

    Raises:
        FormulaMistake: it fails on them.
    """
    shown = _shown(events)
    as_of_us = _newest(events) + 1
    traced = {name: Traced(frozen(columns)) for name, columns in events.items()}
    values = _values(view, Traced(traced), as_of_us, shown)
    if not same_values(values, _values(view, _frozen(events), as_of_us, shown)):
        raise FormulaMistake("gives another result when it is called again")
    turned = {n: {f: c[::-1] for f, c in columns.items()} for n, columns in events.items()}
    same_time = all(len(set(c["event_time_us"].tolist())) < 2 for c in events.values())
    if same_time and not same_values(values, _values(view, _frozen(turned), as_of_us, shown)):
        raise FormulaMistake(
            "depends on the order of events of one microsecond, which is not always the same"
        )
    return {f"{name}.{field}" for name, columns in traced.items() for field in columns.touched}


def _values(view: PythonView, events: Any, as_of_us: int, shown: str) -> Float64Array:
    """What the function gives.

    Raises:
        FormulaMistake: it raises, or gives no number for each name.
    """
    try:
        result = run(view.compute, events, as_of_us, shown=shown)
    except FormulaMistake:
        _raise_unknown(events)
        raise
    try:
        values = np.array([float(v) for v in result], np.float64)
    except (TypeError, ValueError):
        kind = with_article(type(result).__name__)
        raise FormulaMistake(
            f"gives no numbers for {shown} but {kind}", "let it return a tuple of numbers"
        ) from None
    if len(values) != len(view.names):
        raise FormulaMistake(
            f"gives {len(values)} values for {shown}, and has {len(view.names)} names"
        )
    return values


def _raise_unknown(events: Any) -> None:
    """Say which field or event the function looked for in vain, if that was the reason."""
    for name, columns in [("", events), *events.items()]:
        if isinstance(columns, Traced) and columns.unknown:
            missing = str(min(columns.unknown, key=str))
            of = f" of {name}" if name else ""
            raise FormulaMistake(
                f"reads {missing!r}{of}, which `keeps` does not name", near(missing, columns)
            ) from None


def _frozen(events: _Events) -> dict[str, Columns]:
    return {name: frozen(columns) for name, columns in events.items()}


def _newest(events: _Events) -> int:
    times: Sequence[int] = [int(t) for c in events.values() for t in c["event_time_us"][-1:]]
    return max(times, default=1_600_000_000_000_000)


def _shown(events: _Events) -> str:
    counts = [f"{len(c['event_time_us'])} events {name}" for name, c in events.items()]
    return " and ".join(counts)
