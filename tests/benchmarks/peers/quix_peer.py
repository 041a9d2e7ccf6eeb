"""Quix Streams doing nothing, exactly once; runs in its own environment and prints JSON.

    PYTHON -m tests.benchmarks.peers.quix_peer BROKERS --output TOPIC --records N TOPIC ...

Each record is read, decoded from JSON, given to a function that hands it on, encoded and produced.
"""

import argparse
import sys
import tempfile
import uuid

from quixstreams import Application

from tests.benchmarks.kit import measure, print_cost


def main() -> int:
    """Take so many records, and say what it took."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("brokers")
    options.add_argument("topics", nargs="+")
    options.add_argument("--output", required=True)
    options.add_argument("--records", type=int, required=True)
    found = options.parse_args()
    with tempfile.TemporaryDirectory() as state:
        app = Application(
            broker_address=found.brokers,
            consumer_group=f"quix-{uuid.uuid4().hex[:8]}",
            auto_offset_reset="earliest",
            processing_guarantee="exactly-once",
            commit_interval=1.0,
            state_dir=state,
            loglevel="WARNING",
        )
        output = app.topic(found.output)
        for name in found.topics:
            app.dataframe(app.topic(name)).apply(_same).to_topic(output)
        _, cost = measure(lambda: app.run(count=found.records, collect=False))
    print_cost(cost, records=found.records)
    return 0


def _same(value: object) -> object:
    return value


if __name__ == "__main__":
    sys.exit(main())
