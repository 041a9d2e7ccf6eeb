"""Models from MLflow, over its REST API: one connection, no MLflow library (ten seconds of import).

The version's tags say where its bundle lies in the run's artifacts, and the sha256 of its manifest.
"""

from pathlib import Path
from typing import TypeVar

import httpx
import msgspec
from msgspec import Struct

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


class _File(Struct):
    path: str


class _FilesAnswer(Struct):
    files: list[_File] = []


class _ErrorAnswer(Struct):
    error_code: str = ""


class MlflowModelSource:
    """The version at the `champion` alias of a registered model."""

    def __init__(self, url: str, *, name: str) -> None:
        self._name = name
        self._client = httpx.Client(base_url=url, timeout=REQUEST_TIMEOUT_S)

    def current(self) -> ModelVersion | None:
        """The version at the alias; one request of half a kilobyte."""
        registered = self._champion(self._name)
        return None if registered is None else _version(registered)

    def fetch(self, version: ModelVersion, folder: Path) -> None:
        """Download the folder that the version's tag names, file by file."""
        registered = self._get(
            "/api/2.0/mlflow/model-versions/get",
            {"name": version.name, "version": version.version},
            _VersionAnswer,
        ).model_version
        path = f"{self._artifact_root(version)}/{_tag(registered, PATH_TAG)}"
        files = self._get("/api/2.0/mlflow-artifacts/artifacts", {"path": path}, _FilesAnswer).files
        if not files:
            raise ModelUnavailable(f"{version.name} {version.version}: its bundle is gone")
        for entry in files:
            self._download(path, entry.path, folder)

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

    def _download(self, path: str, name: str, folder: Path) -> None:
        file = name.rsplit("/", 1)[-1]
        if file in ("", ".", ".."):
            raise ModelUnavailable(f"a bundle has no file {name!r}")
        response = self._request(
            f"/api/2.0/mlflow-artifacts/artifacts/{path}/{file}", {}, timeout_s=DOWNLOAD_TIMEOUT_S
        )
        if not response.is_success:
            raise ModelUnavailable(f"{path}/{file}: {response.status_code} {response.text[:200]}")
        (folder / file).write_bytes(response.content)

    def _get(self, path: str, params: dict[str, str], kind: type[Answer]) -> Answer:
        return _answer(self._request(path, params), kind)

    def _request(
        self, path: str, params: dict[str, str], *, timeout_s: float = REQUEST_TIMEOUT_S
    ) -> httpx.Response:
        try:
            return self._client.get(path, params=params, timeout=timeout_s)
        except httpx.HTTPError as error:
            raise ModelUnavailable(
                f"no response from MLflow at {self._client.base_url}: {error!r}",
                hint="is it running? see `eventide status`",
            ) from error


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
        # Numbers may come as text and the other way round: MLflow's own releases differ.
        return msgspec.convert(msgspec.json.decode(response.content), type=kind, strict=False)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise ModelUnavailable(
            f"{path}: this is no answer of MLflow: {str(error)[:200]}",
            hint="does the URL name MLflow, and not a proxy or a login page?",
        ) from error


def _error_code(response: httpx.Response) -> str:
    try:
        return msgspec.json.decode(response.content, type=_ErrorAnswer).error_code
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return ""
