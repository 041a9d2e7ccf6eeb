"""The bytes of one value of the online store: the state of one view for one entity.

    value = header, sum | base rows, by key              | delta rows, as they arrived
                        | key, count, int64 columns      | key, known_us, int64 columns

Base rows are what compaction has merged; delta rows are events, a row each, that were appended
since. All numbers are int64, little endian.

Damage is noticed and never served. Header and rows end in a checksum, which depends on the entity:
rows of another entity are damage. The sum adds up the checksums of all rows, each times its place
in the value: so is a value that lacks a row, or has one twice or in another place. Who appends rows
adds to the sum and reads no other row. It is an unsigned number of 32 bits, big endian, as the
command BITFIELD of Redis has it.

Values that were written until 0.1 have no sum, and checksums that do not depend on the entity. They
are read as they are, and the next compaction rewrites them. In a header with a sum the schema id
has its highest bit set.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import blake2b
from itertools import pairwise
from zlib import crc32

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
_SUM = struct.Struct(">I")
_BIG = np.dtype(">u4")
_HAS_SUM = -(1 << 63)  # the highest bit of the schema id
_CHECKSUM_FACTOR = np.uint64(0x9E3779B97F4A7C15)
_HEADER_SALT = 0x51ED270B
_ENTITY_FACTOR = np.uint64(0xC2B2AE3D27D4EB4F)

# Lua adds up the same sum and has 53 bits for a number: 24 of a checksum times 27 of a place. A
# value of Redis has at most 512 MiB, and its places are counted in four bytes.
_CHECKSUM_BITS = 0xFFFFFF
_SUM_BITS = 0xFFFFFFFF
_PLACE_BYTES = 4

LONGEST_NAME = 500


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

    `base_row`, `delta_row`: the layouts of the rows. `empty`: the value of an entity without rows,
    whichever it is. `tags`: the tag of the entity of each row or value (`entity_tags`).
    """

    def __init__(self, view: str, columns: Sequence[str], schema_id: int) -> None:
        self._view, self._schema_id = view, schema_id
        self._ids = [schema_id]  # under which values may have been sealed, the current one first
        self.base_row = _row_layout("row_key", "count", *columns)
        self.delta_row = _row_layout("row_key", "known_us", *columns)
        self._row_size = int(self.base_row.itemsize)  # base rows and delta rows have one size
        self._row_checksum = struct.Struct(f"<{self._row_size - 8}xI4x")
        none = np.empty(0, np.int64)
        self.empty = self.pack(
            ValueRows(
                compacted_through_us=np.array([UNSET]),
                base=np.empty(0, self.base_row),
                base_group=none,
                deltas=np.empty(0, self.delta_row),
                delta_group=none,
            ),
            np.zeros(1, np.int64),
        )[0]

    def accept(self, earlier_id: int) -> None:
        """Take values and rows too that were sealed under this id of the same declaration.

        Rows that are appended to such a value are sealed under the current id, behind the header of
        before.
        """
        self._ids.append(earlier_id)

    def seal(self, rows: NDArray[np.void], tags: Int64Array) -> NDArray[np.void]:
        """Set the checksums of the rows, in place; returns the rows."""
        rows[CHECKSUM] = _checksums(rows, _entity_salts(tags) + np.uint64(self._schema_id))
        return rows

    def pack(self, rows: ValueRows, tags: Int64Array) -> list[bytes]:
        """The values of rows, which are sorted by group; seals the rows."""
        self.seal(rows.base, tags[rows.base_group])
        self.seal(rows.deltas, tags[rows.delta_group])
        n = len(rows.compacted_through_us)
        values = np.arange(n + 1)
        base_edges = np.searchsorted(rows.base_group, values)
        delta_edges = np.searchsorted(rows.delta_group, values)
        headers = np.zeros(n, _HEADER)
        headers["schema_id"] = self._schema_id | _HAS_SUM
        headers["compacted_through_us"] = rows.compacted_through_us
        headers["base"], headers["deltas_left"] = np.diff(base_edges), np.diff(delta_edges)
        headers[CHECKSUM] = _checksums(headers, _header_salts(headers, tags))
        parts = (
            _bytes_between(headers, values),
            map(_SUM.pack, self._sums_of(rows, base_edges, delta_edges).tolist()),
            _bytes_between(rows.base, base_edges),
            _bytes_between(rows.deltas, delta_edges),
        )
        return [b"".join(of_value) for of_value in zip(*parts, strict=True)]

    def append(self, value: bytes, delta_rows: bytes) -> bytes:
        """The value with packed delta rows added. Neither is checked."""
        if len(value) <= _HEADER_SIZE or value[7] < 0x80:  # of 0.1, or damaged
            return value + delta_rows
        total = _SUM.unpack_from(value, _HEADER_SIZE)[0]
        place, step = len(value) // _PLACE_BYTES, self._row_size // _PLACE_BYTES
        for (checksum,) in self._row_checksum.iter_unpack(delta_rows):
            place += step
            total += (checksum & _CHECKSUM_BITS) * place
        rest = memoryview(value)[_HEADER_SIZE + _SUM.size :]
        return b"".join((value[:_HEADER_SIZE], _SUM.pack(total & _SUM_BITS), rest, delta_rows))

    def parse(self, values: Sequence[bytes], tags: Int64Array) -> ValueRows:
        """The rows of values.

        Raises:
            ViewSchemaMismatch: a value belongs to another declaration.
            CorruptValue: a value is damaged, or belongs to another entity.
        """
        headers = self._headers(values, tags)
        has_sum = headers["schema_id"] < 0
        starts = _HEADER_SIZE + _SUM.size * has_sum
        lengths = np.fromiter(map(len, values), np.int64, len(values)) - starts
        counts, base_counts = lengths // self._row_size, headers["base"]
        self._refuse((lengths % self._row_size != 0) | (counts < base_counts))
        body = b"".join([v[start:] for v, start in zip(values, starts.tolist(), strict=True)])
        rows = np.frombuffer(body, self.base_row)
        group = np.repeat(np.arange(len(values)), counts)
        number = np.arange(len(rows)) - (np.cumsum(counts) - counts)[group]
        sealed = self._are_sealed(rows, tags[group], old=~has_sum[group])
        if not sealed.all():
            self._refuse(np.bincount(group[~sealed], minlength=len(values)) > 0)
        sums = self._sums(rows, group, number, len(values))
        stored = b"".join([v[_HEADER_SIZE : _HEADER_SIZE + _SUM.size] for v in values])
        self._refuse(has_sum & (np.frombuffer(stored.ljust(_SUM.size), _BIG)[: len(sums)] != sums))
        is_base = number < base_counts[group]
        return ValueRows(
            compacted_through_us=headers["compacted_through_us"],
            base=rows[is_base],
            base_group=group[is_base],
            deltas=rows[~is_base].view(self.delta_row),
            delta_group=group[~is_base],
        )

    def delta_counts(self, value: bytes, entity: bytes) -> tuple[int, int]:
        """Number of delta rows of a value (a torn one counts), and how many of them the last
        compaction left. Only the header is read.

        Raises:
            ViewSchemaMismatch: the value belongs to another declaration.
            CorruptValue: its header is damaged.
        """
        # Once a value and update: nothing is copied, and sizes are not looked up in the dtypes.
        if len(value) < _HEADER_SIZE:
            raise CorruptValue(self._view, [0])
        schema_id, _, base, deltas_left, _ = _HEADER_STRUCT.unpack_from(value)
        if schema_id & ~_HAS_SUM not in self._ids:
            self._headers([value], entity_tags([entity]))  # tells damage from another declaration
        start = _HEADER_SIZE + (_SUM.size if schema_id < 0 else 0)
        delta_bytes = len(value) - start - base * self._row_size
        return -(-delta_bytes // self._row_size), deltas_left

    def _headers(self, values: Sequence[bytes], tags: Int64Array) -> NDArray[np.void]:
        """The headers, undamaged and of this declaration."""
        padded = [v[:_HEADER_SIZE].ljust(_HEADER_SIZE, b"\0") for v in values]
        headers: NDArray[np.void] = np.frombuffer(b"".join(padded), _HEADER)
        damaged = _checksums(headers, _header_salts(headers, tags)) != headers[CHECKSUM]
        self._refuse(damaged | (headers["base"] < 0))
        ids = headers["schema_id"] & ~_HAS_SUM
        if (ids != self._schema_id).any() and not {*ids.tolist()} <= {*self._ids}:
            raise ViewSchemaMismatch(self._view)
        return headers

    def _refuse(self, damaged: BoolArray) -> None:
        """Raises CorruptValue if any value is damaged."""
        if damaged.any():
            raise CorruptValue(self._view, np.flatnonzero(damaged).tolist())

    def _are_sealed(self, rows: NDArray[np.void], tags: Int64Array, *, old: BoolArray) -> BoolArray:
        """Which rows have their checksum. `old`: rows of values without a sum, which may have the
        one that does not depend on the entity."""
        sealed = np.zeros(len(rows), bool)
        salts = _entity_salts(tags)
        for schema_id in map(np.uint64, self._ids):
            sealed |= _checksums(rows, salts + schema_id) == rows[CHECKSUM]
            if old.any():
                sealed |= old & (_checksums(rows, schema_id) == rows[CHECKSUM])
            if sealed.all():
                break
        return sealed

    def _sums_of(
        self, rows: ValueRows, base_edges: Int64Array, delta_edges: Int64Array
    ) -> NDArray[np.uint64]:
        """The sum of each value; the edges say where its rows begin and end."""
        of_base = np.arange(len(rows.base)) - base_edges[rows.base_group]
        before_deltas = np.diff(base_edges) - delta_edges[:-1]
        of_deltas = np.arange(len(rows.deltas)) + before_deltas[rows.delta_group]
        n = len(rows.compacted_through_us)
        sums = self._sums(rows.base, rows.base_group, of_base, n)
        sums += self._sums(rows.deltas, rows.delta_group, of_deltas, n)
        return sums & np.uint64(_SUM_BITS)

    def _sums(
        self, rows: NDArray[np.void], group: Int64Array, number: Int64Array, n: int
    ) -> NDArray[np.uint64]:
        """What rows add to the sums of `n` values: row `number[i]` of value `group[i]`."""
        end = _HEADER_SIZE + _SUM.size + self._row_size
        place = (number * self._row_size + end) // _PLACE_BYTES
        sums = np.zeros(n, np.int64)
        np.add.at(sums, group, (rows[CHECKSUM] & _CHECKSUM_BITS) * place)  # it may wrap
        return sums.view(np.uint64) & np.uint64(_SUM_BITS)


def compacted_through_us(value: bytes) -> int:
    """The time from which on a value is exact."""
    time_us: int = _HEADER_STRUCT.unpack_from(value)[1]
    return time_us


def short_name(entity: bytes) -> bytes:
    """The entity, or the digest of a very long one."""
    if len(entity) <= LONGEST_NAME:
        return entity
    return b"#" + blake2b(entity, digest_size=32).digest()


def entity_tag(entity: bytes) -> int:
    """32 bits that tell one entity from another. `entity` may be its `short_name`."""
    return crc32(short_name(entity))


def entity_tags(entities: Sequence[bytes]) -> Int64Array:
    """The tag of each entity."""
    return np.fromiter(map(entity_tag, entities), np.int64, len(entities))


def _row_layout(*columns: str) -> np.dtype[np.void]:
    return np.dtype([(c, "<i8") for c in (*columns, CHECKSUM)])


def _bytes_between(rows: NDArray[np.void], edges: Int64Array) -> list[bytes]:
    """The bytes of the rows between each two edges."""
    packed, byte_edges = rows.tobytes(), (edges * rows.itemsize).tolist()
    return [packed[a:b] for a, b in pairwise(byte_edges)]


def _entity_salts(tags: Int64Array) -> NDArray[np.uint64]:
    return (tags.astype(np.uint64) + np.uint64(1)) * _ENTITY_FACTOR


def _header_salts(headers: NDArray[np.void], tags: Int64Array) -> NDArray[np.uint64]:
    """An old header does not say whose it is, nor does one that no compaction wrote: Redis appends
    to the empty value of a view."""
    is_owned = (headers["schema_id"] < 0) & (headers["compacted_through_us"] != UNSET)
    return np.where(is_owned, _entity_salts(tags), np.uint64(0)) + np.uint64(_HEADER_SALT)


def _checksums(rows: NDArray[np.void], salt: NDArray[np.uint64] | np.uint64) -> Int64Array:
    """For each row a number that a changed bit changes; that of a row of zeros is not zero."""
    checksums = np.full(len(rows), salt, np.uint64)
    assert rows.dtype.names is not None
    for name in rows.dtype.names[:-1]:
        checksums = (checksums ^ rows[name].astype(np.uint64)) * _CHECKSUM_FACTOR
        checksums ^= checksums >> np.uint64(32)
    return checksums.view(np.int64)
