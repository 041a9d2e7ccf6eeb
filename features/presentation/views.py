"""What views and their features mean, in plain words, made from the declarations."""

from collections.abc import Iterable, Iterator, Sequence

from features.definitions import (
    Aggregation,
    CalendarView,
    Domain,
    FeatureView,
    OpenView,
    PreviousView,
    PythonView,
    TimeWindow,
    View,
    window_name,
)
from features.definitions.lifecycle_views import OPEN_FEATURES
from features.engine.view_states import state_of
from features.errors import FeatureError


def views_table(domains: Iterable[Domain]) -> list[dict[str, str | int]]:
    """One row a view: domain, view, entity, source, features (their number)."""
    return [
        {
            "domain": domain.name,
            "view": view.name,
            "entity": ", ".join(view.entity.keys),
            "source": ", ".join(e.name for e in view.sources),
            "features": len(view.features),
        }
        for domain in domains
        for view in domain.views
    ]


def find_view(domains: Sequence[Domain], name: str) -> View:
    """The view of that name.

    Raises:
        FeatureError: there is none.
    """
    views = {view.name: view for domain in domains for view in domain.views}
    if name not in views:
        raise FeatureError(f"no view {name!r}", hint=f"declared: {', '.join(sorted(views))}")
    return views[name]


def describe_view(view: View) -> str:
    """A few lines about a view; the last ones are its features."""
    sources = ", ".join(e.name for e in view.sources)
    meanings = list(feature_meanings(view))
    width = max(len(name) for name, _ in meanings)
    return "\n".join(
        [
            f"{view.name}: about {', '.join(view.entity.keys)}, from {sources}",
            counted_events(view),
            *check_lines(view),
            *identity_lines(view),
            "",
            *(f"  {name:{width}}  {meaning}" for name, meaning in meanings),
        ]
    )


def identity_lines(view: View) -> Iterator[str]:
    """The id of the view's declaration, and the packages that its formulas use."""
    identity = state_of(view).identity
    yield f"declaration {identity.schema_id:016x}"
    if identity.packages:
        used = ", ".join(f"{package} {version}" for package, version in identity.packages.items())
        yield f"its formulas use {used}, which are no part of the declaration"


def counted_events(view: View) -> str:
    """Which events the features as of time t use."""
    match view:
        case FeatureView(exclude_self=field):
            but = f", without those that share the request's {field}" if field else ""
            return (
                "at time t, with window W: the events with known_at < t and"
                f" event_time >= t - W{but}"
            )
        case CalendarView():
            return (
                f"at time t: the events with known_at < t whose {view.at} lies in the span; null"
                f" for a span that begins more than {window_name(view.reach)} before t"
            )
        case OpenView():
            closed = ", ".join(e.name for e in view.closed_by)
            return (
                f"at time t: each {view.item} whose {view.opened.name} is known before t, whose"
                f" {view.due} lies in the {window_name(view.reach)} before t, and about which none"
                f" of {closed} is known before t"
            )
        case PreviousView():
            unless = ", ".join(e.name for e in view.unless)
            but = f", and about which none of {unless} is" if unless else ""
            return (
                f"at time t: the {view.item} with the latest {view.order} in the"
                f" {window_name(view.reach)} before the request's {view.before}, whose"
                f" {view.opened.name} is known before t{but}"
            )
        case _:
            return (
                "at time t: a function of the events with known_at < t and event_time >="
                f" t - {window_name(view.ttl)}"
            )


def check_lines(view: View) -> Iterator[str]:
    """The checks of the view's events, a line each."""
    for event in view.sources:
        for check in event.checks:
            consequence = {
                "nullify": f"else {check.field} counts as null",
                "dead_letter": "else the event goes to the dead letters",
                "stop": "else no training set is made",
            }[check.on_failure]
            yield f"check of {event.name}: {check.name}, {consequence}"


def feature_meanings(view: View) -> Iterator[tuple[str, str]]:
    """(name, meaning) of each feature, in the order of the values."""
    match view:
        case FeatureView():
            for name, (a, _, window) in zip(view.features, view.parts, strict=True):
                yield name, _meaning(a, f"in the last {_window(window)}")
        case CalendarView():
            spans = [(a, s) for a in view.aggregations for s in view.spans]
            for name, (a, span) in zip(view.features, spans, strict=True):
                yield name, _meaning(a, f"in the span {span.name}")
        case OpenView():
            for name, feature in zip(view.features, view.gives, strict=True):
                yield name, OPEN_FEATURES[feature]
        case PreviousView():
            for name, value in zip(view.features, view.values, strict=True):
                yield name, value.meaning
        case PythonView():
            for name in view.features:
                yield name, f"see {view.compute.__module__}.{view.compute.__qualname__}"


def _meaning(aggregation: Aggregation, events: str) -> str:
    operation = aggregation.definition
    meaning = operation.meaning.format(column=aggregation.column)
    return f"{meaning} {events}; {operation.if_empty}"


def _window(window: TimeWindow) -> str:
    hop = f" in hops of {window_name(window.hop)}" if window.hop_us > 1 else ""
    return f"{window.name}{hop}"
