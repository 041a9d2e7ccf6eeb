"""Which fields of events and requests the features are computed from, each set in one place."""

from collections.abc import Iterable

from features.definitions import Decision, EventType, FeatureService, Label, View
from features.definitions.lifecycle_views import AS_OF
from features.engine.checks import required_fields
from features.engine.columns import kinds
from features.engine.view_states import state_of


def distinct(*groups: Iterable[str]) -> tuple[str, ...]:
    """The names of all groups in their order, each one once."""
    return tuple(dict.fromkeys(name for group in groups for name in group))


def sources(service: FeatureService, label: Label) -> list[EventType]:
    """Every event that a training set is computed from."""
    of_views = [event for view in service.views for event in view.sources]
    by_name = {e.name: e for e in (*of_views, service.decision.source, label.source)}
    return list(by_name.values())


def source_fields(view: View, event: EventType) -> tuple[str, ...]:
    """What a view reads of one of its events: the keys of its entity, what it aggregates, and what
    the checks of those fields read."""
    return required_fields(event, distinct(view.entity.keys, state_of(view).fields(event)))


def query_fields(view: View) -> tuple[str, ...]:
    """What a view reads of a request or a decision: the keys of its entity, and its own fields."""
    return distinct(view.entity.keys, view.request_fields)


def column_fields(service: FeatureService) -> tuple[str, ...]:
    """What the request columns of a service read, beside the decision time."""
    fields = distinct(*(column.reads for column in service.request_columns))
    return tuple(field for field in fields if field != AS_OF)


def request_fields(service: FeatureService) -> tuple[str, ...]:
    """All that a service reads of a request: for its views, for its request columns, and for the
    checks of those fields."""
    views = (query_fields(view) for view in service.views)
    return _with_checks(service, distinct(*views, column_fields(service)))


def _with_checks(service: FeatureService, fields: tuple[str, ...]) -> tuple[str, ...]:
    """The fields, and all that the checks of them read."""
    needed = distinct(fields, *(required_fields(e, fields) for e in service.decision.checked_as))
    return needed if needed == fields else _with_checks(service, needed)


def time_fields(decision: Decision) -> tuple[str, ...]:
    """What `decision.at` may read: it does not say what, so all fields that are numbers."""
    fields = kinds(decision.source.record)
    return tuple(name for name, kind in fields.items() if kind != "text")


def decision_fields(service: FeatureService) -> tuple[str, ...]:
    """All that a service reads of the event that its decisions come from."""
    decision = service.decision
    return distinct((decision.entity_id,), request_fields(service), time_fields(decision))
