"""What nodes say to each other survives the wire."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dmqnode import peer_messages
from dmqnode.homesets import HomeSet, LeaseNumber, read_home_set
from dmqnode.ids import NodeId, PartitionId
from dmqnode.messages import Message
from dmqnode.peer_messages import Agreed, Claim, Committed, Denied, Granted, Propose, Release, Renew, Renewed
from dmqnode.wire import FrameReader, decode, encode

INTEGERS = st.integers(0, 2**63 - 1)
IDS = st.binary(min_size=8, max_size=8).map(NodeId)
PARTITIONS = st.binary(min_size=10, max_size=10).map(PartitionId)
SETS = st.lists(IDS, min_size=1, max_size=5, unique=True).map(tuple)
RECORDS = st.builds(
    HomeSet, st.integers(1, 2**40), st.builds(LeaseNumber, INTEGERS, IDS), SETS, SETS, st.booleans()
)
FIELDS = RECORDS.map(HomeSet.fields)
MESSAGES: st.SearchStrategy[Message] = st.one_of(
    st.builds(Claim, PARTITIONS, INTEGERS, INTEGERS, FIELDS),
    st.builds(Granted, PARTITIONS, INTEGERS, INTEGERS, FIELDS),
    st.builds(Denied, PARTITIONS, INTEGERS, INTEGERS, INTEGERS, IDS, IDS | st.just(b"")),
    st.builds(Renew, INTEGERS, st.binary(max_size=16), st.lists(st.tuples(PARTITIONS, INTEGERS), max_size=5)),
    st.builds(Renewed, INTEGERS, st.booleans(), st.lists(PARTITIONS, max_size=5)),
    st.builds(Release, PARTITIONS, INTEGERS, IDS | st.just(b"")),
    st.builds(Propose, PARTITIONS, INTEGERS, FIELDS, INTEGERS),
    st.builds(Agreed, PARTITIONS, INTEGERS, FIELDS),
    st.builds(Committed, PARTITIONS, INTEGERS, FIELDS),
)


def carried(message: Message) -> Message:
    (payload,) = FrameReader().feed(b"".join(encode(7, message)))
    number, decoded = decode(payload)
    assert number == 7
    return decoded


@given(MESSAGES)
def test_a_message_of_leases_survives_the_wire(message: Message) -> None:
    decoded = carried(message)
    assert type(decoded) is type(message)
    for sent, came in zip(message.values(), decoded.values()):
        assert plain(came) == plain(sent)


@given(RECORDS)
def test_a_home_set_survives_the_wire(record: HomeSet) -> None:
    decoded = carried(Propose(PartitionId(bytes(10)), 3, record.fields(), 9))
    assert isinstance(decoded, Propose)
    assert read_home_set(decoded.record) == record


def plain(value: object) -> object:
    """Tuples and lists are one on the wire."""
    return [plain(v) for v in value] if isinstance(value, (tuple, list)) else value


def test_every_message_between_nodes_has_its_own_range_of_tags() -> None:
    tags = [
        cls.TAG
        for cls in vars(peer_messages).values()
        if isinstance(cls, type) and issubclass(cls, Message) and cls is not Message
    ]
    assert len(tags) == len(set(tags))
    assert min(tags) >= 64
