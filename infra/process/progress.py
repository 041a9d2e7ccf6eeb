"""How work that takes long reports its progress. Whoever shows it passes a callback in."""

from collections.abc import Callable

StatusCallback = Callable[[str], None]
"""Takes a line that says what is being done now."""

ProgressCallback = Callable[[int, int], None]
"""Takes how many parts of the work are complete, and how many there are."""
