"""Checks all declarations of a domain together, as far as that is possible without data.

Every formula runs on records that are made up from the declared types, bounds and nulls.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from features.catalog_check.events import event_mistakes
from features.catalog_check.mistakes import Mistake, mistake_at, mistake_of
from features.catalog_check.services import (
    label_mistakes,
    service_mistakes,
    unused_view_mistakes,
)
from features.catalog_check.views import view_mistakes
from features.definitions import Domain, View
from features.definitions.declaration import declarations, place_of, sound
from features.definitions.distinct import shared_names
from features.engine.view_states import state_of
from features.errors import DeclarationError

__all__ = ["Mistake", "check_domain", "domain_mistakes", "mistake_at", "mistake_of", "summary"]


def check_domain(domain: Domain) -> dict[str, str | int]:
    """Check everything that a domain declares; returns how many declarations there are.

    Raises:
        DeclarationError: something cannot be computed as it is declared. The error has the first
            mistake; `domain_mistakes` gives all.
    """
    for m in domain_mistakes([domain]):
        place = f"{m.file}:{m.line}" if m.line else m.file
        raise DeclarationError(m.mistake, place=place, hint=m.remedy)
    return summary(domain)


def domain_mistakes(domains: Sequence[Domain]) -> Iterator[Mistake]:
    """Every mistake of these domains, by themselves and with each other."""
    for domain in domains:
        for declaration, mistake, remedy in _mistakes(domain):
            yield mistake_at(place_of(declaration), domain.name, mistake, remedy)
    for shared in shared_names(domains):
        yield mistake_at(shared.place, ", ".join(shared.domains), shared.mistake)


def summary(domain: Domain) -> dict[str, str | int]:
    """How many declarations a domain has."""
    return {
        "domain": domain.name,
        "events": len(domain.events),
        "views": len(domain.views),
        "services": len(domain.services),
    }


def _mistakes(domain: Domain) -> Iterator[tuple[Any, str, str | None]]:
    """(declaration, mistake, remedy)."""
    for event in sound(domain.events):
        yield from event_mistakes(event)
    for view in sound(domain.views):
        yield from _of_view(view)
    for service in sound(domain.services):
        yield from service_mistakes(service)
    used = {view.name for s in declarations(domain.services) for view in sound(s.views)}
    for view in sound(domain.views):
        if view.name not in used:
            yield from unused_view_mistakes(view)
    for label in sound(domain.labels):
        yield from label_mistakes(label)


def _of_view(view: View) -> Iterator[tuple[Any, str, str | None]]:
    """The mistakes of its formulas; without any, whether it can be computed."""
    mistakes = list(view_mistakes(view))
    yield from mistakes
    if not mistakes:
        try:
            state_of(view)
        except DeclarationError as error:
            yield view, error.mistake, error.hint
