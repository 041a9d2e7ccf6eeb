"""Texts as 63-bit numbers, the same in every process: the stored state has these, not the texts."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.definitions.events import Int64Array
from features.engine.sorting import UNSET

# FNV-1a over the code points, then the finalizer of MurmurHash3, which spreads the last ones.
_OFFSET, _PRIME = 0xCBF29CE484222325, 0x100000001B3
_MIX = (np.uint64(0xFF51AFD7ED558CCD), np.uint64(0xC4CEB9FE1A85EC53))
_SHIFT, _DROP_SIGN = np.uint64(33), np.uint64((1 << 63) - 1)
_BITS_64 = (1 << 64) - 1

_FEW = 16  # so few texts are faster one character after the other than column by column


def digests(texts: NDArray[Any]) -> Int64Array:
    """The digest of each text, never negative; UNSET for what is no text (None, or NaN where a
    check has nullified it).

    Costs as much as the texts are long together, however much their lengths differ.
    """
    given = texts.tolist()
    exists = np.fromiter((isinstance(t, str) for t in given), bool, len(given))
    state = _states(given if exists.all() else [t if isinstance(t, str) else "" for t in given])
    for factor in _MIX:
        state = (state ^ (state >> _SHIFT)) * factor
    state ^= state >> _SHIFT
    return np.where(exists, (state & _DROP_SIGN).astype(np.int64), UNSET)


def _states(texts: Sequence[str]) -> NDArray[np.uint64]:
    """The hash of each text before it is finalized: the texts are columns of code points, the
    longest text first."""
    lengths = np.fromiter(map(len, texts), np.int64, len(texts))
    order = np.argsort(-lengths, kind="stable")
    points = np.frombuffer("".join(texts).encode("utf-32-le", "surrogatepass"), np.uint32)
    first = (np.cumsum(lengths) - lengths)[order]
    ordered = np.full(len(texts), _OFFSET, np.uint64)
    # How many texts are longer than each place.
    longer = np.searchsorted(-lengths[order], -np.arange(lengths.max(initial=0)))
    for at, n in enumerate(longer.tolist()):
        if n < _FEW:
            _finish(ordered, [texts[i][at:] for i in order[:n].tolist()])
            break
        ordered[:n] = (ordered[:n] ^ points[first[:n] + at]) * np.uint64(_PRIME)
    states = np.empty(len(texts), np.uint64)
    states[order] = ordered
    return states


def _finish(states: NDArray[np.uint64], rests: Sequence[str]) -> None:
    """Hash what is left of the first texts, in place."""
    for i, rest in enumerate(rests):
        state = int(states[i])
        for point in map(ord, rest):
            state = ((state ^ point) * _PRIME) & _BITS_64
        states[i] = state
