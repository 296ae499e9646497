"""What a new leader makes of the copies that a majority of the homes shows."""

from __future__ import annotations

import cbor2
from hypothesis import given
from hypothesis import strategies as st

from dmqnode.dedup import WINDOW_MINUTES
from dmqnode.homesets import LeaseNumber
from dmqnode.ids import LogId, NodeId
from dmqnode.ranges import RangeSet
from dmqnode.records import State, decode_state, encode_log, encode_state
from dmqnode.repeats import read_producer
from dmqnode.smallrows import NO_STAMP, Rows, Shown, certain, decode_stamp, describe, encode_stamp, merge

LOG = LogId(b"node0001" + bytes(11) + b"1")
OTHER = LogId(b"node0001" + bytes(11) + b"2")
PRODUCER = b"u" + bytes(4) + b"p" + bytes(16)


def shown(stamp: int, ends: dict[LogId, int], rows: Rows | None = None) -> Shown:
    found: Rows = {b"l" + log: encode_log(1000, delayed=False) for log in ends}
    found[b"s"] = encode_state(State(ends=ends))
    found.update(rows or {})
    return Shown((LeaseNumber(1, NodeId(b"node0001")), stamp), describe(found), {})


def sends(runs: dict[int, list[tuple[LogId, int, int]]]) -> Rows:
    return {PRODUCER: cbor2.dumps([0, runs, RangeSet().encode(), {}])}


def test_the_farthest_end_of_a_log_counts() -> None:
    ahead, behind = shown(7, {LOG: 5}), shown(3, {LOG: 9})
    rows, gaps = merge([ahead, behind], ahead)
    assert decode_state(rows[b"s"]).ends == {LOG: 9}
    assert gaps == {LOG: RangeSet([(5, 9)])}


def test_what_the_copy_that_followed_furthest_does_not_know_is_dead_where_only_leaders_take_sends() -> None:
    ahead = shown(7, {LOG: 5}, sends({1: [(LOG, 4, 1)]}))
    behind = shown(3, {LOG: 9, OTHER: 2}, sends({1: [(LOG, 4, 1)], 2: [(LOG, 5, 4)]}))
    for mine in (ahead, behind):
        rows, gaps = merge([behind, ahead], mine, sealed=True)
        merged = describe(rows)
        assert merged.dead == {LOG: RangeSet([(5, 9)]), OTHER: RangeSet([(0, 2)])}
        assert merged.state.ends == {LOG: 9, OTHER: 2}
        assert gaps == {}
        # The same send, repeated, is a new one: what it brought the first time is dead.
        assert rows[PRODUCER] == ahead.described.rows[PRODUCER]


def test_a_copy_that_lost_its_state_seals_nothing() -> None:
    ahead, behind = shown(7, {LOG: 5}), shown(3, {LOG: 5})
    rows = {k: v for k, v in ahead.described.rows.items() if k != b"s"}
    damaged = Shown(ahead.stamp, describe(rows), {})
    merged, _ = merge([damaged, behind], behind, sealed=True)
    assert describe(merged).dead == {}


def test_of_two_places_of_one_send_that_one_copy_shows_none_is_judged_again() -> None:
    kept = {PRODUCER: cbor2.dumps([0, {1: [(LOG, 4, 1)]}, RangeSet().encode(), {1: [(OTHER, 0, 1)]}])}
    dead = {b"d" + LOG + bytes(4): RangeSet([(4, 5)]).encode()}
    copies = [shown(7, {LOG: 5, OTHER: 1}, {**kept, **dead}) for _ in range(2)]
    rows, _ = merge(copies, copies[0])
    assert describe(rows).dead == {LOG: RangeSet([(4, 5)])}


def test_a_repeated_send_is_recognised_in_a_log_whose_record_is_lost() -> None:
    ahead = shown(7, {LOG: 5, OTHER: 2}, sends({1: [(OTHER, 0, 2)]}))
    rows = shown(0, {LOG: 9}, sends({1: [(LOG, 7, 2)]})).described.rows
    damaged = Shown(NO_STAMP, describe({k: v for k, v in rows.items() if k[:1] != b"l"}), {})
    merged, gaps = merge([damaged, ahead], ahead)
    assert describe(merged).dead == {LOG: RangeSet([(7, 9)])}
    assert gaps == {LOG: RangeSet([(5, 7)])}


def test_who_repeats_a_send_finds_the_place_that_lives() -> None:
    ahead = shown(7, {OTHER: 1}, sends({1: [(OTHER, 0, 1)]}))
    behind = shown(3, {LOG: 5}, sends({1: [(LOG, 4, 1)], 2: [(LOG, 3, 1)]}))
    rows, _ = merge([ahead, behind], ahead)
    assert describe(rows).dead == {LOG: RangeSet([(4, 5)])}
    assert read_producer(rows[PRODUCER])[1] == {1: [(OTHER, 0, 1)], 2: [(LOG, 3, 1)]}


def test_what_others_lack_dies_where_it_repeats_what_they_have() -> None:
    elsewhere = sends({1: [(LOG, 5, 5)]})
    owed = {PRODUCER: cbor2.dumps([0, {}, RangeSet().encode(), {1: [(LOG, 5, 5)]}])}
    behind = shown(3, {LOG: 5}, sends({1: [(LOG, 0, 5)]}))
    for place, lacking, dies in (
        (elsewhere, RangeSet([(0, 5)]), True),
        (owed, RangeSet([(0, 5)]), True),
        (elsewhere, RangeSet([(0, 10)]), False),  # nobody may have the other any more
        (owed, RangeSet([(0, 10)]), False),
        (sends({1: [(LOG, 0, 5)]}), RangeSet([(0, 5)]), False),
        ({PRODUCER: cbor2.dumps([2, {}, RangeSet([(1, 2)]).encode(), {}])}, RangeSet([(0, 5)]), False),
    ):
        ahead = shown(7, {LOG: 10}, place)
        ahead.gaps[LOG] = lacking
        rows, _ = merge([ahead, behind], ahead)
        assert describe(rows).dead == ({LOG: RangeSet([(0, 5)])} if dies else {})


def test_what_is_in_both_places_of_a_send_lives() -> None:
    """Its first message was known under its dedup id."""
    ahead = shown(7, {LOG: 5, OTHER: 2}, sends({7: [(LOG, 2, 1), (OTHER, 0, 2)]}))
    ahead.gaps[LOG] = RangeSet([(2, 3)])
    third = LogId(b"node0001" + bytes(11) + b"3")
    behind = shown(3, {LOG: 5, third: 2}, sends({7: [(LOG, 2, 1), (third, 0, 2)]}))
    rows, _ = merge([ahead, behind], ahead)
    assert describe(rows).dead == {third: RangeSet([(0, 2)])}
    assert read_producer(rows[PRODUCER])[1] == {7: [(LOG, 2, 1), (OTHER, 0, 2)]}


def test_what_a_copy_behind_killed_for_what_it_knew_alone_lives() -> None:
    ahead = shown(7, {LOG: 5}, sends({1: [(LOG, 0, 2)]}))
    dead = {b"d" + LOG + bytes(4): RangeSet([(0, 3)]).encode()}
    behind = shown(3, {LOG: 5, OTHER: 2}, {**sends({1: [(OTHER, 0, 2)]}), **dead})
    for copies in ([ahead, behind], [behind, ahead]):
        rows, gaps = merge(copies, behind)
        assert describe(rows).dead == {LOG: RangeSet([(2, 3)]), OTHER: RangeSet([(0, 2)])}
        assert gaps == {LOG: RangeSet([(0, 2)])}, "who killed them has them no more"


@given(st.integers(0, 2**32), st.one_of(st.integers(0, 2**63 - 1), st.integers(0, 300)))
def test_a_stamp_is_cbor_however_far_it_is(n: int, seq: int) -> None:
    number = LeaseNumber(n, NodeId(b"node0001" * 2))
    assert encode_stamp((number, seq)) == cbor2.dumps([n, number.node, seq])
    assert decode_stamp(encode_stamp((number, seq))) == (number, seq)


def test_a_damaged_note_is_taken_of_another_copy_that_followed_as_far() -> None:
    note, other, old = b"n" + bytes(4), b"n" + bytes(3) + b"1", b"n" + bytes(3) + b"2"
    mine, whole = shown(7, {LOG: 5}, {other: b"B"}), shown(7, {LOG: 5}, {note: b"A", other: b"B"})
    behind = shown(6, {LOG: 5}, {note: b"A", old: b"C"})
    rows, _ = merge([behind, mine, whole], mine)
    assert {k: v for k, v in rows.items() if k[:1] == b"n"} == {note: b"A", other: b"B"}


def test_a_purge_counts_that_the_copy_which_followed_furthest_knows() -> None:
    def purged(stamp: int, at: int) -> Shown:
        return shown(stamp, {}, {b"s": encode_state(State(ends={LOG: 5}, purged_at=at))})

    damaged = Shown((LeaseNumber(2, NodeId(b"node0001")), 1), describe({}), {})
    for copies in ([purged(7, 1000), purged(3, 9000)], [purged(7, 1000), damaged, purged(3, 9000)]):
        rows, _ = merge(copies, copies[0])
        assert decode_state(rows[b"s"]).purged_at == 1000


def test_a_dedup_id_of_long_ago_does_not_kill_what_came_under_it_since() -> None:
    def named(minute: int, log: LogId, seq: int) -> Rows:
        key = b"u" + minute.to_bytes(4, "big") + b"n" + log + seq.to_bytes(8, "big")
        return {key: cbor2.dumps([["name", log, seq]])}

    ahead = shown(7, {OTHER: 1}, named(100, OTHER, 0))
    for minute, dead in ((100 + WINDOW_MINUTES, {LOG: RangeSet([(4, 5)])}), (101 + WINDOW_MINUTES, {})):
        rows, _ = merge([ahead, shown(3, {LOG: 5}, named(minute, LOG, 4))], ahead)
        assert describe(rows).dead == dead


def test_what_the_copy_that_followed_furthest_holds_is_not_dead_where_only_leaders_take_sends() -> None:
    """A leader that died before a majority knew its ends has ended nothing, and what it dropped it lacks."""
    killed = {b"d" + LOG + bytes(4): RangeSet([(1, 2), (4, 9)]).encode()}
    ahead, behind = shown(7, {LOG: 6}), shown(3, {LOG: 9}, killed)
    rows, gaps = merge([behind, ahead], behind, sealed=True)
    assert describe(rows).dead == {LOG: RangeSet([(6, 9)])}
    assert gaps == {LOG: RangeSet([(1, 2), (4, 6)])}
    lacking = Shown(ahead.stamp, ahead.described, {LOG: RangeSet([(0, 2)])})
    rows, gaps = merge([behind, lacking], behind, sealed=True)
    assert describe(rows).dead == {LOG: RangeSet([(1, 2), (6, 9)])}, "nobody may have it any more"
    rows, _ = merge([behind, ahead], behind)
    assert describe(rows).dead == {LOG: RangeSet([(1, 2), (4, 9)])}


def test_a_log_that_a_copy_behind_closed_is_open_where_only_leaders_take_sends() -> None:
    ahead = shown(7, {LOG: 5})
    behind = shown(3, {}, {b"l" + LOG: encode_log(1000, delayed=False, end=6)})
    rows, gaps = merge([behind, ahead], behind, sealed=True)
    assert describe(rows).closed == {}
    assert describe(rows).dead == {LOG: RangeSet([(5, 6)])}
    assert gaps == {LOG: RangeSet([(0, 5)])}


def test_copies_of_which_the_first_has_nothing_or_one_was_harmed_are_not_certain() -> None:
    ahead, behind = shown(7, {LOG: 5}), shown(3, {LOG: 5})
    empty = Shown(NO_STAMP, describe({}), {})
    assert certain([behind, ahead])
    assert certain([ahead, empty])
    assert not certain([empty, empty])
    assert not certain([ahead, Shown(NO_STAMP, behind.described, {})])


def test_of_dedup_ids_that_two_copies_wrote_under_one_key_none_is_forgotten() -> None:
    """A row has the key of its first; the leader that wrote it furthest knew of the first only."""
    key = b"u" + bytes(4) + b"n" + LOG + bytes(8)
    ahead = shown(7, {LOG: 2}, {key: cbor2.dumps([["x", LOG, 0], ["z", LOG, 1]])})
    behind = shown(
        3, {LOG: 1, OTHER: 2}, {key: cbor2.dumps([["x", LOG, 0], ["y", OTHER, 0], ["z", OTHER, 1]])}
    )
    rows, gaps = merge([behind, ahead], ahead)
    assert sorted(cbor2.loads(rows[key])) == [["x", LOG, 0], ["y", OTHER, 0], ["z", LOG, 1]]
    assert gaps == {OTHER: RangeSet([(0, 1)])}, "the second of it is a repetition"
