"""Decisions, request columns, spans and labels, run on made-up requests and events."""

from collections.abc import Iterator

from features.catalog_check.batches import WITH_TIMES, Found, batches_of, found_in, reported
from features.catalog_check.formulas import Formula, touched_by
from features.catalog_check.items import item_value_mistakes
from features.definitions import (
    CalendarView,
    Decision,
    EventType,
    FeatureService,
    Label,
    PreviousView,
    RequestColumn,
    Span,
    View,
)


def service_mistakes(service: FeatureService) -> Iterator[Found]:
    """What is wrong with the formulas that a service runs on requests and decisions."""
    decision = service.decision
    yield from _at_mistakes(service.name, decision)
    reported = set()
    for event in (decision.request, decision.source):
        for mistake in _request_mistakes(service, event):
            if id(mistake[0]) not in reported:  # live and in history it is the same mistake
                yield mistake
        reported |= {id(mistake[0]) for mistake in _request_mistakes(service, event)}


def unused_view_mistakes(view: View) -> Iterator[Found]:
    """What is wrong with the formulas that a view runs on requests, where no service says what a
    request is: one of its own events stands in, if it has the fields."""
    for event in view.sources:
        if set(view.request_fields) <= set(event.fields):
            yield from _request_formula_mistakes(view, event)
            return


def label_mistakes(label: Label) -> Iterator[Found]:
    """What is wrong with the value of a label."""
    formula = Formula(
        who=f"label {label.name}: its value",
        compute=label.value,
        gives="labels",
        reads=label.reads,
    )
    batches = [reported(batch, label.reads) for batch in batches_of(label.source)]
    yield from found_in(label, formula, batches)


def _at_mistakes(service: str, decision: Decision) -> Iterator[Found]:
    formula = Formula(
        who=f"service {service}: the decision time `at`",
        compute=decision.at,
        gives="times",
        reads=None,
    )
    batches = batches_of(decision.source, flavours=WITH_TIMES, numbers_only=True)
    yield from found_in(decision, formula, batches)


def _request_mistakes(service: FeatureService, event: EventType) -> Iterator[Found]:
    """What is wrong with the formulas on requests of this type."""
    batches = batches_of(event, request=True)
    for column in service.request_columns:
        yield from found_in(column, _request_formula(service, column), batches)
    for view in service.views:
        yield from _request_formula_mistakes(view, event)


def _request_formula_mistakes(view: View, event: EventType) -> Iterator[Found]:
    if isinstance(view, CalendarView):
        for span in view.spans:
            yield from _span_mistakes(view, span, event)
    elif isinstance(view, PreviousView):
        yield from item_value_mistakes(view, batches_of(event))


def _request_formula(service: FeatureService, column: RequestColumn) -> Formula:
    return Formula(
        who=f"service {service.name}: request column {column.name!r}",
        compute=column.compute,
        gives="categories" if column.category else "numbers",
        reads=column.reads,
    )


def _span_mistakes(view: CalendarView, span: Span, event: EventType) -> Iterator[Found]:
    batches = batches_of(event, flavours=WITH_TIMES, request=True)
    touched: set[str] = set()
    for edge, compute in (("start", span.start), ("end", span.end)):
        who = f"view {view.name}: the {edge} of span {span.name!r}"
        formula = Formula(
            who=who, compute=compute, gives="times", reads=span.reads, reads_all=False
        )
        yield from found_in(span, formula, batches)
        touched |= touched_by(formula, batches)
    if superfluous := sorted(set(span.reads) - touched):
        who = f"view {view.name}: span {span.name!r}"
        yield span, f"{who} does not use {superfluous} of its `reads`", "take them out of `reads`"
