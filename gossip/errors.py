"""Every error that gossip raises on purpose.

GossipError
├── Malformed       bytes that are no packet, state or message of ours
│   └── Unauthentic     they were damaged, or made with another key
└── InvalidSetting  a setting or a field of a member that cannot be
"""

from __future__ import annotations


class GossipError(Exception):
    """Everything that gossip raises on purpose."""


class Malformed(GossipError):
    """These bytes are no packet, state or message: drop them and count."""


class Unauthentic(Malformed):
    """The bytes were damaged on the way, or made with another cluster key."""


class InvalidSetting(GossipError):
    """A setting, or a field of a member, that cannot be; one sentence."""
