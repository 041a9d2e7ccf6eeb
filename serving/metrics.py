"""What serving counts. Updated once a batch; labels never hold ids."""

from prometheus_client import Counter, Gauge, Histogram

OUTCOMES = Counter(
    "eventide_serving_answers", "Requests answered", ["outcome"]
)  # predicted, or the reason of the rejection
INEXACT = Counter(
    "eventide_serving_features_inexact",
    "Predictions from features older than the online store keeps",
)
NOT_FRESH = Counter(
    "eventide_serving_features_stale",
    "Predictions made before ingest had caught up with what was emitted before the request",
)
INGEST_BEHIND = Gauge(
    "eventide_serving_ingest_behind_records",
    "Records before the batch in hand that the online store lacks; 0 when its answers are fresh",
)
MISSING = Counter("eventide_serving_features_missing", "Feature values that were not there")
DAMAGED = Counter(
    "eventide_serving_batches_damaged",
    "Batches that met damaged features and were put off; none was answered from them",
)
BATCH_SIZE = Histogram(
    "eventide_serving_batch_size", "Requests a batch", buckets=(1, 10, 50, 100, 250, 500, 1000)
)
STAGE_SECONDS = Histogram(
    "eventide_serving_stage_seconds",
    "Time of a batch by stage",
    ["stage"],  # wait (for ingest), score, commit
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5),
)
TRANSACTIONS = Counter("eventide_serving_transactions", "Transactions", ["result"])
PARTITIONS = Gauge("eventide_serving_partitions_owned", "Partitions that this process reads")
STALE = Gauge("eventide_serving_records_stale", "Records that were not ours; must stay 0")
READY = Gauge("eventide_serving_ready", "1 when requests are answered")
MODEL = Gauge("eventide_serving_model", "The model in service", ["name", "version"])
MODEL_SWAPS = Counter("eventide_serving_model_swaps", "Changes of the model", ["result"])
MODEL_CHECKS_FAILED = Counter(
    "eventide_serving_model_looks_failed", "Looks for a new champion that failed"
)


def show_model(name: str, version: str) -> None:
    """1 for the model in service, and no others."""
    MODEL.clear()
    MODEL.labels(name=name, version=version).set(1)
