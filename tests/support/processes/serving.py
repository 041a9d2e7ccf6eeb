"""`eventide serve` as a process under the control of a test, and checks of its outcomes."""

import json
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec
from confluent_kafka import Producer

from features.bootstrap.stores import open_online
from features.catalog import domains
from features.catalog.flights import DOMAIN
from features.catalog.flights.events import REQUESTED
from features.contracts.codec import encode, encode_key, schema_headers
from features.contracts.predictions import Outcome
from features.contracts.topics import SERVING_DEAD_LETTERS, topic_specs
from infra.kafka.admin import ensure_topics
from infra.kafka.config import producer_config
from infra.kafka.message import Message
from infra.kafka.partitions import Partition
from infra.kafka.topic_reader import read_all
from infra.settings import KafkaSettings, Settings
from tests.support.data.messages import a_request
from tests.support.positions import ends_of, group_positions
from tests.support.processes.commands import EVENTIDE, environment
from tests.support.processes.service import ServiceProcess
from tests.support.servers import CLIENT_SESSIONS, MLFLOW_LOGIN_SETTINGS, free_port
from tests.support.waiting import wait_until

PREDICTIONS = DOMAIN.predictions_topic


@dataclass(frozen=True, kw_only=True)
class Site:
    """An installation: brokers with all topics, and a state folder with an online store."""

    kafka: KafkaSettings
    state: Path
    group: str = "eventide-serving"

    @property
    def bundle(self) -> Path:
        return self.bundle_of("")

    def bundle_of(self, project: str) -> Path:
        """The bundle folder of a project; the default project has an empty name."""
        return self.state / f"bundle{project}"


def prepare_site(kafka: KafkaSettings, state: Path) -> Site:
    """Make the topics and an empty online store."""
    ensure_topics(kafka, topic_specs(domains()))
    open_online(Settings(state_dir=state), readonly=False).close()
    return Site(kafka=kafka, state=state)


class ServingProcess(ServiceProcess):
    """One `eventide serve`. `watchdog_s` is short, so that tests of hangs are fast."""

    def __init__(
        self,
        site: Site,
        *,
        project: str = "",
        instance: str = "0",
        watchdog_s: float = 20.0,
        mlflow_url: str | None = None,
        max_batch: int = 100,
        max_wait_ms: int = 2_000,
    ) -> None:
        port = free_port()
        source = [] if mlflow_url else ["--bundle", str(site.bundle_of(project))]
        which = ["--project", project] if project else []
        short = {
            "EVENTIDE_KAFKA__CLIENT": json.dumps(CLIENT_SESSIONS),
            "EVENTIDE_MLFLOW_URL": mlflow_url or "http://127.0.0.1:9",
            **MLFLOW_LOGIN_SETTINGS,
            "EVENTIDE_SERVING__GROUP": site.group,
            "EVENTIDE_SERVING__INSTANCE": instance,
            "EVENTIDE_SERVING__MAX_BATCH": str(max_batch),
            "EVENTIDE_SERVING__MAX_WAIT_MS": str(max_wait_ms),
            "EVENTIDE_SERVING__POLL_CHAMPION_SECONDS": "0.3",
            "EVENTIDE_SERVING__WATCHDOG_SECONDS": str(watchdog_s),
        }
        super().__init__(
            [EVENTIDE, "serve", "--health-port", str(port), *which, *source],
            env=environment(site.state, site.kafka.bootstrap_servers, **short),
            port=port,
            log=site.state / f"serving-{project}{instance}.log",
        )

    def metric(self, sample: str) -> float:
        """The value of a sample of the metrics page, by its name with labels; 0.0 without one."""
        lines = (line.rsplit(" ", 1) for line in self.get("/metrics")[1].splitlines())
        return next((float(line[1]) for line in lines if line[0] == sample), 0.0)

    def ready(self) -> bool:
        """Whether the process reports that it answers requests."""
        assert self.ended is None, self.text()[-3000:]
        return self.get("/readyz")[0] == 200

    def why_not_ready(self) -> str:
        """The reason that /readyz gives."""
        body = self.get("/readyz")[1]
        return str(json.loads(body)["why"]) if body else ""


@contextmanager
def serving(site: Site, **options: object) -> Iterator[ServingProcess]:
    """A process that is ready; killed at the end, if it still runs."""
    process = ServingProcess(site, **options)  # type: ignore[arg-type]
    try:
        wait_until(process.ready, what="serving is ready", limit_s=60)
        yield process
    finally:
        if process.ended is None:
            process.kill()


def _require_delivery(error: object, message: object) -> None:
    assert error is None, error


class Feeder:
    """Sends requests, each with its own id, and optionally malformed ones between them."""

    def __init__(self, kafka: KafkaSettings, *, seed: int = 0) -> None:
        self.sent = 0
        self.poison = 0
        self.answered_ids: list[str] = []
        self._random = random.Random(seed)
        config = producer_config(kafka, transactional_id=None)
        # Load continues while a broker restarts: every request is delivered, however long it takes.
        self._producer = Producer({**config, "delivery.timeout.ms": 120_000})

    def send(self, count: int, *, poison_each: int = 0) -> None:
        """Send requests; each `poison_each`-th is malformed."""
        for n in range(1, count + 1):
            if poison_each and n % poison_each == 0:
                self.send_poison(b"noise %d" % n)
                continue
            request = a_request(
                f"r{len(self.answered_ids)}", flight_id=f"f{self._random.randrange(200)}"
            )
            self.answered_ids.append(request.event_id)
            self._send(encode(request), encode_key(REQUESTED, request), schema_headers(REQUESTED))

    def send_poison(
        self,
        value: bytes | None,
        *,
        key: bytes | None = b"flight-1",
        headers: Sequence[tuple[str, bytes | None]] = (("schema", REQUESTED.schema.encode()),),
    ) -> None:
        """Send a record that cannot be decoded."""
        self.poison += 1
        self._send(value, key, headers)

    def _send(
        self,
        value: bytes | None,
        key: bytes | None,
        headers: Sequence[tuple[str, bytes | None]],
    ) -> None:
        self.sent += 1
        self._producer.produce(
            REQUESTED.name, value, key, headers=list(headers), on_delivery=_require_delivery
        )
        self._producer.poll(0)

    def flush(self) -> None:
        """Wait until the brokers have everything."""
        assert self._producer.flush(120) == 0


def all_answered(site: Site) -> bool:
    """Whether the group has committed the end of the requests."""
    ends = ends_of(site.kafka, [Partition(REQUESTED.name, n) for n in range(REQUESTED.partitions)])
    positions = group_positions(site.kafka, site.group)
    return all(positions.get(p, 0) == end for p, end in ends.items())


def outcomes(site: Site, topic: str = PREDICTIONS) -> list[tuple[Message, Outcome]]:
    """Every committed outcome, as an application reads it."""
    decode = msgspec.json.Decoder(Outcome).decode
    return [(m, decode(m.value() or b"")) for m in read_all(site.kafka, [topic])]


def dead_letters(site: Site) -> list[Message]:
    """Every committed dead letter of serving."""
    return list(read_all(site.kafka, [SERVING_DEAD_LETTERS]))


def assert_each_answered_once(site: Site, feeder: Feeder) -> None:
    """Assert one outcome for each request, by its coordinates and by its event id, and one dead
    letter with the same coordinates for each rejection."""
    requests = {
        f"{m.topic()}-{m.partition()}-{m.offset()}" for m in read_all(site.kafka, [REQUESTED.name])
    }
    all_outcomes = [outcome for _, outcome in outcomes(site)]
    by_coordinates = Counter(o.source for o in all_outcomes)
    assert len(requests) == feeder.sent
    assert requests - set(by_coordinates) == set(), "requests without an outcome"
    assert set(by_coordinates) - requests == set(), "outcomes without a request"
    assert {s: n for s, n in by_coordinates.items() if n > 1} == {}, "requests answered twice"
    by_id = Counter(o.event_id for o in all_outcomes if o.event_id is not None)
    assert by_id == Counter(feeder.answered_ids)
    rejected = sorted(o.source for o in all_outcomes if o.outcome == "rejected")
    assert len(rejected) == feeder.poison
    assert rejected == sorted(map(coordinates_of_dead_letter, dead_letters(site)))


def coordinates_of_dead_letter(message: Message) -> str:
    """The coordinates of a dead letter's request: topic-partition-offset."""
    headers = {name: (value or b"").decode() for name, value in message.headers() or ()}
    return "-".join(headers[f"dlq.{part}"] for part in ("topic", "partition", "offset"))
