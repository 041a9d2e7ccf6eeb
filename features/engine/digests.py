"""Texts as 63-bit numbers, the same in every process: the stored state has these, not the texts."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.definitions.events import Int64Array
from features.engine.sorting import UNSET

# FNV-1a over the code points, then the finalizer of MurmurHash3, which spreads the last ones.
_OFFSET, _PRIME = np.uint64(0xCBF29CE484222325), np.uint64(0x100000001B3)
_MIX = (np.uint64(0xFF51AFD7ED558CCD), np.uint64(0xC4CEB9FE1A85EC53))
_SHIFT, _DROP_SIGN = np.uint64(33), np.uint64((1 << 63) - 1)


def digests(texts: NDArray[Any]) -> Int64Array:
    """The digest of each text, never negative; UNSET for None."""
    missing = np.array([t is None for t in texts.tolist()], bool)
    padded = np.array(["" if t is None else t for t in texts.tolist()], dtype=np.str_)
    width = padded.dtype.itemsize // 4
    points = padded.view(np.uint32).reshape(len(padded), width) if width else np.empty((0, 0))
    lengths = np.char.str_len(padded) if width else np.zeros(len(padded), int)
    state = np.full(len(padded), _OFFSET, np.uint64)
    with np.errstate(over="ignore"):
        for at in range(points.shape[1]):
            has_point = lengths > at
            mixed = (state ^ points[:, at].astype(np.uint64)) * _PRIME
            state = np.where(has_point, mixed, state)
        for factor in _MIX:
            state = (state ^ (state >> _SHIFT)) * factor
        state ^= state >> _SHIFT
    return np.where(missing, UNSET, (state & _DROP_SIGN).astype(np.int64))
