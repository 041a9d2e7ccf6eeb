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

    FLOAT_KEY = auto()
    """A float as the key of an entity: 0.0 and -0.0 are two entities."""

    BOOLEAN_KEY = auto()
    """A truth value as the key of an entity: live and history write it as different texts."""

    SEPARATOR_IN_KEY = auto()
    """A key of several fields whose text holds the character that joins them."""

    TRAILING_NUL = auto()
    """Texts that end with NUL: numpy's texts lose it."""

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
