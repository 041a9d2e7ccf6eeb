"""Whether the values of a store were computed under the declarations of this process.

A store records the declaration of each view. State of release 0.1.0 has only ids, of another rule:
where that rule still matches, a writer adopts it, which records the new id once.
"""

import platform
from collections import Counter
from collections.abc import Iterable, Mapping
from importlib import metadata

import structlog

from features.definitions import View
from features.engine.value_format import ViewSchemaMismatch
from features.engine.view_identity import changed_parts
from features.engine.view_states import state_of
from features.errors import DeclarationError
from features.stores.ports import DeclaredView, OnlineStore

log = structlog.get_logger()


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


class DeclaredViews:
    """The views that a process declares. `schema_ids`: by the name of the view."""

    def __init__(self, views: Iterable[View]) -> None:
        """Raises DeclarationError if two views have one name."""
        self._states = {view.name: state_of(view) for view in each_once(views)}
        self.schema_ids = {name: state.schema_id for name, state in self._states.items()}
        self._earlier_ids = {n: state.identity.earlier_ids for n, state in self._states.items()}
        self._knows_adopted = False

    def check(self, store: OnlineStore) -> None:
        """Check that a store has these views; an empty store may have any.

        A view that does not have every event from the first one on has no values, or too few. They
        would look like the values of an entity without events.

        Raises:
            ViewSchemaMismatch: the store was built under other declarations.
            StoreUnavailable: it does not respond.
        """
        self._check(store, store.schema_ids())

    def adopt(self, store: OnlineStore) -> None:
        """Check a store as `check` does, and record the declarations in it.

        Raises:
            ViewSchemaMismatch, StoreUnavailable: see `check`.
            StoreReplaced: another process has replaced it just now; try again.
        """
        stored = store.schema_ids()
        self._check(store, stored)
        recorded = store.declarations()
        wanted = {v: self._declaration(v, stored.get(v), recorded.get(v)) for v in self._states}
        if any(recorded.get(view) != declared for view, declared in wanted.items()):
            store.declare(wanted, replacing=stored)
        adopted = [v for v in wanted if v in stored and stored[v] != self.schema_ids[v]]
        if adopted:
            log.info("declarations_adopted", views=adopted)

    def _check(self, store: OnlineStore, stored: Mapping[str, int]) -> None:
        for view, schema_id in self.schema_ids.items():
            known = stored.get(view)
            if stored and known not in (schema_id, *self._earlier_ids[view]):
                raise self._mismatch(view, known, store)
        if not self._knows_adopted:
            self._accept_adopted(store.declarations())

    def _accept_adopted(self, recorded: Mapping[str, DeclaredView]) -> None:
        """Values under an adopted id stay readable under every version of Python."""
        for view, state in self._states.items():
            declared = recorded.get(view)
            if declared is not None and declared.schema_id == state.schema_id:
                for earlier_id in declared.adopted:
                    state.accept(earlier_id)
        self._knows_adopted = True

    def _declaration(
        self, view: str, stored: int | None, recorded: DeclaredView | None
    ) -> DeclaredView:
        identity = self._states[view].identity
        adopted = set(recorded.adopted) if recorded and recorded.schema_id == stored else set()
        if stored in identity.earlier_ids:
            adopted.add(stored)
        return DeclaredView(
            schema_id=identity.schema_id,
            parts=identity.parts,
            packages=identity.packages,
            read_formulas=identity.read_formulas,
            eventide=metadata.version("eventide-mlops"),
            python=platform.python_version(),
            adopted=tuple(sorted(adopted)),
        )

    def _mismatch(self, view: str, known: int | None, store: OnlineStore) -> ViewSchemaMismatch:
        recorded = store.declarations().get(view)
        if known is None:
            return ViewSchemaMismatch(
                view, why="the store does not have the view, or not from the first event on"
            )
        if recorded is None or recorded.schema_id != known:
            return ViewSchemaMismatch(
                view,
                why="release 0.1.0 wrote them, and its rule finds another formula, or another minor"
                f" version of Python than this one ({platform.python_version()})",
                hint="start ingest once with the Python and the declarations that wrote them: it"
                " adopts them for every version; or rebuild: `eventide features rebuild`",
            )
        changes = changed_parts(recorded.parts, self._states[view].identity.parts)
        return ViewSchemaMismatch(view, why="; ".join(changes))
