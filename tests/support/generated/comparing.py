"""Every path of a case beside the reference, bit for bit."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from features.definitions import Float64Array, View
from features.retrieval.historical import sources, training_rows
from features.retrieval.online import FeatureReader
from features.stores.ports import OfflineStore, OnlineStore
from tests.support.generated.cases import Case, messages_of, plain_fields
from tests.support.generated.paths import (
    history_values,
    ingested,
    online_values,
    query_times,
)
from tests.support.reference.facts import Fact, Sighting, facts_of
from tests.support.reference.training import Row, training_rows_of
from tests.support.reference.views import view_features

FAR_US = 10**15


def differences(
    case: Case, online: Mapping[str, OnlineStore], *, offline: OfflineStore | None = None
) -> list[str]:
    """What any path answers otherwise than the reference, a line each; none when all agree.

    An online answer counts where it says that it is exact, which it has to be at the watermark and
    later.
    """
    stores = ingested(case, online, offline=offline)
    facts = facts_of(
        sightings_of(case), horizon_us=case.horizon_us, max_future_us=case.max_future_us
    )
    lines: list[str] = []
    exact_from_us = _exact_from_us(case)
    for view in case.views if case.queries else ():
        expected = expected_values(case, view, facts)
        for parts in (1, 3):
            values = history_values(case, view, stores.offline, parts=parts)
            lines += _unlike(case, view, f"history in {parts}", values, expected)
        for name, store in stores.online.items():
            answers = online_values(case, view, store)
            lines += _unlike(case, view, name, answers.values, expected, only=answers.exact)
            wrong = ~answers.exact & (query_times(case) >= exact_from_us)
            lines += [f"{name}, {view.name}: query {i} is not exact" for i in _where(wrong)]
    if case.training is not None:
        lines += _training_differences(case, facts, stores.online, stores.offline)
    return lines


def path_differences(case: Case, online: Mapping[str, OnlineStore]) -> list[str]:
    """What any path answers otherwise than history in one computation, a line each.

    For declarations whose formulas have no plain form that the reference could use.
    """
    stores = ingested(case, online)
    lines: list[str] = []
    for view in case.views if case.queries else ():
        expected = history_values(case, view, stores.offline, parts=1)
        in_parts = history_values(case, view, stores.offline, parts=3)
        lines += _unlike(case, view, "history in 3", in_parts, expected)
        for name, store in stores.online.items():
            answers = online_values(case, view, store)
            lines += _unlike(case, view, name, answers.values, expected, only=answers.exact)
    return lines


def sightings_of(case: Case) -> list[Sighting]:
    """What the reference is given."""
    return [
        Sighting(
            event=m.sent.event,
            fields=plain_fields(m.sent.record),
            emitted_us=m.sent.emitted_ms * 1_000,
            partition=m.sent.partition,
            offset=m.place,
        )
        for m in messages_of(case.sent)
    ]


def expected_values(case: Case, view: View, facts: Sequence[Fact]) -> Float64Array:
    """The reference's answers: NaN for nothing."""
    rows = [view_features(view, facts, plain_fields(q.record), q.as_of_us) for q in case.queries]
    return np.array([[math.nan if v is None else v for v in row] for row in rows], np.float64)


def same_bits(a: Float64Array, b: Float64Array) -> Any:
    """Where two arrays are equal bit for bit, or both are NaN: 0.0 is not -0.0."""
    bits = np.ascontiguousarray(a).view(np.int64) == np.ascontiguousarray(b).view(np.int64)
    return bits | (np.isnan(a) & np.isnan(b))


def _exact_from_us(case: Case) -> int:
    """From when on every answer has to be exact.

    Values may be compacted up to `most_us` before the newest event, and up to `least_us` before
    what was the newest one when the readers were last seen.
    """
    known = [
        f.known_us
        for f in facts_of(sightings_of(case), horizon_us=-FAR_US, max_future_us=case.max_future_us)
    ]
    return max(known, default=-FAR_US) - case.least_us


def _unlike(
    case: Case,
    view: View,
    path: str,
    values: Float64Array,
    expected: Float64Array,
    *,
    only: Any = True,
) -> Iterator[str]:
    different = ~same_bits(values, expected) & np.reshape(only, (-1, 1))
    for i, j in np.argwhere(different).tolist():
        yield (
            f"{path}: {view.features[j]} of query {i} is {values[i, j]!r},"
            f" the reference says {expected[i, j]!r}"
        )


def _training_differences(
    case: Case,
    facts: Sequence[Fact],
    online: Mapping[str, OnlineStore],
    offline: OfflineStore,
) -> Iterator[str]:
    assert case.training is not None
    training = case.training
    expected = training_rows_of(
        training.service,
        training.label,
        facts,
        start_us=training.start_us,
        end_us=training.end_us,
        known_before_us=training.known_before_us,
    )
    needed = {e.name for e in sources(training.service, training.label)}
    if any(f.event in needed for f in facts):
        for slice_us in (FAR_US, training.slice_us):
            yield from _frame_differences(case, expected, offline, slice_us)
    for name, store in online.items():
        yield from _vector_differences(case, expected, name, store)


def _frame_differences(
    case: Case, expected: Sequence[Row], offline: OfflineStore, slice_us: int
) -> Iterator[str]:
    assert case.training is not None
    training = case.training
    made = training_rows(
        training.service,
        training.label,
        offline,
        start_us=training.start_us,
        end_us=training.end_us,
        known_before_us=training.known_before_us,
        duplicate_horizon_us=case.horizon_us,
        ready_tolerance_us=FAR_US,
        slice_us=slice_us,
    ).frame
    names = (*training.service.categories, *training.service.numbers)
    columns = ["entity_id", "decision_time_us", *names, "label", "label_known_at_us"]
    if made.columns != columns:
        yield f"training: the columns are {made.columns}, not {columns}"
    rows = [
        (
            r.entity_id,
            r.decision_time_us,
            *(r.values[n] for n in names),
            r.label,
            r.label_known_at_us,
        )
        for r in expected
    ]
    yield from _unlike_rows(f"training in slices of {slice_us}", columns, made.rows(), rows)


def _vector_differences(
    case: Case, expected: Sequence[Row], path: str, store: OnlineStore
) -> Iterator[str]:
    """What serving is given for the same decisions, where it says that it is exact."""
    assert case.training is not None
    service = case.training.service
    requests = [
        case.request.record(**{**r.fields, "event_time_us": r.decision_time_us}) for r in expected
    ]
    if not requests:
        return
    times = np.array([r.decision_time_us for r in expected], np.int64)
    vectors = FeatureReader(service, store).vectors(requests, times)
    names = [*service.categories, *service.numbers]
    made = [
        (*(vectors.categories[n][i] for n in service.categories), *vectors.numbers[i].tolist())
        for i in range(len(expected))
    ]
    rows = [tuple(r.values[n] for n in names) for r in expected]
    exact = _where(vectors.exact)
    yield from _unlike_rows(path, names, [made[i] for i in exact], [rows[i] for i in exact])
    wrong = ~vectors.exact & (times >= _exact_from_us(case))
    for i in _where(wrong):
        yield f"{path}: decision {i} is not exact"


def _unlike_rows(
    path: str, names: Sequence[str], made: Sequence[Any], expected: Sequence[Any]
) -> Iterator[str]:
    if len(made) != len(expected):
        yield f"{path}: {len(made)} rows, the reference has {len(expected)}"
        return
    for i, (own, other) in enumerate(zip(made, expected, strict=True)):
        for name, a, b in zip(names, own, other, strict=True):
            if not _same(a, b):
                yield f"{path}: {name} of row {i} is {a!r}, the reference says {b!r}"


def _same(a: Any, b: Any) -> bool:
    if isinstance(a, float) and (b is None or isinstance(b, float)):
        other = math.nan if b is None else b
        return bool(same_bits(np.array([a]), np.array([other]))[0])
    return type(a) is type(b) and a == b


def _where(mask: Any) -> list[int]:
    return [int(i) for i in np.flatnonzero(mask)]
