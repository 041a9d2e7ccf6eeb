"""Which known faults the random draw avoids.

Each member is a class of declarations and histories for which the product gives a wrong answer
today. Every one has a fixed example that is expected to fail, in
`tests/unit/features/test_known_faults*.py`. Who corrects a fault deletes its member: the draw
then produces the class, and the fixed example becomes an ordinary test.
"""

from enum import Enum, auto


class Exclusions(Enum):
    """The classes of cases that are not drawn."""

    AHEAD_EXCEEDED = auto()
    """An event about an item that happens longer before the item's time than `ahead` says."""

    OPENED_AGAIN = auto()
    """A second opening of an item, which the state no longer recognises once the first is gone."""

    RESENT_LONG_AGO = auto()
    """A span sent again while a view's events may have happened longer before than `reach` says."""

    REPLAYED_WHEN_FORGOTTEN = auto()
    """An event sent again after its id was forgotten, while a value that was not compacted since
    says that it is exact for times before the watermark."""

    RESENT_WITH_EARLIER_TIME = auto()
    """An event sent again with an earlier event time: a rebuild reads no first sighting in a later
    slice."""


EXCLUDED = frozenset(Exclusions)
"""What the tests draw without."""
