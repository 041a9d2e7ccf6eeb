"""Declarations and audits as readable text."""

import io

import pytest
from rich.console import Console

from features.catalog import domains
from features.errors import FeatureError
from features.maintenance.accounting import RequestAccount, TopicAccount
from features.maintenance.audit import Audit, OnlineAccount
from features.presentation.audit import as_plain, show
from features.presentation.views import describe_view, find_view, views_table
from tests.support.data.sales import SHOP_SALES


def test_every_declared_view_is_listed_with_its_features() -> None:
    rows = {str(row["view"]): row for row in views_table(domains())}
    assert rows["route_landings"] == {
        "domain": "flights",
        "view": "route_landings",
        "entity": "origin, dest",
        "source": "flight.landed",
        "features": 6,
    }


def test_a_description_names_every_feature_and_what_it_means() -> None:
    text = describe_view(SHOP_SALES)
    assert all(name in text for name in SHOP_SALES.features)
    assert "known_at < t" in text
    assert "weight of the newest event" in text


def test_an_unknown_view_is_refused_with_a_list_of_the_known() -> None:
    with pytest.raises(FeatureError, match="no view 'nope'") as caught:
        find_view(domains(), "nope")
    assert "origin_weather" in (caught.value.hint or "")


def an_audit(*, missing: int = 0, waiting: int = 0, unanswered: int = 0) -> Audit:
    topic = TopicAccount(
        topic="shop.sold",
        sent=10,
        stored=10 - missing - waiting,
        dead_lettered=0,
        waiting=waiting,
        missing=missing,
        doubled=0,
        resent=0,
    )
    requests = RequestAccount(
        topic="shop.asked",
        asked=3,
        predicted=3 - unanswered,
        stale=0,
        rejected=0,
        waiting=0,
        unanswered=unanswered,
        answered_twice=0,
    )
    online = OnlineAccount(waiting=0, values_checked=7, values_different=0)
    return Audit(topics=[topic, topic], requests=[requests], online=online)


@pytest.mark.parametrize(
    ("audit", "clean", "settled", "verdict"),
    [
        (
            an_audit(),
            True,
            True,
            "all records are stored, and all requests have outcomes, exactly once",
        ),
        (an_audit(waiting=2), True, False, "some records are still waiting"),
        (an_audit(missing=1), False, True, "not clean"),
        (an_audit(unanswered=1), False, True, "not clean"),
    ],
)
def test_an_audit_has_its_verdict_as_text_and_as_data(
    audit: Audit, clean: bool, settled: bool, verdict: str
) -> None:
    page = io.StringIO()
    show(audit, Console(file=page, width=200))
    plain = as_plain(audit)

    assert verdict in page.getvalue()
    assert (plain["clean"], plain["settled"]) == (clean, settled)
    assert plain["totals"]["events"]["sent"] == 20
    assert plain["totals"]["requests"]["asked"] == 3
