"""A small closed set of formulas, each as arrays (for the declaration) and as a plain function.

The reference computes with the plain function, so it shares no array code with the product. A null
is None in the plain form and NaN (or None in a text) in arrays.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal
from weakref import WeakKeyDictionary

import numpy as np

from features.definitions import Columns

FieldKind = Literal["int", "int?", "float", "float?", "str", "str?", "bool"]
Fields = Mapping[str, Any]
"""The fields of one event or request, None for null."""

_PLAIN: WeakKeyDictionary[Callable[..., Any], Callable[..., Any]] = WeakKeyDictionary()


def paired(compute: Callable[..., Any], plain: Callable[..., Any]) -> Callable[..., Any]:
    """`compute`, of which `plain` is the meaning."""
    _PLAIN[compute] = plain
    return compute


def plain_of(compute: Callable[..., Any]) -> Callable[..., Any]:
    """The plain function that a formula of a declaration was paired with."""
    return _PLAIN[compute]


def same(field: str) -> Callable[[Columns], Any]:
    """The field itself."""

    def compute(e: Columns) -> Any:
        return e[field]

    return paired(compute, lambda e: e[field])


def twice_less_one(field: str) -> Callable[[Columns], Any]:
    """Twice the field less one: stays a whole number."""

    def compute(e: Columns) -> Any:
        return e[field] * 2 - 1

    return paired(compute, lambda e: None if e[field] is None else e[field] * 2 - 1)


def half(field: str) -> Callable[[Columns], Any]:
    """Half of the field."""

    def compute(e: Columns) -> Any:
        return e[field] * 0.5

    return paired(compute, lambda e: None if e[field] is None else e[field] * 0.5)


def at_least(field: str, bound: int) -> Callable[[Columns], Any]:
    """Whether the field is at least so much; a null is not."""

    def compute(e: Columns) -> Any:
        return e[field] >= bound

    return paired(compute, lambda e: e[field] is not None and e[field] >= bound)


def at_most(field: str, bound: float) -> Callable[[Columns], Any]:
    """Whether the field is at most so much; a null is not."""

    def compute(e: Columns) -> Any:
        return e[field] <= bound

    return paired(compute, lambda e: e[field] is not None and e[field] <= bound)


def is_text(field: str, text: str) -> Callable[[Columns], Any]:
    """Whether a text field is this text."""

    def compute(e: Columns) -> Any:
        return e[field] == text

    return paired(compute, lambda e: e[field] == text)


def is_not_text(field: str, text: str) -> Callable[[Columns], Any]:
    """Whether a text field is another text."""

    def compute(e: Columns) -> Any:
        return e[field] != text

    return paired(compute, lambda e: e[field] != text)


def is_null(field: str) -> Callable[[Columns], Any]:
    """Whether a number has no value."""

    def compute(e: Columns) -> Any:
        return np.isnan(e[field])

    return paired(compute, lambda e: e[field] is None)


def plus(field: str, more: int) -> Callable[[Columns], Any]:
    """The field and so much more: a time that lies a fixed span from another."""

    def compute(e: Columns) -> Any:
        return e[field] + more

    return paired(compute, lambda e: None if e[field] is None else e[field] + more)


def less(field: str, other: str) -> Callable[[Columns], Any]:
    """One field less another, neither of them null."""

    def compute(e: Columns) -> Any:
        return e[field] - e[other]

    return paired(compute, lambda e: e[field] - e[other])


def floored(field: str, step: int, more: int = 0) -> Callable[[Columns], Any]:
    """The field rounded down to a multiple of `step`, and so much more."""

    def compute(e: Columns) -> Any:
        return e[field] - e[field] % step + more

    def plain(e: Fields) -> Any:
        return None if e[field] is None else e[field] - e[field] % step + more

    return paired(compute, plain)


def item_known(event: str) -> Callable[[Columns, Columns], Any]:
    """For a PreviousView: whether the event about the item is known."""

    def compute(item: Columns, _: Columns) -> Any:
        return item[event]

    return paired(compute, lambda item, _: float(item[event]))


def item_field(name: str) -> Callable[[Columns, Columns], Any]:
    """For a PreviousView: a field that it keeps."""

    def compute(item: Columns, _: Columns) -> Any:
        return item[name]

    return paired(compute, lambda item, _: item[name])


def item_since(name: str) -> Callable[[Columns, Columns], Any]:
    """For a PreviousView: seconds from a kept time to the query."""

    def compute(item: Columns, query: Columns) -> Any:
        return (query["as_of_us"] - item[name]) / 1_000_000

    def plain(item: Fields, query: Fields) -> Any:
        return None if item[name] is None else (query["as_of_us"] - item[name]) / 1_000_000

    return paired(compute, plain)


def python_summary(
    keeps: Mapping[str, str],
) -> Callable[[dict[str, Columns], int], Sequence[float]]:
    """For a PythonView: how many events, seconds since the newest, the largest and how many values.

    `keeps`: event -> the field of it that is looked at.
    """

    def compute(events: dict[str, Columns], as_of_us: int) -> Sequence[float]:
        times = np.concatenate([e["event_time_us"] for e in events.values()])
        values = np.concatenate([events[name][field] for name, field in keeps.items()])
        there = values[~np.isnan(values)]
        return (
            float(len(times)),
            (as_of_us - int(times.max())) / 1_000_000 if len(times) else np.nan,
            float(there.max()) + 0.0 if len(there) else np.nan,  # never -0.0
            float(len(there)),
        )

    def plain(events: Mapping[str, Sequence[Fields]], as_of_us: int) -> Sequence[Any]:
        times = [e["event_time_us"] for some in events.values() for e in some]
        values = [e[keeps[name]] for name, some in events.items() for e in some]
        there = [float(v) for v in values if v is not None]
        return (
            float(len(times)),
            (as_of_us - max(times)) / 1_000_000 if times else None,
            max(there) + 0.0 if there else None,
            float(len(there)),
        )

    return paired(compute, plain)
