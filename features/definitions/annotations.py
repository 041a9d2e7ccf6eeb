"""Compares a value with a type annotation at run time, and says in words what is wrong."""

import inspect
import math
import sys
from collections.abc import Callable, Mapping
from dataclasses import InitVar
from datetime import date, datetime, timedelta
from difflib import get_close_matches
from enum import Enum
from functools import cache
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

import msgspec

from features.definitions.validation import with_article

LONGEST = timedelta(days=36_525)
"""A century: no span of time is longer, and times stay far from the limits of calendars."""

LONGEST_NAME = 200
"""Characters of a name."""

_WORDS: Mapping[Any, str] = {
    str: "text",
    int: "a whole number",
    float: "a number",
    bool: "True or False",
    timedelta: "a timedelta",
    date: "a date",
    NoneType: "None",
    type[msgspec.Struct]: "a subclass of msgspec.Struct",
}


@cache
def annotations_of(cls: type) -> Mapping[str, Any]:
    """The types of a dataclass's fields, by name."""
    hints: dict[str, Any] = {}
    for base in reversed(cls.__mro__):
        names = _Names(vars(sys.modules[base.__module__]))
        own = inspect.get_annotations(base, locals=names, eval_str=True)
        hints |= {n: h.type if isinstance(h, InitVar) else h for n, h in own.items()}
    return hints


def mismatch(value: Any, hint: Any) -> str | None:
    """What is wrong with the value, such as `is 7, not a tuple of text`; None if nothing is."""
    if not _fits(value, hint):
        return f"is {_shown(value)}, not {in_words(hint)}"
    if isinstance(value, timedelta) and abs(value) > LONGEST:
        return f"is {value.days:,} days, which is beyond all times (at most {LONGEST.days:,} days)"
    if isinstance(value, tuple):
        parts = (mismatch(v, h) for v, h in zip(value, _item_hints(value, hint), strict=True))
        return next((f"holds a value that {p}" for p in parts if p), None)
    return None


def unfit_name(name: str) -> str | None:
    """What keeps a text from being a name: it becomes part of keys, columns, metrics and pages."""
    if not name.strip():
        return "its name is empty"
    if len(name) > LONGEST_NAME:
        return f"its name has {len(name)} characters, and may have {LONGEST_NAME}"
    return None if name.isprintable() else "its name has a character that cannot be printed"


def remedy(value: Any, hint: Any) -> str | None:
    """How to correct a value that does not match, where that is plain."""
    if get_origin(hint) is Literal and isinstance(value, str):
        similar = get_close_matches(value, get_args(hint), n=1)
        return f"did you mean {similar[0]!r}?" if similar else None
    if _tuples_in(hint) and not isinstance(value, tuple):
        if isinstance(value, list | set | frozenset):
            return "write it as a tuple, in round brackets"
        if any(_fits((value,), h) for h in _tuples_in(hint)):
            return "write it as a tuple of one: `(value,)`"
    return None


def in_words(hint: Any) -> str:  # noqa: PLR0911  # one a kind of annotation
    """A type annotation in words."""
    origin, args = get_origin(hint), get_args(hint)
    if hint in _WORDS:
        return _WORDS[hint]
    if origin is Literal:
        return f"one of {', '.join(map(str, args))}"
    if origin in (UnionType, Union):
        return " or ".join(map(in_words, args))
    if origin is tuple:
        of = args[:1] if args[-1] is Ellipsis else args
        return f"a tuple of {', '.join(map(in_words, of))}"
    if origin is not None and _callable(origin):
        return "a function"
    if origin is not None and issubclass(origin, Mapping):
        return "a mapping"
    if isinstance(hint, type) and issubclass(hint, Enum):
        return f"one of {', '.join(f'{hint.__name__}.{m.name}' for m in hint)}"
    return f"a declared {getattr(hint, '__name__', hint)}"


class _Names(dict[str, Any]):
    """The names of a module; one that it imports for type checkers only stands for anything."""

    def __missing__(self, name: str) -> Any:
        builtins = sys.modules["builtins"]
        return getattr(builtins, name) if hasattr(builtins, name) else _Anything()


class _Anything:
    def __getattr__(self, name: str) -> Any:
        return Any


def _fits(value: Any, hint: Any) -> bool:  # noqa: PLR0911  # one a kind of annotation
    origin, args = get_origin(hint), get_args(hint)
    if hint is Any or isinstance(hint, TypeVar):
        return True
    if origin is Literal:
        return any(type(value) is type(a) and value == a for a in args)
    if origin in (UnionType, Union):
        return any(_fits(value, a) for a in args)
    if origin is tuple:
        return isinstance(value, tuple) and _fit_in_tuple(value, hint)
    if origin is type:
        return inspect.isclass(value) and issubclass(value, args[0])
    if origin is not None and _callable(origin):
        return callable(value)
    if origin is not None and issubclass(origin, Mapping):
        return isinstance(value, Mapping) and all(_fits(k, args[0]) for k in value)
    return _is_instance(value, hint)


def _fit_in_tuple(value: tuple[Any, ...], hint: Any) -> bool:
    hints = _item_hints(value, hint)
    return len(hints) == len(value) and all(map(_fits, value, hints))


def _is_instance(value: Any, hint: Any) -> bool:  # noqa: PLR0911  # one a kind of annotation
    if hint is None:
        return value is None
    if hint is float:
        whole_or_not = isinstance(value, int | float) and not isinstance(value, bool)
        return whole_or_not and math.isfinite(value)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if hint in (str, timedelta):  # what is derived from them may print, or count, as another one
        return type(value) is hint
    if hint is date:
        return isinstance(value, date) and not isinstance(value, datetime)
    if issubclass(hint, Enum):
        return isinstance(value, hint) or value in [m.value for m in hint]
    return isinstance(value, hint)


def _item_hints(value: tuple[Any, ...], hint: Any) -> tuple[Any, ...]:
    """The type of each item of a tuple that has this type."""
    for of in _tuples_in(hint):
        args = get_args(of)
        hints = args[:1] * len(value) if args[-1] is Ellipsis else args
        if len(hints) == len(value) and all(map(_fits, value, hints)):
            return hints
    args = next((get_args(h) for h in _tuples_in(hint)), (Any, Ellipsis))
    return args[:1] * len(value) if args[-1] is Ellipsis else args


def _tuples_in(hint: Any) -> list[Any]:
    options = get_args(hint) if get_origin(hint) in (UnionType, Union) else (hint,)
    return [o for o in options if get_origin(o) is tuple]


def _callable(origin: Any) -> bool:
    return origin in (Callable, type(Callable))


def _shown(value: Any) -> str:
    """The value where it is short, else what it is."""
    if isinstance(value, str | int | float | timedelta | date | NoneType):
        text = repr(value).removeprefix("datetime.")
        return text if len(text) <= 60 else f"{text[:57]}..."
    if isinstance(value, tuple):
        return f"({', '.join(map(_shown, value[:4]))}{', ...' if len(value) > 4 else ''})"
    if inspect.isclass(value):
        return f"the class {value.__name__}"
    return with_article(type(value).__name__)
