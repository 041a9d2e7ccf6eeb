"""How many examples each property is tested with."""

from hypothesis import HealthCheck, settings

EXPLORED = 2_000
FAST_SHARE = 8
"""`make test-fast` draws one in so many of the examples of `make test`."""
SLOW_TO_DRAW = (
    HealthCheck.too_slow,
    HealthCheck.data_too_large,
    HealthCheck.large_base_example,
)
"""Whole declarations and histories take a while to draw: no reason to give up."""


def register_profiles() -> None:
    """How Hypothesis runs: `same` unless `--hypothesis-profile` names another.

    The same examples in every run: a red test is a change of ours. `make explore` looks for more.
    """
    settings.register_profile("same", derandomize=True)
    settings.register_profile(
        "fast", derandomize=True, max_examples=in_fast(settings.get_profile("same").max_examples)
    )
    settings.register_profile("explore", max_examples=EXPLORED, deadline=None)
    settings.load_profile("same")


def examples(count: int, *, slow_to_draw: bool = False) -> settings:
    """`count` examples, a part of them under `make test-fast`, many more under `make explore`."""
    by_profile = {"explore": EXPLORED, "fast": in_fast(count)}
    return settings(
        max_examples=by_profile.get(settings.get_current_profile_name(), count),
        deadline=None,
        suppress_health_check=SLOW_TO_DRAW if slow_to_draw else (),
    )


def in_fast(count: int) -> int:
    """How many of `count` examples `make test-fast` draws: one at least."""
    return -(-count // FAST_SHARE)
