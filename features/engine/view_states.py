"""How each kind of view is kept and answered."""

from functools import cache

from features.definitions.lifecycle_views import OpenView, PreviousView
from features.definitions.views import CalendarView, FeatureView, View
from features.engine.lifecycle import OpenState, PreviousState
from features.engine.python_function import PythonState
from features.engine.state import ViewState
from features.engine.windowed import CalendarState, WindowState


@cache
def state_of(view: View) -> ViewState:
    """The state of a view.

    Raises:
        DeclarationError: the view cannot be computed as it is declared.
    """
    match view:
        case FeatureView():
            return WindowState(view)
        case CalendarView():
            return CalendarState(view)
        case OpenView():
            return OpenState(view)
        case PreviousView():
            return PreviousState(view)
        case _:
            return PythonState(view)
