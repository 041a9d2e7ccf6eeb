"""Generated cases on a real server: fewer than in memory, with the same reference."""

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.stores.ports import OnlineStore
from features.stores.redis.store import RedisOnlineStore
from tests.support.examples import examples
from tests.support.generated.comparing import differences
from tests.support.generated.drawing import view_cases
from tests.support.generated.views import VIEWS, AnyView
from tests.support.servers import Valkey


@pytest.fixture(scope="module")
def redis_store(valkey_server: Valkey) -> Iterator[OnlineStore]:
    """One server for all cases: each of them empties it first."""
    valkey_server.empty()
    store = RedisOnlineStore(valkey_server.url)
    yield store
    store.close()


@pytest.mark.parametrize("kind", VIEWS, ids=lambda kind: kind.__name__)
@examples(12, slow_to_draw=True)
@given(data=st.data())
def test_views_agree_in_redis(kind: AnyView, redis_store: OnlineStore, data: st.DataObject) -> None:
    case = data.draw(view_cases(kind))
    redis_store.clear()
    assert differences(case, {"redis": redis_store}) == []
