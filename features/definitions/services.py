"""What a model is given and what it predicts: request columns, services, labels, domains."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from types import MappingProxyType
from typing import Any

from numpy.typing import NDArray

from features.definitions.events import BoolArray, Columns, EventType, Int64Array
from features.definitions.validation import require
from features.definitions.views import View


@dataclass(frozen=True, kw_only=True)
class RequestColumn:
    """A feature that the request itself carries. Categories are text, everything else float64."""

    name: str
    compute: Callable[[Columns], NDArray[Any]]
    reads: tuple[str, ...]
    category: bool = False


@dataclass(frozen=True, kw_only=True)
class Decision:
    """When a forecast is made, and about what: live by a request, in history by an event.

    `at` gives the decision time in microseconds from the fields of `source`; `source` has every
    field that the service reads of a request.
    """

    request: EventType
    source: EventType
    entity_id: str
    at: Callable[[Columns], Int64Array]


@dataclass(frozen=True, kw_only=True)
class FeatureService:
    """The features that a model is given, in the model's column order: categories first, then
    the request's numbers, then each view's features.

    `refused`: fields that no model may be given, because they tell the outcome (a field that is
    null only for flights that are cancelled later, for example).
    """

    name: str
    decision: Decision
    request_columns: tuple[RequestColumn, ...]
    views: tuple[View, ...]
    refused: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        readable = set(self.decision.request.fields) & set(self.decision.source.fields)
        needed = {f for c in self.request_columns for f in c.reads} | {self.decision.entity_id}
        needed |= {f for v in self.views for f in (*v.entity.keys, *v.request_fields)}
        missing = sorted(needed - readable)
        require(not missing, f"service {self.name}: requests and history lack {missing}")
        for column in self.request_columns:
            leaks = sorted(set(column.reads) & set(self.refused))
            require(
                not leaks,
                f"service {self.name}: column {column.name!r} reads {leaks}, which are refused",
            )

    @property
    def categories(self) -> tuple[str, ...]:
        """Names of the text columns."""
        return tuple(c.name for c in self.request_columns if c.category)

    @property
    def numbers(self) -> tuple[str, ...]:
        """Names of the float64 columns, in order."""
        own = tuple(c.name for c in self.request_columns if not c.category)
        return own + tuple(f for v in self.views for f in v.features)


@dataclass(frozen=True, kw_only=True)
class Label:
    """What really happened: 0 or 1 for a decision, from an event that comes later.

    The last weeks of a training set would hold too many of whatever is known early. So a decision
    enters a training set only when it is `max_wait` old at the cut-off, labelled or not by then.

    Without `within` an event says which: the first one known of the decision's entity, by `value`.
    With it the label says whether anything happens at all: 1 if an event for which `value` holds
    happens after the decision, at most `within` later, and is told before the decision is
    `max_wait` old; else 0. Neither is known before then, whatever has happened by then, and neither
    changes afterwards. `max_wait` is then `within` and what a source may be late.
    """

    name: str
    source: EventType
    entity_id: str
    value: Callable[[Columns], BoolArray]
    reads: tuple[str, ...]
    max_wait: timedelta
    within: timedelta | None = None

    def __post_init__(self) -> None:
        require(
            self.within is None or timedelta(0) < self.within <= self.max_wait,
            f"label {self.name}: `within` lies above zero and is no longer than `max_wait`",
        )


@dataclass(frozen=True, kw_only=True)
class Domain:
    """All that is declared about one field of work. Each folder in `features/catalog` has one."""

    name: str
    events: tuple[EventType, ...]
    views: tuple[View, ...]
    services: tuple[FeatureService, ...]
    labels: tuple[Label, ...]
    predictions_topic: str
    by_name: Mapping[str, EventType] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "by_name", MappingProxyType({e.name: e for e in self.events}))
