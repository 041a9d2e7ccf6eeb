"""Gates that any project wants: their bounds depend neither on its data nor on its subject.

Those of `STANDARD_DATA_GATES` judge the data of every project; the others a project names.
"""

from ml.project import Gate, When

NO_SILENT_SOURCE = Gate(measure="columns_turned_null", at_most=0, why="a source went silent")

BETTER_THAN_A_CONSTANT = Gate(
    measure="log_loss_minus_base_rate_upper",
    below=0.0,
    when=When.NO_CHAMPION,
    why="otherwise a constant serves as well",
)

UNSEEN_BY_THE_CHAMPION = Gate(
    measure="champion_overlap_hours",
    at_most=0.0,
    when=When.HAS_CHAMPION,
    why="a champion that learnt from the days it is judged on cannot be compared",
)

LABELS_AFTER_DECISIONS = Gate(
    measure="labels_before_decision",
    at_most=0,
    why="a label that was known before its decision predicts nothing",
)

STANDARD_DATA_GATES = (LABELS_AFTER_DECISIONS,)
