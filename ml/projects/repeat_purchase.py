"""Will a customer buy again within 28 days? Asked at the end of each day with a purchase."""

from datetime import date, timedelta

from features.catalog.purchases.services import BOUGHT_AGAIN, REPEAT_PURCHASE
from ml.evaluation.default_gates import (
    BETTER_THAN_A_CONSTANT,
    NO_SILENT_SOURCE,
    UNSEEN_BY_THE_CHAMPION,
)
from ml.project import Candidate, Expectation, Gate, ModelProject, Slices, When
from ml.training.candidates import NEWTON, boosted_trees, logistic_regression

# The newest purchase is never a day old when the shop asks, and its hour is assumed.
KNOWN_BY_THE_DAY = tuple(n for n in REPEAT_PURCHASE.numbers if "_since_last_" not in n)

GATES = (
    Gate(
        measure="training_rows",
        at_least=25_000,
        why="a model of 21,934 rows, four of five of newcomers, was biased by 0.04",
    ),
    Gate(
        measure="evaluation_rows",
        at_least=1_500,
        why="28 days hold 1,654 at the fewest: below it requests are missing",
    ),
    Gate(measure="missing_days", at_most=0, why="the quietest day has 44 purchases"),
    Gate(
        measure="label_completeness",
        at_least=1.0,
        why="both outcomes are known once the wait is over: less is a mistake in the windows",
    ),
    NO_SILENT_SOURCE,
    Gate(
        measure="null_growth",
        at_most=2.0,
        why="a purchase precedes every forecast: one in a hundred without it is a loss on the way",
    ),
    BETTER_THAN_A_CONSTANT,
    Gate(
        measure="log_loss_minus_reference_upper",
        below=0.0,
        when=When.NO_CHAMPION,
        why="otherwise counting purchases serves as well",
    ),
    UNSEEN_BY_THE_CHAMPION,
    Gate(
        measure="log_loss_minus_champion_upper",
        below=0.0,
        when=When.HAS_CHAMPION,
        why="without an interval over days noise is promoted",
    ),
    Gate(
        measure="absolute_bias",
        at_most=0.07,
        when=When.NO_CHAMPION,
        why="57 weekly runs stayed below it; lost purchases look like customers who stay away",
    ),
    Gate(
        measure="absolute_bias",
        at_most=0.05,
        or_at_most="champion_absolute_bias",
        when=When.HAS_CHAMPION,
        why="exceeded in 7 of 57 weekly runs: a gain must not be paid with calibration",
    ),
)

EXPECTATIONS = (
    Expectation(
        kind="expect_column_values_to_not_be_null",
        arguments={"column": "entity_id"},
        why="each row is a customer",
    ),
    Expectation(
        kind="expect_compound_columns_to_be_unique",
        arguments={"column_list": ["entity_id", "decision_time_us"]},
        why="a customer is asked about once a day, however often they buy on it",
    ),
    Expectation(
        kind="expect_column_values_to_be_in_set",
        arguments={"column": "label", "value_set": [0, 1]},
        why="came back or not",
    ),
    Expectation(
        kind="expect_column_mean_to_be_between",
        arguments={"column": "label", "min_value": 0.1, "max_value": 0.6},
        why="monthly shares lie between 0.19 and 0.40",
    ),
    Expectation(
        kind="expect_column_values_to_be_between",
        arguments={
            "column": "customer_purchases_count_7d",
            "min_value": 1,
            "max_value": 200,
            "mostly": 0.99,
        },
        why="a forecast follows a purchase of its own day, which is seldom told after midnight",
    ),
    Expectation(
        kind="expect_column_values_to_be_between",
        arguments={
            "column": "customer_purchases_since_last_84d",
            "min_value": 0,
            "max_value": 1_440,
            "mostly": 0.99,
        },
        why="the same: that purchase is less than a day old",
    ),
    Expectation(
        kind="expect_column_quantile_values_to_be_between",
        arguments={
            "column": "customer_purchases_mean_cents_84d",
            "quantile_ranges": {
                "quantiles": [0.05, 0.5, 0.95],
                "value_ranges": [[500, 1_500], [1_500, 4_000], [5_000, 20_000]],
            },
        },
        severity="warning",
        why="amounts in dollars, or of another currency, lie far outside",
    ),
)

# Few columns and little in them: more and larger trees gained nothing in nine months of runs.
TREES = {"max_iter": 50, "max_leaf_nodes": 8, "min_samples_leaf": 100, "l2_regularization": 10.0}

PROJECT = ModelProject(
    name="repeat_purchase",
    domain="purchases",
    service=REPEAT_PURCHASE,
    label=BOUGHT_AGAIN,
    candidates=(
        Candidate(
            name="boosted_trees", build=boosted_trees, options=TREES, columns=KNOWN_BY_THE_DAY
        ),
        Candidate(
            name="logistic", build=logistic_regression, options=NEWTON, columns=KNOWN_BY_THE_DAY
        ),
    ),
    reference=Candidate(
        name="frequency",
        build=logistic_regression,
        options=NEWTON,
        columns=("customer_purchases_count_84d",),
    ),
    first_day=date(1997, 1, 1),
    last_day=date(1998, 7, 1),  # the recording ends with June
    cutoff=timedelta(hours=1),  # the requests of midnight are there
    evaluation_days=28,  # whole weeks, and rows enough for an interval over days
    history_days=400,  # 270 days were as good, 90 lost 0.0024 log loss
    threshold=0.5,
    gates=GATES,
    slices=Slices(columns=(), min_rows=300),  # nothing is known of a customer but purchases
    expectations=EXPECTATIONS,
)
