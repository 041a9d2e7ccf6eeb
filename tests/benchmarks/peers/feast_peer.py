"""Feast doing what a benchmark asks for; runs in Feast's own environment and prints JSON.

    PYTHON -m tests.benchmarks.peers.feast_peer join FOLDER
    PYTHON -m tests.benchmarks.peers.feast_peer append FOLDER --pushes N
    PYTHON -m tests.benchmarks.peers.feast_peer online FOLDER --store sqlite [--redis HOST:PORT]

FOLDER has `readings.parquet` and, for the join, `labels.parquet` (`tests/benchmarks/made.py`).
"""

import argparse
import json
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from feast import Entity, FeatureStore, FeatureView, Field, FileSource, PushSource, RepoConfig
from feast.data_source import PushMode
from feast.types import Float32
from feast.value_type import ValueType

from tests.benchmarks.kit import measure, print_cost

FEATURES = [f"f{i}" for i in range(20)]
PUSHED = "pushed"


def main() -> int:
    """Do one of the jobs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("job", choices=["join", "append", "online"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--pushes", type=int, default=3)
    parser.add_argument("--rows", type=int, default=10_000, help="rows a push")
    parser.add_argument("--reads", type=int, default=10)
    parser.add_argument("--store", choices=["sqlite", "redis"], default="sqlite")
    parser.add_argument("--redis", default="127.0.0.1:6379")
    options = parser.parse_args()
    {"join": join, "append": append, "online": online}[options.job](options)
    return 0


def join(options: argparse.Namespace) -> None:
    """`get_historical_features` for all labels."""
    store = feast_store(options)
    labels = pd.read_parquet(options.folder / "labels.parquet")
    frame, cost = measure(
        lambda: store.get_historical_features(
            entity_df=labels, features=[f"newest:{f}" for f in FEATURES]
        ).to_df()
    )
    values = np.full(len(labels), np.nan)
    values[frame["label_id"].to_numpy()] = frame["f0"].to_numpy()
    np.save(options.folder / "peer.npy", values)
    print_cost(cost, rows=len(frame), found=int((~np.isnan(values)).sum()))


def append(options: argparse.Namespace) -> None:
    """Push batches to the offline store that holds the readings already."""
    store = feast_store(options)
    batch = readings(options.folder, options.rows)

    def push() -> None:
        for _ in range(options.pushes):
            store.push(PUSHED, batch, to=PushMode.OFFLINE)

    _, cost = measure(push)
    print_cost(cost, rows=options.pushes * options.rows)


def online(options: argparse.Namespace) -> None:
    """Push batches to the online store, then read them: the costs of both."""
    store = feast_store(options)
    batches = [readings(options.folder, options.rows, start=n) for n in range(options.pushes)]

    def push() -> None:
        for batch in batches:
            store.push(PUSHED, batch, to=PushMode.ONLINE)

    _, put_cost = measure(push)
    entities = [[{"sensor": int(s)} for s in batch["sensor"]] for batch in batches]

    def read() -> None:
        for n in range(options.reads):
            response = store.get_online_features(
                features=[f"newest:{f}" for f in FEATURES], entity_rows=entities[n % len(entities)]
            ).to_dict()
            assert None not in response["f0"]

    _, get = measure(read)
    print(json.dumps({"put": put_cost.__dict__, "get": get.__dict__}))


def feast_store(options: argparse.Namespace) -> FeatureStore:
    """A repository of one view over the readings."""
    online_store: dict[str, Any] = {"type": "sqlite", "path": str(options.folder / "online.db")}
    if options.store == "redis":
        online_store = {"type": "redis", "connection_string": options.redis}
    store = FeatureStore(
        config=RepoConfig(
            project="bench",
            registry=str(options.folder / "registry.db"),
            provider="local",
            offline_store={"type": "duckdb"},
            online_store=online_store,
            entity_key_serialization_version=3,
        )
    )
    source = FileSource(
        path=str(options.folder / "readings.parquet"),
        timestamp_field="event_timestamp",
        created_timestamp_column="created",
    )
    sensor = Entity(name="sensor", join_keys=["sensor"], value_type=ValueType.INT64)
    view = FeatureView(
        name="newest",
        entities=[sensor],
        ttl=timedelta(days=7),
        schema=[Field(name=f, dtype=Float32) for f in FEATURES],
        source=PushSource(name=PUSHED, batch_source=source),
    )
    store.apply([sensor, view])
    return store


def readings(folder: Path, rows: int, *, start: int = 0) -> pd.DataFrame:
    """`rows` readings of as many sensors, the `start`-th such batch."""
    group = pq.ParquetFile(folder / "readings.parquet").read_row_group(0).to_pandas()
    batch = group.iloc[:rows].copy()
    batch["sensor"] = np.arange(start * rows, (start + 1) * rows)
    return batch


if __name__ == "__main__":
    sys.exit(main())
