"""Waiting for a condition."""

import time
from collections.abc import Callable


def wait_until(
    condition: Callable[[], bool],
    *,
    limit_s: float | None = None,
    pause_s: float = 0.1,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], object] = time.sleep,
) -> bool:
    """Check `condition` until it is true; False when it is not after `limit_s` (None: no limit).

    It is checked at least once, then after each pause. What it raises ends the wait.
    """
    began_s = clock()
    while not condition():
        if limit_s is not None and clock() - began_s >= limit_s:
            return False
        sleep(pause_s)
    return True
