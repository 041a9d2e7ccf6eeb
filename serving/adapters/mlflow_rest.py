"""Models from MLflow, over its REST API: one connection, no MLflow library (ten seconds of import).

The version's tags say where its bundle lies in the run's artifacts, and the sha256 of its manifest.
"""

from pathlib import Path
from typing import Any

import httpx

from infra.http_client import Login, http_client
from ml.registry_tags import CHAMPION, PATH_TAG, SHA256_TAG
from serving.errors import ModelUnavailable
from serving.model import ModelVersion

REQUEST_TIMEOUT_S = 2.0
DOWNLOAD_TIMEOUT_S = 30.0
_ARTIFACTS = "mlflow-artifacts:/"
# A missing alias is an "invalid parameter" to MLflow, a missing model a missing resource.
_NO_CHAMPION = ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE")


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
        """Download the folder that the version's tag names, file by file."""
        registered = self._get(
            "/api/2.0/mlflow/model-versions/get",
            {"name": version.name, "version": version.version},
        )["model_version"]
        path = f"{self._artifact_root(version)}/{_tag(registered, PATH_TAG)}"
        files = self._get("/api/2.0/mlflow-artifacts/artifacts", {"path": path}).get("files", [])
        if not files:
            raise ModelUnavailable(f"{version.name} {version.version}: its bundle is gone")
        for entry in files:
            self._download(path, entry["path"], folder)

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def _champion(self, name: str) -> dict[str, Any] | None:
        response = self._request(
            "/api/2.0/mlflow/registered-models/alias", {"name": name, "alias": CHAMPION}
        )
        if response.is_client_error and _json(response).get("error_code") in _NO_CHAMPION:
            return None
        registered: dict[str, Any] = _content(response)["model_version"]
        return registered

    def _artifact_root(self, version: ModelVersion) -> str:
        run = self._get("/api/2.0/mlflow/runs/get", {"run_id": version.run_id or ""})
        uri: str = run["run"]["info"]["artifact_uri"]
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
        if response.is_error:
            raise ModelUnavailable(f"{path}/{file}: {response.status_code} {response.text[:200]}")
        (folder / file).write_bytes(response.content)

    def _get(self, path: str, params: dict[str, str]) -> dict[str, Any]:
        return _content(self._request(path, params))

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


def _version(registered: dict[str, Any]) -> ModelVersion:
    return ModelVersion(
        name=registered["name"],
        version=str(registered["version"]),
        run_id=registered.get("run_id"),
        bundle_sha256=_tag(registered, SHA256_TAG),
    )


def _tag(registered: dict[str, Any], name: str) -> str:
    tags = {tag["key"]: tag["value"] for tag in registered.get("tags", [])}
    if name not in tags:
        raise ModelUnavailable(
            f"{registered['name']} {registered['version']} has no tag {name}",
            hint="register models by the training steps, which write the bundle and its tags",
        )
    value: str = tags[name]
    return value


def _content(response: httpx.Response) -> dict[str, Any]:
    if response.is_error:
        raise ModelUnavailable(
            f"{response.request.url.path}: {response.status_code} {response.text[:200]}"
        )
    return _json(response)


def _json(response: httpx.Response) -> dict[str, Any]:
    try:
        content: dict[str, Any] = response.json()
    except ValueError as error:
        raise ModelUnavailable(f"{response.request.url.path}: the response is not JSON") from error
    return content
