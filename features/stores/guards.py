"""Whether a store is still the one that its writer or reader expects: its positions and views."""

from collections import Counter
from collections.abc import Iterable, Mapping

from features.definitions import View
from features.engine.value_format import ViewSchemaMismatch
from features.engine.view_states import state_of
from features.errors import DeclarationError, OffsetConflict
from features.stores.ports import OnlineStore
from infra.kafka.partitions import Positions


def check_positions(stored: Positions, expected: Positions, *, store: str) -> None:
    """Check that a store (`online`, `offline`) has the positions that its writer expects.

    The position of a partition that was never written is 0.

    Raises:
        OffsetConflict: it does not.
    """
    for partition, offset in expected.items():
        actual = stored.get(partition, 0)
        if actual != offset:
            raise OffsetConflict(partition, expected=offset, actual=actual, store=store)


def each_once(views: Iterable[View]) -> list[View]:
    """The views, also one that several domains list, each once: its values are those of its name.

    Raises:
        DeclarationError: two views have one name.
    """
    distinct = list(dict.fromkeys(views))
    names = Counter(view.name for view in distinct)
    if repeated := sorted(name for name, n in names.items() if n > 1):
        raise DeclarationError(
            f"several views are called {', '.join(repeated)}: their values would be stored in one"
            " place, so give each its own name, or list one and the same view"
        )
    return distinct


def schema_ids(views: Iterable[View]) -> dict[str, int]:
    """The schema id of each view, by its name.

    Raises:
        DeclarationError: two views have one name.
    """
    return {view.name: state_of(view).schema_id for view in each_once(views)}


def check_schemas(store: OnlineStore, expected: Mapping[str, int]) -> None:
    """Check that a store has these views (name -> schema id); an empty store may have any.

    A view that does not have every event from the first one on has no values, or too few. They
    would look like the values of an entity without events.

    Raises:
        ViewSchemaMismatch: the store was built under other declarations.
        StoreUnavailable: it does not respond.
    """
    stored = store.schema_ids()
    for view, schema_id in expected.items():
        if stored and stored.get(view) != schema_id:
            raise ViewSchemaMismatch(view)
