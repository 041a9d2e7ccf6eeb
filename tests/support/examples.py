"""How many examples each property is tested with."""

from hypothesis import settings

EXPLORED = 2_000


def examples(count: int) -> settings:
    """`count` examples in every run, and many more under `make explore`."""
    exploring = settings.get_current_profile_name() == "explore"
    return settings(max_examples=EXPLORED if exploring else count, deadline=None)
