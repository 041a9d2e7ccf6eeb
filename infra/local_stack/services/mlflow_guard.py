"""What stands before MLflow: a login, the names of its host, no page of another origin, and no
place for artifacts but the server's own folder.

Without it any user of the machine, and any page in its browser, could make the server write files
where it may write them, and read every file that it may read.
MLflow's own basic-auth app hashes the password at each call, which takes 0.8 s.
"""

import base64
import binascii
import secrets
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

Message = Mapping[str, Any]
Scope = Mapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

PUBLIC = ("/health",)
ARTIFACTS = "mlflow-artifacts:/"
SOURCES = rf"^({ARTIFACTS}(?!/)|runs:/|models:/|prompt-template$)"
"""What a model version may come from: MLflow's own check takes it as a regular expression."""


class Guard:
    """Passes the requests of who knows the login, from our own pages or from no page at all."""

    def __init__(self, app: App, *, username: str, password: str, hosts: Sequence[str]) -> None:
        self._app, self._hosts = app, {host.lower() for host in hosts}
        self._credentials = f"{username}:{password}".encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        status, reason = self._refusal(scope)
        if not status:
            await self._app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            await _respond(send, status, reason)

    def _refusal(self, scope: Scope) -> tuple[int, str]:
        """Status and reason; (0, "") for a request that may pass."""
        headers = {name.lower(): value for name, value in scope["headers"]}
        host = headers.get(b"host", b"").decode("latin-1").lower()
        if host not in self._hosts:
            return 403, "this server has another name"
        origin = headers.get(b"origin", b"").decode("latin-1").lower()
        if origin and origin not in {f"http://{host}", f"https://{host}"}:
            return 403, "a page of another origin may not ask this server"
        if scope["path"] in PUBLIC or self._knows_login(headers.get(b"authorization", b"")):
            return 0, ""
        return 401, "log in: the local stack's login is what `eventide up` prints"

    def _knows_login(self, header: bytes) -> bool:
        scheme, _, encoded = header.partition(b" ")
        if scheme.lower() != b"basic":
            return False
        try:
            given = base64.b64decode(encoded.strip(), validate=True)
        except binascii.Error:
            return False
        return secrets.compare_digest(given, self._credentials)


async def _respond(send: Send, status: int, reason: str) -> None:
    headers = [(b"content-type", b"text/plain; charset=utf-8")]
    if status == 401:
        headers.append((b"www-authenticate", b'Basic realm="MLflow", charset="UTF-8"'))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": reason.encode()})


def check_location(location: str | None) -> None:
    """Check that artifacts go to the server's own folder, wherever a client wants them.

    Raises:
        ValueError: they would not.
    """
    if not location:
        return  # the server's own choice
    rest = location.removeprefix(ARTIFACTS)
    if not location.startswith(ARTIFACTS) or rest.startswith("/") or ".." in rest.split("/"):
        raise ValueError(f"artifacts of this server lie at {ARTIFACTS}, not at {location!r}")


def guard_stores(registry: Any, *, schemes: Sequence[str] = ("postgresql", "sqlite")) -> None:
    """Make MLflow's registry of tracking stores refuse foreign places, whatever call names them."""
    from mlflow.exceptions import MlflowException
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
    from mlflow.utils.mlflow_tags import MLFLOW_ARTIFACT_LOCATION

    def checked(location: str | None) -> None:
        try:
            check_location(location)
        except ValueError as error:
            raise MlflowException.invalid_parameter_value(str(error)) from error

    class Store(SqlAlchemyStore):
        def create_experiment(
            self, name: str, artifact_location: str | None = None, tags: Any = None
        ) -> Any:
            checked(artifact_location)
            return super().create_experiment(name, artifact_location, tags)

        def start_trace(self, trace_info: Any) -> Any:
            checked((trace_info.tags or {}).get(MLFLOW_ARTIFACT_LOCATION))
            return super().start_trace(trace_info)

        def set_trace_tag(self, trace_id: str, key: str, value: str) -> Any:
            checked(value if key == MLFLOW_ARTIFACT_LOCATION else None)
            return super().set_trace_tag(trace_id, key, value)

    def build(store_uri: str, artifact_uri: str) -> Store:
        return Store(store_uri, artifact_uri)

    for scheme in schemes:
        registry.register(scheme, build)
