"""Declarations and histories at random: every path of the product beside a slow reference.

Each declaration is refused, or its values are equal bit for bit on every path. `make explore` looks
for counterexamples for longer.
"""

from collections.abc import Iterator
from zlib import crc32

import pytest
from hypothesis import given, seed, settings
from hypothesis import strategies as st

from features.stores.lmdb import LmdbOnlineStore
from features.stores.memory import MemoryOnlineStore
from features.stores.ports import OnlineStore
from tests.support.examples import examples
from tests.support.generated.cases import Case
from tests.support.generated.comparing import differences
from tests.support.generated.drawing import training_cases, view_cases
from tests.support.generated.views import VIEWS, AnyView

FRESH = 11
"""Hypothesis draws about ten examples of a run afresh, and makes most of the later ones of copied
parts of others: several short runs meet more than a long one."""
PARTS, TRAINING_PARTS = 3, 5


@pytest.fixture(autouse=True)
def _parts_differ(request: pytest.FixtureRequest) -> None:
    """Each run has its own seed, the same every time; when exploring, Hypothesis chooses one."""
    if settings().derandomize:
        seed(crc32(request.node.name.encode()))(request.function)


@pytest.fixture(scope="module")
def lmdb_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OnlineStore]:
    """One file for all cases: each of them empties it first."""
    store = LmdbOnlineStore(str(tmp_path_factory.mktemp("online")))
    yield store
    store.close()


@pytest.mark.parametrize("kind", VIEWS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("part", range(PARTS))
@examples(FRESH, slow_to_draw=True)
@given(data=st.data())
def test_views_agree_on_every_path(
    kind: AnyView, part: int, lmdb_store: OnlineStore, data: st.DataObject
) -> None:
    case = data.draw(view_cases(kind))
    lmdb_store.clear()
    assert differences(case, {"memory": MemoryOnlineStore(), "lmdb": lmdb_store}) == []


@pytest.mark.parametrize("part", range(TRAINING_PARTS))
@examples(FRESH, slow_to_draw=True)
@given(case=training_cases())
def test_training_sets_agree_with_what_serving_is_given(part: int, case: Case) -> None:
    assert differences(case, {"memory": MemoryOnlineStore()}) == []
