"""The reference page of all views is generated from the declarations."""

from pathlib import Path

from features.catalog import domains
from features.presentation.views import feature_meanings
from features.presentation.views_page import views_page
from tests.support.data.orders import VIEWS

PAGE = Path(__file__).parents[4] / "docs" / "reference" / "views.md"


def test_the_page_in_the_repository_is_current() -> None:
    assert PAGE.read_text() == views_page(domains()), (
        "`eventide features list --page > docs/reference/views.md` brings it up to date"
    )


def test_every_feature_is_on_the_page_with_its_meaning() -> None:
    page = views_page(domains())
    for domain in domains():
        for view in domain.views:
            for name, meaning in feature_meanings(view):
                assert f"| `{name}` | {meaning} |" in page


def test_every_kind_of_view_describes_its_features() -> None:
    for view in VIEWS:
        assert tuple(name for name, _ in feature_meanings(view)) == view.features
