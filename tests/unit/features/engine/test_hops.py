"""Windows that move in steps: compaction merges the rows that no allowed query tells apart."""

from datetime import timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.definitions import Aggregation, Entity, FeatureView, Int64Array, TimeWindow
from features.engine.state import ViewState
from features.engine.value_format import entity_tags
from features.engine.view_states import state_of
from infra.clock import SECOND
from tests.support.by_hand import an_event, assert_values, query, seconds, sent
from tests.support.examples import examples
from tests.support.generated.cases import Batch, Case

SOLD = an_event()
SHOP = Entity(name="shop", keys=("shop",))
HOUR, DAY = 3_600, 86_400

windows = st.builds(
    lambda length, hop: TimeWindow(length=seconds(length), hop=seconds(min(length, hop))),
    length=st.integers(1, 40),
    hop=st.integers(1, 12),
)


def counting(*of: timedelta | TimeWindow) -> FeatureView:
    return FeatureView(
        name="made",
        source=SOLD,
        entity=SHOP,
        aggregations=(Aggregation(operation="count", windows=of),),
    )


def appended(state: ViewState, times: Int64Array) -> bytes:
    """A value with an event at each time, known at once."""
    rows = state.rows_of(SOLD, {"event_time_us": times}, times)
    packed = state.pack_rows(rows, entity_tags([b"a"] * len(times)))
    return state.append([None], [packed.tobytes()], [b"a"])[0][0]


def test_a_longer_window_with_a_finer_hop_keeps_its_edge() -> None:
    view = counting(TimeWindow(length=seconds(HOUR), hop=seconds(HOUR)), seconds(DAY))
    morning = 10 * HOUR
    case = Case(
        events=(SOLD,),
        request=SOLD,
        views=(view,),
        sent=(sent(SOLD, morning + 1_800), sent(SOLD, morning + 2_400)),
        batches=(Batch(size=1), Batch(size=1)),
        queries=(query(SOLD, DAY + morning + 900),),
        least_us=0,
        most_us=0,
        compaction_slack=0,
    )
    assert_values(case, [0, 2])


@examples(100)
@given(
    of=st.lists(windows, min_size=1, max_size=3, unique_by=lambda w: w.length),
    happened=st.lists(st.integers(0, 80), min_size=1, max_size=20),
    compacted=st.lists(st.integers(0, 140), min_size=1, max_size=3),
)
def test_compaction_changes_no_count_of_a_later_query(
    of: list[TimeWindow], happened: list[int], compacted: list[int]
) -> None:
    """Whatever the hops are: they need not divide each other, nor rise with the windows."""
    state = state_of(counting(*of))
    times = np.array(happened) * SECOND
    through = sorted(compacted)
    value = appended(state, times)
    for second in through:
        value = state.compact([value], [b"a"], second * SECOND)[0]
    as_of = np.arange(max(through[-1], max(happened) + 1), 200) * SECOND
    answers = state.read([value], [b"a"], np.zeros(len(as_of), np.int64), as_of)
    for column, window in enumerate(of):
        edges = (as_of - window.length_us) // window.hop_us * window.hop_us
        expected = (times[None, :] >= edges[:, None]).sum(axis=1)
        assert answers.values[:, column].tolist() == expected.tolist()


@pytest.mark.parametrize(
    ("of", "rows"),
    [
        ((TimeWindow(length=seconds(40), hop=seconds(10)),), 2),
        # The short window tells the seconds apart, but only the last five of them.
        ((seconds(5), TimeWindow(length=seconds(40), hop=seconds(10))), 7),
    ],
)
def test_rows_of_one_hop_are_merged(of: tuple[TimeWindow, ...], rows: int) -> None:
    state = state_of(counting(*of))
    value = appended(state, np.arange(20) * SECOND)
    compacted = state.compact([value], [b"a"], 20 * SECOND)[0]
    assert len(compacted) == len(state.empty) + rows * state.format.base_row.itemsize
