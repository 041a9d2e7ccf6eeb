"""State as release 0.1.0 wrote it: the values of today, under the ids of its rule."""

from copy import copy
from dataclasses import replace

from features.definitions import View
from features.engine.state import ViewState
from features.engine.value_format import ValueFormat, entity_tags
from features.engine.view_rows import ViewRows
from features.engine.view_states import state_of
from features.stores.ports import OnlineUpdate


def of_release_0_1(
    update: OnlineUpdate, *views: View, another_python: bool = False
) -> OnlineUpdate:
    """The update as that release made it; `views`: those that it maintained."""
    return replace(
        update,
        changes=[_sealed_earlier(change, another_python) for change in update.changes],
        schemas={view.name: earlier_id(view, another_python) for view in views},
    )


def earlier_id(view: View, another_python: bool = False) -> int:
    """The id that release 0.1.0 gave to a view; it was another one in each version of Python."""
    return state_of(view).identity.earlier_ids[0] ^ another_python


def _sealed_earlier(change: ViewRows, another_python: bool) -> ViewRows:
    state = _earlier_state(change.state, another_python)
    tags = entity_tags(change.entities)[change.codes]
    return replace(change, state=state, rows=state.format.seal(change.rows.copy(), tags))


def _earlier_state(current: ViewState, another_python: bool) -> ViewState:
    state = copy(current)
    state.schema_id = earlier_id(current.view, another_python)
    state.format = ValueFormat(state.name, state.columns, state.schema_id)
    state.empty = state.format.empty
    return state
