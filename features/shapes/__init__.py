"""How each kind of view is kept and answered."""

from functools import cache

from features.shapes.of_items import OpenState, PreviousState
from features.shapes.of_python import PythonState
from features.shapes.over_time import CalendarState, WindowState
from features.state import ViewState
from features.words.items import OpenView, PreviousView
from features.words.views import CalendarView, FeatureView, View


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
