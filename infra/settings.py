"""Every setting, in one place.

A value comes from, first hit wins: the environment (`EVENTIDE_KAFKA__BOOTSTRAP_SERVERS`), the
file `endpoints.json` that `eventide up` writes into the state folder, the default here. So each
server of the local stack can be replaced by the address of one that runs elsewhere.

Only commands and DAG files call `load_settings`; everything else takes values.
"""

import os
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    field_validator,
)
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from infra.clock import HOUR, MINUTE
from infra.http_client import is_http_url
from infra.masking import Address
from infra.state_file import read_state

ENDPOINTS_FILE = "endpoints.json"
_CHECKOUT = Path(__file__).resolve().parent.parent
Url = Annotated[str, AfterValidator(Address)]
"""May hold a password: its `repr` does not show it."""


def _is_http(value: str) -> str:
    """The URL of a server that speaks HTTP, or nothing.

    Raises:
        ValueError: no client could ask it. The value is not shown: it may hold a password.
    """
    if value and not is_http_url(value):
        raise ValueError(
            "it is a URL such as http://host:5000 or https://host; a password in it is "
            "percent-encoded"
        )
    return value


def _in_capitals(value: object) -> object:
    return value.upper() if isinstance(value, str) else value


HttpUrl = Annotated[Url, AfterValidator(_is_http)]
"""Of a server that our own clients ask."""


class KafkaSettings(BaseModel):
    """How to reach the brokers."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    bootstrap_servers: str = Field(
        default="127.0.0.1:9092", description="addresses of brokers, separated by commas"
    )
    client: dict[str, SecretStr] = Field(
        default_factory=dict,
        description="librdkafka properties for every client, such as security.protocol",
    )

    @property
    def properties(self) -> dict[str, str]:
        """`client` for the client library: some of the values are secret."""
        return {name: value.get_secret_value() for name, value in self.client.items()}


class IngestSettings(BaseModel):
    """Ingest: sizes of batches, when they are written, and how long online values are exact."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    group: str = "eventide-ingest"
    instance: str = Field(default="0", description="stable name of this process in its group")
    max_batch: int = Field(default=2_000, ge=1, description="records a poll")
    flush_rows: int = Field(default=50_000, ge=1, description="rows that force an offline commit")
    flush_seconds: float = Field(
        default=2.0, gt=0, description="age of buffered rows that forces one"
    )
    duplicate_horizon_hours: float = Field(
        default=48.0, gt=0, description="an event id seen again within it is a duplicate"
    )
    hold_hours: float = Field(
        default=12.0,
        gt=0,
        description="event time for which online values are exact for every reader",
    )
    hold_hours_max: float = Field(
        default=168.0,
        gt=0,
        description="event time for which they stay exact while serving lags: while requests "
        "from that time have no outcome",
    )
    max_future_minutes: float = Field(
        default=10.0, ge=0, description="an event_time may lie this far after its emission"
    )
    max_entity_rows: int = Field(
        default=100_000,
        ge=100,
        description="rows that the online value of one entity may have; one that would have more "
        "loses its oldest events and is not exact until they cannot count any more",
    )
    max_seen_ids: int = Field(
        default=5_000_000,
        ge=1_000,
        description="event ids that are remembered for one partition, about 300 bytes each; beyond "
        "them the oldest are forgotten, and values that a duplicate may have entered are not exact",
    )
    watchdog_seconds: float = Field(
        default=40.0, gt=0, description="time without progress after which a loop ends its process"
    )

    @property
    def duplicate_horizon_us(self) -> int:
        """`duplicate_horizon_hours` in microseconds."""
        return int(self.duplicate_horizon_hours * HOUR)

    @property
    def hold_us(self) -> int:
        """`hold_hours` in microseconds."""
        return int(self.hold_hours * HOUR)

    @property
    def hold_max_us(self) -> int:
        """`hold_hours_max` in microseconds."""
        return int(self.hold_hours_max * HOUR)

    @property
    def max_future_us(self) -> int:
        """`max_future_minutes` in microseconds."""
        return int(self.max_future_minutes * MINUTE)


class UpkeepSettings(BaseModel):
    """Maintenance of the offline store: what is compacted and what is deleted."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    closed_after_hours: float = Field(
        default=24.0,
        ge=0,
        description="time after its end when a day is closed; late events come until then",
    )
    # At least an hour: files of running writers and readers are younger. At most a week: Delta
    # forgets then when a file left the table. What has to stay longer is pinned.
    retention_hours: int = Field(
        default=168, ge=1, le=168, description="time for which every version stays readable"
    )

    @property
    def closed_after_us(self) -> int:
        """`closed_after_hours` in microseconds."""
        return int(self.closed_after_hours * HOUR)


class ServingSettings(BaseModel):
    """Serving: batching and how a new champion is noticed."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    group: str = "eventide-serving"
    instance: str = Field(default="0", description="stable name of this process in its group")
    project: str = Field(default="flight_delay", description="whose champion is served")
    max_batch: int = Field(default=500, ge=1, description="requests a transaction")
    # Ingest applies an event within milliseconds, and pauses for a commit of the offline store,
    # under a second. A longer wait means that ingest is broken; then a prediction that is marked as
    # not fresh is worth more. At most half of what the group allows between polls.
    max_wait_ms: int = Field(
        default=2_000,
        ge=0,
        le=60_000,
        description="how long a batch waits for ingest before it is scored as not fresh",
    )
    poll_champion_seconds: float = Field(
        default=5.0, gt=0, description="pause between two checks for a new champion"
    )
    watchdog_seconds: float = Field(
        default=40.0, gt=0, description="time without progress after which a loop ends its process"
    )


class StackSettings(BaseModel):
    """The local stack: which servers run elsewhere, and the ports of those that `up` starts.

    A port that is not set is the usual one, or a free one where that is busy; a port that is set
    and busy is an error.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    kafka: str = Field(
        default="", description="bootstrap servers of a Kafka elsewhere; empty: start one"
    )
    postgres: SecretStr = Field(
        default=SecretStr(""),
        description="postgresql+psycopg2://user:password@host:5432 of a server elsewhere that has "
        "the databases airflow and mlflow; empty: start one",
    )
    mlflow: HttpUrl = Field(default="", description="URL of an MLflow elsewhere; empty: start one")
    airflow: HttpUrl = Field(
        default="", description="URL of an Airflow elsewhere; empty: start one"
    )
    kafka_port: int | None = Field(default=None, ge=1, le=65535, description="usually 9092")
    kafka_controller_port: int | None = Field(
        default=None, ge=1, le=65535, description="usually 9093"
    )
    mlflow_port: int | None = Field(default=None, ge=1, le=65535, description="usually 5000")
    airflow_port: int | None = Field(default=None, ge=1, le=65535, description="usually 8080")
    ingest_port: int | None = Field(
        default=None, ge=1, le=65535, description="health and metrics of ingest, usually 9101"
    )
    serving_port: int | None = Field(
        default=None, ge=1, le=65535, description="health and metrics of serving, usually 9102"
    )
    dags: Path = Field(default=_CHECKOUT / "dags", description="folder of the DAG files")
    airflow_slots: int = Field(default=4, ge=1, description="tasks that run side by side")
    environment: str = Field(
        default="",
        description="names or patterns of further variables that the services get from the shell, "
        "separated by commas",
    )
    kafka_heap_mib: int = Field(default=384, ge=128, description="heap of the local broker")


class Settings(BaseSettings):
    """The settings of every process. Values are frozen: a change needs a restart."""

    model_config = SettingsConfigDict(
        env_prefix="EVENTIDE_",
        env_nested_delimiter="__",
        frozen=True,
        extra="forbid",
        hide_input_in_errors=True,  # an input that does not fit may be a password
    )

    state_dir: Path = Field(
        default=_CHECKOUT / ".state", description="data, logs and secrets of the local stack"
    )
    kafka: KafkaSettings = KafkaSettings()
    mlflow_url: HttpUrl = Field(
        default="http://127.0.0.1:5000", description="where training and serving ask MLflow"
    )
    airflow_url: HttpUrl = Field(
        default="http://127.0.0.1:8080", description="where `eventide backfill` asks Airflow"
    )
    mlflow_username: str = Field(
        default="", description="empty: the local stack's own login, for an MLflow of this machine"
    )
    mlflow_password: SecretStr = SecretStr("")
    airflow_username: str = Field(default="", description="empty: the local stack's own login")
    airflow_password: SecretStr = SecretStr("")
    offline_store: Url = Field(
        default="", description="folder or URL (s3://, gs://, az://) of the Delta tables"
    )
    offline_options: dict[str, SecretStr] = Field(
        default_factory=dict,
        description="JSON of delta-rs storage options for a URL: keys, endpoint. On S3 commits need"
        " aws_conditional_put=etag (the default), or AWS_S3_LOCKING_PROVIDER=dynamodb",
    )
    online_store: Url = Field(
        default="",
        description="a folder: LMDB, for one machine; or the URL of a Redis or Valkey, "
        "redis[s]://[user]:password@host:6379/0, of a cluster redis[s]+cluster://...",
    )
    recordings: str = Field(
        default=str(_CHECKOUT / ".tools" / "recordings"),
        description="folder of the recordings for replay",
    )
    work_dir: str = Field(default="", description="folder for the artifacts of training runs")
    health_host: str = Field(
        default="127.0.0.1", description="address where health and metrics are served"
    )
    health_names: str = Field(
        default="",
        description="further host names, separated by commas, by which others ask for them",
    )
    log_json: bool = Field(default=False, description="log lines as JSON, one object a line")
    log_level: Annotated[
        Literal["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"], BeforeValidator(_in_capitals)
    ] = Field(default="INFO", description="DEBUG, INFO, WARNING, ERROR or CRITICAL")
    ingest: IngestSettings = IngestSettings()
    upkeep: UpkeepSettings = UpkeepSettings()
    serving: ServingSettings = ServingSettings()
    stack: StackSettings = StackSettings()

    @property
    def health_host_names(self) -> frozenset[str]:
        """`health_names`, one by one."""
        names = (name.strip().lower() for name in self.health_names.split(","))
        return frozenset(name for name in names if name)

    @property
    def online_store_is_remote(self) -> bool:
        """Whether it is a server's URL, not a folder."""
        return "://" in self.online_store

    @field_validator("online_store")
    @classmethod
    def _has_a_known_scheme(cls, value: str) -> str:
        scheme, separator, _ = value.partition("://")
        if separator and scheme not in _STORE_SCHEMES:
            raise ValueError(f"an online store is a folder or one of {', '.join(_STORE_SCHEMES)}")
        return value

    def model_post_init(self, _: Any, /) -> None:
        """Put folders that are not set into the state folder."""
        state = self.state_dir.resolve()
        for name, folder in _FOLDERS.items():
            if not getattr(self, name):
                object.__setattr__(self, name, str(state / folder))
        object.__setattr__(self, "state_dir", state)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, env_settings, _EndpointsFile(settings_cls)


_STORE_SCHEMES = ("redis", "rediss", "redis+cluster", "rediss+cluster")
_FOLDERS = {
    "offline_store": "offline",
    "online_store": "online",
    "work_dir": "work",
}


def load_settings() -> Settings:
    """The settings of this process, from its environment and the local stack's endpoints.

    Raises:
        pydantic.ValidationError: a value does not fit; it names the field.
    """
    return Settings()


class _EndpointsFile(PydanticBaseSettingsSource):
    """The addresses of the servers that `eventide up` has started."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:  # noqa: ARG002
        return self().get(field_name), field_name, False

    def __call__(self) -> dict[str, Any]:
        state = Path(os.environ.get("EVENTIDE_STATE_DIR", _CHECKOUT / ".state"))  # noqa: TID251
        return read_state(state / ENDPOINTS_FILE, dict[str, Any]) or {}
