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

    AHEAD_EXCEEDED = auto()
    """An event about an item that happens longer before the item's time than `ahead` says."""

    OPENED_AGAIN = auto()
    """A second opening of an item, which the state no longer recognises once the first is gone."""

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

    DECISION_KNOWN_LATE = auto()
    """An event of a decision that is reported only after the decision time."""

    LABEL_TIE = auto()
    """Two labels of one entity, known at one moment, in two partitions."""

    LABEL_BEFORE_DECISION = auto()
    """A label (without `within`) that happened before the decision."""

    NULL_LABEL = auto()
    """A label that is made of a field without a value."""


EXCLUDED = frozenset(Exclusions)
"""What the tests draw without."""
