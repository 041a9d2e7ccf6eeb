"""The callbacks by which long work reports its progress."""

from collections.abc import Callable

StatusCallback = Callable[[str], None]
"""Gets a line about the current work."""

ProgressCallback = Callable[[int, int], None]
"""Gets how many parts of the work are complete, and how many there are."""
