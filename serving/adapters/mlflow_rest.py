"""Models from MLflow, over its REST API: one connection, no MLflow library (ten seconds of import).

The version's tags say where its bundle lies in the run's artifacts, and the sha256 of its manifest.
"""

from pathlib import Path
from typing import BinaryIO, TypeVar

import httpx
from msgspec import Struct

from infra.http_client import Login, UnexpectedAnswer, content_of, http_client
from ml.bundle.format import MANIFEST, MAX_BYTES
from ml.bundle.verify import read_manifest
from ml.registry_tags import CHAMPION, PATH_TAG, SHA256_TAG
from serving.errors import ModelUnavailable
from serving.model import ModelVersion

REQUEST_TIMEOUT_S = 2.0
DOWNLOAD_TIMEOUT_S = 30.0
_ARTIFACTS = "mlflow-artifacts:/"
# A missing alias is an "invalid parameter" to MLflow, a missing model a missing resource.
_NO_CHAMPION = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")


Answer = TypeVar("Answer")


class _Tag(Struct):
    key: str
    value: str = ""


class _Registered(Struct):
    """A registered version, as far as serving needs it."""

    name: str
    version: str
    run_id: str | None = None
    tags: list[_Tag] = []


class _VersionAnswer(Struct):
    model_version: _Registered


class _RunInfo(Struct):
    artifact_uri: str


class _Run(Struct):
    info: _RunInfo


class _RunAnswer(Struct):
    run: _Run


class _ErrorAnswer(Struct):
    error_code: str = ""


class MlflowModelSource:
    """The version at the `champion` alias of a registered model."""

    def __init__(self, url: str, *, name: str, login: Login | None = None) -> None:
        self._name = name
        self._client = http_client(url, timeout_s=REQUEST_TIMEOUT_S, login=login)

    def current(self) -> ModelVersion | None:
        """The version at the alias; one request of half a kilobyte."""
        registered = self._champion(self._name)
        return None if registered is None else _version(registered)

    def fetch(self, version: ModelVersion, folder: Path) -> None:
        """Download the manifest of the folder that the version's tag names, then what it lists.

        Nothing else is fetched, and no file beyond the size that it should have.
        """
        registered = self._get(
            "/api/2.0/mlflow/model-versions/get",
            {"name": version.name, "version": version.version},
            _VersionAnswer,
        ).model_version
        path = f"{self._artifact_root(version)}/{_tag(registered, PATH_TAG)}"
        self._download(f"{path}/{MANIFEST}", folder / MANIFEST, limit=MAX_BYTES[MANIFEST])
        manifest = read_manifest((folder / MANIFEST).read_bytes())
        for name, entry in manifest.files.items():
            self._download(f"{path}/{name}", folder / name, limit=entry.size)

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def _champion(self, name: str) -> _Registered | None:
        response = self._request(
            "/api/2.0/mlflow/registered-models/alias", {"name": name, "alias": CHAMPION}
        )
        if response.is_client_error and _error_code(response) in _NO_CHAMPION:
            return None
        return _answer(response, _VersionAnswer).model_version

    def _artifact_root(self, version: ModelVersion) -> str:
        run = self._get("/api/2.0/mlflow/runs/get", {"run_id": version.run_id or ""}, _RunAnswer)
        uri = run.run.info.artifact_uri
        if not uri.startswith(_ARTIFACTS):
            raise ModelUnavailable(
                f"the artifacts of run {version.run_id} lie at {uri}, not behind the server",
                hint="start `mlflow server` with --artifacts-destination, which hands them out",
            )
        return uri.removeprefix(_ARTIFACTS).strip("/")

    def _download(self, path: str, file: Path, *, limit: int) -> None:
        """Write the artifact to a file. One that is longer than `limit` bytes is cut there.

        The reader of the bundle refuses such a file, since it differs from the manifest.
        """
        url = f"/api/2.0/mlflow-artifacts/artifacts/{path}"
        try:
            with (
                self._client.stream("GET", url, timeout=DOWNLOAD_TIMEOUT_S) as response,
                file.open("wb") as output,
            ):
                if not response.is_success:
                    response.read()
                    raise ModelUnavailable(f"{path}: {response.status_code} {response.text[:200]}")
                _copy(response, output, limit=limit + 1)
        except httpx.HTTPError as error:
            raise self._no_response(error) from error

    def _get(self, path: str, params: dict[str, str], kind: type[Answer]) -> Answer:
        return _answer(self._request(path, params), kind)

    def _request(self, path: str, params: dict[str, str]) -> httpx.Response:
        try:
            return self._client.get(path, params=params, timeout=REQUEST_TIMEOUT_S)
        except httpx.HTTPError as error:
            raise self._no_response(error) from error

    def _no_response(self, error: httpx.HTTPError) -> ModelUnavailable:
        return ModelUnavailable(
            f"no response from MLflow at {self._client.base_url}: {error!r}",
            hint="is it running? see `eventide status`",
        )


def _copy(response: httpx.Response, output: BinaryIO, *, limit: int) -> None:
    left = limit
    for chunk in response.iter_bytes():
        output.write(chunk[:left])
        left -= len(chunk)
        if left <= 0:
            return


def _version(registered: _Registered) -> ModelVersion:
    return ModelVersion(
        name=registered.name,
        version=registered.version,
        run_id=registered.run_id,
        bundle_sha256=_tag(registered, SHA256_TAG),
    )


def _tag(registered: _Registered, name: str) -> str:
    tags = {tag.key: tag.value for tag in registered.tags}
    if name not in tags:
        raise ModelUnavailable(
            f"{registered.name} {registered.version} has no tag {name}",
            hint="register models by the training steps, which write the bundle and its tags",
        )
    return tags[name]


def _answer(response: httpx.Response, kind: type[Answer]) -> Answer:
    """The content of an answer, in the form that MLflow gives it.

    Raises:
        ModelUnavailable: it is an error, or something else answers in MLflow's place.
    """
    path = response.request.url.path
    if not response.is_success:
        raise ModelUnavailable(f"{path}: {response.status_code} {response.text[:200]}")
    try:
        return content_of(response, kind)
    except UnexpectedAnswer as error:
        raise ModelUnavailable(
            f"{path}: this is no answer of MLflow: {error}",
            hint="does the URL name MLflow, and not a proxy or a login page?",
        ) from error


def _error_code(response: httpx.Response) -> str:
    try:
        return content_of(response, _ErrorAnswer).error_code
    except UnexpectedAnswer:
        return ""
