"""Topics and positions, as the brokers know them."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from confluent_kafka import (
    OFFSET_END,
    Consumer,
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

from infra.kafka.config import OPERATION_TIMEOUT_S, client_config, consumer_config
from infra.kafka.errors import KafkaFailed
from infra.kafka.partitions import Partition, Positions
from infra.kafka.retry import retry_transient
from infra.settings import KafkaSettings

_NO_GROUP = "eventide-observer"  # a consumer has to name one; this one has no members


@dataclass(frozen=True, kw_only=True)
class TopicSpec:
    """A topic that has to be there. `replicas` None takes the cluster's own default."""

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
        KafkaFailed: a topic is not there.
    """
    with _admin(kafka) as admin:
        counts = _partition_counts(admin)
    wanted = list(topics)
    if missing := sorted(set(wanted) - set(counts)):
        raise KafkaFailed(f"no topics {missing}", hint="`eventide topics` makes them")
    return [Partition(topic, n) for topic in wanted for n in range(counts[topic])]


def first_offsets(kafka: KafkaSettings, topics: Iterable[str]) -> Positions:
    """Where each partition begins."""
    return _offsets(kafka, topics, OffsetSpec.earliest())


def end_offsets(kafka: KafkaSettings, topics: Iterable[str]) -> Positions:
    """The end of each partition: whoever has reached it has read all that was sent before the call.

    Records of open transactions count, and what is committed becomes readable a moment after its
    commit returned. So a wait for these positions misses nothing; an open transaction holds it up
    until it ends. The marker of a transaction may add one more offset after the call.
    """
    return _offsets(kafka, topics, OffsetSpec.latest())


def group_positions(kafka: KafkaSettings, group: str) -> Positions:
    """The committed positions of a consumer group; empty when it has none.

    Positions inside an open transaction do not count; those of a committed one show a moment after
    its commit returned.
    """
    with group_observer(kafka, group) as positions:
        return positions()


@contextmanager
def group_observer(kafka: KafkaSettings, group: str) -> Iterator[Callable[[], Positions]]:
    """`group_positions` for who asks often: keeps its connection as long as the block."""
    with _observer(kafka, group) as consumer:

        def positions() -> Positions:
            try:
                topics = consumer.list_topics(timeout=OPERATION_TIMEOUT_S).topics
                asked = [TopicPartition(t, n) for t in topics for n in topics[t].partitions]
                found = retry_transient(lambda left_s: consumer.committed(asked, timeout=left_s))
            except KafkaException as error:
                raise KafkaFailed(f"group {group}: {error.args[0].str()}") from error
            return {Partition(p.topic, p.partition): p.offset for p in found if p.offset >= 0}

        yield positions


@contextmanager
def end_observer(
    kafka: KafkaSettings, partitions: Iterable[Partition], *, limit_s: float = OPERATION_TIMEOUT_S
) -> Iterator[Callable[[], Positions]]:
    """`end_offsets` for who asks often: keeps its connections, and is one request to each broker.

    The callable raises KafkaFailed when there is no answer within `limit_s`.
    """
    wanted = list(partitions)
    with _observer(kafka, _NO_GROUP) as consumer:

        def ends() -> Positions:
            asked = [TopicPartition(p.topic, p.number, OFFSET_END) for p in wanted]
            try:
                # A time that lies after every record means the end; of many partitions at once.
                found = retry_transient(
                    lambda left_s: consumer.offsets_for_times(asked, timeout=left_s),
                    limit_s=limit_s,
                )
            except KafkaException as error:
                raise KafkaFailed(f"cannot ask for the ends: {error.args[0].str()}") from error
            return {Partition(p.topic, p.partition): p.offset for p in found if p.error is None}

        yield ends


@contextmanager
def _observer(kafka: KafkaSettings, group: str) -> Iterator[Consumer]:
    """A consumer that joins nothing: the admin client's own calls open a connection each, and that
    for a group's positions ends the whole process when the group's coordinator is just moving or
    starting (librdkafka issue 5040)."""
    config = consumer_config(kafka, group=group, instance="observer")
    consumer = Consumer({**config, "isolation.level": "read_uncommitted"})
    try:
        yield consumer
    finally:
        consumer.close()


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
    answers = admin.list_offsets(
        {TopicPartition(p.topic, p.number): spec for p in partitions},
        isolation_level=IsolationLevel.READ_UNCOMMITTED,
        request_timeout=OPERATION_TIMEOUT_S,
    )
    return {
        Partition(asked.topic, asked.partition): answer.result(OPERATION_TIMEOUT_S).offset
        for asked, answer in answers.items()
    }


def _partition_counts(admin: AdminClient) -> dict[str, int]:
    try:
        topics = admin.list_topics(timeout=OPERATION_TIMEOUT_S).topics
    except KafkaException as error:
        raise KafkaFailed(f"no answer from the brokers: {error.args[0].str()}") from error
    return {name: len(topic.partitions) for name, topic in topics.items()}


def _check_settings(admin: AdminClient, specs: Sequence[TopicSpec]) -> None:
    """Refuse topics whose settings are not the declared ones: they lose events or their times."""
    wanted = {ConfigResource(ConfigResource.Type.TOPIC, s.name): s for s in specs}
    if not wanted:
        return
    answers = admin.describe_configs(list(wanted), request_timeout=OPERATION_TIMEOUT_S)
    for resource, answer in answers.items():
        found = _result(answer, doing=f"read the settings of topic {resource.name}")
        for name, value in wanted[resource].config.items():
            if found[name].value != value:
                raise KafkaFailed(
                    f"topic {resource.name} has {name}={found[name].value}, not {value}",
                    hint=f"`kafka-configs.sh --alter --topic {resource.name}"
                    f" --add-config {name}={value}`; events that it holds stay as they are",
                )


def _create(admin: AdminClient, specs: Sequence[TopicSpec]) -> list[str]:
    answers = admin.create_topics(
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
    return [name for name, answer in answers.items() if _created(answer, name)]


def _created(answer: "Future[None]", name: str) -> bool:
    """Whether we made it; False when someone else was faster."""
    try:
        answer.result(OPERATION_TIMEOUT_S)
    except KafkaException as error:
        if error.args[0].code() == KafkaError.TOPIC_ALREADY_EXISTS:
            return False
        raise KafkaFailed(f"cannot create topic {name}: {error.args[0].str()}") from error
    return True


def _result(answer: "Future[Any]", *, doing: str) -> Any:
    try:
        return answer.result(OPERATION_TIMEOUT_S)
    except (KafkaException, TimeoutError) as error:
        raise KafkaFailed(f"cannot {doing}: {error}") from error


@contextmanager
def _admin(kafka: KafkaSettings) -> Iterator[AdminClient]:
    # Held by name until the answers are read: a collected client ends its open calls.
    admin = AdminClient(client_config(kafka))
    yield admin
