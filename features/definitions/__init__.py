"""What can be declared: events, entities, views, services, labels. Imports only `errors`.

The names are those of other feature stores (Entity, FeatureView, Aggregation, FeatureService).
A declaration checks itself when it is constructed; an error names its file and line.
"""

from features.definitions.aggregations import Aggregation, TimeWindow, window_name
from features.definitions.events import (
    PRINTABLE,
    BoolArray,
    Check,
    Column,
    Columns,
    Entity,
    EventType,
    Float64Array,
    Int64Array,
)
from features.definitions.lifecycle_views import ItemValue, OpenView, PreviousView
from features.definitions.services import Decision, Domain, FeatureService, Label, RequestColumn
from features.definitions.views import CalendarView, FeatureView, PythonView, Span, View

__all__ = [
    "PRINTABLE",
    "Aggregation",
    "BoolArray",
    "CalendarView",
    "Check",
    "Column",
    "Columns",
    "Decision",
    "Domain",
    "Entity",
    "EventType",
    "FeatureService",
    "FeatureView",
    "Float64Array",
    "Int64Array",
    "ItemValue",
    "Label",
    "OpenView",
    "PreviousView",
    "PythonView",
    "RequestColumn",
    "Span",
    "TimeWindow",
    "View",
    "window_name",
]
