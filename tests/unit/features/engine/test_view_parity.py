"""Every kind of view: live, in history and by the words, for any order of events."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from features.definitions import Float64Array, View
from features.engine.columns import arrays_of
from features.engine.event_rows import view_rows
from features.engine.state import ViewValues
from features.engine.view_states import state_of
from features.ingestion.compaction_watermark import CompactionWatermark
from features.ingestion.offline_sink import OfflineSink
from features.ingestion.online_sink import OnlineSink
from features.maintenance.consistency import same_values
from features.retrieval.event_log import EventLog
from features.retrieval.view_values import view_values
from features.stores.memory import MemoryOfflineStore, MemoryOnlineStore
from infra.clock import SECOND
from infra.kafka.partitions import Partition
from tests.support.data.orders import (
    EVENTS,
    PLACED,
    REQUESTED,
    START_US,
    VIEWS,
    Delivery,
    Query,
    Requested,
    fields_of,
    rows_of,
    times_of,
    us,
)
from tests.support.examples import examples
from tests.support.reference.orders import reference

HORIZON_S, HOLD_S = 1_000, 15
SHOPS = ("a", "b")
PARTITIONS = [Partition(e.name, 0) for e in EVENTS]
LATE = st.sampled_from([0, 0, 0, 1, 5, 11, 39, 40, 41, 100])


@st.composite
def histories(draw: st.DrawFn, at_least: int = 0) -> list[Delivery]:
    """Orders that are placed once, and shipped or dropped once, twice or never, in any order."""
    told = []
    for n in range(draw(st.integers(at_least, 14))):
        shop = draw(st.sampled_from(SHOPS))
        happened = draw(st.integers(0, 90))
        told.append(
            Delivery(
                event=PLACED.name,
                id=f"placed{n}",
                order=f"o{n}",
                happened=happened,
                known=happened + draw(LATE),
                shop=shop,
                customer=draw(st.sampled_from([None, "c1", "c2", "c3"])),
                cents=draw(st.integers(-3, 6)),
                weight=draw(st.sampled_from([None, 0.0, -0.0, 1.5, -2.25, 0.14, 1e300])),
                due=happened + draw(st.integers(0, 80)),
            )
        )
        for k in range(draw(st.integers(0, 2))):
            left = draw(st.integers(0, 150))
            told.append(
                Delivery(
                    event=draw(st.sampled_from([e.name for e in EVENTS[1:]])),
                    id=f"end{n}-{k}",
                    order=f"o{n}",
                    happened=left,
                    known=left + draw(LATE),
                    shop=shop,
                    parcels=draw(st.sampled_from([None, 0, 1, 2])),
                )
            )
    return draw(st.permutations(told))


questions_about = st.lists(
    st.builds(
        lambda shop, t, ahead, order: Query(shop=shop, t=t, due=t + ahead, order=order),
        shop=st.sampled_from((*SHOPS, "never seen")),
        t=st.integers(-5, 200),
        ahead=st.integers(-5, 40),
        order=st.sampled_from([f"o{n}" for n in range(15)]),
    ),
    min_size=1,
    max_size=12,
)
cuts = st.lists(st.integers(0, 40), max_size=5)
each_view = pytest.mark.parametrize("view", VIEWS, ids=lambda v: v.name)


@each_view
@examples(120)
@given(histories(), cuts, questions_about)
def test_live_history_and_the_words_agree(
    view: View, told: list[Delivery], cut_at: list[int], questions: list[Query]
) -> None:
    newest = max((e.known for e in told), default=-100)
    questions = [*questions, *_as_far_back_as_is_exact(newest)]
    words = np.array([reference(view, told, q) for q in questions], np.float64)
    answers = live(view, told, cut_at, questions)

    assert same_values(past(view, told, questions), words).all()
    assert same_values(answers.values, words)[answers.exact].all()
    assert all(answers.exact[i] for i, q in enumerate(questions) if q.t >= newest - HOLD_S)


@each_view
@examples(40)
@given(histories(), histories(), questions_about)
def test_changing_the_future_changes_nothing(
    view: View, told: list[Delivery], later: list[Delivery], questions: list[Query]
) -> None:
    end = max((e.known for e in told), default=0)
    early = [Query(shop=q.shop, t=min(q.t, end), order=q.order, due=q.due) for q in questions]
    future = [
        Delivery(
            event=e.event,
            id=f"later{i}",
            order=e.order if e.event != PLACED.name else f"later{e.order}",
            happened=e.happened,
            known=max(end, e.happened) + 1 + i,
            shop=e.shop,
            cents=e.cents,
            due=e.due,
        )
        for i, e in enumerate(later)
    ]
    then = past(view, told, early)
    assert same_values(past(view, [*told, *future], early), then).all()
    answers = live(view, [*told, *future], [len(told)], early)
    assert same_values(answers.values, then)[answers.exact].all()


@each_view
@examples(40)
@given(histories(), cuts, questions_about, st.randoms(use_true_random=False))
def test_the_order_of_arrival_does_not_matter(
    view: View, told: list[Delivery], cut_at: list[int], questions: list[Query], random: object
) -> None:
    shuffled = random.sample(told, len(told))  # type: ignore[attr-defined]
    one, other = live(view, told, cut_at, questions), live(view, shuffled, [], questions)
    both = one.exact & other.exact
    assert same_values(one.values, other.values)[both].all()


@each_view
@examples(100)
@given(histories(at_least=6), st.lists(st.integers(30, 110), min_size=1, max_size=3))
def test_folding_changes_no_answer_that_may_be_asked_for(
    view: View, told: list[Delivery], compacted_through: list[int]
) -> None:
    kept = state_of(view)
    rows, _ = rows_of([structs.replace(e, shop="a") for e in told], 0, len(told))
    changes = [c for c in (view_rows(view, r) for r in rows if r.event in view.sources) if c]
    loose = kept.append(None, b"".join(c.rows.tobytes() for c in changes))[0]
    folded = loose
    for second in compacted_through:
        folded = kept.compact([folded], us(second))[0]
    last = max(compacted_through)
    questions = [Query(shop="a", t=last + i, due=last + i + 2, order="o1") for i in range(60)]
    fields = arrays_of(fields_of(questions), Requested, view.request_fields)
    answers = kept.read(
        [loose, folded],
        np.repeat([0, 1], 60),
        np.tile(times_of(questions), 2),
        {name: np.tile(values, 2) for name, values in fields.items()},
    )
    assert same_values(answers.values[:60], answers.values[60:]).all()
    assert answers.exact.all()


def _as_far_back_as_is_exact(newest: int) -> list[Query]:
    """Just where the state may have merged and dropped the most."""
    return [
        Query(shop=shop, t=t, due=t + ahead, order="o1")
        for shop in SHOPS
        for t in range(newest - HOLD_S, newest - HOLD_S + 4)
        for ahead in (0, 3)
    ]


def live(
    view: View, told: Sequence[Delivery], cut_at: Sequence[int], questions: Sequence[Query]
) -> ViewValues:
    """What the online store answers after the events came in several batches."""
    store = MemoryOnlineStore()
    writer = OnlineSink(
        store,
        [view],
        duplicate_horizon_us=HORIZON_S * SECOND,
        watermark=CompactionWatermark(least_us=HOLD_S * SECOND, most_us=HOLD_S * SECOND),
        compaction_slack=2,  # so that short histories meet many compactions
    )
    writer.load(PARTITIONS)
    for start, stop in _batches(len(told), cut_at):
        writer.write(*rows_of(told, start, stop))
    shops = [*SHOPS, "never seen"]
    values = store.get([(view.name, [s.encode() for s in shops])])[0]
    which = np.array([shops.index(q.shop) for q in questions])
    fields = arrays_of(fields_of(questions), Requested, view.request_fields)
    return state_of(view).read(values, which, times_of(questions), fields)


def past(view: View, told: Sequence[Delivery], questions: Sequence[Query]) -> Float64Array:
    """What history says after all of them."""
    store = MemoryOfflineStore()
    buffer = OfflineSink(store, {e.name: e for e in EVENTS}, clock_us=lambda: START_US)
    buffer.load(PARTITIONS)
    buffer.add(*rows_of(told, 0, len(told)))
    buffer.flush()
    history = EventLog(store, horizon_us=HORIZON_S * SECOND)
    asked = pl.DataFrame(fields_of(questions))
    return view_values(view, history, asked, times_of(questions), decided_by=REQUESTED)


def _batches(n: int, cut_at: Sequence[int]) -> list[tuple[int, int]]:
    edges = sorted({0, n, *(c for c in cut_at if c < n)})
    return list(pairwise(edges))
