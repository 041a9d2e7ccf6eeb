"""Views written as a plain function: it is given what was known, and nothing else."""

import numpy as np
from numpy.typing import NDArray

from features.definitions.events import BoolArray, Columns, EventType, Float64Array, Int64Array
from features.definitions.views import PythonView
from features.engine.checks import nullify_invalid, required_fields
from features.engine.columns import kinds
from features.engine.numbers import fingerprint, from_sortable, sortable
from features.engine.point_in_time import PointInTimeQueries, Rows
from features.engine.sorting import UNSET
from features.engine.state import ViewState, merged_columns
from features.errors import DeclarationError

SOURCE = "source"


class PythonState(ViewState):
    """The state and the answers of a `PythonView`. Only rows that are equal are merged."""

    view: PythonView

    def __init__(self, view: PythonView) -> None:
        self._kept = dict(view.keeps)
        columns = [SOURCE, *(f"{e.name}.{f}" for e, fields in view.keeps for f in fields)]
        super().__init__(view, columns, [fingerprint(view.compute)])
        for event, fields in view.keeps:
            for field in fields:
                if kinds(event.record)[field] == "text":
                    raise DeclarationError(f"view {view.name}: {field!r} is text, not a number")

    def fields(self, event: EventType) -> tuple[str, ...]:
        """See the base class."""
        return required_fields(event, ("event_time_us", *self._kept[event]))

    def kept(self, event: EventType, events: Columns, known_at_us: Int64Array) -> Rows:
        """See the base class."""
        events = nullify_invalid(event, events)
        n = len(known_at_us)
        columns = {name: np.full(n, UNSET, np.int64) for name in self.columns}
        columns[SOURCE] = np.full(n, list(self._kept).index(event), np.int64)
        for field in self._kept[event]:
            columns[f"{event.name}.{field}"] = sortable(events[field])
        return Rows(
            group=np.arange(n),
            label_us=np.asarray(events["event_time_us"], np.int64),
            known_us=known_at_us,
            counts=np.ones(n, np.int64),
            columns=columns,
        )

    def merge_key_columns(self) -> tuple[str, ...]:
        """See the base class."""
        return self.columns

    def merged(self, rows: NDArray[np.void], starts: Int64Array) -> NDArray[np.void]:
        """See the base class."""
        return merged_columns(rows, starts, {"count": np.add})

    def reachable(self, rows: NDArray[np.void], compacted_through: Int64Array) -> BoolArray:
        """See the base class."""
        found: BoolArray = rows["label"] >= compacted_through - self.view.reach_us
        return found

    def answers(self, rows: Rows, questions: PointInTimeQueries) -> Float64Array:
        """See the base class."""
        columns = [rows.columns[name] for name in self.columns]
        order = np.lexsort((*columns, rows.label_us, rows.group))
        group = rows.group[order]
        starts = np.searchsorted(group, questions.group, "left").tolist()
        ends = np.searchsorted(group, questions.group, "right").tolist()
        values = [
            self._answer(rows, order[a:b], t)
            for a, b, t in zip(starts, ends, questions.as_of_us.tolist(), strict=True)
        ]
        return np.array(values, np.float64).reshape(len(values), len(self.view.names))

    def _answer(self, rows: Rows, own: Int64Array, as_of_us: int) -> list[float]:
        seen = rows.known_us[own] < as_of_us
        seen &= rows.label_us[own] >= as_of_us - self.view.reach_us
        events = self._events(rows, np.repeat(own[seen], rows.counts[own[seen]]))
        found = [float(v) for v in self.view.compute(events, as_of_us)]
        if len(found) != len(self.view.names):
            raise DeclarationError(
                f"view {self.view.name}: its function gave {len(found)} values, not"
                f" {len(self.view.names)}"
            )
        return found

    def _events(self, rows: Rows, at: Int64Array) -> dict[str, Columns]:
        source = rows.columns[SOURCE][at]
        found: dict[str, Columns] = {}
        for number, (event, fields) in enumerate(self._kept.items()):
            mine = at[source == number]
            found[event.name] = {
                "event_time_us": rows.label_us[mine],
                **{f: from_sortable(rows.columns[f"{event.name}.{f}"][mine]) for f in fields},
            }
        return found
