"""Random declarations beside the check: sound ones pass, and one mistake gives no wrong value."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.catalog_check import check_domain
from features.errors import DeclarationError, FeatureError
from features.stores.memory import MemoryOnlineStore
from tests.support.examples import examples
from tests.support.generated.cases import Case
from tests.support.generated.comparing import path_differences
from tests.support.generated.drawing import view_cases
from tests.support.generated.mutations import domain_of, mistakes
from tests.support.generated.views import VIEWS, AnyView


@pytest.mark.parametrize("kind", VIEWS, ids=lambda kind: kind.__name__)
@examples(8, slow_to_draw=True)
@given(data=st.data())
def test_the_check_takes_every_sound_declaration(kind: AnyView, data: st.DataObject) -> None:
    check_domain(domain_of(data.draw(view_cases(kind))))


@pytest.mark.parametrize("kind", VIEWS, ids=lambda kind: kind.__name__)
@examples(25, slow_to_draw=True)
@given(data=st.data())
def test_one_mistake_is_refused_or_gives_the_same_value_on_every_path(
    kind: AnyView, data: st.DataObject
) -> None:
    sound: Case = data.draw(view_cases(kind))
    mistaken = data.draw(mistakes())
    try:
        case = replace(sound, views=(mistaken(sound.views[0]), *sound.views[1:]))
        check_domain(domain_of(case))
    except DeclarationError:
        return
    assert path_differences(case, {"memory": MemoryOnlineStore()}) == []


@pytest.mark.parametrize("kind", VIEWS, ids=lambda kind: kind.__name__)
@examples(25, slow_to_draw=True)
@given(data=st.data())
def test_what_is_not_checked_ends_in_a_sentence_and_never_in_an_exception_of_others(
    kind: AnyView, data: st.DataObject
) -> None:
    sound: Case = data.draw(view_cases(kind))
    mistaken = data.draw(mistakes())
    try:
        case = replace(sound, views=(mistaken(sound.views[0]), *sound.views[1:]))
        path_differences(case, {"memory": MemoryOnlineStore()})
    except FeatureError:
        return
