"""The bytes of one value of the online store: the state of one view for one entity.

    value = header | base rows, by key              | delta rows, as they arrived
                   | key, count, int64 columns      | key, known_us, int64 columns

Base rows are what compaction has merged; delta rows are events, a row each, that were appended
since. Header and rows end in a checksum, so damage is noticed and never served. All numbers are
int64, little endian.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from features.definitions.events import BoolArray, Int64Array
from features.engine.sorting import UNSET
from features.errors import FeatureError

CHECKSUM = "checksum"
# `base`: number of base rows. `deltas_left`: number of delta rows that the last compaction left.
_HEADER = np.dtype(
    [
        ("schema_id", "<i8"),
        ("compacted_through_us", "<i8"),
        ("base", "<i8"),
        ("deltas_left", "<i8"),
        (CHECKSUM, "<i8"),
    ]
)
_HEADER_SIZE = _HEADER.itemsize
_HEADER_STRUCT = struct.Struct("<qqqqq")
_CHECKSUM_FACTOR = np.uint64(0x9E3779B97F4A7C15)
_HEADER_SALT = 0x51ED270B


class ViewSchemaMismatch(FeatureError):
    """A value was written under another declaration of its view and must not be served."""

    hint = "rebuild the online store: `eventide features rebuild`"

    def __init__(self, view: str, *, why: str = "", hint: str | None = None) -> None:
        self.view = view
        reason = f": {why}" if why else ""
        super().__init__(
            f"the online values of view {view} were computed under another declaration of"
            f" it{reason}",
            hint=hint,
        )


class CorruptValue(FeatureError):
    """Values in the online store are not what was written there; they must not be served.

    `indexes`: which of the values that were given.
    """

    def __init__(self, view: str, indexes: Sequence[int]) -> None:
        self.view, self.indexes = view, tuple(indexes)
        super().__init__(
            f"{len(self.indexes)} online values of view {view} are damaged",
            hint="ingest detects and repairs it; to do it at once: `eventide features rebuild`",
        )


@dataclass(frozen=True, kw_only=True)
class ValueRows:
    """The rows of several values, value after value; `*_group` says which value each belongs to.

    `compacted_through_us`: one for each value. What was known before it is compacted; the value
    is exact for queries from there on.
    """

    compacted_through_us: Int64Array
    base: NDArray[np.void]
    base_group: Int64Array
    deltas: NDArray[np.void]
    delta_group: Int64Array


class ValueFormat:
    """Packs the rows of one view into values and parses them again.

    `base_row`, `delta_row`: the layouts of the rows. `empty`: the value of an entity without rows.
    """

    def __init__(self, view: str, columns: Sequence[str], schema_id: int) -> None:
        self._view, self._schema_id = view, schema_id
        self._earlier_ids: set[int] = set()
        self.base_row = _row_layout("row_key", "count", *columns)
        self.delta_row = _row_layout("row_key", "known_us", *columns)
        self._base_size = int(self.base_row.itemsize)
        self._delta_size = int(self.delta_row.itemsize)
        none = np.empty(0, np.int64)
        self.empty = self.pack(
            ValueRows(
                compacted_through_us=np.array([UNSET]),
                base=np.empty(0, self.base_row),
                base_group=none,
                deltas=np.empty(0, self.delta_row),
                delta_group=none,
            )
        )[0]

    def accept(self, earlier_id: int) -> None:
        """Take values and rows too that were sealed under this id of the same declaration.

        Parsed rows are sealed under the current id. Rows that are appended to such a value are
        sealed under it too, behind the header of before.
        """
        self._earlier_ids.add(earlier_id)

    def seal(self, rows: NDArray[np.void]) -> NDArray[np.void]:
        """Set the checksums of the rows, in place; returns the rows."""
        rows[CHECKSUM] = _checksums(rows, self._schema_id)
        return rows

    def pack(self, rows: ValueRows) -> list[bytes]:
        """The values of sealed rows, which are sorted by group."""
        n = len(rows.compacted_through_us)
        values = np.arange(n + 1)
        base_edges = np.searchsorted(rows.base_group, values)
        delta_edges = np.searchsorted(rows.delta_group, values)
        headers = np.zeros(n, _HEADER)
        headers["schema_id"] = self._schema_id
        headers["compacted_through_us"] = rows.compacted_through_us
        headers["base"], headers["deltas_left"] = np.diff(base_edges), np.diff(delta_edges)
        headers[CHECKSUM] = _checksums(headers, _HEADER_SALT)
        parts = (
            _bytes_between(headers, values),
            _bytes_between(rows.base, base_edges),
            _bytes_between(rows.deltas, delta_edges),
        )
        return [header + base + deltas for header, base, deltas in zip(*parts, strict=True)]

    def parse(self, values: Sequence[bytes]) -> ValueRows:
        """The rows of values.

        Raises:
            ViewSchemaMismatch: a value belongs to another declaration.
            CorruptValue: a value is damaged.
        """
        headers = self._headers(values)
        lengths = np.fromiter(map(len, values), np.int64, len(values))
        ends = _HEADER_SIZE + headers["base"] * self.base_row.itemsize
        torn = (ends > lengths) | ((lengths - ends) % self.delta_row.itemsize != 0)
        if torn.any():
            raise CorruptValue(self._view, np.flatnonzero(torn).tolist())
        cuts = list(zip(values, ends.tolist(), strict=True))
        groups = np.arange(len(values))
        rows = ValueRows(
            compacted_through_us=headers["compacted_through_us"],
            base=np.frombuffer(b"".join([v[_HEADER_SIZE:e] for v, e in cuts]), self.base_row),
            base_group=np.repeat(groups, headers["base"]),
            deltas=np.frombuffer(b"".join([v[e:] for v, e in cuts]), self.delta_row),
            delta_group=np.repeat(groups, (lengths - ends) // self.delta_row.itemsize),
        )
        return self._verified(rows)

    def delta_counts(self, value: bytes) -> tuple[int, int]:
        """Number of delta rows of a value (a torn one counts), and how many of them the last
        compaction left. Only the header is read.

        Raises:
            ViewSchemaMismatch: the value belongs to another declaration.
            CorruptValue: its header is damaged.
        """
        # Once a value and update: nothing is copied, and sizes are not looked up in the dtypes.
        if len(value) < _HEADER_SIZE:
            self._headers([value])
        schema_id, _, base, deltas_left, _ = _HEADER_STRUCT.unpack_from(value)
        if schema_id != self._schema_id and schema_id not in self._earlier_ids:
            self._headers([value])  # tells damage from another declaration
        delta_bytes = len(value) - _HEADER_SIZE - base * self._base_size
        return -(-delta_bytes // self._delta_size), deltas_left

    def _headers(self, values: Sequence[bytes]) -> NDArray[np.void]:
        """The headers, undamaged and of this declaration."""
        padded = [v[:_HEADER_SIZE].ljust(_HEADER_SIZE, b"\0") for v in values]
        headers: NDArray[np.void] = np.frombuffer(b"".join(padded), _HEADER)
        damaged = _checksums(headers, _HEADER_SALT) != headers[CHECKSUM]
        if (damaged | (headers["base"] < 0)).any():
            raise CorruptValue(self._view, np.flatnonzero(damaged).tolist())
        others = headers["schema_id"][headers["schema_id"] != self._schema_id]
        if len(others) and not self._earlier_ids.issuperset(others.tolist()):
            raise ViewSchemaMismatch(self._view)
        return headers

    def _verified(self, rows: ValueRows) -> ValueRows:
        """The rows, sealed under the current id, if none is damaged."""
        base, deltas = self._unsealed(rows.base), self._unsealed(rows.deltas)
        if not (base.any() or deltas.any()):
            return rows
        groups = rows.base_group[self._damaged(rows.base, base)]
        values = np.union1d(groups, rows.delta_group[self._damaged(rows.deltas, deltas)])
        if len(values):
            raise CorruptValue(self._view, values.tolist())
        return replace(rows, base=self.seal(rows.base.copy()), deltas=self.seal(rows.deltas.copy()))

    def _unsealed(self, rows: NDArray[np.void]) -> BoolArray:
        """Which rows are not sealed under the current id."""
        unsealed: BoolArray = _checksums(rows, self._schema_id) != rows[CHECKSUM]
        return unsealed

    def _damaged(self, rows: NDArray[np.void], unsealed: BoolArray) -> BoolArray:
        """Which of the unsealed rows are not sealed under an earlier id either."""
        damaged = unsealed
        for earlier_id in self._earlier_ids:
            damaged = damaged & (_checksums(rows, earlier_id) != rows[CHECKSUM])
        return damaged


def compacted_through_us(value: bytes) -> int:
    """The time from which on a value is exact."""
    time_us: int = _HEADER_STRUCT.unpack_from(value)[1]
    return time_us


def _row_layout(*columns: str) -> np.dtype[np.void]:
    return np.dtype([(c, "<i8") for c in (*columns, CHECKSUM)])


def _bytes_between(rows: NDArray[np.void], edges: Int64Array) -> list[bytes]:
    """The bytes of the rows between each two edges."""
    packed, byte_edges = rows.tobytes(), (edges * rows.itemsize).tolist()
    return [packed[a:b] for a, b in pairwise(byte_edges)]


def _checksums(rows: NDArray[np.void], salt: int) -> Int64Array:
    """For each row a number that a changed bit changes; that of a row of zeros is not zero."""
    checksums = np.full(len(rows), salt, np.int64).view(np.uint64)
    assert rows.dtype.names is not None
    for name in rows.dtype.names[:-1]:
        checksums = (checksums ^ rows[name].astype(np.uint64)) * _CHECKSUM_FACTOR
        checksums ^= checksums >> np.uint64(32)
    return checksums.view(np.int64)
