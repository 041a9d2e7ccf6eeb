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
    TopicCollection,
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
from infra.kafka.logs import Log
from infra.kafka.partitions import Partition, Positions
from infra.kafka.retry import retry_transient
from infra.settings import KafkaSettings

_OFFSETS_RETENTION = "offsets.retention.minutes"


@dataclass(frozen=True, kw_only=True)
class TopicSpec:
    """A topic that has to exist. `replicas` None takes the cluster's own default.

    `config` has the exact values of settings, `least` the smallest ones that are accepted.
    """

    name: str
    partitions: int
    config: Mapping[str, str] = field(default_factory=dict)
    least: Mapping[str, int] = field(default_factory=dict)
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
        _check_settings(admin, [s for s in specs if s.name in existing])
        missing = {s.name: s for s in specs if s.name not in existing}
        return _create(admin, list(missing.values())) if missing else []


def check_topics(kafka: KafkaSettings, specs: Sequence[TopicSpec]) -> None:
    """Check the settings of topics that exist: none may delete, merge or refuse a record.

    Raises:
        KafkaFailed: a topic is not there, or has a setting that may lose records.
    """
    with _admin(kafka) as admin:
        existing = _partition_counts(admin)
        if missing := sorted({s.name for s in specs} - existing.keys()):
            raise KafkaFailed(f"no topics {missing}", hint="`eventide topics` creates them")
        _check_settings(admin, specs)


def forgets_groups_after_minutes(kafka: KafkaSettings) -> int | None:
    """How long the brokers keep the positions of a group without members; the shortest of them.

    None when they do not say: a client may not be allowed to ask.
    """
    with _admin(kafka) as admin:
        try:
            brokers = admin.list_topics(timeout=OPERATION_TIMEOUT_S).brokers
            wanted = [ConfigResource(ConfigResource.Type.BROKER, str(n)) for n in brokers]
            futures = admin.describe_configs(wanted, request_timeout=OPERATION_TIMEOUT_S).values()
            configs = [_result(future, doing="read the settings of a broker") for future in futures]
        except (KafkaException, KafkaFailed):
            return None
    return min((int(c[_OFFSETS_RETENTION].value) for c in configs), default=None)


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


def topic_ids(kafka: KafkaSettings, topics: Iterable[str]) -> dict[str, str]:
    """The id of each topic: a topic that is deleted and created again gets another one.

    Raises:
        KafkaFailed: a topic does not exist, or the brokers do not respond.
    """
    with _admin(kafka) as admin:
        return _topic_ids(admin, list(topics))


def logs_of(kafka: KafkaSettings, topics: Iterable[str]) -> dict[Partition, Log]:
    """The log of each partition of the topics.

    Raises:
        KafkaFailed: a topic does not exist, or the brokers do not respond.
    """
    names = list(topics)
    before = topic_ids(kafka, names)
    firsts, ends = first_offsets(kafka, names), end_offsets(kafka, names)
    if topic_ids(kafka, names) != before:
        raise KafkaFailed("a topic was created again at this moment", hint="try again")
    return {p: Log(before[p.topic], first, ends[p]) for p, first in firsts.items()}


def members_of(kafka: KafkaSettings, group: str) -> int:
    """How many members a consumer group has; 0 when there is no such group.

    Raises:
        KafkaFailed: the brokers do not respond.
    """
    with _admin(kafka) as admin:
        future = admin.describe_consumer_groups([group], request_timeout=OPERATION_TIMEOUT_S)[group]
        return len(_result(future, doing=f"describe the group {group}").members)


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
    offsets = _offsets(kafka, names, OffsetSpec.for_timestamp(-(-time_us // 1_000)))
    return {p: offsets[p] if offsets.get(p, -1) >= 0 else end for p, end in ends.items()}


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


def _topic_ids(admin: AdminClient, names: list[str]) -> dict[str, str]:
    if not names:
        return {}
    futures = admin.describe_topics(TopicCollection(names), request_timeout=OPERATION_TIMEOUT_S)
    return {
        name: str(_result(future, doing=f"read the id of topic {name}").topic_id)
        for name, future in futures.items()
    }


def _partition_counts(admin: AdminClient) -> dict[str, int]:
    try:
        topics = admin.list_topics(timeout=OPERATION_TIMEOUT_S).topics
    except KafkaException as error:
        raise NoBroker(f"no response from the brokers: {error.args[0].str()}") from error
    return {name: len(topic.partitions) for name, topic in topics.items()}


def _check_settings(admin: AdminClient, specs: Sequence[TopicSpec]) -> None:
    """Refuse topics that may delete, merge or refuse records, or replace their timestamps."""
    wanted = {ConfigResource(ConfigResource.Type.TOPIC, s.name): s for s in specs}
    if not wanted:
        return
    replicas = _replicas(admin)
    futures = admin.describe_configs(list(wanted), request_timeout=OPERATION_TIMEOUT_S)
    for resource, future in futures.items():
        actual = _result(future, doing=f"read the settings of topic {resource.name}")
        spec = wanted[resource]
        for name, value in spec.config.items():
            if actual[name].value != value:
                raise _wrong_setting(spec.name, name, actual[name].value, f"not {value}", value)
        # With two copies of which one may be away, a lost disk loses what it alone had.
        least = {**spec.least, "min.insync.replicas": 2 if replicas[spec.name] >= 3 else 1}
        for name, number in least.items():
            if int(actual[name].value) < number:
                wrong = f"less than {number}"
                raise _wrong_setting(spec.name, name, actual[name].value, wrong, str(number))


def _wrong_setting(topic: str, name: str, actual: str, wrong: str, value: str) -> KafkaFailed:
    return KafkaFailed(
        f"topic {topic} has {name}={actual}, {wrong}: events could be lost",
        hint=f"`kafka-configs.sh --alter --entity-type topics --entity-name {topic}"
        f" --add-config {name}={value}`; events that it holds stay as they are",
    )


def _replicas(admin: AdminClient) -> dict[str, int]:
    """How many copies each topic has; the least of its partitions."""
    topics = admin.list_topics(timeout=OPERATION_TIMEOUT_S).topics
    return {
        name: min((len(p.replicas) for p in topic.partitions.values()), default=1)
        for name, topic in topics.items()
    }


def _create(admin: AdminClient, specs: Sequence[TopicSpec]) -> list[str]:
    futures = admin.create_topics(
        [
            NewTopic(
                s.name,
                num_partitions=s.partitions,
                replication_factor=-1 if s.replicas is None else s.replicas,
                config={**{name: str(value) for name, value in s.least.items()}, **s.config},
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
