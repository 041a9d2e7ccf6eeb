"""The metrics of ingest, updated once for each batch. Labels never hold ids."""

from prometheus_client import Counter, Gauge, Histogram

RECORDS = Counter("eventide_ingest_records", "Records read", ["topic", "outcome"])
DEAD_LETTERS = Counter("eventide_ingest_dead_letters", "Dead letters", ["error"])
FORMULA_FAILURES = Counter(
    "eventide_ingest_formula_failures",
    "Events for which a formula of a declaration gave no usable value",
    ["formula", "reason"],
)
DUPLICATES = Gauge("eventide_ingest_duplicates", "Re-sent events that the online store dropped")
LEFT_OUT = Gauge(
    "eventide_ingest_events_left_out",
    "Events that a view does not count: more than its `ahead` before their time, or without one",
    ["view"],
)
BEYOND_LIMIT = Counter(
    "eventide_ingest_events_beyond_limit",
    "Events that left the online value of an entity because it had too many rows",
    ["view"],
)
FORGOTTEN_IDS = Gauge(
    "eventide_ingest_ids_forgotten_early", "Event ids forgotten because a partition had too many"
)
DAMAGED = Counter("eventide_ingest_online_values_damaged", "Damaged values in the online store")
REPAIRS = Counter("eventide_ingest_online_mended", "Rebuilds of a damaged online store")
BUFFERED = Gauge("eventide_ingest_rows_buffered", "Rows not committed offline yet")
STAGE_SECONDS = Histogram(
    "eventide_ingest_stage_seconds",
    "Time of a batch by stage",
    ["stage"],  # decode, online, offline, dead_letters
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 5, 20),
)
RESTARTS = Counter("eventide_ingest_start_overs", "Restarts from the stored positions", ["why"])
PARTITIONS = Gauge("eventide_ingest_partitions_owned", "Partitions that this process reads")
STALE_RECORDS = Gauge(
    "eventide_ingest_records_stale", "Records below the position of their partition; must stay 0"
)
NEWEST = Gauge("eventide_ingest_newest_event_timestamp_seconds", "Emission of the newest event")
READY = Gauge("eventide_ingest_ready", "1 while events are ingested")
