"""The checks of an event, run on made-up events."""

from collections.abc import Iterator

from features.catalog_check.batches import Found, batches_of, found_in
from features.catalog_check.formulas import Formula
from features.definitions import EventType


def event_mistakes(event: EventType) -> Iterator[Found]:
    """What is wrong with the checks of an event."""
    batches = batches_of(event) if event.checks else []
    for check in event.checks:
        who = f"check {check.name!r} of event {event.name}"
        formula = Formula(who=who, compute=check.holds, gives="truth values", reads=check.reads)
        yield from found_in(check, formula, batches)
