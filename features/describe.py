"""Declarations in plain words."""

from collections.abc import Iterable, Sequence

from features.errors import FeatureError
from features.vocabulary import Aggregation, Domain, FeatureView, window_name

_MEANINGS = {
    "count": "how many events; 0 for none",
    "sum": "sum of {column}; 0 for none",
    "mean": "sum of {column} by count; nothing for none",
    "rate": "share of events with {column}; nothing for none",
    "last": "{column} of the newest event; nothing for none or if it has none",
    "age": "minutes since the newest event; nothing for none",
}


def views_table(domains: Iterable[Domain]) -> list[dict[str, str | int]]:
    """One row a view: domain, view, entity, source, features (how many)."""
    return [
        {
            "domain": domain.name,
            "view": view.name,
            "entity": ", ".join(view.entity.keys),
            "source": view.source.name,
            "features": len(view.features),
        }
        for domain in domains
        for view in domain.views
    ]


def find_view(domains: Sequence[Domain], name: str) -> FeatureView:
    """The view of that name.

    Raises:
        FeatureError: there is none.
    """
    views = {view.name: view for domain in domains for view in domain.views}
    if name not in views:
        raise FeatureError(f"no view {name!r}", hint=f"declared: {', '.join(sorted(views))}")
    return views[name]


def describe_view(view: FeatureView) -> str:
    """Some lines about a view; the last ones are its features."""
    lines = [
        f"{view.name}: about {', '.join(view.entity.keys)}, from {view.source.name}",
        "at time t, with window W: the events with known_at < t and event_time >= t - W",
        "",
    ]
    width = max(len(name) for name in view.features)
    for aggregation in view.aggregations:
        for window in aggregation.windows:
            name = aggregation.feature(view.name, window)
            lines.append(f"  {name:{width}}  {_meaning(aggregation)}, {window_name(window)}")
    return "\n".join(lines)


def _meaning(aggregation: Aggregation) -> str:
    return _MEANINGS[aggregation.operation].format(column=aggregation.column)
