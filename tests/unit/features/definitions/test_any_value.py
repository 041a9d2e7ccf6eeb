"""Any value in any field of any declaration: a sentence, or a sound domain, and no other error."""

import enum
from collections.abc import Iterator
from dataclasses import fields, replace
from datetime import timedelta
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
import pytest

from features.catalog_check import domain_mistakes
from features.definitions import (
    Aggregation,
    CalendarView,
    Check,
    Column,
    Decision,
    Domain,
    Entity,
    FeatureService,
    FeatureView,
    ItemValue,
    Label,
    OpenView,
    PreviousView,
    PythonView,
    RequestColumn,
    Span,
    TimeWindow,
)
from features.definitions.declaration import Declaration
from features.definitions.validation import collecting
from features.errors import DeclarationError
from infra.errors import DeclarationMistake
from tests.support.by_hand import an_event

pytestmark = pytest.mark.slow


class Word(enum.StrEnum):
    """A text that prints otherwise in some formats."""

    SHOP = "shop"


STRANGE: dict[str, Any] = {
    "nothing": None,
    "a number": 3,
    "a wide number": 2**70,
    "not a number": float("nan"),
    "no text": "",
    "half a character": "\ud800",
    "a control character": "a\x1fb",
    "a long text": "x" * 300,
    "a text of numpy": np.str_("shop"),
    "a member": Word.SHOP,
    "an array": np.arange(2),
    "a list": ["shop"],
    "a mapping": {"shop": 1},
    "nested tuples": ((("x",),),),
    "a function": lambda *_: None,
    "a class": int,
    "a length of pandas": pd.Timedelta(hours=1),
}


@cache
def a_domain() -> Domain:
    """A domain with each kind of declaration."""
    hour, shop = timedelta(hours=1), Entity(name="shop", keys=("shop",))
    check = Check(name="cents", holds=lambda e: e["cents"] > 0, reads=("cents",), on_failure="stop")
    sold = an_event(checks=[check], cents=int, due_us=int)
    asked, paid = an_event("shop.asked", cents=int, due_us=int), an_event("shop.paid")
    cents = Column(name="c", compute=lambda e: e["cents"], reads=("cents",), scale=10)
    limits: dict[str, Any] = {"entity": shop, "reach": hour, "ahead": hour}
    window = TimeWindow(length=hour, hop=timedelta(minutes=1))
    span = Span(
        name="s", start=lambda q: q["due_us"], end=lambda q: q["due_us"] + 1, reads=("due_us",)
    )
    value = ItemValue(name="v", meaning="", compute=lambda item, _: item["shop.sold.cents"])
    kept = ((sold, ("cents",)),)
    views = (
        FeatureView(
            name="sold",
            source=sold,
            entity=shop,
            columns=(cents,),
            aggregations=(Aggregation(operation="sum", column="c", windows=(window,)),),
            ttl=timedelta(days=1),
            exclude_self="cents",
        ),
        CalendarView(
            name="planned",
            source=sold,
            at="due_us",
            spans=(span,),
            aggregations=(Aggregation(operation="count"),),
            **limits,
        ),
        OpenView(
            name="open", item="event_id", opened=sold, due="due_us", closed_by=(paid,), **limits
        ),
        PreviousView(
            name="before",
            item="event_id",
            opened=sold,
            order="due_us",
            before="due_us",
            keeps=kept,
            values=(value,),
            **limits,
        ),
        PythonView(
            name="own",
            entity=shop,
            keeps=kept,
            compute=lambda e, _: [e["shop.sold"]["cents"].sum()],
            names=("v",),
            ttl=hour,
        ),
    )
    decision = Decision(request=asked, source=sold, entity_id="shop", at=lambda e: e["due_us"])
    column = RequestColumn(name="q", compute=lambda q: q["cents"], reads=("cents",))
    service = FeatureService(name="s", decision=decision, request_columns=(column,), views=views)
    label = Label(
        name="l",
        source=sold,
        entity_id="shop",
        value=lambda e: e["cents"] > 3,
        reads=("cents",),
        max_wait=hour,
        within=hour,
    )
    return Domain(
        name="d",
        events=(sold, asked, paid),
        views=views,
        services=(service,),
        labels=(label,),
        predictions_topic="d.predictions",
    )


def declarations_in(value: Any) -> Iterator[Any]:
    """The declarations that a value consists of."""
    if isinstance(value, tuple):
        for part in value:
            yield from declarations_in(part)
    elif isinstance(value, Declaration):
        yield value
        for field in fields(value):  # type: ignore[arg-type]
            yield from declarations_in(getattr(value, field.name))


def with_value(value: Any, changed: Any, field: str, strange: Any) -> Any:
    """The same with another value in one field of one declaration, wherever it stands."""
    if isinstance(value, tuple):
        return tuple(with_value(v, changed, field, strange) for v in value)
    if value is changed:
        return replace(value, **{field: strange})
    if all(inner is not changed for inner in declarations_in(value)):
        return value
    own = {f.name: getattr(value, f.name) for f in fields(value) if f.init}
    return replace(value, **{n: with_value(v, changed, field, strange) for n, v in own.items()})


FIELDS = {
    f"{type(declaration).__name__}.{f.name}": (declaration, f.name)
    for declaration in declarations_in(a_domain())
    for f in fields(declaration)
    if f.init
}


def test_the_domain_itself_is_sound() -> None:
    assert list(domain_mistakes([a_domain()])) == []


@pytest.mark.parametrize("field", FIELDS)
def test_any_value_in_a_field_gives_a_sentence_or_is_sound(field: str) -> None:
    changed, name = FIELDS[field]
    for strange in STRANGE.values():
        with collecting() as noted:
            try:
                made = with_value(a_domain(), changed, name, strange)
                mistakes: list[object] = [*noted, *domain_mistakes([made])]
            except DeclarationMistake as mistake:  # as in a module that stops there
                mistakes = [mistake]
        try:
            with_value(a_domain(), changed, name, strange)
        except DeclarationMistake:
            assert mistakes


UNFIT = (
    "no text",
    "half a character",
    "a control character",
    "a long text",
    "a member",
    "an array",
)


@pytest.mark.parametrize("field", [f for f in FIELDS if f.endswith(".name")])
@pytest.mark.parametrize("name", UNFIT)
def test_a_name_is_plain_text_that_can_be_printed(field: str, name: str) -> None:
    changed, _ = FIELDS[field]
    with pytest.raises(DeclarationError, match="name"):
        replace(changed, name=STRANGE[name])
