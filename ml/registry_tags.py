"""The names in MLflow that training writes and serving reads. Published: they keep their values."""

# Aliases of a registered model.
CHAMPION = "champion"  # the version that serves
CHALLENGER = "challenger"  # the last version that passed its gates
PREVIOUS = "previous"  # the champion before this one, to go back to

# Tags of a run and of a version.
KEY_TAG = "eventide.key"  # names the data and the declaration that it was trained with
PROJECT_TAG = "eventide.project"
DAY_TAG = "eventide.day"
SNAPSHOT_SHA256_TAG = "eventide.snapshot_sha256"

# Tags of a version.
PATH_TAG = "eventide.bundle_path"  # where its bundle is among the artifacts of its run
SHA256_TAG = "eventide.bundle_sha256"  # of the bundle's manifest
CONVERTED_FROM_TAG = "eventide.converted_from_sha256"  # of the manifest in an older format
VERIFIED_TAG = "eventide.rehearsed_rows"  # how many rows were scored alike after a download
PROMOTED_TAG = "eventide.promoted_at"
CANDIDATE_TAG = "eventide.candidate"
TRAINED_UNTIL_TAG = "eventide.trained_until_us"
JUDGED_AGAINST_TAG = "eventide.judged_against"
LOG_LOSS_TAG = "eventide.log_loss"
ROC_AUC_TAG = "eventide.roc_auc"
MINUS_CHAMPION_TAG = "eventide.log_loss_minus_champion"

# Tags of a run.
KIND_TAG = "eventide.kind"  # DAY or LEARNER
DAY, LEARNER = "day", "learner"
LEARNER_TAG = "eventide.learner"
CHAMPION_TAG = "eventide.champion"  # the version that the day's candidates were compared with
WARNINGS_TAG = "eventide.warnings"
DECISION_TAG = "eventide.decision"
REASON_TAG = "eventide.reason"
