"""A sound declaration with one random mistake: a formula, a field, or a name is changed."""

from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from datetime import timedelta
from typing import Any

import numpy as np
from hypothesis import strategies as st

from features.definitions import (
    CalendarView,
    Decision,
    Domain,
    FeatureService,
    FeatureView,
    OpenView,
    PreviousView,
    PythonView,
    View,
)
from tests.support.generated.cases import Case

STRANGE: Sequence[Any] = (
    *(None, 7, -1, 0, True, 2.5, "x", "", "topic", "k0", "k1", "item", "at_us", "event_time_us"),
    *((), ("x",), ["k0"], ("k0", "k0"), {"k0"}, {}),
    *(timedelta(0), timedelta(seconds=-1), timedelta(seconds=7), timedelta(days=800_000)),
    *(timedelta.max, float("nan"), float("inf"), 10**30, object(), len, int),
    *(np.arange(2), np.int64(3), np.str_("k0"), "\ud800", "a\x1fb", "x" * 300),
)
"""Values that a field may be given by mistake; some of them are sound in some fields."""


def _gives(change: Callable[[Any], Any]) -> Callable[..., Any]:
    """A formula whose result is changed."""
    return lambda formula: lambda *given: change(formula(*given))


def _fails_for_3(result: Any) -> Any:
    if (np.asarray(result) == 3).any():
        raise ZeroDivisionError
    return result


def _ends_for_3(result: Any) -> Any:
    if (np.asarray(result) == 3).any():
        raise SystemExit
    return result


def _written(formula: Callable[..., Any]) -> Callable[..., Any]:
    def compute(*given: Any) -> Any:
        for column in given[0].values():
            if isinstance(column, np.ndarray) and column.dtype.kind in "if":
                np.add(column, 1, out=column)
        return formula(*given)

    return compute


FORMULAS: Sequence[Callable[[Any], Any]] = (
    _gives(lambda r: np.asarray(r).sum()),
    _gives(lambda r: r[:1]),
    _gives(lambda r: np.stack([np.asarray(r)] * 2, axis=1)),
    _gives(lambda r: np.asarray(r).astype(str)),
    _gives(lambda r: np.asarray(r)[::-1]),
    _gives(lambda r: np.asarray(r) + len(r)),
    _gives(lambda r: np.asarray(r) / 0),
    _gives(lambda r: np.asarray(r) // 1_000_000),
    _gives(lambda r: np.asarray(r).astype(np.int64)),
    _gives(list),
    _gives(lambda _: None),
    _gives(lambda r: 1 // (len(r) - len(r))),
    _gives(_fails_for_3),
    _gives(_ends_for_3),
    _gives(lambda r: np.ma.masked_equal(np.asarray(r), 3)),
    _gives(lambda r: np.asarray(r).astype(np.float16)),
    _gives(lambda r: np.asarray(r).astype(np.uint64)),
    _gives(lambda r: np.asarray(r).astype(object)),
    _gives(lambda r: -np.asarray(r)),
    _written,
    lambda formula: lambda *given: formula(*(dict(g) if hasattr(g, "keys") else g for g in given)),
    lambda _: lambda *given: next(iter(given[0].values())),
    lambda _: lambda: 1,
)
"""Formula -> another formula. Some of them are still sound."""


def domain_of(case: Case) -> Domain:
    """The views and events of a case as a domain with a service."""
    decision = Decision(
        request=case.request,
        source=case.request,
        entity_id="item",
        at=lambda e: e["event_time_us"],
    )
    service = FeatureService(name="all", decision=decision, request_columns=(), views=case.views)
    return Domain(
        name="made",
        events=tuple(dict.fromkeys((*case.events, case.request))),
        views=case.views,
        services=(service,),
        labels=(),
        predictions_topic="made.predictions",
    )


@st.composite
def mistakes(draw: st.DrawFn) -> Callable[[View], View]:
    """One mistake, to be made in any view. Making it may raise, as the declaration may."""
    which = draw(st.integers(0, 1_000))
    strange = draw(st.sampled_from(STRANGE))
    formula = draw(st.sampled_from(FORMULAS))
    kind = draw(st.sampled_from(["formula", "formula", "reads", "field", "part"]))

    def mistaken(view: View) -> View:
        match kind:
            case "formula":
                return _with_formula(view, formula, which)
            case "reads":
                return _with_reads(view, which)
            case "part":
                return _with_part(view, strange, which)
        names = [f.name for f in fields(view) if f.name != "name"]
        return replace(view, **{names[which % len(names)]: strange})

    return mistaken


def _with_formula(view: View, change: Callable[[Any], Any], which: int) -> View:
    match view:
        case PythonView():
            return replace(view, compute=change(view.compute))
        case CalendarView() if which % 2:
            edge = ("start", "end")[which // 2 % 2]
            return _with(view, "spans", which, **{edge: change})
        case FeatureView() | CalendarView():
            return _with(view, "columns", which, compute=change)
        case PreviousView():
            return _with(view, "values", which, compute=change)
        case OpenView():
            return replace(view, gives=view.gives[:1] * 2)


def _with(view: Any, parts: str, which: int, **changes: Callable[[Any], Any]) -> Any:
    """The view with other formulas in one of its parts."""
    own = list(getattr(view, parts))
    if not own:
        return view
    part = own[which % len(own)]
    made = {name: change(getattr(part, name)) for name, change in changes.items()}
    own[which % len(own)] = replace(part, **made)
    return replace(view, **{parts: tuple(own)})


def _with_reads(view: View, which: int) -> View:
    reads = ((), ("k0",), ("nowhere",), ("v0", "v1"), ("event_id",), "v0")[which % 6]
    match view:
        case FeatureView() | CalendarView() if view.columns:
            first, *others = view.columns
            return replace(view, columns=(replace(first, reads=reads), *others))  # type: ignore[arg-type]
        case PreviousView():
            return replace(view, asks_for=reads)  # type: ignore[arg-type]
        case PythonView():
            (event, _), *rest = view.keeps
            return replace(view, keeps=((event, reads), *rest))  # type: ignore[arg-type]
        case OpenView():
            return replace(view, item=reads[0] if reads else "")
    return view


def _with_part(view: Any, strange: Any, which: int) -> Any:
    """The view with a strange value in a field of one of its parts: an entity, an aggregation."""
    parts = [f.name for f in fields(view) if isinstance(getattr(view, f.name), tuple)]
    name = ["entity", *parts][which % (len(parts) + 1)]
    own = getattr(view, name)
    part = own[0] if isinstance(own, tuple) and own else own
    if not hasattr(part, "__dataclass_fields__"):
        return replace(view, **{name: strange})
    names = [f.name for f in fields(part)]
    made = replace(part, **{names[which // 7 % len(names)]: strange})
    return replace(view, **{name: (made, *own[1:]) if isinstance(own, tuple) else made})
