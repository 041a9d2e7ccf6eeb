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
_BIG = np.dtype(">u4")
_HEAD = np.dtype([*_HEADER.descr, ("sum", _BIG)])
_HEAD_SIZE = _HEAD.itemsize
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

    @property
    def events(self) -> int:
        """How many events are in the rows."""
        return int(self.base["count"].sum()) + len(self.deltas)

    def larger_than(self, rows: int) -> Int64Array:
        """The values with more rows than these."""
        n = len(self.compacted_through_us)
        counts = np.bincount(self.base_group, minlength=n)
        return np.flatnonzero(counts + np.bincount(self.delta_group, minlength=n) > rows)

    def of(self, value: int) -> tuple[NDArray[np.void], NDArray[np.void]]:
        """The base rows and the delta rows of one value; values are in order."""
        parts = (self.base_group, self.base), (self.delta_group, self.deltas)
        base, deltas = (
            rows[np.searchsorted(group, value) : np.searchsorted(group, value, "right")]
            for group, rows in parts
        )
        return base, deltas


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
            _sum_bytes(self._sums_of(rows, base_edges, delta_edges)),
            _bytes_between(rows.base, base_edges),
            _bytes_between(rows.deltas, delta_edges),
        )
        return [b"".join(of_value) for of_value in zip(*parts, strict=True)]

    def append(self, values: Sequence[bytes], delta_rows: Sequence[bytes]) -> list[bytes]:
        """The values with packed delta rows added, to each its own. Neither is checked."""
        heads, lengths = _padded_heads(values), _lengths(values)
        has_sum = (heads["schema_id"] < 0) & (lengths >= _HEAD_SIZE)  # not of 0.1, nor torn
        rows = np.frombuffer(b"".join(delta_rows), self.delta_row)
        counts = _lengths(delta_rows) // self._row_size
        before = (lengths - _HEAD_SIZE) // self._row_size
        sums = _sum_bytes(heads["sum"] + self._sums(rows, counts, before))
        return [
            b"".join((value[:_HEADER_SIZE], total, value[_HEAD_SIZE:], added))
            if with_sum
            else value + added
            for value, added, with_sum, total in zip(
                values, delta_rows, has_sum.tolist(), sums, strict=True
            )
        ]

    def parse(self, values: Sequence[bytes], tags: Int64Array) -> ValueRows:
        """The rows of values.

        Raises:
            ViewSchemaMismatch: a value belongs to another declaration.
            CorruptValue: a value is damaged, or belongs to another entity.
        """
        heads = self._heads(values, tags)
        has_sum = heads["schema_id"] < 0
        starts = np.where(has_sum, _HEAD_SIZE, _HEADER_SIZE)
        lengths = _lengths(values) - starts
        counts, base_counts = lengths // self._row_size, heads["base"]
        self._refuse((lengths % self._row_size != 0) | (counts < base_counts))
        body = b"".join([v[start:] for v, start in zip(values, starts.tolist(), strict=True)])
        rows = np.frombuffer(body, self.base_row)
        group = np.arange(len(values))
        sealed = self._are_sealed(rows, np.repeat(tags, counts), np.repeat(has_sum, counts))
        if not sealed.all():
            self._refuse(np.bincount(np.repeat(group, counts)[~sealed], minlength=len(values)) > 0)
        self._refuse(has_sum & (heads["sum"] != self._sums(rows, counts, np.zeros_like(counts))))
        delta_counts = counts - base_counts
        is_base = np.repeat(
            np.tile([True, False], len(values)), np.stack([base_counts, delta_counts], 1).ravel()
        )
        return ValueRows(
            compacted_through_us=heads["compacted_through_us"],
            base=rows[is_base],
            base_group=np.repeat(group, base_counts),
            deltas=rows[~is_base].view(self.delta_row),
            delta_group=np.repeat(group, delta_counts),
        )

    def row_counts(
        self, values: Sequence[bytes], entities: Sequence[bytes]
    ) -> tuple[Int64Array, Int64Array, Int64Array]:
        """Number of base rows and delta rows of each value (a torn one counts), and how many delta
        rows the last compaction left. Only the headers are read.

        Raises:
            ViewSchemaMismatch: a value belongs to another declaration.
            CorruptValue: a header is damaged.
        """
        heads, lengths = _padded_heads(values), _lengths(values)
        self._refuse(lengths < _HEADER_SIZE)
        if not np.isin(heads["schema_id"] & ~_HAS_SUM, self._ids).all():
            self._heads(values, entity_tags(entities))  # tells damage from another declaration
        starts = np.where(heads["schema_id"] < 0, _HEAD_SIZE, _HEADER_SIZE)
        delta_bytes = lengths - starts - heads["base"] * self._row_size
        return heads["base"], -(-delta_bytes // self._row_size), heads["deltas_left"]

    def _heads(self, values: Sequence[bytes], tags: Int64Array) -> NDArray[np.void]:
        """Headers and sums; the headers are undamaged and of this declaration."""
        heads = _padded_heads(values)
        damaged = _checksums(heads, _header_salts(heads, tags)) != heads[CHECKSUM]
        self._refuse(damaged | (heads["base"] < 0))
        ids = heads["schema_id"] & ~_HAS_SUM
        if (ids != self._schema_id).any() and not {*ids.tolist()} <= {*self._ids}:
            raise ViewSchemaMismatch(self._view)
        return heads

    def _refuse(self, damaged: BoolArray) -> None:
        """Raises CorruptValue if any value is damaged."""
        if damaged.any():
            raise CorruptValue(self._view, np.flatnonzero(damaged).tolist())

    def _are_sealed(
        self, rows: NDArray[np.void], tags: Int64Array, has_sum: BoolArray
    ) -> BoolArray:
        """Which rows have their checksum. Rows of values without a sum may have the one that does
        not depend on the entity."""
        salts = _entity_salts(tags)
        sealed: BoolArray = _checksums(rows, salts + np.uint64(self._schema_id)) == rows[CHECKSUM]
        if sealed.all():
            return sealed
        for schema_id in map(np.uint64, self._ids):
            sealed |= _checksums(rows, salts + schema_id) == rows[CHECKSUM]
            sealed |= ~has_sum & (_checksums(rows, schema_id) == rows[CHECKSUM])
        return sealed

    def _sums_of(
        self, rows: ValueRows, base_edges: Int64Array, delta_edges: Int64Array
    ) -> NDArray[np.uint64]:
        """The sum of each value; the edges say where its rows begin and end."""
        base = np.diff(base_edges)
        sums = self._sums(rows.base, base, np.zeros_like(base))
        return sums + self._sums(rows.deltas, np.diff(delta_edges), base) & np.uint64(_SUM_BITS)

    def _sums(
        self, rows: NDArray[np.void], counts: Int64Array, before: Int64Array
    ) -> NDArray[np.uint64]:
        """What rows add to the sums of values. Each value has so many of them, behind so many that
        were there before."""
        checksums = rows[CHECKSUM] & _CHECKSUM_BITS
        edges = np.concatenate([[0], np.cumsum(counts)])
        # The place of row i of all rows is `step * i`, and a number that its value has.
        step, first = self._row_size // _PLACE_BYTES, (_HEAD_SIZE + self._row_size) // _PLACE_BYTES
        total = _between(checksums, edges)
        weighted = _between(checksums * np.arange(len(rows)), edges)
        # It may wrap.
        sums: Int64Array = step * weighted + (first + step * (before - edges[:-1])) * total
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


def short_names(entities: Sequence[bytes]) -> Sequence[bytes]:
    """The `short_name` of each entity."""
    if max(map(len, entities), default=0) <= LONGEST_NAME:
        return entities
    return [*map(short_name, entities)]


def entity_tags(entities: Sequence[bytes]) -> Int64Array:
    """32 bits that tell an entity from another, of each. They may be their `short_name`."""
    return np.fromiter(map(crc32, short_names(entities)), np.int64, len(entities))


def _row_layout(*columns: str) -> np.dtype[np.void]:
    return np.dtype([(c, "<i8") for c in (*columns, CHECKSUM)])


def _padded_heads(values: Sequence[bytes]) -> NDArray[np.void]:
    """The beginning of each value as header and sum, with zeros behind a shorter one."""
    heads = b"".join([value[:_HEAD_SIZE] for value in values])
    if len(heads) < _HEAD_SIZE * len(values):
        heads = b"".join([value[:_HEAD_SIZE].ljust(_HEAD_SIZE, b"\0") for value in values])
    return np.frombuffer(heads, _HEAD)


def _lengths(parts: Sequence[bytes]) -> Int64Array:
    return np.fromiter(map(len, parts), np.int64, len(parts))


def _between(numbers: Int64Array, edges: Int64Array) -> Int64Array:
    """The sums of the numbers between each two edges; they wrap."""
    sums = np.concatenate([[0], np.cumsum(numbers)])
    return np.diff(sums[edges])


def _sum_bytes(sums: NDArray[np.uint64]) -> list[bytes]:
    sum_bytes: list[bytes] = sums.astype(_BIG).view(f"V{_BIG.itemsize}").tolist()
    return sum_bytes


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
    names = rows.dtype.names
    assert names is not None
    for name in names[: names.index(CHECKSUM)]:
        checksums = (checksums ^ rows[name].astype(np.uint64)) * _CHECKSUM_FACTOR
        checksums ^= checksums >> np.uint64(32)
    return checksums.view(np.int64)
