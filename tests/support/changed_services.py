"""The service of the flights, as somebody might change it."""

from dataclasses import replace
from datetime import timedelta

from features.definitions import CalendarView, FeatureService


def without_routes(service: FeatureService) -> FeatureService:
    """Without the view of routes."""
    return replace(service, views=tuple(v for v in service.views if v.name != "route_landings"))


def with_longer_schedule(service: FeatureService) -> FeatureService:
    """Columns of the same names that count other flights."""
    schedule, *others = service.views
    assert isinstance(schedule, CalendarView)
    longer = replace(schedule, ahead=schedule.ahead + timedelta(hours=1))
    return replace(service, views=(longer, *others))


def with_another_view(service: FeatureService) -> FeatureService:
    """More columns, before those that were there."""
    schedule, *others = service.views
    return replace(service, views=(replace(schedule, name="more"), schedule, *others))
