"""Records made up for the check: of the declared types, bounds and nulls, the same every time."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, Literal
from zlib import crc32

from msgspec import inspect

from features.definitions import EventType
from features.definitions.field_types import int_bounds, split_null
from features.definitions.records import readable_types
from infra.clock import DAY, HOUR, SECOND

ROWS = 24
FIRST_TIME_US, LAST_TIME_US = 631_152_000_000_000, 7_258_118_400_000_000  # 1990, 2200
Flavour = Literal["usual", "extreme", "any unit"]
"""usual: small numbers and times of our days. extreme: the ends of what is declared. any unit:
numbers as times have them in seconds, milliseconds, days and so on."""

_MOMENT = 1_600_000_000 * SECOND
_TIMES = [_MOMENT + d for d in (0, 0, 1, SECOND, HOUR, -HOUR, 7 * HOUR, DAY, -DAY, 40 * DAY)]
_SMALL = [0, 1, 2, 3, 7, 15, 60, 100, -1, -5, 1_000]
_UNITS = [16_000, 2_020, 27_000_000, 450_000, 10**9, 10**12, _MOMENT, 1_600 * 10**15]
_FRACTIONS = [0.0, 1.0, 0.5, 2.25, -1.5, 100.0, 3.0]
_INT64 = (-(2**63), 2**63 - 1)
_TEXTS = ["a", "b", "A", "1", "é", "a b"]


@dataclass(frozen=True, kw_only=True)
class Samples:
    """Values of each field of a record, one for each made-up record. `times`: the fields that hold
    times."""

    values: Mapping[str, tuple[Any, ...]]
    times: frozenset[str]


def samples_of(event: EventType, flavour: Flavour) -> Samples:
    """Made-up records of an event."""
    types = readable_types(event.record, event.name)
    times = frozenset(n for n, t in types.items() if _is_time(n, t))
    values = {}
    for name, of in types.items():
        pool = _pool(of, flavour, is_time=name in times)
        values[name] = _spread(pool, _random(f"{name} {flavour}"))
    return Samples(values=values, times=times)


def _spread(pool: Sequence[Any], random: Random) -> tuple[Any, ...]:
    """Every value of the pool, as far as there are rows, in a random order."""
    values = [pool[i % len(pool)] for i in range(max(ROWS, len(pool)))]
    random.shuffle(values)
    return tuple(values[:ROWS])


def _random(seed: str) -> Random:
    """The same numbers in every process."""
    return Random(crc32(seed.encode()))  # noqa: S311  # no secret


def _pool(of: inspect.Type, flavour: Flavour, *, is_time: bool = False) -> list[Any]:
    plain, nullable = split_null(of)
    pool = _pool_without_null(plain, flavour, is_time=is_time)
    return [*pool, *[None] * (1 + len(pool) // 2)] if nullable else pool


def _pool_without_null(plain: inspect.Type | None, flavour: Flavour, *, is_time: bool) -> list[Any]:
    match plain:
        case inspect.IntType():
            return _whole(plain, flavour, is_time=is_time)
        case inspect.FloatType():
            return _fractions(plain, flavour)
        case inspect.BoolType():
            return [False, True]
        case inspect.StrType():
            return _texts(plain, flavour)
    return [None]


def _whole(of: inspect.IntType, flavour: Flavour, *, is_time: bool) -> list[int]:
    low, high = _int_bounds(of)
    if flavour == "extreme":
        if is_time:
            low, high = max(low, FIRST_TIME_US), min(high, LAST_TIME_US)
        values = [low, high, min(low + 1, high), max(high - 1, low)]
    elif is_time:
        values = _TIMES
    else:
        values = _SMALL if flavour == "usual" else _UNITS
    step = of.multiple_of or 1
    clipped = dict.fromkeys(min(max(v, low), high) // step * step for v in values)
    inside = [v for v in clipped if low <= v <= high]
    return inside or [low]


def _int_bounds(of: inspect.IntType) -> tuple[int, int]:
    low, high = int_bounds(of)
    return int(max(low, _INT64[0])), int(min(high, _INT64[1]))


def _fractions(of: inspect.FloatType, flavour: Flavour) -> list[float]:
    bounds = [of.ge, of.gt, of.le, of.lt]
    low = next((float(b) for b in bounds[:2] if b is not None), -1e15)
    high = next((float(b) for b in bounds[2:] if b is not None), 1e15)
    values = [low, high, (low + high) / 2] if flavour == "extreme" else _FRACTIONS
    clipped = list(dict.fromkeys(min(max(v, low), high) for v in values))
    open_ends = {of.gt, of.lt}
    return [v for v in clipped if v not in open_ends] or [(low + high) / 2]


def _texts(of: inspect.StrType, flavour: Flavour) -> list[str]:
    low, high = of.min_length or 0, of.max_length
    if of.pattern is not None:
        made = [_matching(of.pattern, _random(str(n))) for n in range(8)]
        return [t for t in made if re.search(of.pattern, t)] or made
    if flavour == "extreme":
        return ["x" * low, "é" * (200 if high is None else high), "\x00" * max(low, 1)][:3]
    fitting = [t.ljust(low, "x")[:high] for t in _TEXTS]
    return [*dict.fromkeys([*fitting, ""] if low == 0 else fitting)]


def _matching(pattern: str, random: Random) -> str:
    """A text that a simple pattern matches."""
    parser = re._parser  # type: ignore[attr-defined]
    return "".join(_matching_part(op, arg, random) for op, arg in parser.parse(pattern))


def _matching_part(op: Any, arg: Any, random: Random) -> str:  # noqa: PLR0911  # one a case
    match str(op):
        case "LITERAL":
            return chr(arg)
        case "NOT_LITERAL" | "ANY":
            return "a"
        case "IN":
            kind, value = random.choice(arg)
            return _matching_part(kind, value, random)
        case "RANGE":
            return chr(random.randint(*arg))
        case "CATEGORY":
            return {"CATEGORY_DIGIT": str(random.randint(0, 9)), "CATEGORY_SPACE": " "}.get(
                str(arg), "a"
            )
        case "BRANCH":
            return "".join(_matching_part(o, a, random) for o, a in random.choice(arg[1]))
        case "SUBPATTERN":
            return "".join(_matching_part(o, a, random) for o, a in arg[-1])
        case "MAX_REPEAT" | "MIN_REPEAT":
            least, most, parts = arg
            times = random.randint(least, min(int(most), least + 3))
            return "".join(_matching_part(o, a, random) for _ in range(times) for o, a in parts)
    return ""


def _is_time(name: str, of: inspect.Type) -> bool:
    """A field in microseconds, unless its bounds say that it is a length of time."""
    if isinstance(of, inspect.UnionType):
        return any(_is_time(name, t) for t in of.types)
    if not isinstance(of, inspect.IntType):
        return False
    low, high = _int_bounds(of)
    near_us = low <= _MOMENT <= high
    return near_us and (name.endswith("_us") or low >= FIRST_TIME_US // 2)


def is_time_us(value: float) -> bool:
    """Whether a number can be a time in microseconds since 1970."""
    return FIRST_TIME_US <= value < LAST_TIME_US
