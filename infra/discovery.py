"""Declarations that are found by their module: no list names them."""

import importlib
import pkgutil
from collections.abc import Iterable
from types import ModuleType
from typing import Any, Protocol, TypeVar

from infra.errors import EventideError


class Named(Protocol):
    """A declaration with a name."""

    @property
    def name(self) -> str:
        """Unique among the declarations of its kind."""
        ...


D = TypeVar("D", bound=Named)


def declared_in(package: ModuleType, attribute: str) -> tuple[Any, ...]:
    """The `attribute` of each module in `package`, sorted by name.

    Raises:
        AttributeError: a module does not declare it.
    """
    declared = [
        getattr(importlib.import_module(f"{package.__name__}.{module.name}"), attribute)
        for module in pkgutil.iter_modules(package.__path__)
    ]
    return tuple(sorted(declared, key=lambda d: str(d.name)))


def by_name(declared: Iterable[D], name: str, *, kind: str, error: type[EventideError]) -> D:
    """The declaration called `name`.

    Raises:
        error: there is none; its hint lists the names that exist.
    """
    declarations = {d.name: d for d in declared}
    if name not in declarations:
        raise error(f"no {kind} {name!r}", hint=f"declared: {list(declarations)}")
    return declarations[name]
