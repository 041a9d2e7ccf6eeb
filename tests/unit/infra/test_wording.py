"""Numbers before nouns."""

import pytest

from infra.wording import counted


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0 views"), (1, "1 view"), (2, "2 views"), (1_200, "1,200 views")]
)
def test_one_is_singular(number: int, text: str) -> None:
    assert counted(number, "view") == text
