"""The identity of one formula, with the parts that make it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import FunctionType
from typing import Any

from features.identity.origins import version_of
from features.identity.reach import Reach, part_name
from features.identity.tokens import Token, digest

_SHOWN = 60  # characters of a constant that are shown as they are


@dataclass(frozen=True, kw_only=True)
class Identity:
    """`digest` changes with everything that a formula reaches. `parts`: the functions, classes and
    constants of projects that it reaches, name -> short text or digest. `packages`: the libraries
    that it names, with their installed versions; they do not count."""

    digest: str
    parts: Mapping[str, str]
    packages: Mapping[str, str]


def identity_of(formula: Callable[..., Any], name: str) -> Identity:
    """The identity of a formula; `name` says in errors which one it is.

    Raises:
        NoStableIdentity: it reaches something that is not the same in every process.
    """
    reach = Reach()
    whole = reach.digest_of(formula, name)
    parts = {part: _shown(token) for part, token in reach.parts.items()}
    if isinstance(formula, FunctionType):
        parts.pop(part_name(formula), None)
    versions = {package: version_of(package) for package in sorted(reach.packages)}
    return Identity(
        digest=whole,
        parts=dict(sorted(parts.items())),
        packages={package: v for package, v in versions.items() if v is not None},
    )


def _shown(token: Token) -> str:
    """A number or a short text as it is; anything else by its digest."""
    if isinstance(token, tuple) and len(token) == 2 and token[0] in ("int", "float", "bool", "str"):
        text = repr(token[1])
        if len(text) <= _SHOWN:
            return text
    return digest(token, passed_by_name=None)[:16]
