"""Which model serves, also when the source of models fails."""

import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from msgspec import structs
from structlog.testing import capture_logs

from features.catalog.flights.services import FLIGHT_DELAY
from features.definitions import FeatureService
from features.retrieval.online import FeatureVectors
from ml.bundle.format import MODEL, write_bundle
from ml.bundle.scoring import Bundle
from serving.adapters.folder import FolderModelSource
from serving.champion import RETRY_REFUSED_S, Champion, ChampionWatch, check_columns
from serving.errors import ModelRefused, ModelUnavailable
from serving.model import ModelVersion
from tests.support.changed_services import with_longer_schedule, without_routes
from tests.support.data.bundles import a_bundle, a_model_file
from tests.support.waiting import wait_until


class Source:
    """A source of bundles that can be unavailable, or give other bytes than the registered ones."""

    def __init__(self, folder: Path) -> None:
        self.inner = FolderModelSource(folder, name="flight_delay")
        self.unavailable = False
        self.corrupts = False
        self.fetches = 0

    def current(self) -> ModelVersion | None:
        if self.unavailable:
            raise ModelUnavailable("the registry is away")
        return self.inner.current()

    def fetch(self, version: ModelVersion, folder: Path) -> None:
        self.fetches += 1
        self.inner.fetch(version, folder)
        if self.corrupts:
            (folder / MODEL).write_bytes((folder / MODEL).read_bytes()[:-1])


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return tmp_path / "bundle"


@pytest.fixture
def source(bundle: Path) -> Source:
    return Source(bundle)


@pytest.fixture
def champion(source: Source, tmp_path: Path) -> Champion:
    return a_champion(source, tmp_path)


def a_champion(
    source: Source,
    tmp_path: Path,
    clock_s: Callable[[], float] = time.monotonic,
    service: FeatureService = FLIGHT_DELAY,
) -> Champion:
    return Champion(
        source,
        folder=tmp_path / "models",
        service=service,
        warm_rows=10,
        clock_s=clock_s,
    )


def promote(bundle: Path, *, intercept: float) -> str:
    sha256 = a_bundle(bundle, FLIGHT_DELAY, intercept=intercept)
    return f"folder-{sha256[:12]}"


def served_version(champion: Champion) -> str | None:
    return champion.model.version.version if champion.model else None


def test_without_a_champion_there_is_no_model(champion: Champion) -> None:
    champion.refresh()

    assert champion.model is None
    assert champion.trouble == "no champion is registered"


def test_a_new_champion_takes_over(champion: Champion, bundle: Path) -> None:
    first = promote(bundle, intercept=-1)
    champion.refresh()
    assert served_version(champion) == first
    second = promote(bundle, intercept=-2)
    champion.refresh()
    assert served_version(champion) == second != first


def test_an_alias_that_is_taken_away_is_reported_and_the_model_serves_on(
    champion: Champion, source: Source, bundle: Path
) -> None:
    version = promote(bundle, intercept=-1)
    champion.refresh()
    shutil.rmtree(bundle)
    with capture_logs() as logs:
        champion.refresh()
        champion.refresh()
    assert served_version(champion) == version
    assert "no version has the alias champion" in champion.trouble
    assert [line["event"] for line in logs] == ["champion_alias_missing"]


def test_an_unchanged_champion_is_fetched_once(
    champion: Champion, source: Source, bundle: Path
) -> None:
    promote(bundle, intercept=-1)
    for _ in range(3):
        champion.refresh()
    assert source.fetches == 1


def test_bytes_that_were_not_registered_are_not_served(
    source: Source, bundle: Path, tmp_path: Path
) -> None:
    now_s = 0.0
    champion = a_champion(source, tmp_path, lambda: now_s)
    first = promote(bundle, intercept=-1)
    champion.refresh()
    source.corrupts = True
    second = promote(bundle, intercept=-2)
    champion.refresh()

    assert served_version(champion) == first
    assert "is not the file that was registered" in champion.trouble
    assert not (tmp_path / "models" / second).exists()
    source.corrupts = False
    now_s = RETRY_REFUSED_S
    champion.refresh()
    assert (served_version(champion), champion.trouble) == (second, "")


def test_a_refused_version_is_not_fetched_again_at_each_refresh(
    champion: Champion, source: Source, bundle: Path
) -> None:
    source.corrupts = True
    promote(bundle, intercept=-1)
    for _ in range(3):
        champion.refresh()
    assert source.fetches == 1
    assert "is not the file that was registered" in champion.trouble
    source.corrupts = False
    other = promote(bundle, intercept=-2)
    champion.refresh()
    assert served_version(champion) == other


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        (without_routes, "flight_delay does not give route_landings_count_24h"),
        (with_longer_schedule, r"origin_schedule_count_same_hour \(view origin_schedule\)"),
    ],
)
def test_a_model_whose_columns_are_gone_or_mean_something_else_is_not_served(
    changed: Callable[[FeatureService], FeatureService],
    named: str,
    source: Source,
    tmp_path: Path,
    bundle: Path,
) -> None:
    sha256 = a_bundle(bundle, FLIGHT_DELAY)
    a_champion(source, tmp_path).refresh()
    champion = a_champion(source, tmp_path, service=changed(FLIGHT_DELAY))
    champion.restore()
    assert champion.model is None
    assert re.search(named, champion.trouble)
    champion.refresh()
    assert champion.model is None
    assert re.search(named, champion.trouble)
    with pytest.raises(ModelRefused, match=named):
        check_columns(Bundle.load(bundle, sha256), changed(FLIGHT_DELAY))


def test_a_model_is_served_by_a_service_that_gives_more_columns(
    source: Source, tmp_path: Path, bundle: Path
) -> None:
    sha256 = a_bundle(bundle, without_routes(FLIGHT_DELAY), intercept=-1)
    champion = a_champion(source, tmp_path)
    champion.refresh()
    model = champion.model
    assert model is not None
    own = Bundle.load(bundle, sha256)
    rows = np.random.default_rng(0).normal(size=(5, len(FLIGHT_DELAY.numbers)))
    vectors = FeatureVectors(
        categories=dict.fromkeys(FLIGHT_DELAY.categories, ["AA"] * 5),
        numbers=rows,
        exact=np.ones(5, bool),
    )
    read = [i for i, n in enumerate(FLIGHT_DELAY.numbers) if not n.startswith("route_landings")]
    expected = own.score(vectors.categories, rows[:, read])
    np.testing.assert_array_equal(model.score(vectors), expected)


def test_a_model_that_records_no_meanings_is_served_by_the_names_of_its_columns(
    source: Source, tmp_path: Path, bundle: Path
) -> None:
    write_bundle(bundle, structs.replace(a_model_file(FLIGHT_DELAY), meanings={}))
    champion = a_champion(source, tmp_path, service=with_longer_schedule(FLIGHT_DELAY))
    with capture_logs() as logs:
        champion.refresh()
    assert champion.model is not None
    assert "model_without_meanings" in [line["event"] for line in logs]


def test_while_the_registry_is_unavailable_the_model_keeps_serving(
    champion: Champion, source: Source, bundle: Path
) -> None:
    first = promote(bundle, intercept=-1)
    champion.refresh()
    source.unavailable = True
    champion.refresh()

    assert served_version(champion) == first
    assert champion.trouble == "the registry is away"


def test_a_start_without_the_registry_serves_the_last_good_model(
    champion: Champion, source: Source, bundle: Path, tmp_path: Path
) -> None:
    version = promote(bundle, intercept=-1)
    champion.refresh()
    source.unavailable = True
    later = a_champion(source, tmp_path)
    later.restore()
    later.refresh()

    assert served_version(later) == version


def test_a_damaged_local_copy_is_not_used_and_is_fetched_again(
    champion: Champion, source: Source, bundle: Path, tmp_path: Path
) -> None:
    version = promote(bundle, intercept=-1)
    champion.refresh()
    (tmp_path / "models" / version / MODEL).write_bytes(b"{}")
    later = a_champion(source, tmp_path)
    later.restore()
    assert later.model is None
    later.refresh()
    assert served_version(later) == version
    assert source.fetches == 2


def test_old_copies_are_deleted_and_the_newest_are_kept(
    champion: Champion, bundle: Path, tmp_path: Path
) -> None:
    versions = []
    for n in range(6):
        versions.append(promote(bundle, intercept=-1.0 - n))
        champion.refresh()

    folders = {f.name for f in (tmp_path / "models").iterdir() if f.is_dir()}
    assert folders == set(versions[-3:])


def test_the_watch_detects_a_new_champion(champion: Champion, bundle: Path) -> None:
    with ChampionWatch(champion, seconds=0.02):
        version = promote(bundle, intercept=-1)
        wait_until(lambda: served_version(champion) == version, what="it serves")
