"""Whatever answers at MLflow's address, serving goes on with the model that it has."""

from pathlib import Path

import pytest

from features.catalog.flights.services import FLIGHT_DELAY
from serving.adapters.mlflow_rest import MlflowModelSource
from serving.champion import CURRENT, Champion
from serving.errors import ModelUnavailable
from serving.model import ModelVersion
from tests.support.strange_answers import STRANGE_ANSWERS, a_server
from tests.unit.serving.test_champion import Source, promote, served_version

VERSION = ModelVersion(name="flight_delay", version="1", run_id="r", bundle_sha256="0" * 64)
ANSWERS = {
    **STRANGE_ANSWERS,
    "an empty version": (200, b'{"model_version": {}}'),
    "a list for a version": (200, b'{"model_version": []}'),
    "null for a version": (200, b'{"model_version": null}'),
    "an object for a name": (200, b'{"model_version": {"name": {}, "version": "1"}}'),
    "no list of tags": (200, b'{"model_version": {"name": "a", "version": "1", "tags": 7}}'),
    "tags without keys": (200, b'{"model_version": {"name": "a", "version": "1", "tags": [{}]}}'),
    "files that are none": (200, b'{"files": [7], "run": [], "model_version": 1}'),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_an_answer_of_another_shape_is_no_answer(name: str, tmp_path: Path) -> None:
    with a_server(*ANSWERS[name]) as url:
        source = MlflowModelSource(url, name="flight_delay")
        for call in (source.current, lambda: source.fetch(VERSION, tmp_path)):
            with pytest.raises(ModelUnavailable):
                call()
        source.close()


class Broken(Source):
    """A source with a fault of its own."""

    def current(self) -> ModelVersion | None:
        raise KeyError("model_version")


@pytest.mark.parametrize("in_the_way", [CURRENT, "models"])
def test_a_model_that_cannot_be_remembered_serves_all_the_same(
    in_the_way: str, tmp_path: Path
) -> None:
    """The pointer file cannot be written: a folder has its name, or the disk is full."""
    bundle = tmp_path / "bundle"
    version = promote(bundle, intercept=-1)
    folder = tmp_path / "models"
    if in_the_way == CURRENT:
        (folder / CURRENT / "full").mkdir(parents=True)
    else:
        folder.write_text("in the way")
    champion = Champion(Source(bundle), folder=folder, service=FLIGHT_DELAY, warm_rows=10)
    champion.restore()
    champion.refresh()
    if in_the_way == CURRENT:
        assert served_version(champion) == version
    else:
        assert champion.model is None
    assert champion.trouble


def test_a_fault_in_a_check_for_a_new_model_leaves_the_old_one_in_service(tmp_path: Path) -> None:
    bundle = tmp_path / "bundle"
    version = promote(bundle, intercept=-1)
    source = Source(bundle)
    champion = Champion(source, folder=tmp_path / "models", service=FLIGHT_DELAY, warm_rows=10)
    champion.refresh()
    champion._source = Broken(bundle)
    champion.refresh()
    assert served_version(champion) == version
    assert "model_version" in champion.trouble
