"""How many faults the fault tests cause, with `--faults=short` (CI) and with `--faults=long`."""

from dataclasses import dataclass
from datetime import date


@dataclass(frozen=True, kw_only=True)
class FaultCounts:
    """Repetitions for each fault test. More repetitions hit rarer moments and take longer."""

    ingest_kills: int
    broker_killed_in_rounds: tuple[int, ...]  # of the kills of ingest
    valkey_rounds: int
    valkey_killed_in_rounds: tuple[int, ...]
    ingest_takeovers: int  # a frozen process is overtaken by another one
    ingest_group_conflicts: int  # rounds of two groups on the same stores
    serving_kills: int
    serving_broker_kills: int
    replay_kills: int
    replayed_until: date
    rebuild_kills: int
    redis_writer_kills: int
    lmdb_writer_kills: int
    hostile_messages: int  # polls of up to five
    lost_log_kills: tuple[int, int]  # of ingest and of serving, with a lost log in between
    hostile_bundles: int  # changed copies of a model's files


SHORT = FaultCounts(
    ingest_kills=10,
    broker_killed_in_rounds=(1, 4),
    valkey_rounds=5,
    valkey_killed_in_rounds=(1, 3),
    ingest_takeovers=2,
    ingest_group_conflicts=5,
    serving_kills=6,
    serving_broker_kills=2,
    replay_kills=6,
    replayed_until=date(2013, 2, 10),  # 29 batches, of which a kill uses one or two
    rebuild_kills=3,
    redis_writer_kills=8,
    lmdb_writer_kills=8,
    hostile_messages=300,
    lost_log_kills=(3, 2),
    hostile_bundles=1_000,
)
LONG = FaultCounts(
    ingest_kills=150,  # at most two a round
    broker_killed_in_rounds=tuple(range(1, 70, 4)),
    valkey_rounds=40,
    valkey_killed_in_rounds=tuple(range(2, 40, 3)),
    ingest_takeovers=12,
    ingest_group_conflicts=25,
    serving_kills=60,
    serving_broker_kills=15,
    replay_kills=35,
    replayed_until=date(2013, 5, 1),  # 89 batches
    rebuild_kills=25,
    redis_writer_kills=100,
    lmdb_writer_kills=100,
    hostile_messages=100_000,
    lost_log_kills=(25, 20),
    hostile_bundles=100_000,
)
BY_NAME = {"short": SHORT, "long": LONG}
