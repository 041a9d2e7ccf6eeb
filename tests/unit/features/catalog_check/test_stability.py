"""Formulas whose result is not the same everywhere, or changes while they run, are refused, also
those that are computed only when features are read."""

import random
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import numpy as np
import pytest

from features.catalog_check import Mistake, domain_mistakes
from features.definitions import (
    Check,
    Decision,
    Domain,
    Entity,
    FeatureService,
    Label,
    PythonView,
    RequestColumn,
)
from tests.support.by_hand import an_event, column, of_shop

HOUR = timedelta(hours=1)
SEEN: list[int] = []


def year(_: Any) -> int:
    return time.gmtime().tm_year


def reads_the_clock(e: Any) -> Any:
    return e["cents"] + year(e)


def draws(e: Any) -> Any:
    return e["cents"] + (random.random() > 2)


def grows_through_another_name(e: Any) -> Any:
    other = SEEN
    other.append(len(e["cents"]))
    return e["cents"]


def grows_a_default(e: Any, seen: list[int] = []) -> Any:  # noqa: B006  # as users do
    seen.append(1)
    return e["cents"]


UNSTABLE = {
    reads_the_clock: "has no stable identity: year -> time.gmtime() reads the clock",
    draws: "has no stable identity: random.random draws random numbers",
    grows_through_another_name: "changes what it depends on while it runs",
    grows_a_default: "changes what it depends on while it runs",
}


def mistakes_of(
    *,
    at: Any = lambda e: e["due_us"],
    value: Any = lambda e: e["cents"] > 3,
    holds: Any = lambda e: e["cents"] > 0,
    asked: Any = lambda q: q["cents"],
    stored: Any = lambda e: e["cents"],
    own: Any = lambda e, _: [e["shop.sold"]["cents"].sum()],
) -> list[Mistake]:
    """The mistakes of a domain with these formulas."""
    check = Check(name="cents", holds=holds, reads=("cents",), on_failure="dead_letter")
    sold = an_event(checks=[check], cents=int, due_us=int)
    request = an_event("shop.asked", cents=int, due_us=int)
    kept = PythonView(
        name="own",
        entity=Entity(name="shop", keys=("shop",)),
        keeps=((sold, ("cents",)),),
        compute=own,
        names=("v",),
        ttl=HOUR,
    )
    views = (of_shop(sold, ("sum", "c"), columns=(column("c", stored, "cents"),)), kept)
    service = FeatureService(
        name="s",
        decision=Decision(request=request, source=sold, entity_id="shop", at=at),
        request_columns=(RequestColumn(name="q", compute=asked, reads=("cents",)),),
        views=views,
    )
    label = Label(
        name="l", source=sold, entity_id="shop", value=value, reads=("cents",), max_wait=HOUR
    )
    domain = Domain(
        name="d",
        events=(sold, request),
        views=views,
        services=(service,),
        labels=(label,),
        predictions_topic="d.p",
    )
    return list(domain_mistakes([domain]))


PLACES: dict[str, Callable[[Any], dict[str, Any]]] = {
    "a decision time": lambda f: {"at": lambda e: e["due_us"] + f({"cents": e["due_us"]}) * 0},
    "a label": lambda f: {"value": lambda e: f(e) > 3},
    "a check": lambda f: {"holds": lambda e: f(e) > 0},
    "a request column": lambda f: {"asked": f},
    "a stored column": lambda f: {"stored": f},
    "a function": lambda f: {"own": lambda e, _: [f(e["shop.sold"]).sum()]},
}


def test_the_domain_itself_is_sound() -> None:
    assert mistakes_of() == []


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("formula", UNSTABLE, ids=lambda f: f.__name__)
def test_a_formula_that_is_not_the_same_everywhere_is_refused(place: str, formula: Any) -> None:
    mistakes = mistakes_of(**PLACES[place](formula))
    assert len(mistakes) == 1
    assert UNSTABLE[formula].rpartition(": ")[2] in mistakes[0].mistake
    assert mistakes[0].remedy
    assert mistakes[0].line is not None


def test_a_generator_with_a_seed_is_the_same_everywhere() -> None:
    def stored(e: Any) -> Any:
        return e["cents"] * int(np.random.default_rng(7).integers(1, 3))

    assert mistakes_of(stored=stored) == []
