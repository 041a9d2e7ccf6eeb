"""Topics and the offsets that they hold, by the client's admin calls."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from confluent_kafka import (
    IsolationLevel,
    KafkaError,
    KafkaException,
    TopicPartition,
)
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # its re-exports are implicit
    AdminClient,
    ConfigResource,
    NewTopic,
    OffsetSpec,
)

from infra.kafka.config import OPERATION_TIMEOUT_S, client_config
from infra.kafka.errors import KafkaFailed, NoBroker
from infra.kafka.partitions import Partition, Positions
from infra.kafka.retry import retry_transient
from infra.settings import KafkaSettings


@dataclass(frozen=True, kw_only=True)
class TopicSpec:
    """A topic that has to exist. `replicas` None takes the cluster's own default."""

    name: str
    partitions: int
    config: Mapping[str, str] = field(default_factory=dict)
    replicas: int | None = None


def ensure_topics(kafka: KafkaSettings, specs: Sequence[TopicSpec]) -> list[str]:
    """Create the topics that are missing; returns their names. What exists stays as it is.

    Raises:
        KafkaFailed: the brokers refuse, or an existing topic contradicts its declaration: another
            number of partitions, another value of a setting.
    """
    with _admin(kafka) as admin:
        existing = _partition_counts(admin)
        for spec in specs:
            if existing.get(spec.name, spec.partitions) != spec.partitions:
                raise KafkaFailed(
                    f"topic {spec.name} has {existing[spec.name]} partitions, not"
                    f" {spec.partitions}: more partitions move keys to other partitions",
                    hint="declare the number that it has, or move its events to a new topic",
                )
        _check_settings(admin, [s for s in specs if s.name in existing and s.config])
        missing = {s.name: s for s in specs if s.name not in existing}
        return _create(admin, list(missing.values())) if missing else []


def topic_partitions(kafka: KafkaSettings, topics: Iterable[str]) -> list[Partition]:
    """Every partition of the topics.

    Raises:
        KafkaFailed: a topic does not exist.
    """
    with _admin(kafka) as admin:
        counts = _partition_counts(admin)
    wanted = list(topics)
    if missing := sorted(set(wanted) - set(counts)):
        raise KafkaFailed(f"no topics {missing}", hint="`eventide topics` creates them")
    return [Partition(topic, n) for topic in wanted for n in range(counts[topic])]


def first_offsets(kafka: KafkaSettings, topics: Iterable[str]) -> Positions:
    """Where each partition begins."""
    return _offsets(kafka, topics, OffsetSpec.earliest())


def end_offsets(kafka: KafkaSettings, topics: Iterable[str]) -> Positions:
    """The end of each partition: a reader that reached it has all that was sent before the call.

    Records of open transactions count, and what is committed becomes readable a moment after its
    commit returned. So a wait for these positions misses nothing; an open transaction delays it
    until it ends. The marker of a transaction may add one more offset after the call.
    """
    return _offsets(kafka, topics, OffsetSpec.latest())


def offsets_at(kafka: KafkaSettings, topics: Iterable[str], time_us: int) -> Positions:
    """For each partition the offset of the first record that was emitted at the time or later.

    The end of the partition, if it has none: everything that was sent was emitted before.

    Raises:
        NoBroker: no broker responds.
    """
    names = list(topics)
    ends = end_offsets(kafka, names)  # first: a record that comes in between is not passed over
    found = _offsets(kafka, names, OffsetSpec.for_timestamp(-(-time_us // 1_000)))
    return {p: found[p] if found.get(p, -1) >= 0 else end for p, end in ends.items()}


def _offsets(kafka: KafkaSettings, topics: Iterable[str], spec: OffsetSpec) -> Positions:
    partitions = topic_partitions(kafka, topics)
    with _admin(kafka) as admin:
        try:
            # Transient: the leader of a partition is not elected yet, or has just changed.
            return retry_transient(lambda _: _list_offsets(admin, partitions, spec))
        except KafkaException as error:
            raise KafkaFailed(f"cannot list offsets: {error}") from error


def _list_offsets(
    admin: AdminClient, partitions: Sequence[Partition], spec: OffsetSpec
) -> Positions:
    futures = admin.list_offsets(
        {TopicPartition(p.topic, p.number): spec for p in partitions},
        isolation_level=IsolationLevel.READ_UNCOMMITTED,
        request_timeout=OPERATION_TIMEOUT_S,
    )
    return {
        Partition(p.topic, p.partition): future.result(OPERATION_TIMEOUT_S).offset
        for p, future in futures.items()
    }


def _partition_counts(admin: AdminClient) -> dict[str, int]:
    try:
        topics = admin.list_topics(timeout=OPERATION_TIMEOUT_S).topics
    except KafkaException as error:
        raise NoBroker(f"no response from the brokers: {error.args[0].str()}") from error
    return {name: len(topic.partitions) for name, topic in topics.items()}


def _check_settings(admin: AdminClient, specs: Sequence[TopicSpec]) -> None:
    """Refuse topics whose settings are not the declared ones.

    Such a topic may delete events early, or replace their timestamps.
    """
    wanted = {ConfigResource(ConfigResource.Type.TOPIC, s.name): s for s in specs}
    if not wanted:
        return
    futures = admin.describe_configs(list(wanted), request_timeout=OPERATION_TIMEOUT_S)
    for resource, future in futures.items():
        actual = _result(future, doing=f"read the settings of topic {resource.name}")
        for name, value in wanted[resource].config.items():
            if actual[name].value != value:
                raise KafkaFailed(
                    f"topic {resource.name} has {name}={actual[name].value}, not {value}",
                    hint=f"`kafka-configs.sh --alter --topic {resource.name}"
                    f" --add-config {name}={value}`; events that it holds stay as they are",
                )


def _create(admin: AdminClient, specs: Sequence[TopicSpec]) -> list[str]:
    futures = admin.create_topics(
        [
            NewTopic(
                s.name,
                num_partitions=s.partitions,
                replication_factor=-1 if s.replicas is None else s.replicas,
                config=dict(s.config),
            )
            for s in specs
        ],
        operation_timeout=OPERATION_TIMEOUT_S,
    )
    return [name for name, future in futures.items() if _created(future, name)]


def _created(future: "Future[None]", name: str) -> bool:
    """Whether we created it; False when another process did at the same time."""
    try:
        future.result(OPERATION_TIMEOUT_S)
    except KafkaException as error:
        if error.args[0].code() == KafkaError.TOPIC_ALREADY_EXISTS:
            return False
        raise KafkaFailed(f"cannot create topic {name}: {error.args[0].str()}") from error
    return True


def _result(future: "Future[Any]", *, doing: str) -> Any:
    try:
        return future.result(OPERATION_TIMEOUT_S)
    except (KafkaException, TimeoutError) as error:
        raise KafkaFailed(f"cannot {doing}: {error}") from error


@contextmanager
def _admin(kafka: KafkaSettings) -> Iterator[AdminClient]:
    # The name keeps the client alive: a garbage-collected client cancels its open calls.
    admin = AdminClient(client_config(kafka))
    yield admin
