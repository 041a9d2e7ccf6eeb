"""The root of everything that can be declared: it compares each field with its annotation.

Annotations are a promise to type checkers only, and a declaration that breaks one can be computed
as something else. So a field that is missing, unknown or of another type is refused in one
sentence, before the declaration's own rules look at it.
"""

import inspect
import sys
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, fields
from functools import cache
from typing import Any, ClassVar, TypeVar

from features.definitions.annotations import annotations_of, mismatch, remedy, unfit_name
from features.definitions.validation import declared_at, mark_internal, near, noted, report
from features.errors import DeclarationError
from infra.errors import DeclarationMistake

D = TypeVar("D")

# Beside the fields: no part of the declaration's value.
_PLACE, _BROKEN, _MISSHAPEN = "_declared_at", "_broken", "_misshapen"


class _DeclarationType(type):
    """Checks the arguments of a declaration before it is made, and notes where it is made."""

    error: type[DeclarationMistake]

    def __call__(cls, *args: Any, **given: Any) -> Any:
        place, mistakes = declared_at(), noted()
        before = len(mistakes or ())
        for mistake, hint in _argument_mistakes(cls, args, given):
            report(cls.error(f"{_title(cls, given)}: {mistake}", place=place, hint=hint))
        if mistakes is None:
            made = super().__call__(**given)
        else:
            made = cls._made_all_the_same(given, mistakes, before)
        object.__setattr__(made, _PLACE, place)
        return made

    def _made_all_the_same(
        cls, given: dict[str, Any], mistakes: list[DeclarationMistake], before: int
    ) -> Any:
        """The declaration while mistakes are collected: an unfinished one takes the place of one
        that cannot be made, so that the rest of the file is checked too."""
        if len(mistakes) > before:
            return _unfinished(cls, given, misshapen=True)
        if any(_is_marked(value, _MISSHAPEN) for value in given.values()):
            return _unfinished(cls, given, misshapen=True)
        try:
            made = super().__call__(**given)
        except DeclarationMistake as mistake:
            mistakes.append(mistake)
            return _unfinished(cls, given)
        except Exception:
            if len(mistakes) == before and not any(map(is_broken, given.values())):
                raise
            return _unfinished(cls, given)
        uses_broken = any(map(is_broken, given.values()))
        object.__setattr__(made, _BROKEN, uses_broken or len(mistakes) > before)
        return made


class Declaration(metaclass=_DeclarationType):
    """What can be declared. Subclasses are frozen dataclasses whose fields are given by name."""

    error: ClassVar[type[DeclarationMistake]] = DeclarationError
    unchecked: ClassVar[tuple[str, ...]] = ()
    """Fields that the subclass compares with their annotation itself."""

    def __init_subclass__(cls) -> None:
        mark_internal(str(sys.modules[cls.__module__].__file__))


def place_of(declaration: object) -> str:
    """File and line of a declaration; empty if they are unknown."""
    return str(getattr(declaration, _PLACE, ""))


def is_broken(value: object) -> bool:
    """Whether a declaration, or one in a tuple, was made in spite of a mistake."""
    return _is_marked(value, _BROKEN)


def sound(declared: tuple[D, ...]) -> list[D]:
    """Those that were made without a mistake. While mistakes are collected, the field of an
    unfinished declaration may hold anything."""
    return [d for d in declarations(declared) if not is_broken(d)]


def declarations(declared: tuple[D, ...]) -> list[D]:
    """Those that are declarations at all, also unfinished ones."""
    return [d for d in declared if isinstance(d, Declaration)] if type(declared) is tuple else []


def _is_marked(value: object, mark: str) -> bool:
    if isinstance(value, tuple):
        return any(_is_marked(v, mark) for v in value)
    return bool(getattr(value, mark, False))


@cache
def _parameters(cls: type) -> Mapping[str, inspect.Parameter]:
    parameters = dict(inspect.signature(cls.__init__).parameters)  # type: ignore[misc]
    del parameters["self"]
    return parameters


def _argument_mistakes(
    cls: type, args: tuple[Any, ...], given: Mapping[str, Any]
) -> Iterator[tuple[str, str | None]]:
    """(mistake, remedy) of each argument that the class does not take like that."""
    parameters, hints = _parameters(cls), annotations_of(cls)
    if args:
        yield "its fields are given by name", f"they are {', '.join(parameters)}"
        return
    for name in given.keys() - parameters.keys():
        yield f"it has no field {name!r}", near(name, parameters)
    for name, parameter in parameters.items():
        if name not in given:
            if parameter.default is inspect.Parameter.empty:
                yield f"it needs the field {name!r}", None
        elif name not in cls.unchecked and (wrong := mismatch(given[name], hints[name])):  # type: ignore[attr-defined]
            yield f"{name} {wrong}", remedy(given[name], hints[name])
        elif name == "name" and (wrong := unfit_name(given[name])):
            yield wrong, "use letters, digits and `_`"


def _title(cls: type, given: Mapping[str, Any]) -> str:
    """Such as `FeatureView 'orders'`; the class alone for what has no name."""
    given_names = (given.get(field) for field in ("name", "measure", "kind"))
    name = next((n for n in given_names if isinstance(n, str) and n), None)
    return cls.__name__ if name is None else f"{cls.__name__} {name!r}"


def _unfinished(cls: type, given: Mapping[str, Any], *, misshapen: bool = False) -> Any:
    """A declaration with the fields that were given, and without its checks. `misshapen`: a field
    has not the type that others rely on, so what is made of it is not checked either."""
    made: Any = object.__new__(cls)
    for field in fields(cls):
        value = given.get(field.name, None if field.default is MISSING else field.default)
        object.__setattr__(made, field.name, value)
    object.__setattr__(made, _BROKEN, True)
    object.__setattr__(made, _MISSHAPEN, misshapen)
    return made
