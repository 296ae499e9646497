"""How membership is tuned: one frozen value. Durations in seconds."""

from __future__ import annotations

import math
from dataclasses import dataclass

from gossip.errors import InvalidSetting


@dataclass(frozen=True, slots=True, kw_only=True)
class SwimConfig:
    """Settings of one node; all nodes of a cluster should have the same.

    The defaults are those of `lan()`: a death is known to every member within 5 s among a few, 7 s among 200.
    """

    probe_interval: float = 0.4
    """One member is probed in each. Shorter finds a death sooner and costs packets in proportion."""
    probe_timeout: float = 0.2
    """When a ping is repeated through others. Well above the 99th percentile of a round trip, a busy
    process included."""
    indirect_probes: int = 3
    """k: how many others are asked to ping a silent member (SWIM §3.1)."""
    suspicion_factor: float = 4.5
    """α: see `suspicion_low`. Higher gives a suspect longer to refute: fewer false deaths, later
    true ones."""
    suspicion_spread: float = 4.0
    """β: see `suspicion_high`."""
    confirmations: int = 3
    """K: how many further witnesses bring a suspicion from its longest to its shortest time."""
    awareness_limit: int = 8
    """S: an ailing node takes its own time-outs at most this many times longer, plus one."""
    gossip_interval: float = 0.2
    """How often news is sent to `gossip_fanout` members, while there is any."""
    gossip_fanout: int = 3
    gossip_to_dead: float = 10.0
    """For how long news still goes to a dead member, that it may refute."""
    transmit_factor: float = 3.0
    """λ: see `transmit_limit`."""
    push_pull_interval: float = 10.0
    """How often the whole state is exchanged with one member; longer in clusters above 32 members."""
    join_interval: float = 1.0
    """How often a node that is alone tries an address it knows."""
    remeet_interval: float = 3.0
    """How often a node in company tries the address of one that is dead, for ever."""
    forget_dead_after: float = 24 * 3600.0
    """After how long a dead or left member is no longer listed; the address of a dead one is still tried."""
    members_limit: int = 10_000
    """Members remembered, in any status; at the limit the longest dead are dropped, then news of unknown
    members is dropped and counted."""
    addresses_limit: int = 1_000
    """Addresses remembered for meeting again; at the limit the longest silent is dropped."""
    probes_limit: int = 32
    """Probes at one time besides the regular one; further ones are not begun."""
    relays_limit: int = 256
    """Pings at one time on behalf of others; further ones are dropped and counted."""
    packet_limit: int = 1400
    """Bytes of a packet: what passes every network in one piece."""

    def __post_init__(self) -> None:
        for name in _DURATIONS:
            _check(getattr(self, name) > 0, f"{name} must be longer than 0 s")
        _check(self.probe_timeout < self.probe_interval, "probe_timeout must be shorter than probe_interval")
        _check(self.suspicion_factor >= 1, "suspicion_factor must be at least 1")
        _check(self.suspicion_spread >= 1, "suspicion_spread must be at least 1")
        _check(self.transmit_factor >= 1, "transmit_factor must be at least 1")
        _check(self.gossip_fanout >= 1, "gossip_fanout must be at least 1")
        _check(
            min(self.indirect_probes, self.confirmations, self.awareness_limit) >= 0, "a count is negative"
        )
        _check(self.packet_limit >= 1200, "packet_limit must be at least 1200 bytes, for the largest member")
        for name in ("members_limit", "addresses_limit", "probes_limit", "relays_limit"):
            _check(getattr(self, name) >= 1, f"{name} must be at least 1")

    @classmethod
    def lan(cls) -> SwimConfig:
        """Return the settings for machines of one site."""
        return cls()

    @classmethod
    def local(cls) -> SwimConfig:
        """Return the settings for processes of one machine: quicker to meet, no quicker to judge."""
        return cls(gossip_interval=0.1, push_pull_interval=5.0, join_interval=0.3, remeet_interval=1.0)

    def transmit_limit(self, members: int) -> int:
        """Return how often one piece of news is sent: λ·log(n+1), rounded up (SWIM §4.1).

        >>> [SwimConfig.lan().transmit_limit(n) for n in (1, 3, 7, 200)]
        [3, 5, 7, 16]
        """
        return math.ceil(self.transmit_factor * math.log(members + 1))

    def suspicion_low(self, members: int) -> float:
        """Return a suspicion's shortest time: α·max(1, log10 n)·probe_interval (Lifeguard §IV-B).

        >>> [SwimConfig.lan().suspicion_low(n) for n in (3, 10, 100)]
        [1.8, 1.8, 3.6]
        """
        return self.suspicion_factor * max(1.0, math.log10(max(members, 1))) * self.probe_interval

    def suspicion_high(self, members: int) -> float:
        """Return a suspicion's longest time: β times the shortest."""
        return self.suspicion_spread * self.suspicion_low(members)

    def wanted_confirmations(self, members: int) -> int:
        """Return K, or 0 in a cluster without so many members besides suspect and accuser.

        >>> [SwimConfig.lan().wanted_confirmations(n) for n in (3, 4, 5, 200)]
        [0, 0, 3, 3]
        """
        return self.confirmations if members - 2 >= self.confirmations else 0

    def push_pull_every(self, members: int) -> float:
        """Return the time between exchanges: doubled, tripled … with each doubling above 32 members.

        >>> [SwimConfig.lan().push_pull_every(n) for n in (3, 32, 64, 200)]
        [10.0, 10.0, 20.0, 40.0]
        """
        if members <= 32:
            return self.push_pull_interval
        return self.push_pull_interval * (1 + math.ceil(math.log2(members / 32)))


_DURATIONS = (
    *("probe_interval", "probe_timeout", "gossip_interval", "gossip_to_dead", "push_pull_interval"),
    *("join_interval", "remeet_interval", "forget_dead_after"),
)


def _check(holds: bool, sentence: str) -> None:
    if not holds:
        raise InvalidSetting(sentence)
