"""The declarations: each folder is a domain with a `DOMAIN`. Imports `definitions` only.

Nothing else lists the domains; a new folder is found by itself.
"""

import importlib
import pkgutil
from functools import cache

from features.definitions import Domain, EventType
from features.errors import FeatureError


@cache
def domains() -> tuple[Domain, ...]:
    """Every declared domain, by name."""
    declared = [
        importlib.import_module(f"{__name__}.{module.name}").DOMAIN
        for module in pkgutil.iter_modules(__path__)
    ]
    return tuple(sorted(declared, key=lambda d: d.name))


def domain(name: str) -> Domain:
    """The domain of that name.

    Raises:
        FeatureError: there is none.
    """
    for declared in domains():
        if declared.name == name:
            return declared
    raise FeatureError(f"no domain {name!r}", hint=f"declared: {[d.name for d in domains()]}")


def event_types() -> tuple[EventType, ...]:
    """Every declared event type, of all domains."""
    return tuple(event for d in domains() for event in d.events)
