"""The declarations: each folder is a domain with a `DOMAIN`. Imports `definitions` and `errors`.

No list names the domains: each folder is discovered.
"""

import sys
from collections import Counter
from collections.abc import Iterable
from functools import cache

from features.definitions import Domain, EventType
from features.errors import DeclarationError, FeatureError
from infra.discovery import by_name, declared_in


@cache
def domains() -> tuple[Domain, ...]:
    """Every declared domain, by name."""
    return declared_in(sys.modules[__name__], "DOMAIN")


def domain(name: str) -> Domain:
    """The domain of that name.

    Raises:
        FeatureError: there is none.
    """
    return by_name(domains(), name, kind="domain", error=FeatureError)


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
