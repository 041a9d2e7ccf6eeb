"""Declarations and histories at random, with the offline store in Delta tables."""

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.stores.delta.store import DeltaOfflineStore
from features.stores.memory import MemoryOnlineStore
from tests.support.examples import examples
from tests.support.generated.comparing import differences
from tests.support.generated.drawing import view_cases
from tests.support.generated.views import VIEWS, AnyView


@pytest.mark.slow
@pytest.mark.parametrize("kind", VIEWS, ids=lambda kind: kind.__name__)
@examples(3, slow_to_draw=True)
@given(data=st.data())
def test_views_agree_in_delta_tables(kind: AnyView, data: st.DataObject) -> None:
    case = data.draw(view_cases(kind))
    with TemporaryDirectory() as folder:
        offline = DeltaOfflineStore(str(Path(folder)), case.events)
        assert differences(case, {"memory": MemoryOnlineStore()}, offline=offline) == []
