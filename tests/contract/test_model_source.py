"""What every source of models promises: a folder on disk, and a real MLflow server."""

import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import httpx
import pytest

from features.catalog.flights.services import FLIGHT_DELAY
from ml.bundle.scoring import Bundle
from ml.errors import BundleRefused
from ml.registry_tags import CHAMPION, PATH_TAG, SHA256_TAG
from serving.adapters.folder import FolderModelSource
from serving.adapters.mlflow_rest import MlflowModelSource
from serving.errors import ModelUnavailable
from serving.ports import ModelSource
from tests.support.data.bundles import a_bundle
from tests.support.servers import MLFLOW_LOGIN, free_port


class Registrar(Protocol):
    """The other side of a source: registers models."""

    @property
    def source(self) -> ModelSource: ...

    def promote(self, bundle: Path) -> None: ...

    def put(self, name: str, content: bytes) -> None: ...

    def delete_files(self) -> None: ...


class Shelf:
    """Puts bundles into the folder that a `FolderModelSource` reads."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "served"
        self.source = FolderModelSource(self.folder, name="flight_delay")

    def promote(self, bundle: Path) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.copytree(bundle, self.folder)

    def put(self, name: str, content: bytes) -> None:
        (self.folder / name).write_bytes(content)

    def delete_files(self) -> None:
        for file in self.folder.iterdir():
            file.unlink()


class Registry:
    """Registers bundles in MLflow as the training steps do, over its REST API."""

    def __init__(self, url: str) -> None:
        self.name = f"flight_delay_{uuid.uuid4().hex[:8]}"
        self.source = MlflowModelSource(url, name=self.name, login=MLFLOW_LOGIN)
        self._client = httpx.Client(base_url=url, timeout=60, auth=MLFLOW_LOGIN)
        created = self._post("experiments/create", name=self.name)
        self._experiment = created["experiment_id"]

    def promote(self, bundle: Path, *, tags: dict[str, str] | None = None) -> None:
        run = self._post("runs/create", experiment_id=self._experiment)["run"]["info"]
        self._root = run["artifact_uri"].removeprefix("mlflow-artifacts:/").strip("/")
        for file in bundle.iterdir():
            self.put(file.name, file.read_bytes())
        if self.source.current() is None:
            self._client.post(
                "/api/2.0/mlflow/registered-models/create", json={"name": self.name}
            ).raise_for_status()
        sha256 = FolderModelSource(bundle, name=self.name).current()
        assert sha256 is not None
        tags = {PATH_TAG: "bundle", SHA256_TAG: sha256.bundle_sha256} if tags is None else tags
        version = self._post(
            "model-versions/create",
            name=self.name,
            source=f"{run['artifact_uri']}/bundle",
            run_id=run["run_id"],
            tags=[{"key": key, "value": value} for key, value in tags.items()],
        )["model_version"]["version"]
        self._post("registered-models/alias", name=self.name, alias=CHAMPION, version=version)

    def put(self, name: str, content: bytes) -> None:
        path = f"/api/2.0/mlflow-artifacts/artifacts/{self._root}/bundle/{name}"
        self._client.put(path, content=content).raise_for_status()

    def delete_files(self) -> None:
        for file in ("manifest.json", "model.json"):
            path = f"/api/2.0/mlflow-artifacts/artifacts/{self._root}/bundle/{file}"
            self._client.delete(path).raise_for_status()

    def _post(self, path: str, **content: Any) -> Any:
        response = self._client.post(f"/api/2.0/mlflow/{path}", json=content)
        assert response.is_success, response.text
        return response.json()

    def close(self) -> None:
        self.source.close()
        self._client.close()


@contextmanager
def a_registry(url: str) -> Iterator[Registry]:
    registry = Registry(url)
    yield registry
    registry.close()


@pytest.fixture(params=["folder", pytest.param("mlflow", marks=pytest.mark.servers)])
def registrar(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Registrar]:
    if request.param == "folder":
        yield Shelf(tmp_path)
    else:
        with a_registry(request.getfixturevalue("mlflow_url")) as registry:
            yield registry


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    a_bundle(tmp_path / "one", FLIGHT_DELAY)
    return tmp_path / "one"


def fetched(source: ModelSource, folder: Path) -> Bundle:
    version = source.current()
    assert version is not None
    folder.mkdir()
    source.fetch(version, folder)
    return Bundle.load(folder, version.bundle_sha256)


def test_a_source_has_no_model_before_the_first_promotion(registrar: Registrar) -> None:
    assert registrar.source.current() is None


def test_a_promoted_bundle_is_fetched_completely(
    registrar: Registrar, bundle: Path, tmp_path: Path
) -> None:
    registrar.promote(bundle)

    assert fetched(registrar.source, tmp_path / "fetched").info.service == FLIGHT_DELAY.name
    files = {f.name: f.read_bytes() for f in (tmp_path / "fetched").iterdir()}
    assert files == {f.name: f.read_bytes() for f in bundle.iterdir()}


def test_the_current_version_changes_only_with_a_promotion(
    registrar: Registrar, bundle: Path, tmp_path: Path
) -> None:
    registrar.promote(bundle)
    first = registrar.source.current()
    assert registrar.source.current() == first
    a_bundle(tmp_path / "two", FLIGHT_DELAY, intercept=-3.0)
    registrar.promote(tmp_path / "two")

    second = registrar.source.current()
    assert second is not None
    assert first is not None
    assert second.version != first.version
    assert second.bundle_sha256 != first.bundle_sha256
    fetched(registrar.source, tmp_path / "fetched")


def test_only_listed_files_are_fetched_and_none_beyond_its_size(
    registrar: Registrar, bundle: Path, tmp_path: Path
) -> None:
    registrar.promote(bundle)
    version = registrar.source.current()
    assert version is not None
    registrar.put("unlisted.bin", bytes(1_000_000))
    fetched(registrar.source, tmp_path / "fetched")
    assert {f.name for f in (tmp_path / "fetched").iterdir()} == {"manifest.json", "model.json"}
    registrar.put("model.json", bytes(1_000_000))
    (tmp_path / "longer").mkdir()
    registrar.source.fetch(version, tmp_path / "longer")
    size = (bundle / "model.json").stat().st_size
    assert (tmp_path / "longer" / "model.json").stat().st_size == size + 1
    with pytest.raises(BundleRefused, match="is not the file that was registered"):
        Bundle.load(tmp_path / "longer", version.bundle_sha256)


def test_a_manifest_without_end_is_not_read(
    registrar: Registrar, bundle: Path, tmp_path: Path
) -> None:
    registrar.promote(bundle)
    version = registrar.source.current()
    assert version is not None
    registrar.put("manifest.json", b" " * 1_000_000)
    with pytest.raises(BundleRefused, match="cannot be read"):
        registrar.source.fetch(version, tmp_path)
    assert (tmp_path / "manifest.json").stat().st_size <= 65_537


def test_a_version_with_deleted_files_is_unavailable(
    registrar: Registrar, bundle: Path, tmp_path: Path
) -> None:
    registrar.promote(bundle)
    version = registrar.source.current()
    assert version is not None
    registrar.delete_files()

    with pytest.raises(ModelUnavailable):
        registrar.source.fetch(version, tmp_path)


def test_a_version_without_our_tags_is_not_served(mlflow_url: str, bundle: Path) -> None:
    with a_registry(mlflow_url) as registry:
        registry.promote(bundle)
        registry.promote(bundle, tags={})
        with pytest.raises(ModelUnavailable, match=SHA256_TAG):
            registry.source.current()


def test_an_unreachable_registry_is_reported_within_seconds(tmp_path: Path) -> None:
    source = MlflowModelSource(f"http://127.0.0.1:{free_port()}", name="flight_delay")
    with pytest.raises(ModelUnavailable, match="no response from MLflow"):
        source.current()
    source.close()
