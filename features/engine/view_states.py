"""The state of each kind of view."""

from functools import cache

from features.definitions.lifecycle_views import OpenView, PreviousView
from features.definitions.views import CalendarView, FeatureView, View
from features.engine.calendar_views import CalendarState
from features.engine.lifecycle import OpenState, PreviousState
from features.engine.python_function import PythonState
from features.engine.state import COMPACTION_SLACK, ViewState
from features.engine.window_views import WindowState


@cache
def state_of(view: View, *, compaction_slack: int = COMPACTION_SLACK) -> ViewState:
    """The state of a view; the same object for the same view.

    `compaction_slack`: how many delta rows a value may have, beyond twice those that its last
    compaction left, until it is compacted again.

    Raises:
        DeclarationError: the view cannot be computed as it is declared.
    """
    match view:
        case FeatureView():
            return WindowState(view, compaction_slack=compaction_slack)
        case CalendarView():
            return CalendarState(view, compaction_slack=compaction_slack)
        case OpenView():
            return OpenState(view, compaction_slack=compaction_slack)
        case PreviousView():
            return PreviousState(view, compaction_slack=compaction_slack)
        case _:
            return PythonState(view, compaction_slack=compaction_slack)
