"""Tokens of values that have the same meaning in every process: numbers, texts, containers, times.

Functions, classes and objects of a project are the matter of `reach`.
"""

import datetime
import decimal
import fractions
import functools
import ipaddress
import operator
import pathlib
import re
import struct
import types
import typing
import uuid
import zoneinfo
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from features.identity.tokens import Token, digest

Inner = Callable[[Any, str], Token]
"""The token of a value inside of another one, and how it is called there."""

_ATOMS = (bool, int, float, complex, str, bytes)
_BY_ARGUMENTS = (
    datetime.date,
    datetime.time,
    datetime.timedelta,
    datetime.timezone,
    decimal.Decimal,
    fractions.Fraction,
    operator.itemgetter,
    operator.attrgetter,
    operator.methodcaller,
    range,
    slice,
)
_BY_TEXT = (
    uuid.UUID,
    pathlib.PurePath,
    zoneinfo.ZoneInfo,
    ipaddress.IPv4Address,
    ipaddress.IPv6Address,
    ipaddress.IPv4Network,
    ipaddress.IPv6Network,
)
_TYPE_ALIASES = (types.GenericAlias, types.UnionType, type(typing.List[int]), typing.TypeVar)  # noqa: UP006


def value_token(value: Any, inner: Inner) -> Token | None:
    """The token of a plain value of exactly these types; None for anything else."""
    return (
        _atom_token(value)
        or _described_token(value, inner)
        or container_token(value, inner)
        or numpy_token(value, inner)
    )


def container_token(value: Any, inner: Inner, kind: type | None = None) -> Token | None:
    """The token of the items of a container. `kind`: count it as that type, of which it is one."""
    make = _CONTAINERS.get(kind or type(value))
    return None if make is None else make(value, inner)


def _atom_token(value: Any) -> Token | None:
    kind = type(value)
    if value is None or value is Ellipsis or value is NotImplemented:
        return ("singleton", str(value))
    if kind in _ATOMS:
        return (kind.__name__, value)
    if kind in _BY_TEXT or isinstance(value, pathlib.PurePath):
        return (kind.__name__.removeprefix("Posix").removeprefix("Windows"), str(value))
    return None


def _described_token(value: Any, inner: Inner) -> Token | None:
    kind = type(value)
    if kind in _BY_ARGUMENTS:
        return (kind.__name__, *(inner(v, kind.__name__) for v in value.__reduce__()[1:]))
    if isinstance(value, re.Pattern):
        return ("pattern", inner(value.pattern, "pattern"), value.flags)
    if isinstance(value, struct.Struct):
        return ("struct", value.format)
    if isinstance(value, _TYPE_ALIASES):
        return ("type",)  # says what values should be; changes none
    return None


def _sequence(value: Any, inner: Inner) -> Token:
    name = "list" if isinstance(value, list) else "tuple"
    return (name, *(inner(v, f"[{i}]") for i, v in enumerate(value)))


def _set(value: Any, inner: Inner) -> Token:
    return ("set", *sorted((inner(v, "an item") for v in value), key=digest))


def _mapping(value: Any, inner: Inner) -> Token:
    return ("dict", *((inner(k, "a key"), inner(v, f"[{k!r}]")) for k, v in value.items()))


def _deque(value: Any, inner: Inner) -> Token:
    return ("deque", value.maxlen, *(inner(v, f"[{i}]") for i, v in enumerate(value)))


def numpy_token(value: Any, inner: Inner) -> Token | None:
    """The token of an array, a scalar or a dtype, whatever the byte order of the machine."""
    if isinstance(value, np.dtype):
        return ("dtype", inner(np.lib.format.dtype_to_descr(value.newbyteorder("<")), "dtype"))
    if isinstance(value, np.ma.MaskedArray):
        parts = (np.ma.getdata(value), np.ma.getmaskarray(value), value.fill_value)
        return ("masked", *(inner(p, "an array") for p in parts))
    if type(value) not in (np.ndarray, np.recarray) and not isinstance(value, np.generic):
        return None
    array = np.asarray(value)
    head = (type(value).__name__ == "ndarray", inner(array.dtype, "dtype"), array.shape)
    if array.dtype.hasobject:
        return ("array", *head, inner(array.tolist(), "items"))
    return ("array", *head, array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes())


def names_in(value: Any) -> set[str]:
    """The keyword arguments that a `partial` passes."""
    return set(value.keywords) if isinstance(value, functools.partial) else set()


def _partial_token(value: functools.partial[Any], inner: Inner) -> Token:
    keywords: Mapping[str, Any] = value.keywords
    return (
        "partial",
        inner(value.func, "its function"),
        *(inner(a, f"argument {i}") for i, a in enumerate(value.args)),
        tuple((k, inner(v, k)) for k, v in sorted(keywords.items())),
    )


_CONTAINERS: Mapping[type, Callable[[Any, Inner], Token]] = {
    list: _sequence,
    tuple: _sequence,
    set: _set,
    frozenset: _set,
    dict: _mapping,
    types.MappingProxyType: _mapping,
    Counter: _mapping,
    OrderedDict: _mapping,
    defaultdict: lambda value, inner: (
        *("default dict", inner(value.default_factory, "its factory")),
        _mapping(value, inner),
    ),
    deque: _deque,
    bytearray: lambda value, _: ("bytearray", bytes(value)),
    types.SimpleNamespace: lambda value, inner: ("namespace", _mapping(vars(value), inner)),
    functools.partial: _partial_token,
}
