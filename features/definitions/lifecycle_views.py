"""Views over things that several events tell about."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from numpy.typing import NDArray

from features.definitions.events import Columns, Entity, EventType
from features.definitions.validation import require
from infra.clock import span_us


class ReachesBack:
    """What views share that look back from a question and whose events come ahead of their time."""

    reach: timedelta
    ahead: timedelta

    @property
    def reach_us(self) -> int:
        """How long before a question something may lie and count, in microseconds."""
        return span_us(self.reach)

    @property
    def lookback_us(self) -> int:
        """How long before a question an event about it may have happened, in microseconds."""
        return span_us(self.reach + self.ahead)


OPEN_FEATURES = ("count", "mean_minutes")


@dataclass(frozen=True, kw_only=True)
class OpenView(ReachesBack):
    """How many things are open as of now: due, and not closed by any event that is known yet.

    A thing (named by the field `item`) is open at `t` when its `opened` event is known before `t`,
    `t - reach <= due < t`, and no event of `closed_by` about it is known before `t`. It `gives`
    `count`, and `mean_minutes`: how long those have been due, on average (nothing for none).
    Events about a thing happen at most `ahead` before it is due.
    """

    name: str
    entity: Entity
    item: str
    opened: EventType
    due: str
    closed_by: tuple[EventType, ...]
    reach: timedelta
    ahead: timedelta
    gives: tuple[str, ...] = OPEN_FEATURES

    def __post_init__(self) -> None:
        unknown = sorted(set(self.gives) - set(OPEN_FEATURES))
        require(bool(self.gives) and not unknown, f"view {self.name}: it cannot give {unknown}")
        require(self.due in self.opened.fields, f"view {self.name}: no field {self.due!r}")
        _check_items(self)

    @property
    def sources(self) -> tuple[EventType, ...]:
        """The events that it is made of."""
        return (self.opened, *self.closed_by)

    @property
    def features(self) -> tuple[str, ...]:
        """Names of all features, in the order of their values."""
        return tuple(f"{self.name}_{what}" for what in self.gives)

    @property
    def request_fields(self) -> tuple[str, ...]:
        """Fields that a question has beside the keys of the entity."""
        return ()


@dataclass(frozen=True, kw_only=True)
class ItemValue:
    """A feature of the thing that was looked up.

    `compute(item, question)`: `item` has `<event>.<field>` for every field that the view keeps,
    NaN where that event is not known yet, and `<event>` (bool): whether it is known; `question` has
    the request's fields and `as_of_us`. Gives float64, NaN for nothing.
    """

    name: str
    meaning: str
    compute: Callable[[Columns, Columns], NDArray[Any]]


@dataclass(frozen=True, kw_only=True)
class PreviousView(ReachesBack):
    """What is known of the thing of the same entity that comes before the one asked about.

    Things are ordered by the field `order` of the `opened` event. For a question it is the last one
    with `before - reach <= order < before` (`before`: a field of the request, not earlier than `t`)
    that is known before `t` and about which no event of `unless` is. Of things of equal order it is
    the one whose id has the larger digest. `keeps`: (event, its fields, numbers only) that the
    values are made of. An event that comes twice about one thing counts as it was told first.
    Events about a thing happen at most `ahead` before its `order`.
    """

    name: str
    entity: Entity
    item: str
    opened: EventType
    order: str
    before: str
    reach: timedelta
    ahead: timedelta
    keeps: tuple[tuple[EventType, tuple[str, ...]], ...]
    values: tuple[ItemValue, ...]
    asks_for: tuple[str, ...] = ()  # fields of the request that the values read
    unless: tuple[EventType, ...] = ()

    def __post_init__(self) -> None:
        require(self.order in self.opened.fields, f"view {self.name}: no field {self.order!r}")
        for event, fields in self.keeps:
            for field in fields:
                require(
                    field in event.fields, f"view {self.name}: {event.name} has no field {field!r}"
                )
        require(bool(self.values), f"view {self.name}: it has no value")
        distinct = len(set(self.features)) == len(self.features)
        require(distinct, f"view {self.name}: two features of one name")
        _check_items(self)

    @property
    def sources(self) -> tuple[EventType, ...]:
        """The events that it is made of."""
        kept = [event for event, _ in self.keeps]
        return tuple(dict.fromkeys((self.opened, *kept, *self.unless)))

    @property
    def features(self) -> tuple[str, ...]:
        """Names of all features, in the order of their values."""
        return tuple(f"{self.name}_{v.name}" for v in self.values)

    @property
    def request_fields(self) -> tuple[str, ...]:
        """Fields that a question has beside the keys of the entity."""
        return tuple(dict.fromkeys((self.before, *self.asks_for)))


ItemView = OpenView | PreviousView


def _check_items(view: ItemView) -> None:
    for event in view.sources:
        for field in (view.item, *view.entity.keys):
            require(field in event.fields, f"view {view.name}: {event.name} has no field {field!r}")
