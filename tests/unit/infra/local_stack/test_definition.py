"""The services of the stack, their order, their ports and their secrets."""

import socket
from pathlib import Path

import pytest
from pydantic import SecretStr

from infra.local_stack import definition as plan
from infra.local_stack.ports import PortRequest, choose_ports
from infra.local_stack.secrets import airflow_login, airflow_secrets
from infra.local_stack.service import Service, StackError, with_dependencies
from infra.local_stack.services.kafka import plan_kafka, server_properties
from infra.local_stack.services.postgres import plan_postgres
from infra.settings import Settings, StackSettings

PORTS = {request.name: request.default for request in plan.port_requests(StackSettings())}


def planned_services(tmp_path: Path, **stack: object) -> dict[str, Service]:
    settings = Settings(state_dir=tmp_path, stack=StackSettings(**stack))
    return {service.name: service for service in plan.services(settings, PORTS)}


def dependencies_of(services: dict[str, Service], name: str) -> set[str]:
    return {s.name for s in with_dependencies(services.values(), [name])} - {name}


def test_the_scheduler_starts_after_the_api(tmp_path: Path) -> None:
    services = planned_services(tmp_path)

    assert "api-server" in services["scheduler"].after
    assert dependencies_of(services, "scheduler") == {"postgres", "airflow-setup", "api-server"}


def test_consumers_start_after_the_topics_are_created(tmp_path: Path) -> None:
    services = planned_services(tmp_path)

    assert {"kafka", "topics"} <= dependencies_of(services, "ingest")
    assert {"kafka", "topics", "ingest", "mlflow"} <= dependencies_of(services, "serving")


def test_no_service_depends_on_itself(tmp_path: Path) -> None:
    services = planned_services(tmp_path)

    for name in services:
        assert name not in dependencies_of(services, name)


@pytest.mark.parametrize(
    ("field", "address", "omitted"),
    [
        ("kafka", "broker.example:9092", {"kafka"}),
        ("mlflow", "https://mlflow.example", {"mlflow"}),
        ("postgres", SecretStr("postgresql+psycopg2://u:p@db.example"), {"postgres"}),
        (
            "airflow",
            "https://airflow.example",
            {"airflow-setup", "api-server", "scheduler", "dag-processor", "triggerer"},
        ),
    ],
)
def test_a_server_that_runs_elsewhere_is_neither_started_nor_waited_for(
    tmp_path: Path, field: str, address: object, omitted: set[str]
) -> None:
    services = planned_services(tmp_path, **{field: address})

    assert set(planned_services(tmp_path)) - set(services) == omitted
    assert not omitted & {name for service in services.values() for name in service.after}


def test_the_endpoints_include_servers_elsewhere() -> None:
    stack = StackSettings(kafka="broker.example:9092", mlflow="https://mlflow.example")

    assert plan.endpoints(stack, PORTS) == {
        "kafka": {"bootstrap_servers": "broker.example:9092"},
        "mlflow_url": "https://mlflow.example",
        "airflow_url": "http://127.0.0.1:8080",
    }


def test_a_database_elsewhere_serves_airflow_and_mlflow(tmp_path: Path) -> None:
    services = planned_services(
        tmp_path, postgres=SecretStr("postgresql+psycopg2://u:p@db.example")
    )

    url = "postgresql+psycopg2://u:p@db.example"
    assert services["mlflow"].env["MLFLOW_BACKEND_STORE_URI"] == f"{url}/mlflow"
    airflow = services["scheduler"].env["AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"]
    assert airflow == f"{url}/airflow"


def test_no_secret_is_on_a_command_line(tmp_path: Path) -> None:
    services = planned_services(tmp_path, postgres=SecretStr("postgresql+psycopg2://u:hunter2@db"))
    shared, (_, password) = (
        airflow_secrets(tmp_path / "secrets"),
        airflow_login(tmp_path / "secrets"),
    )

    arguments = " ".join(word for service in services.values() for word in service.command)
    for secret in ("hunter2", shared.jwt, shared.api, shared.fernet, password):
        assert secret not in arguments


def test_an_unknown_service_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StackError, match="zookeeper"):
        with_dependencies(planned_services(tmp_path).values(), ["zookeeper"])


def test_secrets_are_created_once_and_readable_by_the_owner_only(tmp_path: Path) -> None:
    folder = tmp_path / "secrets"

    assert airflow_secrets(folder) == airflow_secrets(folder)
    assert airflow_login(folder) == airflow_login(folder)
    assert {file.stat().st_mode & 0o777 for file in folder.iterdir()} == {0o600}
    assert folder.stat().st_mode & 0o777 == 0o700


def a_request(name: str, port: int, *, fixed: bool = False) -> PortRequest:
    return PortRequest(
        name=name,
        service=name,
        variable="EVENTIDE_STACK__X_PORT",
        fixed=port if fixed else None,
        default=port,
    )


def test_a_busy_port_is_replaced_unless_it_was_configured() -> None:
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        port = busy.getsockname()[1]

        assert choose_ports([a_request("kafka", port)], previous={})["kafka"] != port
        with pytest.raises(StackError, match=f"port {port} for kafka is busy") as raised:
            choose_ports([a_request("kafka", port, fixed=True)], previous={})
    assert "EVENTIDE_STACK__X_PORT" in str(raised.value.hint)


def test_the_previous_port_is_used_again() -> None:
    with socket.socket() as usual:
        usual.bind(("127.0.0.1", 0))
        usual.listen()
        request = a_request("kafka", usual.getsockname()[1])
        last = choose_ports([request], previous={})

    assert choose_ports([request], previous=last) == last


def test_no_port_is_given_twice() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]

    ports = choose_ports([a_request("kafka", port), a_request("mlflow", port)], previous={})

    assert ports["kafka"] != ports["mlflow"]


def test_the_broker_keeps_events_of_any_age_and_listens_on_loopback_only(tmp_path: Path) -> None:
    properties = server_properties(plan_kafka(tmp_path, port=1, controller_port=2))

    assert properties["log.retention.ms"] == "-1"
    assert "log.message.timestamp.before.max.ms" not in properties  # unlimited unless set
    assert properties["listeners"] == "PLAINTEXT://127.0.0.1:1,CONTROLLER://127.0.0.1:2"


def test_a_deep_folder_still_gets_a_socket(tmp_path: Path) -> None:
    deep = tmp_path.joinpath(*["folder"] * 20)

    assert len(str(plan_postgres(deep).socket_folder / ".s.PGSQL.5432")) < 104
