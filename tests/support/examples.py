"""How many examples each property is tested with."""

from hypothesis import HealthCheck, settings

EXPLORED = 2_000
SLOW_TO_DRAW = (
    HealthCheck.too_slow,
    HealthCheck.data_too_large,
    HealthCheck.large_base_example,
)
"""Whole declarations and histories take a while to draw: no reason to give up."""


def examples(count: int, *, slow_to_draw: bool = False) -> settings:
    """`count` examples in every run, and many more under `make explore`."""
    exploring = settings.get_current_profile_name() == "explore"
    return settings(
        max_examples=EXPLORED if exploring else count,
        deadline=None,
        suppress_health_check=SLOW_TO_DRAW if slow_to_draw else (),
    )
