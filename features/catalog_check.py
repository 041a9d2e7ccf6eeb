"""Checks all declarations of a domain together, as far as that is possible without data."""

from features.definitions import Domain
from features.engine.view_states import state_of
from features.errors import DeclarationError


def check_domain(domain: Domain) -> dict[str, str | int]:
    """Compile everything that a domain declares; returns how many declarations there are.

    Raises:
        DeclarationError: something cannot be computed as it is declared.
    """
    for view in domain.views:
        state_of(view)
    names = [view.name for view in domain.views]
    if repeated := sorted({n for n in names if names.count(n) > 1}):
        raise DeclarationError(f"domain {domain.name}: several views are called {repeated}")
    for service in domain.services:
        if missing := sorted(v.name for v in service.views if v not in domain.views):
            raise DeclarationError(
                f"domain {domain.name}: service {service.name} uses views that the domain does not"
                f" list, so ingest would not keep them: {missing}"
            )
    return {
        "domain": domain.name,
        "events": len(domain.events),
        "views": len(domain.views),
        "services": len(domain.services),
    }
