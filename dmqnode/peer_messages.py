"""What nodes say to each other: frozen, tagged, append-only, as in `messages`.

Loaded by nodes only.  Lease numbers travel as their `n`: the node is the sender, unless a field names it.
"""

from __future__ import annotations

from dmqnode.homesets import HomeSetFields
from dmqnode.ids import LogId, PartitionId
from dmqnode.messages import Blob, Message, Record

# --- leases (rules L1 to L6) and home sets (H1 to H5) ---------------------------------------------------


class Claim(Message, tag=64):
    """The sender wants lease `n` of a partition; `record` is the newest home set that it knows."""

    partition: PartitionId
    n: int
    nonce: int
    record: HomeSetFields


class Granted(Message, tag=65):
    """The sender grants the lease of the Claim with this nonce (L2), and shows its home set record (H2)."""

    partition: PartitionId
    n: int
    nonce: int
    record: HomeSetFields


class Denied(Message, tag=66):
    """The sender does not grant, or goes no longer along with, lease `n`.

    `highest` and `highest_node` are the highest lease number that it knows; `holder`, empty if there is
    none, is who holds the lease as far as it knows.
    """

    partition: PartitionId
    n: int
    nonce: int
    highest: int
    highest_node: bytes
    holder: bytes


class Renew(Message, tag=67):
    """Renews every lease that the receiver has granted to the sender (L3).

    `digest` is the sum of the hashes of the (partition, n) pairs; `pairs` are given only after the receiver
    said that it does not know a list of this hash.
    """

    nonce: int
    digest: bytes
    pairs: list[tuple[PartitionId, int]]


class Renewed(Message, tag=68):
    """Answers Renew: the leases are renewed, but for `refused`; with `unknown`, none is: send the pairs."""

    nonce: int
    unknown: bool
    refused: list[PartitionId]


class Release(Message, tag=69):
    """The sender gives lease `n` up; for a moment only `successor`, if given, is to have the next."""

    partition: PartitionId
    n: int
    successor: bytes


class Propose(Message, tag=70):
    """The leader asks to agree to a home set; who agrees also grants the running lease (H3).

    `mark` is where the leader's record had come to when it began to propose: who is not there yet, does not
    agree yet.
    """

    partition: PartitionId
    n: int
    record: HomeSetFields
    mark: int


class Agreed(Message, tag=71):
    """Answers Propose and Committed, once the record is on disk."""

    partition: PartitionId
    n: int
    record: HomeSetFields


class Committed(Message, tag=72):
    """A proposed home set is in force."""

    partition: PartitionId
    n: int
    record: HomeSetFields


# --- copies: how homes come to hold the same (rules L6, H3, C1 to C4) ------------------------------------


class Inspect(Message, tag=80):
    """The holder of lease `n` asks what the receiver's copy of a partition holds."""

    partition: PartitionId
    n: int


class Summary(Message, tag=81):
    """Answers Inspect.

    The copy followed lease (stamp_n, stamp_node) up to entry `stamp_seq`.  `gaps` is what it lacks of each
    log below its end; `rows` are its small records: logs, dead sets, notes, sent names, state.
    """

    partition: PartitionId
    n: int
    stamp_n: int
    stamp_node: bytes
    stamp_seq: int
    gaps: Blob
    rows: Blob


class Align(Message, tag=82):
    """The leader's small records as of entry `seq`: they replace the receiver's; what follows is shipped."""

    partition: PartitionId
    n: int
    seq: int
    rows: Blob


class Aligned(Message, tag=83):
    """Answers Align, once it is on disk; `gaps` is what the copy lacks of what lives."""

    partition: PartitionId
    n: int
    seq: int
    gaps: Blob


class Entry(Record):
    """What one write group changed in one partition: entry `seq` of lease `n`."""

    partition: PartitionId
    n: int
    seq: int
    ops: Blob


class Ship(Message, tag=84):
    """Entries of one write group, for every partition in which the sender leads and the receiver follows."""

    sync: bool
    entries: list[Entry]


class Shipped(Message, tag=85):
    """Answers Ship: (partition, n, seq) of the entries that are written, on disk if the Ship said sync."""

    entries: list[tuple[PartitionId, int, int]]
    sync: bool


class Unaligned(Message, tag=86):
    """The receiver of an entry does not follow this lease so far: begin again with Inspect."""

    partition: PartitionId
    n: int


class BatchRecord(Record):
    """One batch record as it lies on disk, under the seq of its first message."""

    first: int
    record: Blob


class Fetch(Message, tag=87):
    """The leader asks for batches of `log` from `low` on, below `high`."""

    partition: PartitionId
    n: int
    log: LogId
    low: int
    high: int


class Fill(Message, tag=88):
    """Batches of `log`: all that the sender holds of messages `low` … `high` - 1.

    Answers Fetch, and is what the leader sends to a copy with gaps.  `batches`: (first seq, record).
    """

    partition: PartitionId
    n: int
    log: LogId
    low: int
    high: int
    batches: list[BatchRecord]


class Filled(Message, tag=89):
    """Answers a leader's Fill, once it is on disk."""

    partition: PartitionId
    n: int
    log: LogId
    low: int
    high: int


class Dropped(Message, tag=90):
    """The receiver is no home of the partition any more, and its home set is complete without it (C1)."""

    partition: PartitionId
    n: int


class Compare(Message, tag=91):
    """Does the receiver have the leader's small records, as they are after entry `seq`?"""

    partition: PartitionId
    n: int
    seq: int


class Compared(Message, tag=92):
    """Answers Compare: a hash of the small records after entry `seq`."""

    partition: PartitionId
    n: int
    seq: int
    digest: bytes


class WhoLeads(Message, tag=93):
    """Asks who leads a partition, and whether a copy of it at the sender is needed (C1).

    `record` is the newest home set that the sender knows.
    """

    partition: PartitionId
    record: HomeSetFields


class LedBy(Message, tag=94):
    """Answers WhoLeads: who holds the lease as far as the sender knows; empty: nobody."""

    partition: PartitionId
    holder: bytes


class AnyHomes(Message, tag=110):
    """Asks whether the receiver knows of homes of a partition later than `record`, the latest that the sender
    knows, for too many of those are gone (M4); `version` is that of its list of members.  `silent`, if given,
    are the members that have not answered this question: all others have, and know of no later ones (M2)."""

    partition: PartitionId
    version: int
    record: HomeSetFields | None = None
    silent: list[bytes] | None = None


class HomesKnown(Message, tag=111):
    """Answers AnyHomes, if both have the same version of the list."""

    partition: PartitionId
    version: int
    known: bool


# --- requests that travel between nodes -----------------------------------------------------------------


class Forward(Message, tag=96):
    """A client's request, from its front end to the leader; `request` is its frame's payload.

    `n` numbers it between these two nodes, whatever its number between client and front end.
    """

    n: int
    user: str
    client: str
    request: Blob


class Answer(Message, tag=97):
    """Answers Forward; `answer` is the payload of the frame that the client would be sent."""

    n: int
    answer: Blob


class Withdraw(Message, tag=98):
    """The client has given up request `n`; it is still answered."""

    n: int


# --- debts: sends taken in while nobody leads (rules C1, C2) ---------------------------------------------


class Debt(Record):
    """One batch that was taken in for a partition which nobody led: messages `first` … of `log`."""

    log: LogId
    first: int
    producer: bytes
    sequence: int
    floor: int
    record: Blob


class Keep(Message, tag=100):
    """Asks to keep a copy of a debt until the partition's leader has it."""

    nonce: int
    partition: PartitionId
    debt: list[Debt]


class Kept(Message, tag=101):
    """Answers Keep, once the copy is on disk; or it is refused, for the disk is full."""

    nonce: int
    refused: bool = False


class Offer(Message, tag=102):
    """Hands debts to the leader; `owed`: per own log of the sender, its end and what it owes."""

    partition: PartitionId
    debts: list[Debt]
    owed: list[tuple[LogId, int, bytes]]


class Taken(Message, tag=103):
    """Answers Offer: these batches (log, first) are safe with the homes, and need not be kept."""

    partition: PartitionId
    taken: list[tuple[LogId, int]]


# --- the catalog: queue definitions on every node (rules T2, T3) ----------------------------------------


class CatalogDigest(Message, tag=104):
    """A hash over all definitions that the sender knows; who has another answers CatalogIndex."""

    digest: bytes


class CatalogIndex(Message, tag=105):
    """Every definition that the sender knows: (queue id, hash of its record)."""

    known: list[tuple[bytes, bytes]]


class CatalogWant(Message, tag=106):
    """Asks for definitions."""

    ids: list[bytes]


class CatalogRecords(Message, tag=107):
    """Definitions: (queue id, record).  With a nonce, answered by CatalogStored once they are on disk."""

    nonce: int
    records: list[tuple[bytes, bytes]]


class CatalogStored(Message, tag=108):
    """The definitions of CatalogRecords with this nonce are on disk."""

    nonce: int


class WhoKnows(Message, tag=109):
    """Does the receiver know a queue of this name?  Answered by CatalogRecords, empty if not."""

    nonce: int
    name: str
