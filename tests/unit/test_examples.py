"""How many examples a property draws: all of them, unless `make test-fast` asks for a part."""

from collections.abc import Iterator

import pytest
from hypothesis import settings

from tests.support.examples import EXPLORED, FAST_SHARE, examples


@pytest.fixture(autouse=True)
def _profile_stays() -> Iterator[None]:
    before = settings.get_current_profile_name()
    yield
    settings.load_profile(before)


@pytest.mark.parametrize(
    ("profile", "drawn"),
    [("same", 120), ("fast", 120 // FAST_SHARE), ("explore", EXPLORED)],
)
def test_a_property_draws_as_many_examples_as_its_suite_asks_for(profile: str, drawn: int) -> None:
    settings.load_profile(profile)
    assert examples(120).max_examples == drawn
    assert examples(1).max_examples == (EXPLORED if profile == "explore" else 1)


@pytest.mark.parametrize(("profile", "drawn"), [("same", 100), ("fast", -(-100 // FAST_SHARE))])
def test_a_property_that_names_no_count_draws_as_many_as_the_others(
    profile: str, drawn: int
) -> None:
    settings.load_profile(profile)
    assert settings().max_examples == drawn
