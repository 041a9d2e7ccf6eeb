"""The state of each kind of view."""

from functools import cache

from features.definitions.lifecycle_views import OpenView, PreviousView
from features.definitions.views import CalendarView, FeatureView, View
from features.engine.calendar_views import CalendarState
from features.engine.lifecycle import OpenState, PreviousState
from features.engine.python_function import PythonState
from features.engine.state import ViewState
from features.engine.value_limits import DEFAULT_LIMITS, ValueLimits
from features.engine.window_views import WindowState


@cache
def state_of(view: View, *, limits: ValueLimits = DEFAULT_LIMITS) -> ViewState:
    """The state of a view; the same object for the same view.

    `limits`: when its values are compacted; who only reads them needs none.

    Raises:
        DeclarationError: the view cannot be computed as it is declared.
    """
    match view:
        case FeatureView():
            return WindowState(view, value_limits=limits)
        case CalendarView():
            return CalendarState(view, value_limits=limits)
        case OpenView():
            return OpenState(view, value_limits=limits)
        case PreviousView():
            return PreviousState(view, value_limits=limits)
        case _:
            return PythonState(view, value_limits=limits)
