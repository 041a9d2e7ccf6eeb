"""What is counted is taken once."""

from features.engine.counts import Counts


def test_counts_are_added_until_they_are_taken() -> None:
    counts: Counts[str] = Counts()
    counts.add("a", 2)
    counts.add("a", 3)
    assert counts.take() == {"a": 5}
    assert counts.take() == {}


def test_none_leaves_no_trace() -> None:
    """A value that became small enough by merging has lost no event: nothing is to be logged."""
    counts: Counts[str] = Counts()
    counts.add("a", 0)
    assert counts.take() == {}
