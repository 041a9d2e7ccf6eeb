"""Names that several domains may not share: topics, views, services and features."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from features.definitions.declaration import place_of, sound
from features.definitions.services import Domain


@dataclass(frozen=True, kw_only=True)
class SharedName:
    """A name that several domains use. `place`: of the last declaration with it."""

    domains: tuple[str, ...]
    mistake: str
    place: str


def shared_names(domains: Sequence[Domain]) -> Iterator[SharedName]:
    """Every name that several domains use, and that has to be distinct.

    Topics, values in the online store and files are found by these names alone. Names that differ
    only in case count as one.
    """
    users: dict[tuple[str, str], list[tuple[str, str, str]]] = defaultdict(list)
    for domain in domains:
        for kind, name, place in _names(domain):
            users[kind, name.casefold()].append((domain.name, name, place))
    reported = set()
    for (kind, _), uses in users.items():
        names = tuple(dict.fromkeys(domain for domain, _, _ in uses))
        _, name, place = uses[-1]
        if len(names) > 1 and place not in reported:  # the features of a shared view are shared too
            reported.add(place)
            mistake = f"the domains {' and '.join(names)} both have a {kind} called {name!r}"
            yield SharedName(domains=names, mistake=mistake, place=place)


def _names(domain: Domain) -> Iterator[tuple[str, str, str]]:
    """(kind, name, place) of what has to be distinct."""
    yield "domain", domain.name, place_of(domain)
    yield "topic", domain.predictions_topic, place_of(domain)
    for event in sound(domain.events):
        yield "topic", event.name, place_of(event)
    for view in sound(domain.views):
        yield "view", view.name, place_of(view)
        for feature in view.features:
            yield "feature", feature, place_of(view)
    for service in sound(domain.services):
        yield "service", service.name, place_of(service)
