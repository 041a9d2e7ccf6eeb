"""An event for which a formula fails becomes a dead letter with its name; its neighbours count."""

from datetime import timedelta
from typing import Any

import numpy as np
import pytest

from features.definitions import Aggregation, Check, Column, Entity, FeatureView
from features.engine.event_rows import view_rows
from features.errors import FormulaFailed
from features.ingestion.compaction_watermark import CompactionWatermark
from features.ingestion.decoding import Decoded, decode_poll
from features.ingestion.online_sink import OnlineSink
from features.stores.memory import MemoryOnlineStore
from infra.kafka.partitions import Partition
from tests.support.by_hand import an_event, sent
from tests.support.generated.cases import messages_of

SHOP = Entity(name="shop", keys=("shop",))
SOLD = an_event(cents=int)


def fails_at_seven(e: Any) -> Any:
    """A formula that divides by zero for one value, which no check can foresee."""
    return np.array([c // (c - 7) * (c - 7) + c % (c - 7) for c in e["cents"].tolist()], np.int64)


def fails_together(e: Any) -> Any:
    """A formula for which each event alone is sound."""
    if len(e["cents"]) > 1:
        raise ValueError
    return e["cents"]


def a_view(compute: Any) -> FeatureView:
    return FeatureView(
        name="sold",
        source=SOLD,
        entity=SHOP,
        columns=(Column(name="c", compute=compute, reads=("cents",)),),
        aggregations=(Aggregation(operation="sum", column="c", windows=(timedelta(seconds=100),)),),
    )


def decoded(event: Any, *cents: int) -> Decoded:
    messages = messages_of([sent(event, n, cents=c) for n, c in enumerate(cents)])
    return decode_poll(messages, {event.name: event}, max_future_us=10**9, clock_us=4 * 10**15)


@pytest.mark.parametrize("cents", [(1, 7, 3), (7,), (7, 7, 1), (1, 2, 3, 4, 7)])
def test_only_the_failing_event_is_a_dead_letter_with_the_name_of_the_formula(
    cents: tuple[int, ...],
) -> None:
    view = a_view(fails_at_seven)
    split = decoded(SOLD, *cents).without(lambda rows: view_rows(view, rows))
    good = [c for rows in split.good for c in rows.fields["cents"]]
    assert good == [c for c in cents if c != 7]
    assert [b.code for b in split.bad] == ["formula_failed"] * cents.count(7)
    assert {b.reason for b in split.bad} == {"view sold: column 'c' raised ZeroDivisionError"}


def test_a_check_that_fails_for_an_event_makes_a_dead_letter_of_this_one_alone() -> None:
    check = Check(
        name="odd",
        holds=lambda e: np.array([7 // (c - 7) < 0 for c in e["cents"].tolist()], bool),
        reads=("cents",),
        on_failure="dead_letter",
    )
    split = decoded(an_event(cents=int, checks=(check,)), 1, 7, 9, 3)
    assert [rows.fields["cents"] for rows in split.good] == [[1, 3]]
    assert sorted((b.message.offset(), b.code) for b in split.bad) == [
        (1, "formula_failed"),
        (2, "check_failed"),
    ]


def test_what_is_left_of_events_that_fail_only_together_does_not_fail() -> None:
    view = a_view(fails_together)
    split = decoded(SOLD, 1, 2, 3).without(lambda rows: view_rows(view, rows))
    assert sum(map(len, split.good)) + len(split.bad) == 3
    for rows in split.good:
        view_rows(view, rows)


def test_a_failing_event_fails_again_when_it_is_read_again() -> None:
    """Or it would be stored offline after a crash, although it is among the dead letters."""
    partition = Partition(SOLD.name, 0)
    sink = OnlineSink(
        MemoryOnlineStore(),
        (a_view(fails_at_seven),),
        duplicate_horizon_us=10**12,
        watermark=CompactionWatermark(least_us=10**12, most_us=10**12),
    )
    sink.load([partition])
    poll = decoded(SOLD, 1, 7, 3)
    with pytest.raises(FormulaFailed, match="column 'c' raised ZeroDivisionError"):
        sink.write(poll.good, {partition: 3})
    sink.write(poll.without(sink.run_formulas).good, {partition: 3})
    with pytest.raises(FormulaFailed):
        sink.write(poll.good, {partition: 3})
