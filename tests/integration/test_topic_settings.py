"""A topic that may delete, merge or refuse an event is refused, with the remedy."""

import pytest
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # its re-exports are implicit
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
)

from features.catalog import domains
from features.contracts.topics import CLOCK, topic_specs
from infra.kafka.admin import (
    TopicSpec,
    check_topics,
    ensure_topics,
    forgets_groups_after_minutes,
)
from infra.kafka.errors import KafkaFailed
from infra.settings import KafkaSettings

HARMFUL = {
    "cleanup.policy": "compact",
    "retention.ms": "604800000",
    "retention.bytes": "1000000",
    "message.timestamp.type": "LogAppendTime",
    "message.timestamp.before.max.ms": "3600000",
    "unclean.leader.election.enable": "true",
    "max.message.bytes": "1000",
}


@pytest.fixture(scope="module")
def spec(kafka: KafkaSettings) -> TopicSpec:
    declared = topic_specs(domains())[0]
    spec = TopicSpec(
        name="settings-of-a-topic",
        partitions=1,
        config=declared.config,
        least=declared.least,
    )
    assert ensure_topics(kafka, [spec]) == [spec.name]
    return spec


@pytest.mark.parametrize(("name", "value"), HARMFUL.items())
def test_a_setting_that_may_lose_events_is_refused(
    kafka: KafkaSettings, spec: TopicSpec, name: str, value: str
) -> None:
    check_topics(kafka, [spec])
    _alter(kafka, spec, name, value)
    try:
        for check in (check_topics, ensure_topics):
            with pytest.raises(KafkaFailed, match=name) as caught:
                check(kafka, [spec])
            assert f"--entity-name {spec.name} --add-config {name}=" in (caught.value.hint or "")
    finally:
        _alter(kafka, spec, name, None)
    check_topics(kafka, [spec])


def test_every_declared_topic_is_refused_with_each_of_them(kafka: KafkaSettings) -> None:
    for spec in topic_specs(domains()):
        if spec.name == CLOCK:  # its records are read at once, by the one who sent them
            continue
        checked = {*spec.config, *spec.least}
        compacted = spec.config["cleanup.policy"] == "compact"
        expected = set(HARMFUL) - ({"retention.ms", "retention.bytes", "max.message.bytes"})
        assert checked >= (expected if compacted else set(HARMFUL))


def test_a_missing_topic_is_named(kafka: KafkaSettings) -> None:
    with pytest.raises(KafkaFailed, match="no-such-topic"):
        check_topics(kafka, [TopicSpec(name="no-such-topic", partitions=1)])


def test_our_broker_remembers_groups_without_members_for_years(kafka: KafkaSettings) -> None:
    assert (forgets_groups_after_minutes(kafka) or 0) > 365 * 24 * 60


def _alter(kafka: KafkaSettings, spec: TopicSpec, name: str, value: str | None) -> None:
    """Set a setting, or set it back to what the specification says."""
    declared = spec.config.get(name) or str(spec.least.get(name, ""))
    entry = ConfigEntry(name, value or declared, incremental_operation=AlterConfigOpType.SET)
    resource = ConfigResource(ConfigResource.Type.TOPIC, spec.name, incremental_configs=[entry])
    admin = AdminClient({"bootstrap.servers": kafka.bootstrap_servers})
    for future in admin.incremental_alter_configs([resource]).values():
        future.result(30)
