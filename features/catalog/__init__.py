"""The declarations: each folder is a domain with a `DOMAIN`. Imports `definitions` and `errors`.

No list names the domains: each folder is discovered. A mistake in one of them stops that domain
only: it is `refused`, and the others are used.
"""

import sys
from collections import Counter
from collections.abc import Iterable
from functools import cache

from features.definitions import Domain, EventType
from features.definitions.distinct import shared_names
from features.errors import DeclarationError, FeatureError
from infra.discovery import Discovered, Refused, by_name, discover, warn_of


def domains() -> tuple[Domain, ...]:
    """Every declared domain that can be used, by name."""
    return _discovered().declared


def refused() -> tuple[Refused, ...]:
    """The domains that cannot be used, and why."""
    return _discovered().refused


def domain(name: str) -> Domain:
    """The domain of that name.

    Raises:
        DeclarationMistake: it has a mistake.
        FeatureError: there is none.
    """
    declared: Domain = by_name(_discovered(), name, kind="domain", error=FeatureError)
    return declared


def event_types() -> tuple[EventType, ...]:
    """Every declared event type, of all domains; one that several domains list is one.

    Raises:
        DeclarationError: two event types have one name.
    """
    return each_event_once(event for d in domains() for event in d.events)


def each_event_once(events: Iterable[EventType]) -> tuple[EventType, ...]:
    """The event types without repetitions.

    Raises:
        DeclarationError: two of them have one name.
    """
    distinct = tuple(dict.fromkeys(events))
    names = Counter(event.name for event in distinct)
    if repeated := sorted(name for name, n in names.items() if n > 1):
        raise DeclarationError(
            f"several event types are called {', '.join(repeated)}: they would share a topic and a"
            " table, so give each its own name, or list one and the same event type"
        )
    return distinct


def refuse(mistakes: Iterable[Refused]) -> None:
    """Take domains out, because they cannot be computed."""
    _further_refused.extend(mistakes)
    _discovered.cache_clear()


_further_refused: list[Refused] = []


@cache
def _discovered() -> Discovered:
    discovered = discover(sys.modules[__name__], "DOMAIN", Domain)
    mistakes = [*_further_refused, *_of_several(discovered.declared)]
    warn_of(mistakes)
    out = {r.name for r in mistakes}
    return Discovered(
        declared=tuple(d for d in discovered.declared if d.name not in out),
        refused=(*discovered.refused, *mistakes),
    )


def _of_several(declared: Iterable[Domain]) -> Iterable[Refused]:
    """Domains that share a name which has to be distinct: nothing says which is meant."""
    for shared in shared_names(tuple(declared)):
        for name in shared.domains:
            yield Refused(name=name, mistake=DeclarationError(shared.mistake, place=shared.place))
