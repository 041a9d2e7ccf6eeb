"""The broker's temporary files lie in its own folder, and a killed broker leaves none for ever."""

from pathlib import Path

from confluent_kafka import Producer

from infra.kafka.admin import TopicSpec, ensure_topics
from infra.kafka.topic_reader import read_all
from infra.settings import KafkaSettings
from tests.support.servers import Broker, kafka_broker

CODECS = ("lz4", "snappy", "zstd")


def _mapped_libraries(broker: Broker) -> set[Path]:
    """The shared libraries of compression that the broker's process has open."""
    lines = Path(f"/proc/{broker.pid}/maps").read_text().splitlines()
    files = {Path(line.split(maxsplit=5)[5]) for line in lines if len(line.split()) >= 6}
    return {f for f in files if any(codec in f.name for codec in CODECS)}


def _recompress(kafka: KafkaSettings, name: str) -> None:
    """Have the broker itself pack records with every codec: its topics want another one."""
    for codec in CODECS:
        topic = f"{name}-{codec}"
        config = {"compression.type": codec}
        ensure_topics(kafka, [TopicSpec(name=topic, partitions=1, config=config)])
        producer = Producer({"bootstrap.servers": kafka.bootstrap_servers})
        for _ in range(10):
            producer.produce(topic, b"a value " * 1_000)
        assert producer.flush(60) == 0
        assert [m.value() for m in read_all(kafka, [topic])] == [b"a value " * 1_000] * 10


def test_libraries_are_unpacked_in_the_brokers_folder_and_do_not_pile_up(tmp_path: Path) -> None:
    temporary = tmp_path / "kafka" / "temporary"
    with kafka_broker(tmp_path) as broker:
        kafka = KafkaSettings(bootstrap_servers=broker.bootstrap_servers)
        counts = []
        for n in range(2):
            _recompress(kafka, f"round-{n}")
            libraries = _mapped_libraries(broker)
            assert libraries
            assert all(file.is_relative_to(temporary) for file in libraries), libraries
            counts.append(len(list(temporary.iterdir())))
            broker.kill()
            broker.start()
        assert counts[0] == counts[1]
        assert not list(temporary.iterdir())
