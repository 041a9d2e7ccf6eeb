"""Training rows, written from `docs/explanation/training_sets.md` and the words of `Label`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from features.definitions import FeatureService, Label
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
    decision = service.decision
    decided = [
        (plain_of(decision.at)(f.says), f.says[decision.entity_id], f.partition, f.offset, f)
        for f in facts
        if f.event == decision.source.name
        and f.known_us < known_before_us
        and plain_of(decision.at)(f.says) is not None
        and f.says[decision.entity_id] is not None
    ]
    rows: dict[tuple[int, Any], Row] = {}
    for at, entity_id, _, _, fact in sorted(decided, key=lambda d: d[:4]):
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


def service_values(
    service: FeatureService, facts: Sequence[Fact], request: Mapping[str, Any], as_of_us: int
) -> dict[str, Any]:
    """Categories and numbers of a service by name; "" for a category without a value."""
    values: dict[str, Any] = {}
    for column in service.request_columns:
        doubted = doubted_fields(service.decision.request, request) & set(column.reads)
        value = None if doubted else plain_of(column.compute)(request)
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
        f for f in facts if f.event == label.source.name and f.says[label.entity_id] == entity_id
    ]
    if label.within is not None:
        return _happens_within(label, own, at, known_before_us)
    reported = [
        f
        for f in own
        if f.known_us < known_before_us
        and f.happened_us > at
        and all(f.says[name] is not None for name in label.reads)  # null is no value
    ]
    if not reported:
        return None, None
    first = min(reported, key=lambda f: (f.known_us, f.partition, f.offset))
    return int(plain_of(label.value)(first.says)), first.known_us


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
        and at < f.happened_us <= at + us(label.within)
        and f.known_us < ripe_us
        for f in own
    )
    return int(happens), ripe_us
