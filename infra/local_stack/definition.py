"""The stack, declared: which services it has, where they live, what each needs before it."""

from pathlib import Path

import msgspec

from infra.local_stack import secrets
from infra.local_stack.ports import PortRequest
from infra.local_stack.service import Service
from infra.local_stack.services import airflow, kafka, mlflow, postgres
from infra.local_stack.services import eventide as pipeline
from infra.settings import Settings, StackSettings

_PORTS = {  # name: (field of StackSettings, the service that listens, the default port)
    kafka.NAME: ("kafka_port", kafka.NAME, 9092),
    "kafka-controller": ("kafka_controller_port", kafka.NAME, 9093),
    mlflow.NAME: ("mlflow_port", mlflow.NAME, 5000),
    "airflow": ("airflow_port", airflow.API, 8080),
    pipeline.INGEST: ("ingest_port", pipeline.INGEST, 9101),
    pipeline.SERVING: ("serving_port", pipeline.SERVING, 9102),
}


def port_requests(stack: StackSettings) -> list[PortRequest]:
    """The ports of all servers that may be started on this machine."""
    return [
        PortRequest(
            name=name,
            service=service,
            variable=f"EVENTIDE_STACK__{field}".upper(),
            fixed=getattr(stack, field),
            default=default,
        )
        for name, (field, service, default) in _PORTS.items()
    ]


def services(settings: Settings, ports: dict[str, int]) -> list[Service]:
    """Every service that is not replaced by an address elsewhere, in reading order.

    Raises:
        JarsMissing: Kafka is to be started and was not fetched.
    """
    stack = settings.stack
    local = [
        *([] if stack.kafka else [_kafka(settings, ports)]),
        *([] if stack.postgres.get_secret_value() else [_postgres(settings)]),
        *([] if stack.mlflow else [_mlflow(settings, ports)]),
        *([] if stack.airflow else airflow.airflow_services(_airflow_plan(settings, ports))),
        *_pipeline(ports),
    ]
    names = {service.name for service in local}
    more = tuple(name.strip() for name in stack.environment.split(",") if name.strip())
    return [
        msgspec.structs.replace(_only_after(service, names), inherits=(*service.inherits, *more))
        for service in local
    ]


def endpoints(stack: StackSettings, ports: dict[str, int]) -> dict[str, object]:
    """Where every process finds the servers: the content of the endpoints file."""
    return {
        "kafka": {"bootstrap_servers": stack.kafka or f"127.0.0.1:{ports[kafka.NAME]}"},
        "mlflow_url": stack.mlflow or f"http://127.0.0.1:{ports[mlflow.NAME]}",
        "airflow_url": stack.airflow or f"http://127.0.0.1:{ports['airflow']}",
    }


def secrets_folder(settings: Settings) -> Path:
    """Where secrets are kept."""
    return settings.state_dir / "secrets"


def _kafka(settings: Settings, ports: dict[str, int]) -> Service:
    return kafka.kafka_service(
        kafka.plan_kafka(
            settings.state_dir / "kafka",
            port=ports[kafka.NAME],
            controller_port=ports["kafka-controller"],
            heap_mib=settings.stack.kafka_heap_mib,
        )
    )


def _postgres_plan(settings: Settings) -> postgres.PostgresPlan:
    return postgres.plan_postgres(settings.state_dir / "postgres")


def _postgres(settings: Settings) -> Service:
    return postgres.postgres_service(_postgres_plan(settings))


def _database_url(settings: Settings, database: str) -> str:
    elsewhere = settings.stack.postgres.get_secret_value()
    if elsewhere:
        return f"{elsewhere.rstrip('/')}/{database}"
    return _postgres_plan(settings).url(database)


def _mlflow(settings: Settings, ports: dict[str, int]) -> Service:
    return mlflow.mlflow_service(
        mlflow.MlflowPlan(
            folder=settings.state_dir / "mlflow",
            port=ports[mlflow.NAME],
            database_url=_database_url(settings, "mlflow"),
            login=secrets.mlflow_login(secrets_folder(settings)),
            after=(postgres.NAME,),
        )
    )


def _airflow_plan(settings: Settings, ports: dict[str, int]) -> airflow.AirflowPlan:
    return airflow.AirflowPlan(
        home=settings.state_dir / "airflow",
        secrets=secrets_folder(settings),
        port=ports["airflow"],
        database_url=_database_url(settings, "airflow"),
        dags=settings.stack.dags.resolve(),
        slots=settings.stack.airflow_slots,
        after=(postgres.NAME,),
    )


def _pipeline(ports: dict[str, int]) -> list[Service]:
    return [
        pipeline.topics_service(after=(kafka.NAME,)),
        pipeline.ingest_service(port=ports[pipeline.INGEST], after=(pipeline.TOPICS,)),
        pipeline.serving_service(
            port=ports[pipeline.SERVING], after=(pipeline.TOPICS, pipeline.INGEST, mlflow.NAME)
        ),
    ]


def _only_after(service: Service, local: set[str]) -> Service:
    """The service, waiting only for those that run here."""
    after = tuple(name for name in service.after if name in local)
    return msgspec.structs.replace(service, after=after)
