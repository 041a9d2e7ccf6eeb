"""Whole cases, drawn at random."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from hypothesis import strategies as st

from features.definitions import (
    FeatureService,
    Label,
)
from tests.support.generated.cases import Batch, Case, Sent
from tests.support.generated.event_types import DrawnEvent, World, event_types, worlds
from tests.support.generated.histories import (
    JITTERS,
    MAX_FUTURE_UNITS,
    Draft,
    Drafting,
    QueryDraw,
    arrived,
    drafts,
    newest_at_an_edge,
    queries,
)
from tests.support.generated.services import (
    happen_after_decisions,
    labels,
    report_at_the_edge,
    report_in_time,
    services,
    training_of,
)
from tests.support.generated.views import (
    AnyView,
    Surroundings,
    any_view,
)

FOREVER_US = 10**13
FOREVER, LONG_HORIZON = 1_000, 30  # units
FEW_JITTERS = (0, 0, 0, 0, 0, 0, 0, 1)


@st.composite
def view_cases(draw: st.DrawFn, kind: AnyView) -> Case:
    """One or two views of a kind, a history and queries."""
    world = draw(worlds())
    made = [
        draw(event_types(f"made.e{n}", world)) for n in range(draw(st.sampled_from([1, 2, 2, 3])))
    ]
    request = draw(event_types("made.request", world, checked=False, delayed=False))
    events = tuple(made)
    around = Surroundings(world=world, events=events, item_events=events)
    views = tuple(kind(draw, f"view{n}", around) for n in range(draw(st.sampled_from([1, 2]))))
    horizon = _horizon(draw)
    least, most = _watermark_bounds(draw, world)
    drafted = _drafts(draw, made, world, horizon=horizon)
    newest_at_an_edge(draw, drafted, views, world, most)
    sent = arrived(drafted, world.partitions)
    how = QueryDraw(
        request=request,
        world=world,
        sent=sent,
        views=views,
        exact_from_us=max((d.known_us for d in drafted), default=0) - least,
    )
    return Case(
        events=tuple(e.event for e in made),
        request=request.event,
        views=views,
        sent=sent,
        queries=queries(draw, how),
        batches=_batches(draw, sent),
        partitions=world.partitions,
        horizon_us=_horizon_us(horizon, world),
        least_us=least,
        most_us=most,
        max_future_us=MAX_FUTURE_UNITS * world.unit_us,
        compaction_slack=draw(st.sampled_from([0, 0, 1, 3])),
    )


@st.composite
def training_cases(draw: st.DrawFn) -> Case:
    """A service of one or two views, with decisions and a label."""
    world = draw(worlds())
    request = draw(event_types("made.request", world, delayed=False))
    decided = DrawnEvent(_like(request, "made.decided"), request.fields)
    outcome = draw(event_types("made.outcome", world, places=False))
    made = draw(event_types("made.e0", world))
    around = Surroundings(
        world=world,
        events=(made, decided, outcome),
        item_events=(made, outcome),
    )
    views = tuple(any_view(draw, f"view{n}", around) for n in range(draw(st.integers(1, 2))))
    service = services(draw, views=views, request=request, decided=decided, world=world)
    label = labels(draw, outcome, world)
    horizon = _horizon(draw)
    drafting = partial(_drafts, draw, world=world, horizon=horizon)
    others = drafting([made], at_most=12)
    decisions, outcomes = _decisions_and_outcomes(
        draw, drafting, (service, label), (decided, outcome), world=world
    )
    everything = [*others, *decisions, *outcomes]
    training = training_of(draw, world, (service, label), decisions, outcomes)
    sent = arrived(everything, world.partitions)
    least, most = _watermark_bounds(draw, world)
    return Case(
        events=(made.event, decided.event, outcome.event),
        request=request.event,
        views=views,
        sent=sent,
        batches=_batches(draw, sent),
        training=training,
        partitions=world.partitions,
        horizon_us=_horizon_us(horizon, world),
        least_us=least,
        most_us=most,
        max_future_us=MAX_FUTURE_UNITS * world.unit_us,
        compaction_slack=draw(st.sampled_from([0, 0, 1, 3])),
    )


def _decisions_and_outcomes(
    draw: st.DrawFn,
    drafting: Callable[..., list[Draft]],
    training: tuple[FeatureService, Label],
    events: tuple[DrawnEvent, DrawnEvent],
    *,
    world: World,
) -> tuple[list[Draft], list[Draft]]:
    """Events of the two types, many of them where a decision or a label begins or ceases to
    count."""
    (service, label), (decided, outcome) = training, events
    decisions = drafting([decided], at_most=24, items=6, jitters=FEW_JITTERS, moves=False)
    report_in_time(draw, service, decisions, world.unit_us)
    outcomes = drafting([outcome], at_most=16, items=6, jitters=FEW_JITTERS, moves=False)
    if label.within is None:
        happen_after_decisions(draw, service, decisions, outcomes)
    report_at_the_edge(draw, training, decisions, outcomes)
    return decisions, outcomes


def _like(request: DrawnEvent, name: str) -> Any:
    """Another event type with the same record."""
    event = request.event
    return replace(event, name=name)


def _drafts(
    draw: st.DrawFn,
    made: Sequence[DrawnEvent],
    world: World,
    *,
    horizon: int,
    at_most: int = 14,
    items: int = 8,
    jitters: Sequence[int] = JITTERS,
    moves: bool = True,
) -> list[Draft]:
    drafted: list[Draft] = []
    for drawn in made:
        how = Drafting(
            drawn=drawn,
            world=world,
            horizon=min(horizon, LONG_HORIZON),
            items=items,
            jitters=jitters,
            moves=moves,
        )
        drafted += drafts(draw, how, at_most)
    return drafted


def _horizon(draw: st.DrawFn) -> int:
    """Up to how many units later an event counts as sent again. Ids are remembered for two horizons
    at least."""
    return draw(st.sampled_from([10, LONG_HORIZON, FOREVER]))


def _horizon_us(horizon: int, world: World) -> int:
    return FOREVER_US if horizon == FOREVER else horizon * world.unit_us


def _watermark_bounds(draw: st.DrawFn, world: World) -> tuple[int, int]:
    """How far behind the newest event an answer is exact: at least, and without readers."""
    least = draw(st.sampled_from([0, 0, 1, 3, 15]))
    most = draw(st.sampled_from([least, least, 15, 40, 1_000]))
    return least * world.unit_us, max(least, most) * world.unit_us


def _batches(draw: st.DrawFn, sent: Sequence[Sent]) -> tuple[Batch, ...]:
    """The events in batches of random sizes."""
    batches: list[Batch] = []
    left = len(sent)
    # Each restart forgets how far the readers are, so the watermark goes back.
    alternates = draw(st.sampled_from([False, False, True]))
    while left:
        size = min(left, draw(st.sampled_from([1, 2, 3, 5, 5, 10])))
        event = draw(st.sampled_from(["", "readers", "readers", "restart", "rebuild"]))
        if alternates:
            event = ("readers", "restart")[len(batches) % 2]
        batches.append(
            Batch(
                size=size,
                observes_readers=event == "readers",
                restarts=event == "restart",
                rebuilds=event == "rebuild",
                slack=draw(st.sampled_from([None, 0, 50])),
            )
        )
        left -= size
    return tuple(batches)
