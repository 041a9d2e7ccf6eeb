"""Reports a mistake in a declaration, with the file and line that declares it.

A mistake is raised; while `collecting`, it is noted instead, so that a check finds all of them.
"""

import dataclasses
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from difflib import get_close_matches
from functools import partial
from pathlib import Path

from features.errors import DeclarationError
from infra.errors import DeclarationMistake

_DEFINITIONS = Path(__file__).parent
_GENERATED = "<string>"  # dataclasses write their __init__ as text
_internal_files = {_GENERATED, dataclasses.__file__}
_noted: ContextVar[list[DeclarationMistake] | None] = ContextVar("noted", default=None)


def require(holds: bool, mistake: str, *, hint: str | Callable[[], str] | None = None) -> None:
    """Reports a DeclarationError, with file and line of the declaration, unless it holds.

    A hint that takes a search is a function: it is called only for a mistake.
    """
    if not holds:
        remedy = hint() if callable(hint) else hint
        report(DeclarationError(mistake, place=declared_at(), hint=remedy))


def require_field(field: str, fields: Iterable[str], mistake: str) -> None:
    """Reports the mistake, with similar names, unless the field is one of them."""
    known = tuple(fields)
    require(field in known, mistake, hint=partial(near, field, known))


def require_distinct(names: Iterable[str], mistake: str) -> None:
    """Reports the mistake and the names that occur more than once, if there are any.

    Names that differ only in case count as one: tables, and the file systems of some brokers, do
    not tell them apart.
    """
    known = tuple(names)
    counts = Counter(name.casefold() for name in known)
    repeated = sorted({name for name in known if counts[name.casefold()] > 1})
    require(not repeated, f"{mistake} {repeated}", hint="give each a name of its own")


def report(mistake: DeclarationMistake) -> None:
    """Raise the mistake, or note it while mistakes are collected."""
    noted = _noted.get()
    if noted is None:
        raise mistake
    noted.append(mistake)


@contextmanager
def collecting() -> Iterator[list[DeclarationMistake]]:
    """Inside, mistakes are appended to the list instead of raised."""
    mistakes: list[DeclarationMistake] = []
    token = _noted.set(mistakes)
    try:
        yield mistakes
    finally:
        _noted.reset(token)


def noted() -> list[DeclarationMistake] | None:
    """The mistakes that were collected so far; None where they are raised."""
    return _noted.get()


def near(name: str, names: Iterable[str]) -> str:
    """What may have been meant by a name that is not among `names`; else which names there are."""
    known = sorted(map(str, names))
    similar = get_close_matches(name, known, n=1)
    if similar:
        return f"did you mean {similar[0]!r}?"
    return f"there are {', '.join(known)}" if known else "there are none"


def with_article(noun: str) -> str:
    """`a tuple`, `an Entity`."""
    return f"{'an' if noun[0] in 'aeiouAEIOU' else 'a'} {noun}"


def declared_at() -> str:
    """File and line of the nearest caller that is no part of the declaration API."""
    frame = sys._getframe(1)
    while frame.f_back is not None and _is_internal(frame.f_code.co_filename):
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"


def mark_internal(file: str) -> None:
    """A file that defines what can be declared: no declaration stands in it."""
    _internal_files.add(file)


def _is_internal(file: str) -> bool:
    return file in _internal_files or Path(file).parent == _DEFINITIONS
