"""`eventide replay` that is killed at one exact step of its transactions.

    python -m tests.support.processes.dying_replay before|after METHOD N ARGUMENT...

SIGKILL comes right before or after the N-th call of that method of the Kafka client's producer.
"""

import os
import signal
import sys
from collections.abc import Callable
from typing import Any

import confluent_kafka


def dying_producer(moment: str, method: str, nth: int) -> type[confluent_kafka.Producer]:
    """The client's producer, which kills its process at that call."""
    calls = 0

    def killing(self: confluent_kafka.Producer, *arguments: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == nth and moment == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        result = original(self, *arguments, **options)
        if calls == nth:
            self.flush(
                10
            )  # the broker has the produced records, so that there is something to abort
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    original: Callable[..., Any] = getattr(confluent_kafka.Producer, method)
    return type("DyingProducer", (confluent_kafka.Producer,), {method: killing})


if __name__ == "__main__":
    moment_, method_, count, *command = sys.argv[1:]
    # The client's class is replaced before any module of ours imports it.
    confluent_kafka.Producer = dying_producer(moment_, method_, int(count))  # type: ignore[misc]
    from infra.cli import main

    sys.argv = ["eventide", *command]
    main()
