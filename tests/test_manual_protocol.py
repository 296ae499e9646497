"""`dmq-protocol(7)` and `dmq-internals(7)` say what the code does: tags, fields, codes, bounds, rules."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, get_args, get_origin, get_type_hints

import pytest

from dmqnode import (
    acquaintances,
    batch,
    broker,
    candidates,
    catalog,
    cluster,
    connection,
    copies,
    copying,
    debts,
    dedup,
    deliveries,
    doors,
    duetimes,
    errors,
    frontend,
    grants,
    greetings,
    homesets,
    hybridclock,
    ids,
    leaders,
    lease_states,
    leases,
    mender,
    messages,
    news,
    overview,
    partition,
    peer_messages,
    peerlink,
    peers,
    queue,
    queues,
    reports,
    roster,
    route,
    routes,
    sends,
    session,
    standing,
    streams,
    upkeep,
    wire,
)
from dmqnode.counters import Counters
from dmqnode.messages import Blob, Message, Record
from tests.mdoc import MAN, Section, page, values

ROOT = MAN.parent
PROTOCOL = page("dmq-protocol.7")
INTERNALS = page("dmq-internals.7")
FIRST_OF_PEERS = 64
"""Messages with lower tags are for clients, the others for nodes among themselves."""


def own_messages(module: Any) -> dict[str, type[Message]]:
    """Return the messages that a module defines, in the order of their tags."""
    own = [c for c in vars(module).values() if isinstance(c, type) and c.__module__ == module.__name__]
    return {c.__name__: c for c in sorted((c for c in own if getattr(c, "TAG", 0)), key=lambda c: c.TAG)}


MESSAGES = own_messages(messages)
PEERS = {**own_messages(peer_messages), **own_messages(greetings)}
RECORDS = {
    "Part": ("FRAMES", messages.Part),
    "Entry": ("PEERS", peer_messages.Entry),
    "BatchRecord": ("PEERS", peer_messages.BatchRecord),
    "Debt": ("PEERS", peer_messages.Debt),
}
PLAIN = {
    int: "integer",
    float: "number",
    str: "text",
    bytes: "bytes",
    bool: "boolean",
    Blob: "blob",
    ids.LogId: "log id",
    ids.PartitionId: "partition id",
}
DEFAULTS = {"None": "null", "''": "empty", "False": "false", "'no'": "no", "0": "0", "b''": "empty"}

# --- messages --------------------------------------------------------------------------------------------


def type_text(hint: Any) -> str:
    """Return how the page calls a type."""
    origin, args = get_origin(hint), get_args(hint)
    if hint == messages.Held:
        return "Held"
    if hint == homesets.HomeSetFields:
        return "home set"
    if origin is UnionType:
        (inner,) = (a for a in args if a is not NoneType)
        return f"{type_text(inner)} or null"
    if origin is list:
        return f"array of {type_text(args[0])}"
    if origin is tuple:
        return f"[{', '.join(map(type_text, args))}]"
    if origin is dict:
        return "map"
    return PLAIN[hint] if hint in PLAIN else str(hint.__name__)


def fields_of(cls: type[Record]) -> list[str]:
    """Return the fields of a class as the page lists them."""
    hints = get_type_hints(cls)
    required = len(cls.FIELDS) - len(cls.DEFAULTS)
    out = []
    for n, name in enumerate(cls.FIELDS):
        default = f", default {DEFAULTS[repr(cls.DEFAULTS[n - required])]}" if n >= required else ""
        out.append(f"Va {name} Pq {type_text(hints[name])}{default}")
    return out


def described_messages(title: str = "MESSAGES") -> dict[str, Section]:
    return {s.sub: s for s in PROTOCOL.section(title) if s.sub}


def test_every_message_is_described_and_no_other() -> None:
    assert list(described_messages()) == sorted(MESSAGES, key=lambda name: MESSAGES[name].TAG)


def test_every_message_of_peers_is_described_and_no_other() -> None:
    assert list(described_messages("MESSAGES OF PEERS")) == sorted(PEERS, key=lambda name: PEERS[name].TAG)


def test_messages_are_those_of_clients_and_those_of_peers() -> None:
    """None is defined elsewhere, or carries a tag of the other kind."""
    defined = {c.__name__ for c in Message.__subclasses__() if c.__module__.startswith("dmqnode.")}
    assert defined == {*MESSAGES, *PEERS}
    assert max(c.TAG for c in MESSAGES.values()) < FIRST_OF_PEERS <= min(c.TAG for c in PEERS.values())


@pytest.mark.parametrize("name", [*MESSAGES, *PEERS])
def test_messages_have_the_tag_and_the_fields_that_are_described(name: str) -> None:
    cls = MESSAGES.get(name) or PEERS[name]
    section = described_messages("MESSAGES" if name in MESSAGES else "MESSAGES OF PEERS")[name]
    assert section.lines[0].startswith(f"Tag {cls.TAG}."), section.lines[0]
    assert section.items == fields_of(cls)


@pytest.mark.parametrize("name", RECORDS)
def test_parts_of_messages_have_the_fields_that_are_described(name: str) -> None:
    title, cls = RECORDS[name]
    (section,) = (s for s in PROTOCOL.section(title) if s.sub == name)
    assert section.items == fields_of(cls)


def test_what_messages_of_peers_are_answered_by_exists() -> None:
    for name, section in described_messages("MESSAGES OF PEERS").items():
        for answer in re.findall(r"nswered by Sx (\w+)", section.text):
            assert answer in PEERS, f"{name} is answered by {answer}"


@pytest.mark.parametrize("name", MESSAGES)
def test_requests_say_how_they_are_answered(name: str) -> None:
    cls: type[Message] = MESSAGES[name]
    text = described_messages()[name].text
    assert ("Answered by" in text) == (cls in connection.REQUESTS)
    if cls in connection.REQUESTS:
        answer = re.search(r"Answered by Sx (\w+)", text)
        assert answer is not None
        assert MESSAGES[answer[1]] in connection.ANSWERS


def test_every_error_code_is_described_and_no_other() -> None:
    (section,) = PROTOCOL.section("ERROR CODES")
    described = [code for item in section.items for code in values(item, "Sy")]
    assert sorted(described) == sorted([*errors._CLASSES, errors.ProtocolError.code])


def test_the_examples_of_identifiers_are_right() -> None:
    (section,) = PROTOCOL.section("IDENTIFIERS")
    (example,) = re.findall(r"^[a-z2-7]{32}-\d+$", "\n".join(section.lines), re.MULTILINE)
    log, seq = ids.parse_message_id(example)
    assert ids.message_id(log, seq) == example
    receipt = ids.Receipt(ids.PartitionId(bytes(10)), 1, log, seq)
    assert len(str(receipt)) == 62


# --- batches, queues, reports ----------------------------------------------------------------------------


def test_every_column_of_a_batch_is_described() -> None:
    (section,) = PROTOCOL.section("BATCHES")
    assert [c for item in section.items for c in values(item, "Sy")] == list(batch._COLUMNS)


def test_every_setting_of_a_queue_is_described_first() -> None:
    (section,) = PROTOCOL.section("QUEUES")
    described = [name for item in section.items for name in values(item, "Va")]
    assert described[: len(queues.SETTING_NAMES)] == list(queues.SETTING_NAMES)


def literal_keys(module: Any) -> set[str]:
    """Return the keys of all dicts that a module writes out."""
    tree = ast.parse(Path(module.__file__).read_text())
    keys = {
        k.value
        for n in ast.walk(tree)
        if isinstance(n, ast.Dict)
        for k in n.keys
        if isinstance(k, ast.Constant)
    }
    return {k for k in keys if isinstance(k, str)}


def test_every_field_of_a_report_is_described_and_no_other() -> None:
    described = set()
    for title in ("QUEUES", "REPORT FIELDS"):
        for section in PROTOCOL.section(title):
            described |= set(re.findall(r"(?:^\.|^\.It |, )Va (\w+)", "\n".join(section.lines), re.MULTILINE))
    known = (
        literal_keys(reports)
        | literal_keys(overview)
        | literal_keys(standing)
        | set(Counters.__slots__)
        | {*queues.SETTING_NAMES, "id", "owner", "created_at", "first_partitions"}
    )
    assert sorted(described - {"user"}) == sorted(known)


# --- bounds ----------------------------------------------------------------------------------------------

MIB = 1 << 20
BOUNDS = {
    "dmq-protocol.7": [
        *(batch.MAX_MESSAGES, batch.MAX_ATTRIBUTES, batch.MAX_ATTRIBUTES_SIZE, batch.MAX_NAME),
        *(connection.INITIAL_CREDIT, connection.LEAST_COST, connection.HELLO_TIMEOUT),
        *(queues.MAX_VISIBILITY, queues.MAX_PARTITIONS, queues.MAX_BODY, queues.MAX_QUEUE_NAME),
        *(
            deliveries.MAX_WAIT,
            deliveries.MAX_REASON,
            reports.MAX_LIST,
            reports.MAX_BROWSE,
            reports.MAX_HOLDERS,
        ),
        *(
            dedup.MAX_NAMES,
            dedup.MAX_PRODUCERS,
            dedup.MAX_UNSETTLED,
            sends.MAX_PRODUCER,
            partition.MAX_IN_FLIGHT,
            queue.MAX_WAITERS,
        ),
        f"{news.TELL_AGAIN:g} seconds",
        *(copies.MAX_WAITING, peerlink.GREETING, f"{peerlink.PEER_FRAME // MIB} MiB"),
        *(f"{peerlink.SILENCE:g} seconds", f"{acquaintances.PATIENCE[acquaintances.TWICE]:g} seconds"),
        *(f"{doors.STALE:g} seconds", f"{peers.OUTBOX_LIMIT // MIB} MiB"),
        *(
            f"{wire.MAX_FRAME // MIB} MiB",
            f"{queues.MAX_DELAY / 86400:g} days",
            f"{queues.MAX_BODY // MIB} MiB",
        ),
    ],
    "dmq-guarantees.7": [frontend.STAND_IN_AFTER],
    "dmq-internals.7": [
        *(f"{sends.MAX_UNSTORED // MIB} MiB", f"{session.OUTBOX_LIMIT // MIB} MiB"),
        *(grants.LEASE, lease_states.HELD, leases.RENEW_EVERY, *leases.BACK_OFF, homesets.MAX_HOMES),
        *(cluster.DRAIN_TIMEOUT, candidates.SETTLED),
        *(news.MOST_TOLD, routes.MOST_DIRECT, f"{routes.STAY:g} seconds", leaders.LONGEST_PAUSE),
        *(f"{route.IDLE:g} seconds", f"{route.PROMPT:g} second", f"{route.PATIENT:g} seconds"),
        *(f"{streams.FALL_BEHIND // MIB} MiB", f"{peers.OUTBOX_LIMIT // MIB} MiB"),
        *(f"{copying.FILL_BYTES >> 10} KiB", f"{debts.OFFER_BYTES >> 10} KiB", debts.OFFER_BATCHES),
        *(f"{frontend.PATIENCE:g} seconds", f"{frontend.STAND_IN_AFTER:g} seconds", debts.MAX_DEBTS),
        *(f"{frontend.RETRY * 1000:g} ms", frontend.MAX_PARKED, mender.LOOK_AT, mender.CLAIM_AT_ONCE),
        f"{mender.CALM_PAUSE:g} seconds",
        *(f"{catalog.COMPARE_EVERY:g} seconds", f"{catalog.SPREAD_TIMEOUT:g} seconds", roster.MAX_MEMBERS),
        *(f"{hybridclock.MAX_AHEAD // 1000} seconds", dedup.MAX_NAMES, dedup.MAX_PRODUCERS),
        *(partition.MAX_IN_FLIGHT, duetimes.MAX_CACHED, upkeep.MAX_OPEN, batch.MAX_MESSAGES),
        f"{broker.NOTES_LINGER * 1000:g} ms",
    ],
}


@pytest.mark.parametrize(("name", "bound"), [(name, b) for name, bounds in BOUNDS.items() for b in bounds])
def test_bounds_are_the_ones_that_are_described(name: str, bound: float | str) -> None:
    text = bound if isinstance(bound, str) else f"{bound:.12g}"
    words = " ".join(line for section in page(name).sections for line in section.lines)
    assert re.search(rf"(?<!\d){re.escape(text)}(?!\d)", words) is not None, f"{name} does not say {text}"


def test_the_magic_is_the_one_that_is_described() -> None:
    assert f".Ql {wire.MAGIC.hex(' ')}\n" in PROTOCOL.source
    assert f".Ql {peerlink.PEER_MAGIC.hex(' ')}\n" in PROTOCOL.source
    assert f"this page specifies version {peerlink.PEER_HIGHEST}." in " ".join(PROTOCOL.source.split())
    assert f"version {connection.PROTOCOL_HIGHEST} of the protocol" in PROTOCOL.source


# --- rules -----------------------------------------------------------------------------------------------


def test_every_rule_that_the_source_names_is_described() -> None:
    named: dict[str, str] = {}
    for folder in ("cli", "dmqnode", "gossip", "storage"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            for rule in re.findall(r"(?<![\w.+-])[CFHILMNQT][1-6](?!\w)", path.read_text()):
                named.setdefault(rule, path.name)
    described = {rule for s in INTERNALS.section("RULES") for item in s.items for rule in values(item, "Sy")}
    assert {rule: path for rule, path in named.items() if rule not in described} == {}
    promised = {
        p for s in page("dmq-guarantees.7").section("PROMISES") for i in s.items for p in values(i, "Sy")
    }
    assert sorted(promised) == sorted(f"P{n}" for n in range(1, 11))
