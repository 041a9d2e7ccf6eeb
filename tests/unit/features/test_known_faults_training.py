"""Wrong training sets, each with the right rows: expected to fail until they are corrected."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import numpy as np
import pytest

from features.definitions import (
    Aggregation,
    Check,
    Decision,
    Entity,
    EventType,
    FeatureService,
    FeatureView,
    Label,
    RequestColumn,
)
from features.engine.value_format import CorruptValue
from features.engine.view_states import state_of
from features.errors import CheckFailed, DataNotReady, DeclarationError, SchemaChanged
from features.retrieval.historical import training_rows
from features.retrieval.online import FeatureReader
from features.stores.memory import MemoryOfflineStore, MemoryOnlineStore
from features.stores.ports import META, EventBatch
from infra.clock import DAY
from infra.kafka.partitions import Partition
from tests.support.by_hand import DID_NOT_RAISE, SECOND_US, an_event, at, known_fault, query, sent
from tests.support.generated.cases import Case, Sent
from tests.support.generated.paths import ingested, online_values

SHOP = Entity(name="shop", keys=("shop",))
PLACED = an_event("order.placed", key="order", order=str)
RETURNED = an_event("order.returned", key="shop", order=str, late=bool)


def counting(source: EventType, name: str = "made", entity: Entity = SHOP) -> FeatureView:
    return FeatureView(
        name=name,
        source=source,
        entity=entity,
        aggregations=(Aggregation(operation="count", windows=(timedelta(seconds=100),)),),
    )


def service(source: EventType = PLACED, **more: Any) -> FeatureService:
    """Decides ten seconds after each event."""
    return FeatureService(
        **{
            "name": "made",
            "decision": Decision(
                request=source,
                source=source,
                entity_id="order",
                at=lambda e: e["event_time_us"] + 10 * SECOND_US,
            ),
            "request_columns": (),
            "views": (counting(source),),
            **more,
        }
    )


def label(source: EventType = RETURNED, **more: Any) -> Label:
    return Label(
        **{
            "name": "late",
            "source": source,
            "entity_id": "order",
            "value": lambda e: e["late"] == 1,
            "reads": ("late",),
            "max_wait": timedelta(seconds=60),
            **more,
        }
    )


def rows(
    events: Sequence[Sent],
    *,
    cutoff: float = 1_000,
    of: FeatureService | None = None,
    by: Label | None = None,
    tolerance_us: int = DAY,
) -> list[dict[str, Any]]:
    """The training set of a made-up service, by the cut-off."""
    of, by = of or service(), by or label()
    types = {s.event.name: s.event for s in events}
    case = Case(events=tuple(types.values()), request=PLACED, views=of.views, sent=tuple(events))
    made = training_rows(
        of,
        by,
        ingested(case, {}).offline,
        start_us=at(0),
        end_us=at(cutoff),
        known_before_us=at(cutoff),
        ready_tolerance_us=tolerance_us,
    )
    return made.frame.to_dicts()


@known_fault(
    "the label of two that are known at one moment depends on the order of the rows in storage"
)
def test_of_two_labels_of_one_moment_that_of_the_lower_partition_counts() -> None:
    """In whichever order the rows lie: compaction may turn them."""
    decided = sent(PLACED, 1, order="o1")
    one, other = (
        sent(RETURNED, 50, order="o1", shop=f"s{n}", late=n == 0, partition=n) for n in (0, 1)
    )
    assert [r["label"] for r in rows([decided, one, other])] == [1]
    assert [r["label"] for r in rows([decided, other, one])] == [1]


@known_fault("a decision whose event is known only after the decision time is a training row")
def test_a_decision_that_nobody_could_make_is_no_row() -> None:
    assert rows([sent(PLACED, 1, known=1_900, order="o1")], cutoff=2_000) == []


@known_fault(
    "an event of one source makes up for another source that is not ingested yet",
    raises=DID_NOT_RAISE,
)
def test_a_source_that_lags_is_not_ready() -> None:
    events = [sent(PLACED, 1, order="o1"), sent(RETURNED, 990, order="o1", late=True)]
    with pytest.raises(DataNotReady):
        rows(events, cutoff=1_000, tolerance_us=20 * SECOND_US)


@known_fault("a check that stops is made before the cut-off is applied", raises=CheckFailed)
def test_an_event_after_the_cut_off_stops_no_training_set() -> None:
    strict = Check(
        name="small", holds=lambda e: e["cents"] < 10, reads=("cents",), on_failure="stop"
    )
    placed = an_event("order.placed", key="order", order=str, cents=int, checks=[strict])
    events = [sent(placed, 1, order="o1", cents=1)]
    before = rows(events, of=service(placed))
    later = sent(placed, 5, known=2_000, order="o2", cents=99)
    assert rows([*events, later], of=service(placed)) == before


@known_fault("a label made of a field without a value is 0, and later values are ignored")
def test_a_label_without_a_value_is_not_known_yet() -> None:
    returned = an_event("order.returned", order=str, late=int | None)
    events = [
        sent(PLACED, 1, order="o1"),
        sent(returned, 50, order="o1", late=None),
        sent(returned, 90, order="o1", late=1),
    ]
    assert [r["label"] for r in rows(events, by=label(returned))] == [1]


@known_fault("a label is made of a value that a check nullifies")
def test_a_label_that_a_check_nullifies_is_not_known_yet() -> None:
    sane = Check(
        name="sane",
        holds=lambda e: e["late"] < 9,
        reads=("late",),
        on_failure="nullify",
        field="late",
    )
    returned = an_event("order.returned", order=str, late=float, checks=[sane])
    events = [sent(PLACED, 1, order="o1"), sent(returned, 50, order="o1", late=99.0)]
    by = label(returned, value=lambda e: e["late"] > 0)
    assert [r["label"] for r in rows(events, by=by)] == [None]


@known_fault("an outcome that happened before the decision is its label")
def test_a_label_comes_after_its_decision() -> None:
    events = [sent(RETURNED, 1, order="o1", late=True), sent(PLACED, 50, order="o1")]
    assert [r["label"] for r in rows(events)] == [None]


@known_fault("a label that is an amount wraps round at 256", raises=DID_NOT_RAISE)
def test_a_label_that_is_no_truth_value_is_refused() -> None:
    returned = an_event("order.returned", order=str, late=int)
    events = [sent(PLACED, 1, order="o1"), sent(returned, 50, order="o1", late=257)]
    with pytest.raises(DeclarationError):
        rows(events, by=label(returned, value=lambda e: e["late"]))


@known_fault(
    "`event_time_us` is the decision time of a request and the time of the event in history"
)
def test_a_request_column_of_the_time_means_one_thing() -> None:
    column = RequestColumn(
        name="when", compute=lambda e: e["event_time_us"], reads=("event_time_us",)
    )
    try:
        of = service(request_columns=(column,))
    except DeclarationError:
        return
    then = rows([sent(PLACED, 1, order="o1")], of=of)[0]
    request = query(PLACED, 11, order="o1").record
    vectors = FeatureReader(of, MemoryOnlineStore()).vectors([request], np.array([at(11)]))
    assert vectors.numbers[0, 0] == then["when"]


@known_fault("two features of one name are made of different views", raises=DID_NOT_RAISE)
def test_two_features_of_one_name_are_refused() -> None:
    placed = an_event("order.placed", key="order", order=str, last_x=int, x=int)
    window = (timedelta(seconds=100),)
    shop = FeatureView(
        name="shop",
        source=placed,
        entity=SHOP,
        aggregations=(Aggregation(operation="max", column="last_x", windows=window),),
    )
    shop_max = FeatureView(
        name="shop_max",
        source=placed,
        entity=SHOP,
        aggregations=(Aggregation(operation="last", column="x", windows=window),),
    )
    assert shop.features == shop_max.features
    with pytest.raises(DeclarationError):
        service(placed, views=(shop, shop_max))


@known_fault(
    "a request column may have the name of a column of the training set", raises=DID_NOT_RAISE
)
@pytest.mark.parametrize("name", ["label", "entity_id", "decision_time_us", "label_known_at_us"])
def test_a_reserved_column_name_is_refused(name: str) -> None:
    column = RequestColumn(
        name=name, compute=lambda e: e["event_time_us"], reads=("event_time_us",)
    )
    with pytest.raises(DeclarationError):
        service(request_columns=(column,))


@known_fault("a key may be of another type in the request than in history", raises=DID_NOT_RAISE)
def test_a_request_with_another_type_of_key_is_refused() -> None:
    placed = an_event("order.placed", key="order", order=str, zone=int)
    request = an_event("order.query", key="order", order=str, zone=float)
    zone = Entity(name="zone", keys=("zone",))
    with pytest.raises(DeclarationError):
        service(
            decision=Decision(
                request=request, source=placed, entity_id="order", at=lambda e: e["event_time_us"]
            ),
            views=(counting(placed, entity=zone),),
        )


@known_fault("a field that may no longer be null fits a table that has nulls", raises=DID_NOT_RAISE)
def test_a_field_that_is_no_longer_nullable_is_another_schema() -> None:
    old = an_event("order.placed", key="order", order=str, cents=int | None)
    new = an_event("order.placed", key="order", order=str, cents=int)
    store = MemoryOfflineStore()
    columns: dict[str, Any] = {
        "event_id": ["e"],
        "event_time_us": [at(1)],
        "shop": ["a"],
        "order": ["o1"],
        "cents": [None],
        **{name: np.array([at(1)]) for name in META},
    }
    place = Partition(old.name, 0)
    store.append(EventBatch(event=old, columns=columns, starts={place: 0}, ends={place: 1}))
    with pytest.raises(SchemaChanged):
        store.read(new, columns=["cents"])


@known_fault(
    "a value that is cut off exactly between two rows passes as whole", raises=DID_NOT_RAISE
)
def test_a_value_torn_between_rows_is_damaged() -> None:
    view = counting(PLACED)
    events = tuple(sent(PLACED, n, order=f"o{n}") for n in range(3))
    case = Case(events=(PLACED,), request=PLACED, views=(view,), sent=events, compaction_slack=50)
    store = ingested(case, {"memory": MemoryOnlineStore()}).online["memory"]
    (value,) = store.get([(view.name, [b"a"])])[0]
    assert value is not None
    with pytest.raises(CorruptValue):
        state_of(view).verify([value[: -state_of(view).format.delta_row.itemsize]])


@known_fault("a value that belongs to another entity passes as its own", raises=DID_NOT_RAISE)
def test_rows_of_another_entity_are_damage() -> None:
    view = counting(PLACED)
    events = (sent(PLACED, 1, order="o1"), sent(PLACED, 2, order="o2", shop="b"))
    case = Case(
        events=(PLACED,),
        request=PLACED,
        views=(view,),
        sent=events,
        queries=(query(PLACED, 10, order=""),),
        compaction_slack=50,
    )
    store = ingested(case, {"memory": MemoryOnlineStore()}).online["memory"]
    own, other = store.get([(view.name, [b"a", b"b"])])[0]
    assert own is not None
    assert other is not None
    row = state_of(view).format.delta_row.itemsize
    with pytest.raises(CorruptValue):
        state_of(view).verify([own[:-row] + other[-row:]])
    assert online_values(case, view, store).exact.all()


@known_fault(
    "a label within a span that is a truth value of the event raises TypeError", raises=TypeError
)
def test_a_truth_value_is_a_label_within_a_span() -> None:
    events = [sent(PLACED, 1, order="o1"), sent(RETURNED, 20, order="o1", late=True)]
    by = label(value=lambda e: e["late"], within=timedelta(seconds=30))
    assert [r["label"] for r in rows(events, by=by)][:1] == [1]
