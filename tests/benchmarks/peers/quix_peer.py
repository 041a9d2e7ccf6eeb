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
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("brokers")
    parser.add_argument("topics", nargs="+")
    parser.add_argument("--output", required=True)
    parser.add_argument("--records", type=int, required=True)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as state:
        app = Application(
            broker_address=options.brokers,
            consumer_group=f"quix-{uuid.uuid4().hex[:8]}",
            auto_offset_reset="earliest",
            processing_guarantee="exactly-once",
            commit_interval=1.0,
            state_dir=state,
            loglevel="WARNING",
        )
        output = app.topic(options.output)
        for name in options.topics:
            app.dataframe(app.topic(name)).apply(_same).to_topic(output)
        _, cost = measure(lambda: app.run(count=options.records, collect=False))
    print_cost(cost, records=options.records)
    return 0


def _same(value: object) -> object:
    return value


if __name__ == "__main__":
    sys.exit(main())
