"""Training rows, written from `docs/explanation/training_sets.md` and the words of `Label`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from features.definitions import Decision, FeatureService, Label
from tests.support.generated.formulas import plain_of
from tests.support.reference.facts import Fact, doubted_fields
from tests.support.reference.values import us
from tests.support.reference.views import view_features


@dataclass(frozen=True, kw_only=True)
class Row:
    """One decision. `values`: categories and numbers of the service by name."""

    entity_id: Any
    decision_time_us: int
    fields: Mapping[str, Any]
    values: Mapping[str, Any]
    label: int | None
    label_known_at_us: int | None


def training_rows_of(
    service: FeatureService,
    label: Label,
    facts: Sequence[Fact],
    *,
    start_us: int,
    end_us: int,
    known_before_us: int,
) -> list[Row]:
    """One row a decision, by decision time and entity id."""
    rows: dict[tuple[int, Any], Row] = {}
    for at, fact in _decisions(service.decision, facts, known_before_us):
        entity_id = fact.says[service.decision.entity_id]
        if start_us <= at < end_us and (at, entity_id) not in rows:
            value, known_us = _label(label, facts, entity_id, at, known_before_us)
            rows[at, entity_id] = Row(
                entity_id=entity_id,
                decision_time_us=at,
                fields=fact.fields,
                values=service_values(service, facts, fact.says, at),
                label=value,
                label_known_at_us=known_us,
            )
    return list(rows.values())


def _decisions(
    decision: Decision, facts: Sequence[Fact], known_before_us: int
) -> list[tuple[int, Fact]]:
    """The facts that make a decision, with its time: sorted by time, entity and place."""
    known = [
        f
        for f in facts
        if f.event == decision.source.name
        and f.known_us < known_before_us
        and f.says[decision.entity_id] is not None
    ]
    timed = [(plain_of(decision.at)(f.says), f) for f in known]
    made = [
        (at, f)
        for at, f in timed
        if at is not None and f.known_us <= at + us(decision.reported_within)
    ]
    if decision.of_several == "current":
        made = _current(decision.entity_id, made, known)
    return sorted(made, key=lambda d: (d[0], d[1].says[decision.entity_id], *_place(d[1])))


def _current(
    entity_id: str, made: Sequence[tuple[int, Fact]], known: Sequence[Fact]
) -> list[tuple[int, Fact]]:
    """One decision an entity: the earliest of those that no later news had replaced by then."""
    counts: dict[Any, tuple[int, Fact]] = {}
    for at, fact in sorted(made, key=lambda d: (d[0], _news(d[1]))):
        entity = fact.says[entity_id]
        replaced = any(
            f.says[entity_id] == entity and _news(f) > _news(fact) and f.known_us <= at
            for f in known
        )
        if not replaced:
            counts.setdefault(entity, (at, fact))
    return list(counts.values())


def _place(fact: Fact) -> tuple[int, int]:
    return fact.partition, fact.offset


def _news(fact: Fact) -> tuple[int, int, int]:
    """Facts in the order in which they became known."""
    return fact.known_us, fact.partition, fact.offset


def service_values(
    service: FeatureService, facts: Sequence[Fact], request: Mapping[str, Any], as_of_us: int
) -> dict[str, Any]:
    """Categories and numbers of a service by name; "" for a category without a value."""
    values: dict[str, Any] = {}
    for column in service.request_columns:
        doubted = doubted_fields(service.decision.request, request) & set(column.reads)
        value = None if doubted else plain_of(column.compute)({**request, "as_of_us": as_of_us})
        if column.category:
            values[column.name] = "" if value is None else str(value)
        else:
            values[column.name] = None if value is None else float(value)
    for view in service.views:
        features = view_features(view, facts, request, as_of_us)
        values |= dict(zip(view.features, features, strict=True))
    return values


def _label(
    label: Label, facts: Sequence[Fact], entity_id: Any, at: int, known_before_us: int
) -> tuple[int | None, int | None]:
    own = [
        f
        for f in facts
        if f.event == label.source.name
        and f.says[label.entity_id] == entity_id
        and _comes_after(f, at)
        and all(f.says[name] is not None for name in label.reads)  # null is no value
    ]
    if label.within is not None:
        return _happens_within(label, own, at, known_before_us)
    reported = [f for f in own if f.known_us < known_before_us]
    if not reported:
        return None, None
    first = min(reported, key=_news)
    return int(plain_of(label.value)(first.says)), first.known_us


def _comes_after(fact: Fact, at: int) -> bool:
    """What was known before the decision had happened by then, whatever its time says."""
    return fact.happened_us > at and fact.known_us >= at


def _happens_within(
    label: Label, own: Sequence[Fact], at: int, known_before_us: int
) -> tuple[int | None, int | None]:
    """1 if it happens after the decision, at most `within` later, and is known before the decision
    is `max_wait` old."""
    assert label.within is not None
    ripe_us = at + us(label.max_wait)
    if ripe_us > known_before_us:
        return None, None
    happens = any(
        plain_of(label.value)(f.says)
        and f.happened_us <= at + us(label.within)
        and f.known_us < ripe_us
        for f in own
    )
    return int(happens), ripe_us
