"""Waits for another process or thread, with a limit."""

import time
from collections.abc import Callable
from typing import Never


def wait_until(
    condition: Callable[[], bool],
    *,
    what: str,
    limit_s: float = 30.0,
    pause_s: float = 0.05,
    details: Callable[[], str] = str,
) -> None:
    """Return as soon as the condition holds. `details`: what else to say if it does not.

    Raises:
        AssertionError: it did not hold within the limit.
    """
    assert holds_within(condition, limit_s=limit_s, pause_s=pause_s), (
        f"not within {limit_s:.0f} s: {what} {details()}"
    )


def holds_within(condition: Callable[[], bool], *, limit_s: float, pause_s: float = 0.05) -> bool:
    """Whether the condition holds at some moment before the limit."""
    deadline = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(pause_s)
    return True


def repeat_for(step: Callable[[], object], *, seconds: float, pause_s: float = 0.05) -> None:
    """Repeat the step, to check what must stay true for the whole time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        step()
        time.sleep(pause_s)


def wait_for_error(raise_if_failed: Callable[[], None], *, limit_s: float = 30.0) -> Never:
    """Call until it raises, and let its error through.

    Raises:
        AssertionError: it raised nothing within the limit.
    """

    def fails() -> bool:
        raise_if_failed()
        return False

    wait_until(fails, what="an error is raised", limit_s=limit_s)
    raise AssertionError("unreachable")
