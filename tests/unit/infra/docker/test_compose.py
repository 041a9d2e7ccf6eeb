"""`docker-compose.yaml` is safe by default, and runs the services of the local stack."""

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from infra.local_stack import definition as plan
from infra.local_stack.services import airflow as airflow_server
from infra.local_stack.services import eventide as pipeline
from infra.local_stack.services import kafka
from infra.settings import Settings

ROOT = Path(__file__).parents[4]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yaml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
ONCE = {name for name, service in SERVICES.items() if service["restart"] == "no"}
COMMAND_LINE = "eventide"  # started by hand, by `docker compose run`
DOCKERFILE = (ROOT / "infra/docker/Dockerfile").read_text()
SECRET_VARIABLES = {
    line.rstrip("=\n")
    for line in (ROOT / "infra/docker/example.env").read_text().splitlines()
    if line.endswith("=")
}

# Names of services: in the local stack -> in `docker-compose.yaml`.
NAMES = {
    "api-server": "airflow-api-server",
    "scheduler": "airflow-scheduler",
    "dag-processor": "airflow-dag-processor",
    "triggerer": "airflow-triggerer",
    "airflow-setup": "airflow-migrate",
}

_PARTS_OF_AIRFLOW = [name for name in NAMES.values() if name != "airflow-migrate"]


def test_ports_are_published_on_this_machine_only() -> None:
    published = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert published
    assert all(port.startswith("127.0.0.1:") for port in published)


def test_every_secret_comes_from_a_variable_without_a_default() -> None:
    values = [
        (f"{service}.{name}", str(value))
        for service, definition in SERVICES.items()
        for name, value in definition.get("environment", {}).items()
        if re.search(r"PASSWORD|SECRET|KEY$|CONN$|_URI$|AUTH$|ONLINE_STORE$", name)
    ]
    assert len(values) > len(SECRET_VARIABLES)
    for name, value in values:
        required = re.findall(r"\$\{(\w+):\?[^}]+\}", value)
        assert required, f"{name} holds a value"
        assert set(required) <= SECRET_VARIABLES, name
        # Without its variables the value is an address without a password.
        assert re.fullmatch(
            r"|postgresql\+psycopg2://\w+:@postgres:5432/\w+|redis://:@valkey:6379/0",
            re.sub(r"\$\{[^}]+\}", "", value),
        ), name


def test_the_online_store_requires_a_password_and_persists_every_write() -> None:
    valkey = SERVICES["valkey"]
    assert valkey["configs"] == [{"source": "valkey", "target": valkey["command"][1]}]
    assert not valkey.get("ports")
    config = dict(
        line.split(" ", 1) for line in COMPOSE["configs"]["valkey"]["content"].splitlines()
    )
    assert config["requirepass"].startswith("${VALKEY_PASSWORD:?")
    assert config["appendonly"] == "yes"
    assert config["maxmemory-policy"] == "noeviction"
    assert valkey["volumes"] == [f"valkey:{config['dir']}"]


def test_ingest_and_serving_share_no_folder() -> None:
    ingest, serving = (set(SERVICES[name]["volumes"]) for name in ("ingest", "serving"))
    assert not ingest & serving


def test_the_file_with_the_secrets_is_not_committed() -> None:
    assert ".env" in (ROOT / ".gitignore").read_text().splitlines()
    assert (ROOT / ".dockerignore").read_text().splitlines()[1] == "*"


@pytest.mark.parametrize("name", sorted(set(SERVICES) - ONCE))
def test_a_long_running_service_has_a_health_check_and_is_restarted(name: str) -> None:
    assert SERVICES[name]["restart"] == "unless-stopped"
    assert SERVICES[name]["healthcheck"]["test"]


@pytest.mark.parametrize("name", sorted(ONCE - {COMMAND_LINE, "airflow-user"}))
def test_another_service_waits_for_each_one_time_service(name: str) -> None:
    assert any(
        service.get("depends_on", {}).get(name) == {"condition": "service_completed_successfully"}
        for service in SERVICES.values()
    )


def test_every_service_waits_until_its_dependencies_are_healthy() -> None:
    for name, service in SERVICES.items():
        for needed, dependency in service.get("depends_on", {}).items():
            condition = "service_completed_successfully" if needed in ONCE else "service_healthy"
            assert dependency == {"condition": condition}, f"{name} needs {needed}"


def test_images_are_pinned() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    for service in SERVICES.values():
        name, _, tag = service["image"].partition(":")
        assert tag
        assert tag != "latest"
        assert not name.startswith("eventide-") or tag == version
    bases = re.findall(r"^FROM (\S+:\S+)", DOCKERFILE, re.MULTILINE)
    assert bases == ["python:3.11-slim-bookworm"]


def test_each_of_our_images_is_built_by_one_service() -> None:
    built = [s["image"] for s in SERVICES.values() if "build" in s]
    used = {s["image"] for s in SERVICES.values() if s["image"].startswith("eventide-")}
    assert sorted(built) == sorted(used)
    for service in SERVICES.values():
        if service["image"] in used and "build" not in service:
            assert service["pull_policy"] == "never"


def test_our_processes_run_without_privileges() -> None:
    for stage in re.split(r"^FROM ", DOCKERFILE, flags=re.MULTILINE)[1:]:
        if re.match(r"base AS (serving|ingest|platform)\n", stage):
            assert "\nUSER eventide\n" in stage


@pytest.mark.parametrize("name", sorted(SERVICES))
def test_a_service_gains_no_rights_and_takes_no_more_than_its_limits(name: str) -> None:
    service = SERVICES[name]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    # The two that begin as root need what it takes to become their own user, and nothing else.
    more = service.get("cap_add", [])
    assert not more or name in ("postgres", "valkey")
    assert set(more) <= {"CHOWN", "DAC_OVERRIDE", "FOWNER", "SETGID", "SETUID"}
    assert service["mem_limit"]
    assert service["pids_limit"]


def test_a_service_shares_a_network_only_with_those_that_need_it() -> None:
    networks = {name: set(service["networks"]) for name, service in SERVICES.items()}
    members = {
        network: {name for name, its in networks.items() if network in its}
        for network in COMPOSE["networks"]
    }
    assert set().union(*networks.values()) == set(members)
    assert members["stores"] == {"valkey", "ingest", "serving", COMMAND_LINE}
    airflow = {name for name in SERVICES if name.startswith("airflow-")}
    assert members["database"] == {"postgres", "mlflow", *airflow}
    assert members["events"] == {"kafka", "topics", "ingest", "serving", COMMAND_LINE}
    assert members["models"] == {"mlflow", "serving", "airflow-scheduler", COMMAND_LINE}
    for name, service in SERVICES.items():
        for needed in service.get("depends_on", {}):
            if needed not in ONCE and needed != "ingest":
                assert networks[name] & networks[needed], f"{name} cannot reach {needed}"
    internal = {name for name, n in COMPOSE["networks"].items() if n and n.get("internal")}
    assert internal == {"stores", "database"}


def test_no_secret_is_an_argument_of_a_process() -> None:
    for name, service in SERVICES.items():
        words = (
            [*service.get("command", []), *service["healthcheck"]["test"]]
            if ("healthcheck" in service)
            else service.get("command", [])
        )
        text = " ".join(words)
        assert "${" not in text, name
        # The shell's own `printf` starts no process.
        assert "$$" not in re.sub(r"^sh -c printf '[^']*'( \"\$\$\w+\")+ \|", "", text), name


def test_mlflow_and_airflow_answer_to_the_names_that_others_use() -> None:
    mlflow = SERVICES["mlflow"]["environment"]["EVENTIDE_MLFLOW_HOSTS"].split(",")
    assert {"mlflow:5000", "127.0.0.1:5000", "127.0.0.1:${MLFLOW_PORT:-5000}"} <= set(mlflow)
    airflow = SERVICES["airflow-api-server"]["environment"]["EVENTIDE_AIRFLOW_HOSTS"].split(",")
    assert {"airflow-api-server", "127.0.0.1"} <= set(airflow)
    assert not {"*", ""} & {*mlflow, *airflow}


def test_the_login_of_mlflow_goes_to_its_clients_only() -> None:
    known = {
        n for n, s in SERVICES.items() if "EVENTIDE_MLFLOW_PASSWORD" in s.get("environment", {})
    }
    airflow = {name for name in SERVICES if name.startswith("airflow-")}
    assert known == {"mlflow", "serving", COMMAND_LINE, *airflow}


def test_every_volume_is_named_and_used() -> None:
    mounted = {
        volume.split(":")[0]
        for service in SERVICES.values()
        for volume in service.get("volumes", [])
        if not volume.startswith("./")
    }
    assert mounted == set(COMPOSE["volumes"])


@pytest.fixture
def stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple[str, ...]]:
    """The commands of the local stack, by the names of the services here."""
    monkeypatch.setenv("EVENTIDE_STATE_DIR", str(tmp_path))
    ports = {"kafka": 1, "kafka-controller": 2, "mlflow": 5000, "airflow": 8080}
    ports |= {pipeline.INGEST: 8081, pipeline.SERVING: 8082}
    return {
        NAMES.get(service.name, service.name): service.command
        for service in plan.services(Settings(), ports)
    }


def test_the_services_are_those_of_the_local_stack(stack: dict[str, tuple[str, ...]]) -> None:
    # Two more steps than in the stack: another login, and the pools that its set-up creates.
    # And a server: the online store of the stack is a folder, which containers should not share.
    more = {COMMAND_LINE, "airflow-user", "airflow-pools", "valkey"}
    assert set(SERVICES) - more == set(stack)


@pytest.mark.parametrize("name", ["topics", "ingest", "serving", *_PARTS_OF_AIRFLOW])
def test_the_commands_are_those_of_the_local_stack(
    name: str, stack: dict[str, tuple[str, ...]]
) -> None:
    program, *arguments = stack[name]
    command = SERVICES[name]["command"]
    # The address of Airflow's API is an option here and a variable in the stack.
    assert [w for w in command if w not in ("--host", "0.0.0.0", "--port", "8080")] == [
        Path(program).name,
        *arguments,
    ]


def test_the_broker_has_the_settings_of_the_local_stack(tmp_path: Path) -> None:
    local = kafka.server_properties(
        kafka.KafkaPlan(folder=tmp_path, port=1, controller_port=2, heap_mib=384, jars=tmp_path)
    )
    addresses = re.compile("listener|quorum|log.dirs")
    environment = SERVICES["kafka"]["environment"]
    for name, value in local.items():
        if not addresses.search(name):
            assert environment[f"KAFKA_{name.upper().replace('.', '_')}"] == value, name


def test_airflow_has_the_settings_of_the_local_stack(tmp_path: Path) -> None:
    local = airflow_server.airflow_environment(
        airflow_server.AirflowPlan(
            home=tmp_path,
            secrets=tmp_path / "secrets",
            port=8080,
            database_url="",
            dags=tmp_path,
            slots=4,
            after=(),
        )
    )
    # Addresses, secrets and the login differ; folders are in the image.
    differs = re.compile("SIMPLE_AUTH|FOLDER|HOME|HOST|__PORT|BASE_URL|SECRET|FERNET|SQL_ALCHEMY")
    environment = SERVICES["airflow-scheduler"]["environment"]
    for name, value in local.items():
        if not differs.search(name):
            assert environment[name] == value, name


def test_every_airflow_service_has_the_same_settings() -> None:
    parts = [s for name, s in SERVICES.items() if name.startswith("airflow-")]
    shared = [
        {k: v for k, v in part["environment"].items() if k != "AIRFLOW_ADMIN_PASSWORD"}
        for part in parts
    ]
    assert all(environment == shared[0] for environment in shared)


def test_airflow_has_the_pools_of_the_local_stack() -> None:
    pools = yaml.safe_load((ROOT / "infra/docker/airflow-pools.json").read_text())
    assert {name: pool["slots"] for name, pool in pools.items()} == airflow_server.POOLS
