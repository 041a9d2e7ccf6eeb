"""Labels and decision times that fail for some events only: those events say nothing, the export
goes on, and the failures are logged."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
from structlog.testing import capture_logs

from tests.support.by_hand import SECOND_US, an_event, sent
from tests.support.training_by_hand import PLACED, label, rows, service

STRANGE = 2222


def fails_for_strange(column: Any) -> None:
    if (column == STRANGE).any():
        raise ZeroDivisionError


def unknown_labels() -> dict[str, Any]:
    """Values of labels that say nothing about the strange event, and that 1 is true."""

    def raises(e: Any) -> Any:
        fails_for_strange(e["late"])
        return e["late"] == 1

    return {
        "raises": raises,
        "null": lambda e: np.array([None if v == STRANGE else v == 1 for v in e["late"].tolist()]),
        "not a number": lambda e: np.where(e["late"] == STRANGE, np.nan, e["late"] == 1),
        "masked": lambda e: np.ma.masked_where(e["late"] == STRANGE, e["late"] == 1),
    }


@pytest.mark.parametrize("within", [None, timedelta(seconds=200)])
@pytest.mark.parametrize("value", unknown_labels())
def test_an_event_for_which_the_label_fails_says_nothing(
    value: str, within: timedelta | None
) -> None:
    returned = an_event("order.returned", order=str, late=int)
    value_of = unknown_labels()[value]
    by = label(returned, value=value_of, within=within, max_wait=timedelta(seconds=200))
    events = [
        *(sent(PLACED, n, order=f"o{n}") for n in (1, 2)),
        sent(returned, 50, order="o1", late=STRANGE),
        sent(returned, 90, order="o1", late=1),
        sent(returned, 60, order="o2", late=STRANGE),
    ]
    with capture_logs() as logs:
        made = [r["label"] for r in rows(events, by=by)]
    assert made == [1, 0 if within else None]
    assert ("formula_failed" in [log["event"] for log in logs]) == (value == "raises")


def strange_times() -> dict[str, Any]:
    """Decision times that fail for the strange event, and are a second later for others."""

    def soon(e: Any) -> Any:
        return e["event_time_us"] + SECOND_US

    def raises(e: Any) -> Any:
        fails_for_strange(e["cents"])
        return soon(e)

    def none(e: Any) -> Any:
        return np.where(e["cents"] == STRANGE, None, soon(e))

    return {
        "raises": raises,
        "null": none,
        "a fraction": lambda e: np.where(e["cents"] == STRANGE, 0.5, soon(e)),
        "masked": lambda e: np.ma.masked_where(e["cents"] == STRANGE, soon(e)),
    }


@pytest.mark.parametrize("at", strange_times())
def test_an_event_for_which_the_decision_time_fails_makes_no_decision(at: str) -> None:
    placed = an_event("order.placed", key="order", order=str, cents=int)
    of = service(placed)
    of = replace(of, decision=replace(of.decision, at=strange_times()[at]))
    good, strange = (sent(placed, n, order=f"o{n}", cents=c) for n, c in ((1, 5), (2, STRANGE)))
    assert rows([good, strange], of=of) == rows([good], of=of) != []
