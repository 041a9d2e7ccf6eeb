"""The declarations: each folder is a domain with a `DOMAIN`. Imports `definitions` and `errors`.

No list names the domains: each folder is discovered.
"""

import sys
from functools import cache

from features.definitions import Domain, EventType
from features.errors import FeatureError
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
    """Every declared event type, of all domains."""
    return tuple(event for d in domains() for event in d.events)
