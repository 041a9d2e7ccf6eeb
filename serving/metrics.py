"""The metrics of serving, updated once for each batch. Labels never hold ids."""

from prometheus_client import Counter, Gauge, Histogram

OUTCOMES = Counter(
    "eventide_serving_answers", "Outcomes written", ["outcome"]
)  # predicted, or the reason of the rejection
INEXACT = Counter(
    "eventide_serving_features_inexact",
    "Predictions as of a time for which online values are no longer exact",
)
NOT_FRESH = Counter(
    "eventide_serving_features_stale",
    "Predictions made before ingest had applied all events emitted before the request",
)
INGEST_BEHIND = Gauge(
    "eventide_serving_ingest_behind_records",
    "Records before the current batch that the online store lacks; 0 when features are fresh",
)
MISSING = Counter("eventide_serving_features_missing", "Feature values without a value")
FORMULA_FAILURES = Counter(
    "eventide_serving_formula_failures",
    "Requests for which a formula of a declaration gave no usable value",
    ["formula", "reason"],
)
DAMAGED = Counter(
    "eventide_serving_batches_damaged",
    "Batches delayed by damaged features; no prediction uses those",
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
STALE_RECORDS = Gauge(
    "eventide_serving_records_stale", "Records below the position of their partition; must stay 0"
)
READY = Gauge("eventide_serving_ready", "1 while requests are served")
MODEL = Gauge("eventide_serving_model", "The model in service", ["name", "version"])
MODEL_SWAPS = Counter("eventide_serving_model_swaps", "Changes of the model", ["result"])
MODEL_CHECKS_FAILED = Counter(
    "eventide_serving_model_looks_failed", "Checks for a new champion that failed"
)


def show_model(name: str, version: str) -> None:
    """Set the gauge to 1 for the model in service, and remove any other."""
    MODEL.clear()
    MODEL.labels(name=name, version=version).set(1)
