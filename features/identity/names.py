"""What the names in a function mean: cells of its closure, globals, builtins, imports."""

import ast
import builtins
import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import resolve_name
from types import FunctionType, ModuleType
from typing import Any

from features.identity.origins import is_project, library_name

LOOKUPS = frozenset({"eval", "exec", "compile", "globals", "locals", "vars", "__import__"})
"""Builtins that look names up while they run: what they reach is not known before."""


class NameNotFound(Exception):
    """A name or attribute that is not there."""


@dataclass(frozen=True)
class Named:
    """A value under the name by which a function reaches it. `library`: its dotted name, if it was
    reached through a module that is not a project's."""

    name: str
    value: Any
    library: str | None = None


class Namespace:
    """The names that a function does not bind itself."""

    def __init__(self, function: FunctionType) -> None:
        self._globals: Mapping[str, Any] = function.__globals__
        self._cells = dict(
            zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)
        )

    def is_captured(self, name: str) -> bool:
        """Whether it is a variable of an enclosing function."""
        return name in self._cells

    def __getitem__(self, name: str) -> Any:
        """Raises NameNotFound."""
        try:
            if name in self._cells:
                return self._cells[name].cell_contents
            if name in self._globals:
                return self._globals[name]
            return getattr(builtins, name)
        except (AttributeError, ValueError):
            raise NameNotFound(f"the name {name!r} is not defined") from None

    def imported(self, module: str, level: int, attribute: str | None) -> Any:
        """What an import statement in the function binds. Raises NameNotFound."""
        package = str(self._globals.get("__package__") or "")
        try:
            loaded = importlib.import_module(resolve_name("." * level + module, package))
            if attribute is None:
                return loaded
            if not hasattr(loaded, attribute):
                return importlib.import_module(f"{loaded.__name__}.{attribute}")
            return getattr(loaded, attribute)
        except ImportError as error:
            raise NameNotFound(f"its import fails: {error}") from error


def through_modules(start: Named, attributes: list[str]) -> tuple[Named, list[str]]:
    """Follow attributes for as long as they are those of modules; returns the rest of them too.

    Raises:
        NameNotFound: a module has no such attribute.
    """
    named, rest = start, list(attributes)
    while rest and isinstance(named.value, ModuleType):
        module, attribute = named.value, rest.pop(0)
        if not hasattr(module, attribute):
            raise NameNotFound(f"the module {module.__name__} has no {attribute!r}")
        library = None if is_project(module.__name__) else f"{module.__name__}.{attribute}"
        name = f"{named.name}.{attribute}"
        named = Named(name, getattr(module, attribute), library)
    return named, rest


def library_path(named: Named, attributes: list[str]) -> str | None:
    """The dotted name of a value of a library, or of an attribute of it; None for others."""
    owner = library_name(named.value) or named.library
    if owner is None or is_project(owner.rpartition(".")[0]):
        return None
    return ".".join([owner, *attributes[:1]])


def dotted(node: ast.expr) -> tuple[ast.Name, list[str]] | None:
    """`a.b.c` as its first name and its attributes; None for any other expression."""
    attributes: list[str] = []
    while isinstance(node, ast.Attribute):
        attributes.insert(0, node.attr)
        node = node.value
    return (node, attributes) if isinstance(node, ast.Name) else None
