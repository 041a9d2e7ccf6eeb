"""Which known faults the random draw avoids.

Each member is a class of declarations and histories for which the product gives a wrong answer
today. Every one has a fixed example that is expected to fail, in
`tests/unit/features/test_known_faults*.py`. Who corrects a fault deletes its member: the draw
then produces the class, and the fixed example becomes an ordinary test.
"""

from enum import Enum


class Exclusions(Enum):
    """The classes of cases that are not drawn."""


EXCLUDED = frozenset(Exclusions)
"""What the tests draw without."""
