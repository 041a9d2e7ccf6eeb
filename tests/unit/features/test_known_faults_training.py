"""Wrong training sets, each with the right rows: expected to fail until they are corrected."""

from typing import Any

import numpy as np
import pytest

from features.definitions import (
    Decision,
    Entity,
)
from features.engine.value_format import CorruptValue
from features.engine.view_states import state_of
from features.errors import DeclarationError, SchemaChanged
from features.stores.memory import MemoryOfflineStore, MemoryOnlineStore
from features.stores.ports import META, EventBatch
from infra.kafka.partitions import Partition
from tests.support.by_hand import DID_NOT_RAISE, an_event, at, known_fault, query, sent
from tests.support.generated.cases import Case
from tests.support.generated.paths import ingested, online_values
from tests.support.training_by_hand import PLACED, counting, service


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
