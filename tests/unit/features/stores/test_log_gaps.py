"""Which positions are lost, and where each sink goes on after a gap."""

from hypothesis import given
from hypothesis import strategies as st

from features.stores.group_positions import group_positions_of
from features.stores.log_gaps import (
    DEAD_LETTERS,
    EXPIRED,
    OFFLINE,
    ONLINE,
    REPLACED,
    SERVING,
    TRUNCATED,
    UNKNOWN,
    Gap,
    SinkPosition,
    current_origin,
    find_gaps,
    newest_noted,
)
from infra.kafka.logs import CommittedPosition, Log, LogOrigin
from infra.kafka.partitions import Partition
from infra.kafka.written import Written
from tests.support.examples import examples

P = Partition("t", 0)
OLD, NEW = LogOrigin(topic_id="old"), LogOrigin(topic_id="new")


def at(sink: str, position: int | None, origin: LogOrigin | None = OLD) -> SinkPosition:
    return SinkPosition(sink=sink, position=position, origin=origin)


def gap(log: Log, *sinks: SinkPosition) -> Gap | None:
    gaps = find_gaps({P: log}, {P: sinks}, {})
    return gaps[0] if gaps else None


def test_positions_inside_the_same_log_are_no_gap() -> None:
    for position in (3, 5, 9):
        assert gap(Log("old", 3, 9), at(ONLINE, position), at(OFFLINE, 3, None)) is None
    assert gap(Log("old", 3, 9)) is None


def test_each_sink_is_checked_not_only_the_one_that_is_behind() -> None:
    ahead = gap(Log("old", 0, 9), at(OFFLINE, 5), at(ONLINE, 12))
    assert ahead is not None
    assert ahead.kinds == {ONLINE: TRUNCATED}
    behind = gap(Log("old", 6, 20), at(OFFLINE, 5), at(ONLINE, 12))
    assert behind is not None
    assert behind.kinds == {OFFLINE: EXPIRED}
    assert "position 5 of offline" in str(behind)


def test_another_topic_id_is_a_gap_although_the_position_lies_in_the_log() -> None:
    replaced = gap(Log("new", 0, 900), at(OFFLINE, 500), at(ONLINE, 510))
    assert replaced is not None
    assert replaced.kinds == {OFFLINE: REPLACED, ONLINE: REPLACED}
    origin, accepted = replaced.accepted(by="me", reason="why")
    assert origin == LogOrigin(topic_id="new", base=510)
    assert accepted.resume == {OFFLINE: 510, ONLINE: 510}  # the first record of the new log
    assert accepted.positions == {OFFLINE: 500, ONLINE: 510}


def test_a_log_that_lost_its_end_goes_on_at_its_end_and_no_place_means_two_records() -> None:
    truncated = gap(Log("old", 0, 400), at(OFFLINE, 350), at(ONLINE, 500))
    assert truncated is not None
    origin, accepted = truncated.accepted(by="me", reason="why")
    assert origin == LogOrigin(topic_id="old", base=100)
    assert accepted.resume == {OFFLINE: 450, ONLINE: 500}  # offsets 350 and 400


def test_a_sink_that_does_not_know_where_it_stood_goes_on_at_the_end() -> None:
    unknown = gap(Log("old", 0, 40), at(SERVING, None))
    assert unknown is not None
    assert unknown.kinds == {SERVING: UNKNOWN}
    assert unknown.accepted(by="me", reason="why")[1].resume == {SERVING: 40}


positions = st.integers(0, 1_000)
origins = st.sampled_from(
    [None, OLD, NEW, LogOrigin(topic_id="old", base=30), LogOrigin(topic_id="new", base=60)]
)


@examples(300)
@given(
    st.builds(Log, st.sampled_from(["old", "new"]), st.integers(0, 300), st.integers(300, 900)),
    st.dictionaries(
        st.sampled_from([ONLINE, OFFLINE, DEAD_LETTERS]), st.tuples(positions, origins), min_size=1
    ),
)
def test_after_a_gap_is_accepted_there_is_none_and_no_position_went_back(
    log: Log, sinks: dict[str, tuple[int, LogOrigin | None]]
) -> None:
    the_gap = gap(log, *(at(sink, *where) for sink, where in sinks.items()))
    if the_gap is None:
        return
    origin, accepted = the_gap.accepted(by="me", reason="why")
    assert all(accepted.resume[s] >= position for s, (position, _) in sinks.items())
    assert gap(log, *(at(s, position, origin) for s, position in accepted.resume.items())) is None
    assert current_origin(log, [], origin) == origin


def test_a_mark_says_from_which_log_a_committed_position_is() -> None:
    for origin in (OLD, LogOrigin(topic_id="uHh+2/SNR==", base=7)):
        assert LogOrigin.of_mark(origin.mark) == origin
    for foreign in ("", "id:", "id:x", ":3"):
        assert LogOrigin.of_mark(foreign) in (None, LogOrigin(topic_id="id"))


def group(
    commit: CommittedPosition | None,
    written: Written,
    *,
    log: Log | None = None,
    sparse: bool = False,
) -> SinkPosition | None:
    positions = group_positions_of(
        SERVING,
        {P: log or Log("old", 0, 100)},
        {} if commit is None else {P: commit},
        {P: OLD},
        written=lambda _: written,
        sparse=sparse,
    )
    return positions.get(P)


def test_a_group_without_positions_continues_after_what_it_wrote() -> None:
    assert group(None, Written({P: 41}, True)) == at(SERVING, 41)
    assert group(None, Written({}, True)) is None  # it never wrote anything: the first record
    assert group(None, Written({}, False)) == at(SERVING, None, None)  # its output was deleted


def test_a_position_that_an_operator_set_back_is_not_believed() -> None:
    assert group(CommittedPosition(0, ""), Written({P: 41}, True)) == at(SERVING, 41)
    assert group(CommittedPosition(60, ""), Written({P: 41}, True)) == at(SERVING, 60)


def test_a_position_with_our_mark_is_believed_without_a_look_at_the_output() -> None:
    unread = Written({P: 99}, True)
    assert group(CommittedPosition(30, "old"), unread) == at(SERVING, 30)
    assert group(CommittedPosition(30, "new"), unread) == at(SERVING, 30, NEW)


def test_dead_letters_name_few_records_so_an_older_one_is_no_gap() -> None:
    written = Written({P: 11}, True)
    log = Log("old", 50, 100)
    assert group(None, written, log=log, sparse=True) == at(SERVING, 50)
    assert group(None, written, log=log) == at(SERVING, 11)


def test_positions_without_a_mark_are_from_the_log_that_the_stores_have_noted() -> None:
    replaced = group(None, Written({P: 41}, True), log=Log("new", 0, 100))
    assert replaced == at(SERVING, 41)
    gaps = find_gaps({P: Log("new", 0, 100)}, {P: [at(SERVING, 41)]}, {P: OLD})
    assert gaps[0].kinds == {SERVING: REPLACED}
    origin, _ = gaps[0].accepted(by="me", reason="why", noted=OLD)
    assert origin == LogOrigin(topic_id="new", base=41)
    assert newest_noted({P: OLD}, {P: origin}) == newest_noted({P: origin}, {P: OLD}) == {P: origin}
