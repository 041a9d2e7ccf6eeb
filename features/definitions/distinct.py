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
    """Every name that several domains use for different things, and that has to be distinct. One
    event or view that several domains list is one thing.

    Topics, values in the online store and files are found by these names alone. Names that differ
    only in case count as one.
    """
    users: dict[tuple[str, str], list[tuple[str, str, object]]] = defaultdict(list)
    for domain in (d for d in domains if isinstance(d.name, str)):
        for kind, name, declared in _names(domain):
            users[kind, name.casefold()].append((domain.name, name, declared))
    reported = set()
    for (kind, _), uses in users.items():
        names = tuple(dict.fromkeys(domain for domain, _, _ in uses))
        _, name, last = uses[-1]
        place, are_one = place_of(last), all(declared == last for _, _, declared in uses)
        # The features of a view are shared where its name is.
        if len(names) > 1 and not are_one and place not in reported:
            reported.add(place)
            mistake = f"the domains {' and '.join(names)} both have a {kind} called {name!r}"
            yield SharedName(domains=names, mistake=mistake, place=place)


def _names(domain: Domain) -> Iterator[tuple[str, str, object]]:
    """(kind, name, declaration) of what has to be distinct."""
    named = _all_names(domain)
    # The name of an unfinished declaration may be anything.
    yield from (found for found in named if isinstance(found[1], str))


def _all_names(domain: Domain) -> Iterator[tuple[str, str, object]]:
    yield "domain", domain.name, domain
    yield "topic", domain.predictions_topic, domain
    for event in sound(domain.events):
        yield "topic", event.name, event
    for view in sound(domain.views):
        yield "view", view.name, view
        for feature in view.features:
            yield "feature", feature, view
    for service in sound(domain.services):
        yield "service", service.name, service
