"""The audit counts missing, duplicated and waiting records, and confuses none of them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.definitions import Int64Array
from features.maintenance.accounting import (
    TopicAccount,
    account_requests,
    account_topic,
    place,
    places,
)


def at(*coordinates: tuple[int, int]) -> Int64Array:
    return np.array([place(p, o) for p, o in coordinates], dtype=np.int64)


SENT = at((0, 0), (0, 2), (1, 1), (1, 7))
POSITIONS = {0: 3, 1: 8}
NONE = at()


def topic(stored: Int64Array = SENT, dead: Int64Array = NONE, **changes: object) -> TopicAccount:
    arguments = {"positions": POSITIONS, "event_ids": np.arange(4), **changes}
    return account_topic("t", sent=SENT, stored=stored, dead=dead, **arguments)  # type: ignore[arg-type]


def test_an_account_with_every_record_stored_is_clean() -> None:
    account = topic()
    assert (account.sent, account.stored) == (4, 4)
    assert (account.waiting, account.missing, account.doubled, account.resent) == (0, 0, 0, 0)


def test_a_dead_lettered_record_is_not_missing() -> None:
    account = topic(stored=SENT[:3], dead=SENT[3:])
    assert (account.dead_lettered, account.missing, account.doubled) == (1, 0, 0)


def test_a_record_below_the_position_that_is_not_stored_is_missing() -> None:
    assert topic(stored=SENT[1:]).missing == 1


def test_a_record_above_the_position_is_waiting() -> None:
    account = topic(stored=SENT[:3], positions={0: 3, 1: 7})
    assert (account.waiting, account.missing) == (1, 0)


def test_every_record_of_a_partition_without_a_position_is_waiting() -> None:
    account = topic(stored=NONE, positions={})
    assert (account.waiting, account.missing) == (4, 0)


@pytest.mark.parametrize(
    ("stored", "dead"),
    [(np.append(SENT, SENT[0]), NONE), (SENT, SENT[:1]), (SENT[1:], np.repeat(SENT[:1], 2))],
)
def test_a_record_stored_or_dead_lettered_twice_is_duplicated(
    stored: Int64Array, dead: Int64Array
) -> None:
    assert topic(stored=stored, dead=dead).doubled == 1


def test_an_id_that_the_source_sent_again_is_not_a_fault() -> None:
    account = topic(event_ids=np.array([1, 2, 2, 3]))
    assert (account.resent, account.doubled) == (1, 0)


def test_requests_are_predicted_rejected_waiting_or_unanswered() -> None:
    account = account_requests(
        "r", asked=SENT, predicted=SENT[:1], rejected=SENT[1:2], positions={0: 3, 1: 2}
    )
    assert (account.predicted, account.stale, account.rejected) == (1, 0, 1)
    assert (account.unanswered, account.waiting, account.answered_twice) == (1, 1, 0)


def test_a_prediction_and_a_rejection_of_one_request_are_two_answers() -> None:
    account = account_requests(
        "r", asked=SENT, predicted=SENT, rejected=SENT[:1], positions=POSITIONS
    )
    assert account.answered_twice == 1


coordinates = st.lists(
    st.tuples(st.integers(0, 63), st.integers(0, 2**47)), unique=True, max_size=30
)


def test_the_largest_offset_of_the_last_partition_fits_into_an_int64() -> None:
    assert place(2**15 - 1, 2**48 - 1) == 2**63 - 1
    assert place(1, 0) == 2**48


@given(coordinates)
def test_every_record_has_one_place(drawn: list[tuple[int, int]]) -> None:
    packed = places(
        np.array([p for p, _ in drawn], dtype=np.int64),
        np.array([o for _, o in drawn], dtype=np.int64),
    )
    assert packed.tolist() == at(*drawn).tolist()
    assert len(set(packed.tolist())) == len(drawn)


@given(coordinates, st.data())
def test_every_sent_record_is_stored_dead_lettered_waiting_or_missing(
    drawn: list[tuple[int, int]], data: st.DataObject
) -> None:
    sent = at(*drawn)
    fates = data.draw(st.lists(st.integers(0, 2), min_size=len(sent), max_size=len(sent)))
    fate = np.array(fates, dtype=np.int64)
    account = account_topic(
        "t",
        sent=sent,
        stored=sent[fate == 0],
        dead=sent[fate == 1],
        positions=data.draw(st.dictionaries(st.integers(0, 63), st.integers(0, 2**47))),
        event_ids=np.arange(len(sent)),
    )
    counted = account.stored + account.dead_lettered + account.waiting + account.missing
    assert (counted, account.doubled) == (account.sent, 0)
