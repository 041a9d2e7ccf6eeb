"""Training sets of a made-up shop, by hand: orders are placed, and some are returned late."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from features.definitions import (
    Aggregation,
    Decision,
    Entity,
    EventType,
    FeatureService,
    FeatureView,
    Label,
)
from features.retrieval.historical import TrainingRows, training_rows
from infra.clock import DAY
from tests.support.by_hand import SECOND_US, an_event, at
from tests.support.generated.cases import Case, Sent
from tests.support.generated.paths import ingested

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


def rows(events: Sequence[Sent], **options: Any) -> list[dict[str, Any]]:
    """The training set of a made-up service, by the cut-off."""
    return training_set(events, **options).frame.to_dicts()


def training_set(
    events: Sequence[Sent],
    *,
    cutoff: float = 1_000,
    of: FeatureService | None = None,
    by: Label | None = None,
    tolerance_us: int = DAY,
    **more: Any,
) -> TrainingRows:
    """The same with its manifest."""
    of, by = of or service(), by or label()
    types = {s.event.name: s.event for s in events}
    case = Case(events=tuple(types.values()), request=PLACED, views=of.views, sent=tuple(events))
    return training_rows(
        of,
        by,
        ingested(case, {}).offline,
        start_us=at(0),
        end_us=at(cutoff),
        known_before_us=at(cutoff),
        ready_tolerance_us=tolerance_us,
        **more,
    )
