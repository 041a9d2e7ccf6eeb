"""Loads the declarations of a process: a domain with a mistake is left out, and that is said."""

from collections.abc import Iterator

import structlog

from features import catalog
from features.definitions.declaration import place_of
from features.engine.view_states import state_of
from features.errors import DeclarationError
from infra.discovery import Refused

log = structlog.get_logger()


def load_declarations() -> None:
    """Compile every view. A domain with a mistake is refused and logged; the others are used."""
    catalog.refuse(list(_uncomputable()))
    for refused in catalog.refused():
        mistake = refused.mistake
        log.error("domain_refused", domain=refused.name, why=str(mistake), hint=mistake.hint)


def require_all_domains() -> None:
    """For an action that would lose what belongs to a domain that is left out.

    Raises:
        DeclarationMistake: a domain is refused.
    """
    load_declarations()
    for refused in catalog.refused():
        raise refused.mistake


def _uncomputable() -> Iterator[Refused]:
    for domain in catalog.domains():
        for view in domain.views:
            try:
                state_of(view)
            except DeclarationError as error:
                place = error.place or place_of(view)
                mistake = DeclarationError(error.mistake, place=place, hint=error.hint)
                yield Refused(name=domain.name, mistake=mistake)
                break
