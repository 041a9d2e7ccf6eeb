"""Which known faults the random draw avoids.

Each member is a class of declarations and histories for which the product gives a wrong answer
today. Every one has a fixed example that is expected to fail, in
`tests/unit/features/test_known_faults*.py`. Who corrects a fault deletes its member: the draw
then produces the class, and the fixed example becomes an ordinary test.
"""

from enum import Enum, auto


class Exclusions(Enum):
    """The classes of cases that are not drawn."""

    HOP_ON_SHORTER_WINDOW = auto()
    """A view whose longer window has a finer hop than a shorter one."""

    NULLIFIED_INTEGER = auto()
    """A check that nullifies a field that is declared as a whole number that is never null."""

    NULLIFIED_TEXT = auto()
    """A check that nullifies a text field."""

    NULLIFIED_KEY = auto()
    """A check that nullifies a key of an entity."""

    NULLIFIED_PLACE = auto()
    """A check that nullifies the time by which a view places its events or its items."""

    CHAINED_CHECKS = auto()
    """A check that nullifies a field which another check that nullifies reads."""

    AHEAD_EXCEEDED = auto()
    """An event about an item that happens longer before the item's time than `ahead` says."""

    OPENED_AGAIN = auto()
    """A second opening of an item, which the state no longer recognises once the first is gone."""

    WIDE_INTEGERS = auto()
    """Whole numbers beyond 2^53, and numbers as ids: they pass through float64."""

    SUM_OVERFLOW = auto()
    """Values whose sum, or whose scaled value, does not fit into 64 bits."""

    NEGATIVE_ZERO_CODE = auto()
    """-0.0 where values are compared for equality: `distinct` and `exclude_self`."""

    FLOAT_KEY = auto()
    """A float as the key of an entity: 0.0 and -0.0 are two entities."""

    BOOLEAN_KEY = auto()
    """A truth value as the key of an entity: live and history write it as different texts."""

    SEPARATOR_IN_KEY = auto()
    """A key of several fields whose text holds the character that joins them."""

    TRAILING_NUL = auto()
    """Texts that end with NUL: numpy's texts lose it."""

    RESENT_LONG_AGO = auto()
    """A span sent again while a view's events may have happened longer before than `reach` says."""

    REPLAYED_WHEN_FORGOTTEN = auto()
    """An event sent again after its id was forgotten, while a value that was not compacted since
    says that it is exact for times before the watermark."""

    RESENT_WITH_EARLIER_TIME = auto()
    """An event sent again with an earlier event time: a rebuild reads no first sighting in a later
    slice."""

    NUMBER_CATEGORY = auto()
    """A number without a value as a category of a request."""


EXCLUDED = frozenset(Exclusions)
"""What the tests draw without."""
