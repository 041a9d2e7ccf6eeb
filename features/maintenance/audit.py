"""The audit compares the records in Kafka with the stores and the output topics.

It may run while all processes run, because it reads in this order: first the positions that ingest
and serving have committed, then the topics, then the stores. Every record below a committed
position has to be in a store or an output topic by then.
"""

from array import array
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Self

import msgspec
import numpy as np

from features.contracts.dead_letters import source_of_dead_letter
from features.contracts.predictions import Outcome
from features.definitions import Domain, EventType, Int64Array
from features.maintenance.accounting import (
    RequestAccount,
    TopicAccount,
    account_requests,
    account_topic,
    place,
    places,
)
from features.stores.log_gaps import Gap
from features.stores.ports import LogEntry, OfflineStore, OnlineStore
from infra.kafka.message import Message
from infra.kafka.partitions import Partition, Positions
from infra.process.progress import StatusCallback

Reader = Callable[[Iterable[str]], Iterable[Message]]


@dataclass(frozen=True, kw_only=True)
class OnlineAccount:
    """The state of the online store.

    `waiting` records are not applied yet. `values_checked` features were compared with the
    historical ones, and `values_different` were not equal. Nothing is compared while records wait
    or the stores change: the two sides would be of different moments.
    """

    waiting: int
    values_checked: int
    values_different: int


@dataclass(frozen=True, kw_only=True)
class Audit:
    """The result of an audit."""

    topics: Sequence[TopicAccount]
    requests: Sequence[RequestAccount]
    online: OnlineAccount
    gaps: Sequence[Gap] = ()
    accepted: Sequence[LogEntry] = ()

    @property
    def clean(self) -> bool:
        """Whether no record is missing or doubled, no request lacks its outcome or has two, no
        online value differs from history, and the brokers still have what a sink reads next. A loss
        that was accepted counts no more."""
        return not (
            self.gaps
            or any(t.missing or t.doubled for t in self.topics)
            or any(r.unanswered or r.answered_twice for r in self.requests)
            or self.online.values_different
        )

    @property
    def settled(self) -> bool:
        """Whether no record is waiting."""
        waiting = [*(t.waiting for t in self.topics), *(r.waiting for r in self.requests)]
        return not (any(waiting) or self.online.waiting)


@dataclass(frozen=True, kw_only=True)
class Claims:
    """The positions that ingest and serving had committed before anything else was read."""

    ingested: Positions
    served: Positions

    @classmethod
    def of(cls, ingested: Positions, served: Positions) -> Self:
        """The claims of both groups; a partition that was never committed claims nothing."""
        return cls(ingested=_committed(ingested), served=_committed(served))


@dataclass(frozen=True, kw_only=True)
class DeadLetterTopics:
    """The topics of dead letters, by consumer."""

    ingest: str
    serving: str


@dataclass(frozen=True, kw_only=True)
class _Sent:
    """The records of one topic: their places, and hashes of the ids that can be read."""

    places: Int64Array
    ids: Int64Array


def audit(
    domains: Sequence[Domain],
    *,
    claims: Claims,
    read: Reader,
    offline: OfflineStore,
    online: OnlineStore,
    dead_letters: DeadLetterTopics,
    gaps: Sequence[Gap] = (),
    accepted: Sequence[LogEntry] = (),
    compare_online: Callable[[Domain], tuple[int, int]],
    on_progress: StatusCallback,
) -> Audit:
    """Audit all domains. `compare_online` returns (values checked, different) of a domain.

    All positions, those of records among them, are stored ones. `gaps` are lost, and nobody has
    accepted it; `accepted` were lost before.
    """
    events = [event for domain in domains for event in domain.events]
    on_progress("reading the topics of events")
    sent = _read_events(read, events)
    on_progress("reading the dead letters")
    dead = _read_dead_letters(read, dead_letters.ingest)
    on_progress("reading the offline store")
    topics = [
        account_topic(
            event.name,
            sent=sent[event.name].places,
            stored=_known(_stored(offline, event), sent[event.name].places),
            dead=_known(dead.get(event.name, _EMPTY), sent[event.name].places),
            positions=_of_topic(claims.ingested, event.name),
            event_ids=sent[event.name].ids,
        )
        for event in events
    ]
    on_progress("reading the outcomes")
    requests = [r for d in domains for r in _account_requests(d, read, sent, claims.served)]
    on_progress("comparing the online store with history")
    return Audit(
        topics=topics,
        requests=requests,
        online=_account_online(domains, online, sent, compare_online),
        gaps=gaps,
        accepted=accepted,
    )


class _Id(msgspec.Struct):
    """The only field of an event that the audit reads."""

    event_id: str


_EMPTY: Int64Array = np.empty(0, np.int64)


def _read_events(read: Reader, events: Sequence[EventType]) -> dict[str, _Sent]:
    records = {event.name: (array("q"), array("q")) for event in events}
    decode = msgspec.json.Decoder(_Id).decode
    for message in read(records):
        where, ids = records[message.topic()]
        where.append(place(message.partition(), message.offset()))
        try:
            ids.append(hash(decode(message.value() or b"").event_id))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            continue  # a dead letter, if ingest agrees: it has no id to count
    return {
        topic: _Sent(places=np.array(where, np.int64), ids=np.array(ids, np.int64))
        for topic, (where, ids) in records.items()
    }


def _read_dead_letters(read: Reader, topic: str) -> dict[str, Int64Array]:
    """The places of the dead-lettered records, by the topic that they came from."""
    places_by_topic: dict[str, array[int]] = {}
    for message in read([topic]):
        source = source_of_dead_letter(message)
        if source is not None:
            (origin, number), offset = source
            places_by_topic.setdefault(origin, array("q")).append(place(number, offset))
    return {origin: np.array(where, np.int64) for origin, where in places_by_topic.items()}


def _stored(offline: OfflineStore, event: EventType) -> Int64Array:
    if offline.version(event) is None:
        return _EMPTY
    rows = offline.read(event, columns=("partition", "offset"))
    return places(rows["partition"].to_numpy(), rows["offset"].to_numpy())


def _known(stored: Int64Array, sent: Int64Array) -> Int64Array:
    """The places that the audit has read from the topic; later ones may have been stored since."""
    return stored[np.isin(stored, sent)]


def _account_requests(
    domain: Domain, read: Reader, sent: dict[str, _Sent], served: Positions
) -> list[RequestAccount]:
    topics = list(dict.fromkeys(s.decision.request.name for s in domain.services))
    outcomes = _read_outcomes(read, domain.predictions_topic, topics)
    return [
        account_requests(
            topic,
            asked=sent[topic].places,
            predicted=_known(outcomes[topic]["predicted"], sent[topic].places),
            rejected=_known(outcomes[topic]["rejected"], sent[topic].places),
            stale=len(_known(outcomes[topic]["stale"], sent[topic].places)),
            positions=_of_topic(served, topic),
        )
        for topic in topics
    ]


def _read_outcomes(
    read: Reader, predictions: str, topics: Sequence[str]
) -> dict[str, dict[str, Int64Array]]:
    kinds = ("predicted", "rejected", "stale")
    outcomes = {topic: {kind: array("q") for kind in kinds} for topic in topics}
    decode = msgspec.json.Decoder(Outcome).decode
    for message in read([predictions]):
        outcome = decode(message.value() or b"")
        topic, partition, offset = outcome.source.rsplit("-", 2)
        where = place(int(partition), int(offset))
        outcomes[topic][outcome.outcome].append(where)
        if outcome.features_fresh is False:
            outcomes[topic]["stale"].append(where)
    return {
        topic: {kind: np.array(where, np.int64) for kind, where in of_topic.items()}
        for topic, of_topic in outcomes.items()
    }


def _account_online(
    domains: Sequence[Domain],
    online: OnlineStore,
    sent: dict[str, _Sent],
    compare: Callable[[Domain], tuple[int, int]],
) -> OnlineAccount:
    positions = online.positions()
    viewed = {e.name for domain in domains for view in domain.views for e in view.sources}
    waiting = sum(_waiting(sent[topic].places, _of_topic(positions, topic)) for topic in viewed)
    compared = [(0, 0)] if waiting else [compare(domain) for domain in domains]
    return OnlineAccount(
        waiting=waiting,
        values_checked=sum(checked for checked, _ in compared),
        values_different=sum(different for _, different in compared),
    )


def _waiting(sent: Int64Array, positions: dict[int, int]) -> int:
    account = account_requests(
        "", asked=sent, predicted=_EMPTY, rejected=_EMPTY, positions=positions
    )
    return account.waiting


def _of_topic(positions: Positions, topic: str) -> dict[int, int]:
    return {p.number: offset for p, offset in positions.items() if p.topic == topic}


def _committed(positions: Positions) -> dict[Partition, int]:
    return {p: offset for p, offset in positions.items() if offset >= 0}
