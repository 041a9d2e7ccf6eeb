"""What each column of a service means, apart from every other column.

A model is trained on numbers, and later given numbers of the same names. The meaning of a column
changes with whatever its numbers depend on: the formula with all that it reaches, the fields and
their types, the window, the events and their checks. It changes neither with the other columns of
the view or the service, nor with the name of the view.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from types import MappingProxyType

from features.definitions.events import EventType
from features.definitions.lifecycle_views import AS_OF, OpenView, PreviousView
from features.definitions.services import FeatureService, RequestColumn
from features.definitions.views import CalendarView, FeatureView, PythonView, View
from features.engine.checks import required_fields
from features.engine.columns import kinds
from features.engine.view_states import state_of
from features.identity.formulas import identity_of
from features.identity.tokens import Token, digest

_ANY = "any"  # the name of a view is no part of what its features mean
_DIGITS = 16


@dataclass(frozen=True, kw_only=True)
class ColumnMeaning:
    """`digest`: 16 hexadecimal digits that change with the meaning. `declared_by`: what declares
    the column, in words."""

    digest: str
    declared_by: str


@cache
def column_meanings(service: FeatureService) -> Mapping[str, ColumnMeaning]:
    """The meaning of each column of a service, by its name.

    Raises:
        NoStableIdentity: a formula reaches something that is not the same in every process.
    """
    meanings = {column.name: _of_request(service, column) for column in service.request_columns}
    for view in service.views:
        reads = _kinds_of(service.decision.request, view.request_fields)
        for feature, token in _features(view):
            meanings[feature] = ColumnMeaning(
                digest=digest((token, reads))[:_DIGITS], declared_by=f"view {view.name}"
            )
    return MappingProxyType(meanings)


def _of_request(service: FeatureService, column: RequestColumn) -> ColumnMeaning:
    decision, name = service.decision, f"service {service.name}, column {column.name}"
    reads = tuple(field for field in column.reads if field != AS_OF)
    token = (
        "request",
        column.category,
        column.reads,
        identity_of(column.compute, name).digest,
        _kinds_of(decision.request, reads),
        tuple(_checks(event, reads, name) for event in decision.checked_as),
    )
    return ColumnMeaning(digest=digest(token)[:_DIGITS], declared_by=f"service {service.name}")


def _checks(event: EventType, fields: tuple[str, ...], name: str) -> Token:
    """What may nullify one of the fields, or a field that such a check reads."""
    needed = required_fields(event, fields)
    return tuple(
        (c.field, c.reads, identity_of(c.holds, f"{name}, check {c.name}").digest)
        for c in event.checks_with("nullify")
        if c.field in needed
    )


def _kinds_of(event: EventType, fields: tuple[str, ...]) -> Token:
    of_record = kinds(event.record)
    return tuple((field, of_record[field]) for field in fields)


def _features(view: View) -> Iterator[tuple[str, Token]]:
    """Each feature of a view, and a token of all that it depends on: the identity of a view that
    has no other feature, and what such a view stores no number of."""
    alone: list[tuple[View, Token]]
    match view:
        case FeatureView():
            alone = [_aggregated(view, i) for i in range(len(view.parts))]
        case CalendarView():
            alone = [
                (replace(view, name=_ANY, aggregations=(a,), spans=(s,)), (a.operation, s.reads))
                for a in view.aggregations
                for s in view.spans
            ]
        case OpenView():
            alone = [(replace(view, name=_ANY, gives=(given,)), given) for given in view.gives]
        case PreviousView():
            alone = [(replace(view, name=_ANY, values=(value,)), None) for value in view.values]
        case PythonView():
            alone = [(replace(view, name=_ANY), i) for i in range(len(view.names))]
    for feature, (reduced, rest) in zip(view.features, alone, strict=True):
        identity = state_of(reduced).identity
        yield feature, (identity.schema_id, tuple(identity.read_formulas.values()), rest)


def _aggregated(view: FeatureView, index: int) -> tuple[View, Token]:
    aggregation, _, window = view.parts[index]
    reduced = replace(
        view,
        name=_ANY,
        aggregations=(replace(aggregation, windows=(window,)),),
        columns=tuple(c for c in view.columns if c.name == aggregation.column),
        ttl=None,
    )
    return reduced, (aggregation.operation, window.length_us, window.hop_us)
