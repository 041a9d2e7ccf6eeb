"""Whatever happens to the bytes of a stored value, it is noticed and never served."""

import struct
from collections.abc import Sequence
from datetime import timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.definitions import Aggregation, Column, Entity, FeatureView
from features.engine.sorting import UNSET
from features.engine.state import ViewState
from features.engine.value_format import CorruptValue, entity_tags
from features.engine.view_states import state_of
from infra.clock import SECOND
from tests.support.by_hand import an_event
from tests.support.examples import examples

SOLD = an_event(cents=int)
VIEW = FeatureView(
    name="made",
    source=SOLD,
    entity=Entity(name="shop", keys=("shop",)),
    columns=(Column(name="price", compute=lambda e: e["cents"], reads=("cents",)),),
    aggregations=(
        Aggregation(operation="sum", column="price", windows=(timedelta(seconds=100),)),
        Aggregation(operation="last", column="cents", windows=(timedelta(seconds=100),)),
    ),
)
STATE = state_of(VIEW)
START = len(STATE.empty)
ROW = STATE.format.delta_row.itemsize
"""Base rows and delta rows have one length."""

COUNTS = st.lists(st.integers(1, 4), min_size=1, max_size=4)
"""How many rows each of several updates appends."""


def packed(entity: bytes, seconds: Sequence[int], state: ViewState = STATE) -> bytes:
    times = np.array(seconds) * SECOND
    rows = state.rows_of(SOLD, {"event_time_us": times, "cents": np.array(seconds)}, times)
    return state.pack_rows(rows, entity_tags([entity] * len(seconds))).tobytes()


def grown(value: bytes, entity: bytes, seconds: Sequence[int]) -> bytes:
    return STATE.append([value], [packed(entity, seconds)], [entity])[0][0]


def value_of(entity: bytes, counts: Sequence[int], *, compacted: int = 0) -> bytes:
    """A value of events a second apart, after several updates; those before `compacted` are base
    rows."""
    value, second = STATE.empty, 0
    for count in counts:
        value = grown(value, entity, range(second, second + count))
        second += count
    return STATE.compact([value], [entity], compacted * SECOND)[0] if compacted else value


def is_damage(value: bytes, entity: bytes = b"a") -> bool:
    try:
        STATE.verify([value], [entity])
    except CorruptValue:
        return True
    return False


def edges(value: bytes) -> range:
    """Where rows begin, and the end of the value."""
    return range(START, len(value) + 1, ROW)


values = st.builds(value_of, st.just(b"a"), COUNTS, compacted=st.integers(0, 8))


@examples(50)
@given(values)
def test_an_undamaged_value_is_whole(value: bytes) -> None:
    assert not is_damage(value)


@examples(10)
@given(values)
def test_every_changed_bit_is_noticed(value: bytes) -> None:
    for bit in range(8 * len(value)):
        damaged = bytearray(value)
        damaged[bit // 8] ^= 1 << bit % 8
        assert is_damage(bytes(damaged))


@examples(20)
@given(values)
def test_every_cut_is_noticed(value: bytes) -> None:
    assert all(is_damage(value[:length]) for length in range(len(value)))
    for n, start in enumerate(edges(value)):
        for end in edges(value)[n + 1 :]:
            assert is_damage(value[:start] + value[end:])


@examples(20)
@given(values)
def test_every_swap_and_every_doubled_row_is_noticed(value: bytes) -> None:
    rows = [value[a : a + ROW] for a in edges(value)[:-1]]
    for i in range(len(rows)):
        for j in range(len(rows)):
            if i == j:
                continue
            swapped, doubled = list(rows), list(rows)
            swapped[i], swapped[j] = rows[j], rows[i]
            doubled[i] = rows[j]
            for damaged in (swapped, doubled, [*rows, rows[i]]):
                assert is_damage(value[:START] + b"".join(damaged))


@examples(50)
@given(COUNTS, st.integers(0, 8))
def test_a_value_and_rows_of_another_entity_are_noticed(counts: list[int], compacted: int) -> None:
    own = value_of(b"a", counts, compacted=compacted)
    other = value_of(b"b", counts, compacted=compacted)
    assert is_damage(other)
    for a in edges(own)[:-1]:
        assert is_damage(own[:a] + other[a : a + ROW] + own[a + ROW :])


def test_an_empty_value_of_another_entity_is_noticed_once_it_says_when_it_is_exact() -> None:
    empty = STATE.compact([STATE.empty], [b"b"], 200 * SECOND)[0]
    assert len(empty) == len(STATE.empty)
    assert not is_damage(empty, b"b")
    assert is_damage(empty)


def test_a_torn_value_stays_damaged_when_rows_are_added() -> None:
    value = value_of(b"a", [3])
    shorter = grown(value[:-ROW], b"a", [7])
    assert is_damage(shorter)
    with pytest.raises(CorruptValue):
        STATE.compact([shorter], [b"a"], 100 * SECOND)


def test_a_value_without_a_byte_is_not_a_missing_one() -> None:
    with pytest.raises(CorruptValue):
        STATE.read([b""], [b"a"], np.array([0]), np.array([0]))
    with pytest.raises(CorruptValue):
        grown(b"", b"a", [1])


def test_an_entity_of_any_length_has_a_tag_of_its_own() -> None:
    names = [b"", b"a", b"a\0", b"#", b"x" * 500, b"x" * 501, b"y" * 501, b"x" * 5_000]
    assert len({*entity_tags(names).tolist()}) == len(names)


# The format until 0.1: no sum, and checksums that do not depend on the entity.


def old_checksum(fields: Sequence[int], salt: int) -> int:
    mask = (1 << 64) - 1
    checksum = salt
    for number in fields:
        checksum = ((checksum ^ number) * 0x9E3779B97F4A7C15) & mask
        checksum ^= checksum >> 32
    return checksum - (1 << 64) if checksum >> 63 else checksum


def sealed(fields: Sequence[int], salt: int) -> bytes:
    mask = (1 << 64) - 1
    return struct.pack(
        f"<{len(fields) + 1}q", *fields, old_checksum([f & mask for f in fields], salt)
    )


def old_value(seconds: Sequence[int]) -> bytes:
    header = sealed([STATE.schema_id, UNSET, 0, 0], 0x51ED270B)
    rows = np.frombuffer(packed(b"a", seconds), STATE.format.delta_row)
    names = STATE.format.delta_row.names
    assert names is not None
    return header + b"".join(
        sealed([int(row[n]) for n in names[:-1]], STATE.schema_id) for row in rows
    )


def read(value: bytes) -> list[float]:
    answer = STATE.read([value], [b"a"], np.array([0]), np.array([50 * SECOND]))
    features: list[float] = answer.values[0].tolist()
    return features


def test_a_value_of_an_earlier_release_is_read_grows_and_is_written_anew() -> None:
    value = old_value(range(3))
    assert read(value) == read(value_of(b"a", [3]))
    longer = grown(value, b"a", [3, 4])
    assert read(longer) == read(value_of(b"a", [5]))
    assert is_damage(longer[: 40 + 3 * ROW] + packed(b"b", [3, 4]))
    compacted = STATE.compact([longer], [b"a"], 2 * SECOND)[0]
    assert compacted == value_of(b"a", [5], compacted=2)


@examples(4)
@given(st.integers(1, 4))
def test_every_changed_bit_of_a_value_of_an_earlier_release_is_noticed(rows: int) -> None:
    value = old_value(range(rows))
    for bit in range(8 * len(value)):
        damaged = bytearray(value)
        damaged[bit // 8] ^= 1 << bit % 8
        assert is_damage(bytes(damaged))
