"""How many examples are drawn."""

from hypothesis import HealthCheck, settings

SLOW_TO_DRAW = [
    HealthCheck.too_slow,
    HealthCheck.data_too_large,
    HealthCheck.large_base_example,
]
"""Whole declarations and histories take a while to draw: no reason to give up."""


def examples(number: int) -> int:
    """So many in the profile that always draws the same ones, that profile's when exploring."""
    loaded = settings.default
    return number if loaded is None or loaded.derandomize else loaded.max_examples
