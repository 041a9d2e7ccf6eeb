"""Services, decisions and labels over made-up event types."""

from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st

from features.definitions import Decision, FeatureService, Label, RequestColumn, View
from tests.support.generated.cases import START_US, Training
from tests.support.generated.event_types import DrawnEvent, Field, World
from tests.support.generated.formulas import (
    at_least,
    floored,
    is_null,
    is_text,
    less,
    plain_of,
    plus,
    same,
)
from tests.support.generated.histories import Draft
from tests.support.reference.values import us


def services(
    draw: st.DrawFn,
    *,
    views: tuple[View, ...],
    request: DrawnEvent,
    decided: DrawnEvent,
    world: World,
) -> FeatureService:
    """A service of these views, with request columns of the request's fields."""
    after = draw(st.sampled_from([1, 1, 5, 40]))
    at = draw(st.sampled_from([plus("event_time_us", after * world.unit_us), same("at_us")]))
    columns = [_time_column(draw, world)] if draw(st.booleans()) else []
    for n, field in enumerate(request.fields):
        compute, category = draw(st.sampled_from(_request_formulas(field)))
        columns.append(
            RequestColumn(name=f"q{n}", compute=compute, reads=(field.name,), category=category)
        )
    return FeatureService(
        name="service",
        decision=Decision(
            request=request.event,
            source=decided.event,
            entity_id="item",
            at=at,
            reported_within=world.span(draw(st.sampled_from([0, 0, 3]))),
            of_several=draw(st.sampled_from(["each", "current"])),
        ),
        request_columns=tuple(columns),
        views=views,
    )


def _time_column(draw: st.DrawFn, world: World) -> RequestColumn:
    """A column of the decision time, or of how long after it something is."""
    step = 5 * world.unit_us
    formulas = [same("as_of_us"), floored("as_of_us", step), less("at_us", "as_of_us")]
    compute = draw(st.sampled_from(formulas))
    return RequestColumn(name="time", compute=compute, reads=("at_us", "as_of_us"))


def _request_formulas(field: Field) -> list[tuple[Any, bool]]:
    """Formulas of a field, and whether they give a category."""
    name = field.name
    if not field.is_number:
        return [(same(name), True), (is_text(name, "a"), False)]
    formulas = [(same(name), False), (at_least(name, 2), False)]
    if field.kind in ("int?", "float?"):
        formulas.append((is_null(name), False))
        formulas.append((same(name), True))
    elif field.kind == "int":
        formulas.append((same(name), True))
    return formulas


def labels(draw: st.DrawFn, outcome: DrawnEvent, world: World) -> Label:
    """What became of a decision, with or without a span in which it has to happen."""
    may = [*outcome.fields, None]
    field = draw(st.sampled_from(may))
    if field is None:
        value, reads = at_least("at_us", START_US + 50 * world.unit_us), "at_us"
    elif field.is_number:
        value, reads = at_least(field.name, 1 if field.kind == "bool" else 0), field.name
    else:
        value, reads = is_text(field.name, "a"), field.name
    within = draw(st.sampled_from([None, None, 5, 5, 30]))
    return Label(
        name="label",
        source=outcome.event,
        entity_id="item",
        value=value,
        reads=(reads,),
        max_wait=world.span(draw(st.sampled_from([30, 31, 80]))),
        within=None if within is None else world.span(within),
    )


def report_in_time(
    draw: st.DrawFn, service: FeatureService, drafts: list[Draft], unit_us: int
) -> None:
    """Let most events of a decision be known before the decision time, and some just then or when
    it is too late."""
    at = plain_of(service.decision.at)
    grace_us = us(service.decision.reported_within)
    is_ahead = at({"event_time_us": 0, "at_us": 1}) == 1
    for draft in drafts:
        how = draw(st.sampled_from(["before", "before", "before", "edge", "late", "as it is"]))
        if draft.event != service.decision.source or how == "as it is":
            continue
        if is_ahead:
            latest = max(d.known_us for d in drafts if d.fields is draft.fields)
            soonest = latest + {"before": unit_us, "edge": -grace_us, "late": -grace_us - 1}[how]
            ahead = max(draft.fields["at_us"], soonest) if how == "before" else soonest
            draft.fields["at_us"] = ahead
        else:
            latest = at(draft.fields) + {"before": -1_000, "edge": grace_us, "late": 0}[how]
            late = latest + grace_us + 1_000
            draft.emitted_us = min(draft.emitted_us, latest) if how != "late" else late


def happen_after_decisions(
    draw: st.DrawFn, service: FeatureService, decided: list[Draft], outcomes: list[Draft]
) -> None:
    """Move most outcomes behind the last decision about their item, some to its very time."""
    at = plain_of(service.decision.at)
    last: dict[Any, int] = {}
    for draft in decided:
        item = draft.fields["item"]
        last[item] = max(last.get(item, 0), at(draft.fields))
    for draft in outcomes:
        later = draw(st.sampled_from([None, 0, 1, 1, 1]))
        if later is None:
            continue
        behind = last.get(draft.fields["item"], 0) + later - draft.fields["event_time_us"]
        if behind > 0:
            moved = dict(draft.fields)
            for other in (d for d in outcomes if d.fields["event_id"] == moved["event_id"]):
                other.fields = {**other.fields, "event_time_us": moved["event_time_us"] + behind}
                other.emitted_us += behind
                other.arrives_us += behind


def report_at_the_edge(
    draw: st.DrawFn,
    training: tuple[FeatureService, Label],
    decided: list[Draft],
    outcomes: list[Draft],
) -> None:
    """Move some outcomes to the last moment at which they count, or the first at which not."""
    service, label = training
    if label.within is None:
        return
    at = {d.fields["item"]: plain_of(service.decision.at)(d.fields) for d in decided}
    for draft in outcomes:
        edge = draw(st.sampled_from(["no", "happens", "known", "known"]))
        decision = at.get(draft.fields["item"])
        if edge == "no" or decision is None:
            continue
        own = [d for d in outcomes if d.fields["event_id"] == draft.fields["event_id"]]
        for same_event in own:
            happens = decision + us(label.within)
            same_event.fields = {**same_event.fields, "event_time_us": happens}
            known = decision + us(label.max_wait) if edge == "known" else happens
            same_event.emitted_us = same_event.arrives_us = known


def training_of(
    draw: st.DrawFn,
    world: World,
    training: tuple[FeatureService, Label],
    decided: Sequence[Draft],
    outcomes: Sequence[Draft],
) -> Training:
    """When decisions begin and end, the cut-off, and the length of slices: often exactly where one
    row more or less would come in."""
    service, label = training
    unit, wait = world.unit_us, us(label.max_wait)
    at = [plain_of(service.decision.at)(d.fields) for d in decided]
    start = START_US + unit * draw(st.sampled_from([-10, -10, -10, -10, 20]))
    known = [d.known_us for d in outcomes]
    edges = known if label.within is None else [t + wait for t in at]
    last = max([start + unit * 300, *at, *known, *(t + wait for t in at)]) + 1
    late = sorted(t for t in edges if t > start + unit)
    late = late[len(late) // 2 :] or [last]
    cutoff = draw(st.sampled_from(late)) if draw(st.booleans()) else last
    ends = sorted(t for t in at if start < t <= cutoff)
    end = draw(st.sampled_from([cutoff] * 4 + ends[-2:]))
    return Training(
        service=service,
        label=label,
        start_us=start,
        end_us=end,
        known_before_us=cutoff,
        slice_us=unit * draw(st.sampled_from([25, 60, 110])),
    )
