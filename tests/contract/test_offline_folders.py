"""The offline store in a folder of any name: all of it works there, or the name is refused."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from features.bootstrap.stores import open_offline
from features.errors import FeatureError
from features.maintenance.compaction import CompactionRules, maintain
from features.stores.delta.maintenance import DeltaMaintenance
from features.stores.delta.store import DeltaOfflineStore
from features.stores.ports import Pin
from infra.clock import DAY
from infra.folder_names import unusable_for_tables
from infra.settings import Settings
from tests.support.data.sales import SOLD, sale
from tests.support.examples import examples
from tests.support.offline_batches import SECONDS_A_DAY, batch, ids

pytestmark = pytest.mark.slow

# What has a meaning in a URL, a pattern of files, a shell or a list, and letters that take bytes.
LETTERS = st.sampled_from(list(" !\"#$%&'()*+,-.:;<=>?@[\\]^_`{|}~aZ7äß€😀\u0301\u00a0\u202e"))
NAMES = st.text(LETTERS, min_size=1, max_size=8).filter(lambda name: name not in {".", ".."})
RULES = CompactionRules(closed_after_us=DAY, retention_hours=1)


def used(folder: Path) -> list[str]:
    """What comes back from a store that is written, widened, maintained, pinned and read there."""
    store = DeltaOfflineStore(str(folder), [SOLD])
    for day in range(3):
        for n in (2 * day, 2 * day + 1):
            store.append(batch(sale(f"{n}", day * SECONDS_A_DAY + n), start=n))
    pinned = store.version(SOLD)
    assert pinned is not None
    store.pin(SOLD, pinned, "a run")
    maintain([SOLD], store, DeltaMaintenance(str(folder)), rules=RULES, on_progress=lambda _: None)
    again = DeltaOfflineStore(str(folder), [SOLD])
    assert again.pins() == [Pin(event=SOLD.name, version=pinned, name="a run")]
    assert ids(again.read(SOLD, columns=["event_id"], version=pinned)) == list("012345")
    return ids(again.read(SOLD, columns=["event_id"]))


@pytest.mark.parametrize(
    "name",
    ["R&D", "c++", "100%", "50% off", "#1", "a b", " ", "a,b", "a;b", "a:b", "'", '"',
     "Müller", "a$b", "~", "`id`", "ä" * 100, "{x}", "<a>", "e\u0301", "\u202e", "日本", "a@b:c"],
)  # fmt: skip
def test_the_store_works_in_a_folder_of_that_name(tmp_path: Path, name: str) -> None:
    assert unusable_for_tables(name) == ""
    assert used(tmp_path / name / "offline") == list("012345")
    assert [entry.name for entry in tmp_path.iterdir()] == [name]


@examples(15)
@given(name=NAMES)
def test_a_name_is_refused_or_the_store_works_there(
    tmp_path_factory: pytest.TempPathFactory, name: str
) -> None:
    if not unusable_for_tables(name):
        assert used(tmp_path_factory.mktemp("any") / name) == list("012345")


@pytest.mark.parametrize("name", ["a=b", "100%25", "a%20b", "a\\b", "[z]", "a|b", "a^b", "a*", "?"])
def test_a_name_that_the_library_cannot_bear_is_refused_with_the_remedy(
    tmp_path: Path, name: str
) -> None:
    with pytest.raises(FeatureError, match="cannot bear") as raised:
        open_offline(Settings(state_dir=tmp_path / name))
    assert "EVENTIDE_OFFLINE_STORE" in str(raised.value.hint)
