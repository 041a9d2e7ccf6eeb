"""Views that are a plain function of the events that were known."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from features.definitions.events import BoolArray, Columns, EventType, Float64Array, Int64Array
from features.definitions.views import PythonView
from features.engine.columns import kinds
from features.engine.formulas import FAILURES
from features.engine.numbers import from_sortable, sortable
from features.engine.queries import PointInTimeQueries
from features.engine.rows import PointInTimeRows
from features.engine.sorting import UNSET
from features.engine.state import ViewState, reduce_runs
from features.engine.value_limits import DEFAULT_LIMITS, ValueLimits
from features.errors import DeclarationError

SOURCE = "source"  # the state column that says of which type the event is


class PythonState(ViewState):
    """The state of a `PythonView`. Only rows that are equal are merged."""

    view: PythonView

    def __init__(self, view: PythonView, *, value_limits: ValueLimits = DEFAULT_LIMITS) -> None:
        self._fields_kept = dict(view.keeps)
        columns = [SOURCE, *(f"{e.name}.{f}" for e, fields in view.keeps for f in fields)]
        dependencies = [view.compute]
        super().__init__(view, columns, dependencies, value_limits=value_limits)
        for event, fields in view.keeps:
            for field in fields:
                if kinds(event.record)[field] == "text":
                    raise DeclarationError(f"view {view.name}: {field!r} is text, not a number")

    def fields(self, event: EventType) -> tuple[str, ...]:
        """The event's time, and the fields that the view keeps."""
        return tuple(dict.fromkeys(("event_time_us", *self._fields_kept[event])))

    def rows_of(
        self, event: EventType, events: Columns, known_at_us: Int64Array
    ) -> PointInTimeRows:
        """One row an event, with all that the view keeps of it."""
        n = len(known_at_us)
        columns = {name: np.full(n, UNSET, np.int64) for name in self.columns}
        columns[SOURCE] = np.full(n, list(self._fields_kept).index(event), np.int64)
        for field in self._fields_kept[event]:
            columns[f"{event.name}.{field}"] = sortable(events[field])
        return PointInTimeRows(
            group=np.arange(n),
            row_key=np.asarray(events["event_time_us"], np.int64),
            known_us=known_at_us,
            counts=np.ones(n, np.int64),
            columns=columns,
        )

    def merge_keys(self, rows: NDArray[np.void]) -> list[NDArray[Any]]:
        """All columns."""
        return [rows[name] for name in self.columns]

    def merge_runs(self, rows: NDArray[np.void], starts: Int64Array) -> NDArray[np.void]:
        """Equal rows are counted."""
        return reduce_runs(rows, starts, {"count": np.add})

    def reachable(self, rows: NDArray[np.void], compacted_through: Int64Array) -> BoolArray:
        """Rows that lie no further back than the view's reach."""
        reachable: BoolArray = rows["row_key"] >= compacted_through - self.view.reach_us
        return reachable

    def compute(self, rows: PointInTimeRows, queries: PointInTimeQueries) -> Float64Array:
        """One call of the function for each query."""
        columns = [rows.columns[name] for name in self.columns]
        order = np.lexsort((*columns, rows.row_key, rows.group))
        group = rows.group[order]
        starts = np.searchsorted(group, queries.group, "left").tolist()
        ends = np.searchsorted(group, queries.group, "right").tolist()
        values = [
            self._call(rows, order[a:b], t)
            for a, b, t in zip(starts, ends, queries.as_of_us.tolist(), strict=True)
        ]
        return np.array(values, np.float64).reshape(len(values), len(self.view.names))

    def _call(self, rows: PointInTimeRows, own_rows: Int64Array, as_of_us: int) -> list[float]:
        counts = rows.known_us[own_rows] < as_of_us
        counts &= rows.row_key[own_rows] >= as_of_us - self.view.reach_us
        counted = own_rows[counts]
        events = self._events(rows, np.repeat(counted, rows.counts[counted]))
        try:
            with np.errstate(all="ignore"):
                values = [float(v) for v in self.view.compute(events, as_of_us)]
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001  # also SystemExit, and panics of libraries
            return self._nothing(type(error).__name__)
        if len(values) != len(self.view.names):
            return self._nothing(f"not {len(self.view.names)} values")
        return values

    def _nothing(self, reason: str) -> list[float]:
        FAILURES.add((self.view.name, reason), 1)
        return [math.nan] * len(self.view.names)

    def _events(self, rows: PointInTimeRows, index: Int64Array) -> dict[str, Columns]:
        """The rows at `index` as the function's argument: the columns of each type of event."""
        source = rows.columns[SOURCE][index]
        columns: dict[str, Columns] = {}
        for number, (event, fields) in enumerate(self._fields_kept.items()):
            of_type = index[source == number]
            columns[event.name] = {
                "event_time_us": rows.row_key[of_type],
                **{f: from_sortable(rows.columns[f"{event.name}.{f}"][of_type]) for f in fields},
            }
        return columns
