"""Declarations and histories at random: every path of the product beside a slow reference.

The draw avoids the known faults that `tests.support.generated.exclusions` names.
`make explore` looks for more.
"""

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.stores.lmdb import LmdbOnlineStore
from features.stores.memory import MemoryOnlineStore
from features.stores.ports import OnlineStore
from tests.support.examples import examples
from tests.support.generated.cases import Case
from tests.support.generated.comparing import differences
from tests.support.generated.drawing import training_cases, view_cases
from tests.support.generated.views import VIEWS, AnyView


@pytest.fixture(scope="module")
def lmdb_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OnlineStore]:
    """One file for all cases: each of them empties it first."""
    store = LmdbOnlineStore(str(tmp_path_factory.mktemp("online")))
    yield store
    store.close()


@pytest.mark.parametrize("kind", VIEWS, ids=lambda kind: kind.__name__)
@examples(25, slow_to_draw=True)
@given(data=st.data())
def test_views_agree_on_every_path(
    kind: AnyView, lmdb_store: OnlineStore, data: st.DataObject
) -> None:
    case = data.draw(view_cases(kind))
    lmdb_store.clear()
    assert differences(case, {"memory": MemoryOnlineStore(), "lmdb": lmdb_store}) == []


@examples(40, slow_to_draw=True)
@given(case=training_cases())
def test_training_sets_agree_with_what_serving_is_given(case: Case) -> None:
    assert differences(case, {"memory": MemoryOnlineStore()}) == []
