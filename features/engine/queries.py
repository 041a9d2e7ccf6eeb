"""What features are computed for: (entity, time) pairs, and the windows that end at that time."""

from dataclasses import dataclass, field

from features.definitions.events import Columns, Int64Array
from features.definitions.lifecycle_views import AS_OF


@dataclass(frozen=True, kw_only=True)
class PointInTimeQueries:
    """For each query the entity (`group`) and the time as of which its features are computed.

    A group may have no rows. `fields`: the request's fields, for the views that read them, and the
    time of each query as `as_of_us`.
    """

    group: Int64Array
    as_of_us: Int64Array
    fields: Columns = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "fields", {**self.fields, AS_OF: self.as_of_us})

    def __len__(self) -> int:
        return len(self.group)

    def select(self, index: Int64Array, group: Int64Array) -> "PointInTimeQueries":
        """The queries at `index`, about other groups."""
        return PointInTimeQueries(
            group=group,
            as_of_us=self.as_of_us[index],
            fields={name: values[index] for name, values in self.fields.items()},
        )


@dataclass(frozen=True, kw_only=True)
class SlidingWindow:
    """A window that ends at the query's time t and begins at `floor(t - length, hop)`."""

    length_us: int
    hop_us: int = 1

    def start(self, as_of_us: Int64Array) -> Int64Array:
        """Where the windows of queries at these times begin."""
        start = as_of_us - self.length_us
        return start if self.hop_us == 1 else start - start % self.hop_us

    def first_query_after(self, event_time_us: Int64Array) -> Int64Array:
        """The first time of a query whose window begins after events at these times."""
        hop_start = event_time_us - event_time_us % self.hop_us
        return hop_start + self.hop_us + self.length_us
